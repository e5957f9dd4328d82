"""Export at full load leaves the loop to the service."""

from __future__ import annotations

import sys

import pytest

from benchmarks.stall import BATCH, LIMIT, RATE, measure, steps
from tests.support.collector import ScriptedCollector

pytestmark = pytest.mark.slow  # each waits for real deadlines

TRACED = sys.gettrace() is not None
"""Coverage makes everything several times as slow."""
ALLOWED = LIMIT * (5 if TRACED else 1)


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_the_loop_is_never_kept_for_longer_than_two_milliseconds(compression: str) -> None:
    """20,000 spans per second in batches of 2,048; in CPU time, as the machine is not ours."""
    with ScriptedCollector() as collector:
        for _ in range(4):
            run = await measure("OTLP/HTTP", 0.6, endpoint=collector.url, compression=compression)
            assert run.exported >= run.spans > 0.3 * RATE * 0.6
            if run.longest < ALLOWED:
                return
    pytest.fail(f"the loop was kept for {1000 * run.longest:.2f} ms")


def test_no_step_of_a_batch_takes_longer() -> None:
    """Taking 2,048 spans from the queue, and joining them to a request."""
    worst = min((steps(10) for _ in range(3)), key=lambda it: max(it.values()))
    assert all(seconds < ALLOWED for seconds in worst.values()), (BATCH, worst)
