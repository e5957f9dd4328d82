"""Flush and shutdown, cancelled at each of their awaits in turn.

Whichever task it is, the caller's, the one that closes, or those that deliver and write to disk: it
is cancelled at its first suspension in the first run, at its second in the second, and so on until
a run ends before its turn comes. After each the tracing closes, its exporters are closed, no task
is left, and the figures add up and are true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

import asynctrace
from asynctrace._lifecycle import State
from asynctrace.export.contracts import Delivered, Outcome
from asynctrace.tracing import Tracing
from tests.support.exporters import ScriptedExporter, hang

SPANS = 7
MOST = 60
"""Suspensions that no task here comes to."""


class CutAt(Coroutine[Any, Any, Any]):
    """A coroutine whose task is cancelled when it has been suspended so many times."""

    def __init__(self, work: Coroutine[Any, Any, Any], turn: int) -> None:
        self._work = work
        self._turn = turn
        self.suspended = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("only a task drives it")

    def send(self, value: Any, /) -> Any:
        awaited = self._work.send(value)
        self.suspended += 1
        if self.suspended == self._turn:
            task = asyncio.current_task()
            assert task is not None
            # Not at once: the task is still running, and would not be in the middle of its wait.
            asyncio.get_running_loop().call_soon(task.cancel)
        return awaited

    def throw(self, *error: Any) -> Any:
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    @property
    def was_cut(self) -> bool:
        return self.suspended >= self._turn


class Cutter:
    """A task factory: cuts the first task that runs the coroutine function of that name."""

    def __init__(self, target: str, turn: int) -> None:
        self._target = target
        self._turn = turn
        self.cut: CutAt | None = None

    def __call__(
        self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any
    ) -> asyncio.Task[Any]:
        inner = getattr(work, "_work", work)  # what a `StallMeter` measures
        if self.cut is None and getattr(inner, "__qualname__", "") == self._target:
            work = self.cut = CutAt(work, self._turn)
        return asyncio.Task(work, loop=loop, **options)

    @property
    def has_cut(self) -> bool:
        return self.cut is not None and self.cut.was_cut


class Slow(ScriptedExporter):
    """Lets the loop go round in whatever it does."""

    async def _answer(self) -> Outcome:
        for _ in range(3):
            await asyncio.sleep(0)
        return await super()._answer()

    async def close(self) -> None:
        await super().close()
        await asyncio.sleep(0)

    async def shutdown(self) -> None:
        await super().shutdown()
        await asyncio.sleep(0)


TARGETS = {
    "the caller of shutdown": "Tracing.shutdown",
    "the closing": "Tracing._close",
    "the delivery": "Pipeline.run",
    "the last writing": "Closing._save",
    "the overflow": "Overflow.run",
    "the replay": "Replay.run",
    "one write": "Spool.save",
    "the caller of flush": "Tracing.force_flush",
}
NEEDS_SPOOL = {"the overflow", "the replay", "one write"}


@pytest.mark.parametrize("then", [Delivered(), hang], ids=["healthy", "hangs"])
@pytest.mark.parametrize("spooling", [False, True], ids=["memory", "spool"])
@pytest.mark.parametrize("target", TARGETS)
async def test_it_closes_all_the_same(
    tmp_path: Path, target: str, then: object, spooling: bool
) -> None:
    """Nothing is leaked, and of every span it is told what became of it."""
    if target in NEEDS_SPOOL and not spooling:
        pytest.skip("there is no such task without a spool")
    cuts = 0
    for turn in range(1, MOST):
        cutter = Cutter(TARGETS[target], turn)
        asyncio.get_running_loop().set_task_factory(cutter)
        try:
            await live(tmp_path / str(turn) if spooling else None, then)
        finally:
            asyncio.get_running_loop().set_task_factory(None)
        if not cutter.has_cut:
            break
        cuts += 1
    else:
        pytest.fail(f"cut {MOST} times and still not at its end")
    has_to_wait = target not in {"the last writing", "one write"} or (spooling and then is hang)
    assert cuts or not has_to_wait


async def live(spool: Path | None, then: object) -> None:
    """One life, with a flush in it; whatever is cancelled, it ends as it should."""
    exporters = [Slow(name="first", then=then), Slow(name="second")]
    before = asyncio.all_tasks()
    tracing = await asynctrace.init(
        exporter=exporters,
        set_global=False,
        spool=spool,
        max_queue_size=4,
        max_export_batch_size=2,
        schedule_delay=0.001,
    )
    for _ in range(SPANS):
        tracing.get_tracer("test").start_span("work").end()
    await cancellable(tracing.force_flush(0.02))
    tracing.get_tracer("test").start_span("work").end()
    await cancellable(tracing.shutdown(0.02))
    report = await tracing.shutdown()
    assert tracing.state is State.CLOSED
    figures_are_true(tracing, exporters)
    for exporter in exporters:
        told = report.exporters[exporter.name]
        assert not told.pending
        assert told.exported == tracing.statistics().exporters[exporter.name].exported
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.001)
    for exporter in exporters:
        assert exporter.calls.count("shutdown") == 1, exporter.calls
        assert "close" in exporter.calls
        assert "export" not in exporter.calls[exporter.calls.index("shutdown") :]
    figures_are_true(tracing, exporters)


async def cancellable(work: Coroutine[Any, Any, object]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


def figures_are_true(tracing: Tracing, exporters: list[Slow]) -> None:
    for exporter in exporters:
        figures = tracing.statistics().exporters[exporter.name]
        assert figures.accepted == SPANS + 1
        assert figures.accepted == (
            figures.exported
            + figures.failed
            + sum(figures.dropped.values())
            + figures.spooled
            + figures.queued
            + figures.in_flight
        )
        assert figures.exported == len(exporter.delivered) - figures.replayed
