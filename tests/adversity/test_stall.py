"""Export at full load leaves the loop to the service.

The load and the limit are those of `benchmarks.stall`, and they are the same wherever these tests
run; a processor that is slower just now is granted the time it lacks, and no more. Under coverage
every line costs several times as much, so there they say nothing and are skipped: `.ci/run` has a
step of its own for them, without coverage and with nothing beside them.
"""

from __future__ import annotations

import sys
import time

import pytest

from benchmarks.stall import BATCH, LIMIT, RATE, measure, steps
from tests.support.collector import ScriptedCollector

pytestmark = [
    pytest.mark.slow,  # each waits for real deadlines
    pytest.mark.skipif(sys.gettrace() is not None, reason="times mean nothing under coverage"),
]

SECONDS = 0.6
"""Of load, in each run."""
ENOUGH = 0.9
"""The share of the load that must have come about for the run to count."""
REFERENCE = 0.00055
"""Seconds of CPU time that `slowness` takes on the machine that the limit is for."""


def slowness() -> float:
    """How much slower this processor is just now: others share its caches and its clock."""
    begun = time.thread_time()
    total = 0
    for number in range(20_000):
        total += number
    return max(1.0, (time.thread_time() - begun) / REFERENCE)


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_the_loop_is_never_kept_for_longer_than_two_milliseconds(compression: str) -> None:
    """20,000 spans per second in batches of 2,048; in CPU time, as the machine is not ours."""
    runs = []
    with ScriptedCollector() as collector:
        for _ in range(4):
            slow = slowness()
            run = await measure(
                "OTLP/HTTP", SECONDS, endpoint=collector.url, compression=compression
            )
            slow = max(slow, slowness())
            assert run.exported >= run.spans
            if run.spans >= ENOUGH * RATE * SECONDS / slow and run.longest < LIMIT * slow:
                return
            runs.append(f"{run}; {slow:.2f} times as slow")
    pytest.fail("\n".join(runs))


def test_no_step_of_a_batch_takes_longer() -> None:
    """Taking 2,048 spans from the queue, and joining them to a request."""
    worst = min((steps(10) for _ in range(3)), key=lambda it: max(it.values()))
    allowed = LIMIT * slowness()
    assert all(seconds < allowed for seconds in worst.values()), (BATCH, worst)
