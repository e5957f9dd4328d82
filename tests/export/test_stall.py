"""How long our own work held the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import accumulate, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asynctrace
from asynctrace.export.contracts import Batch
from asynctrace.export.spool.format import Record
from asynctrace.export.spool.spool import Spool
from asynctrace.export.spool.stored import StoredBatch
from asynctrace.export.stall import StallMeter
from asynctrace.testing import InMemoryExporter
from tests.support.exporters import UNREACHABLE, ScriptedExporter


class Clock:
    """Stands still until it is told how much time passes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 10), min_size=1))
async def test_the_longest_slice_counts(slices: list[float]) -> None:
    """What is between two waits is one slice; the waits are nobody's stall."""
    clock = Clock()
    meter = StallMeter(clock)

    async def work() -> int:
        for seconds in slices:
            begun = clock.now
            clock.now = begun + seconds
            await asyncio.sleep(0)
        return len(slices)

    assert await asyncio.create_task(meter.measured(work())) == len(slices)
    passed = [after - before for before, after in _pairs(accumulate([0.0, *slices]))]
    assert meter.longest == max(passed)


def _pairs(values: Iterator[float]) -> Iterator[tuple[float, float]]:
    before = next(values)
    for after in values:
        yield before, after
        before = after


async def test_a_measured_task_is_cancelled_like_any_other() -> None:
    """The cancellation reaches the work, which may clean up; what that takes counts, too."""
    clock = Clock()
    meter = StallMeter(clock)
    seen = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            clock.now += 3
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    task = asyncio.create_task(meter.measured(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned up"]
    assert meter.longest == 3


async def test_a_task_that_never_began_leaves_nothing_behind() -> None:
    """No coroutine that was never awaited, which would be a warning."""
    meter = StallMeter()
    task = asyncio.create_task(meter.measured(asyncio.sleep(5)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    meter.measured(asyncio.sleep(5)).close()


async def test_errors_and_awaits_pass() -> None:
    """It may be awaited without a task, too; then nothing is measured."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    for awaiting in (True, False):
        measured = StallMeter().measured(fail())
        with pytest.raises(ValueError, match="no"):
            await (measured if awaiting else asyncio.create_task(measured))


async def test_a_call_counts_where_there_is_a_loop() -> None:
    """In a plain thread it held nobody up."""
    clock = Clock()
    meter = StallMeter(clock)
    begun = meter.begin()
    clock.now = 2
    await asyncio.to_thread(meter.end_call, begun)
    assert meter.longest == 0
    meter.end_call(begun)
    assert meter.longest == 2


async def test_statistics_tell_the_longest_stall() -> None:
    """Something was done on the loop, and it took no second."""
    async with asynctrace.init(exporter=InMemoryExporter(), set_global=False) as tracing:
        assert tracing.statistics().longest_stall < 1
        for _ in repeat(None, 500):
            tracing.get_tracer("test").start_span("work").end()
        await tracing.force_flush()
        assert 0 < tracing.statistics().longest_stall < 1
    assert repr(StallMeter()) == "<StallMeter 0.000 ms>"


@pytest.mark.parametrize("place", ["saving", "replaying"])
async def test_what_the_spool_does_on_the_loop_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Writing and sending from disk have tasks of their own, beside the drain task."""
    kept = 0.06

    def keep_the_loop() -> None:
        until = time.perf_counter() + kept
        while time.perf_counter() < until:
            pass

    save, of = Spool.save, StoredBatch.of

    async def slow_save(spool: Spool, batch: Batch) -> str | None:
        keep_the_loop()
        return await save(spool, batch)

    def slow_of(record: Record) -> StoredBatch:
        keep_the_loop()
        return of(record)

    if place == "saving":
        monkeypatch.setattr(Spool, "save", slow_save)
    else:
        monkeypatch.setattr(StoredBatch, "of", slow_of)
    exporter = ScriptedExporter([UNREACHABLE])
    async with asynctrace.init(
        exporter=exporter, set_global=False, spool=tmp_path, export_timeout=0.001
    ) as tracing:
        tracing.get_tracer("test").start_span("work").end()
        assert (await tracing.force_flush()).spooled == 1
        async with asyncio.timeout(10):
            while tracing.statistics().replayed == 0:
                await asyncio.sleep(0.01)
        assert tracing.statistics().longest_stall >= kept
