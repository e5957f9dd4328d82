"""The measure of time that the other tests rely upon."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.support.heartbeat import LONGEST_GAP, SteadyHeartbeat
from tests.support.stopwatch import Stopwatch, in_time

LONG = 2 * LONGEST_GAP


def burn() -> None:
    """Use the processor."""
    begun = time.thread_time()
    while time.thread_time() - begun < LONG:
        pass


@pytest.mark.may_block("that is what is measured")
@pytest.mark.parametrize("block", [lambda: time.sleep(LONG), burn], ids=["waits", "works"])
async def test_a_loop_that_is_blocked_is_noticed(block: Callable[[], None]) -> None:
    """Whether it waits or works."""

    async def main() -> None:
        async with SteadyHeartbeat():
            asyncio.get_running_loop().call_soon(block)
            await asyncio.sleep(LONG)

    with pytest.raises(AssertionError, match="the loop stood still"):
        await main()


def test_a_time_out_that_is_not_kept_is_noticed() -> None:
    """Waiting is not the fault of others."""
    with pytest.raises(AssertionError, match="for a time-out of 0"), in_time(0, grace=LONG / 2):
        time.sleep(LONG)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_what_others_take_does_not_count() -> None:
    """Three programs beside this one on its processor: most of the time is theirs."""
    busy = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    before = os.sched_getaffinity(0)
    processor = min(before)
    others = [
        subprocess.Popen([sys.executable, "-c", busy, str(processor)], stdin=subprocess.DEVNULL)
        for _ in range(3)
    ]
    try:
        os.sched_setaffinity(0, {processor})
        watch, begun = Stopwatch(), time.monotonic()
        worked = time.thread_time()
        while time.monotonic() - begun < 0.6:
            pass
        worked = time.thread_time() - worked
        assert watch.elapsed < 0.5
        assert watch.elapsed == pytest.approx(worked, abs=0.15)
    finally:
        os.sched_setaffinity(0, before)
        for other in others:
            other.kill()
            other.wait()
