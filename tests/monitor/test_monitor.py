"""Loop health: lag, blocks, the culprit's stack, and what it cost the others."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

import asynctrace
from asynctrace import monitor
from asynctrace.context import span
from asynctrace.monitor import Block, LoopMonitor, span_of_task, summary
from asynctrace.testing import InMemoryExporter
from asynctrace.trace.provider import TracerProvider
from tests.support.programs import run_program_async

BLOCKED = "asynctrace.loop.blocked"
BLOCKED_TIME = "asynctrace.loop.blocked_time"
WAIT_TIME = "asynctrace.loop.wait_time"

blocks = pytest.mark.may_block("to be seen blocking")


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """asyncio.run, on the loop of the case."""

    def run(main: Any) -> Any:
        factory = None
        if request.param == "uvloop":
            factory = pytest.importorskip("uvloop").new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)

    return run


def block_the_loop(seconds: float) -> None:
    """The culprit, by a name that its stack shows."""
    time.sleep(seconds)


async def blocking_service(exporter: InMemoryExporter) -> Any:
    async def culprit() -> None:
        with span("parent"), span("culprit"):
            await asyncio.sleep(0.05)
            block_the_loop(0.3)

    async def waiter() -> None:
        with span("waiter"):
            await asyncio.sleep(0.1)

    async with asynctrace.init(
        exporter=exporter, loop_monitor=True, loop_block_threshold=0.05
    ) as tracing:
        await asyncio.gather(culprit(), waiter())
        await asyncio.sleep(0.12)
        return tracing.statistics().loop


@blocks
def test_block(run: Callable[[Any], Any]) -> None:
    """The stack is on the span that ran, the cost on the one that waited, nothing on the parent."""
    exporter = InMemoryExporter()
    figures = run(blocking_service(exporter))
    spans = {made.name: made for made in exporter.spans}
    [event] = spans["culprit"].events
    assert event.name == BLOCKED
    assert "block_the_loop" in event.attributes["code.stacktrace"]
    assert "time.sleep(seconds)" in event.attributes["code.stacktrace"]
    assert event.attributes[BLOCKED_TIME] >= 0.05
    assert spans["culprit"].attributes[BLOCKED_TIME] >= 0.15
    assert spans["waiter"].attributes[WAIT_TIME] >= 0.15
    assert spans["waiter"].events == ()
    assert (spans["parent"].attributes, spans["parent"].events) == ({}, ())
    assert figures.blocks >= 1  # a busy machine may have its own
    assert figures.blocked_time >= figures.longest_lag >= 0.2
    assert figures.lag < figures.longest_lag


async def test_nothing_unless_asked_for() -> None:
    """By default nobody watches, and the statistics say so."""
    async with asynctrace.init(exporter="none") as tracing:
        assert tracing.statistics().loop is None
    async with asynctrace.init(exporter="none", loop_monitor=True, disabled=True) as tracing:
        assert tracing.statistics().loop is None


async def test_at_rest() -> None:
    """A loop that is not blocked has no blocks; after the end there are no heartbeats."""
    async with asynctrace.init(exporter="none", loop_monitor=True) as tracing:
        with span("work"):
            await asyncio.sleep(0.12)
        figures = tracing.statistics().loop
        assert figures is not None
        assert (figures.blocks, figures.blocked_time) == (0, 0.0)
        assert tracing._monitor is not None
        assert "watching" in repr(tracing._monitor)
    assert "stopped" in repr(tracing._monitor)
    due = tracing._monitor._due
    await asyncio.sleep(0.15)
    assert tracing._monitor._due == due


def provider() -> TracerProvider:
    return TracerProvider(sampler=ALWAYS_ON, resource=Resource.get_empty())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_ends_with_its_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten tracing keeps neither its provider nor a thread."""
    ended = threading.Event()
    watch = LoopMonitor._watch
    monkeypatch.setattr(LoopMonitor, "_watch", lambda self: (watch(self), ended.set()))
    watched = provider()
    reference = weakref.ref(watched)
    found = LoopMonitor(watched, threshold=0.05)
    found.start()
    del watched
    gc.collect()
    assert reference() is None
    await until(ended.is_set)
    found.stop()


def test_ends_with_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is closed is not watched any longer; one that stands still is not blocked."""
    watched = provider()
    ended = threading.Event()
    watch = LoopMonitor._watch
    monkeypatch.setattr(LoopMonitor, "_watch", lambda self: (watch(self), ended.set()))
    found = LoopMonitor(watched, threshold=0.02)

    async def start() -> None:
        found.start()

    with asyncio.Runner() as runner:
        runner.run(start())
        time.sleep(0.1)
        runner.run(asyncio.sleep(0.05))
        assert found.statistics().blocks == 0
        assert not ended.is_set()
    assert ended.wait(5)


@blocks
async def test_looks() -> None:
    """The first look at a block tells it; later ones bring the costs up to date."""
    exporter = InMemoryExporter()
    async with asynctrace.init(exporter=exporter) as tracing:
        found = LoopMonitor(tracing.tracer_provider, threshold=0.01)
        found._loop = asyncio.get_running_loop()
        found._schedule(time.monotonic())

        def look_twice() -> None:
            for _ in range(2):
                time.sleep(0.05)
                found._look(tracing.tracer_provider)

        looking = threading.Thread(target=look_twice)
        with span("culprit"):
            looking.start()
            block_the_loop(0.2)
        looking.join()
        found._look(tracing.tracer_provider)  # told by now: nothing is added
        await until(lambda: found.statistics().blocks)
        found.stop()
        await asyncio.sleep(0.01)
    [culprit] = exporter.spans
    [event] = culprit.events
    assert 0.03 <= event.attributes[BLOCKED_TIME] < culprit.attributes[BLOCKED_TIME]
    assert "block_the_loop" in event.attributes["code.stacktrace"]


def test_no_stack() -> None:
    """A thread that is gone has none."""
    assert summary(None) == []


def test_until_the_next_look() -> None:
    """As long as the heartbeat cannot be late enough; then an interval at a time."""
    found = LoopMonitor(provider(), threshold=0.1)
    found._due = time.monotonic() + 5
    assert 5.0 < found._until_next_look() <= 5.2
    found._due = time.monotonic() - 5
    assert found._until_next_look() == found._interval == 0.1


@blocks
async def test_block_outside_of_any_task_or_span() -> None:
    """A callback of the loop that blocks is counted, and told to those that wait."""
    exporter = InMemoryExporter()
    async with asynctrace.init(
        exporter=exporter, loop_monitor=True, loop_block_threshold=0.03
    ) as tracing:
        with span("waiter"):
            asyncio.get_running_loop().call_later(0.02, time.sleep, 0.12)
            await asyncio.sleep(0.04)
        await until(lambda: tracing.statistics().loop.blocks)  # type: ignore[union-attr]
    [waiter] = exporter.spans
    assert waiter.attributes[WAIT_TIME] >= 0.03


@blocks
async def test_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lag is a histogram of the process's meter provider."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    monkeypatch.setattr(monitor.metrics, "get_meter", meters.get_meter)
    async with asynctrace.init(exporter="none", loop_monitor=True, loop_block_threshold=0.03):
        await asyncio.sleep(0.05)
        block_the_loop(0.1)
        await asyncio.sleep(0.05)
    data = reader.get_metrics_data()
    assert data is not None
    [metric] = data.resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, metric.unit) == ("asynctrace.loop.lag", "s")
    [point] = metric.data.data_points
    assert point.count >= 2
    assert point.max >= 0.05
    meters.shutdown()


async def test_span_of_a_task() -> None:
    """Notices a Python whose tasks no longer let their context be found."""
    found: list[object] = []
    with asynctrace_provider() as made:

        async def work() -> None:
            with span("work") as inner:
                task = asyncio.current_task()
                assert task is not None
                thread = threading.Thread(target=lambda: found.append(span_of_task(task)))
                thread.start()
                await asyncio.to_thread(thread.join)
                found.append(inner)

        await asyncio.create_task(work())
    seen, inner = found
    assert seen is inner
    del made
    bare = asyncio.create_task(asyncio.sleep(0))
    assert span_of_task(bare) is None
    await bare


def asynctrace_provider() -> Any:
    from tests.context.recording import recording

    return recording()


@blocks
async def test_one_block_of_several_spans() -> None:
    """Whoever blocks next, before the loop runs again, is told of its own part, with its stack."""
    exporter = InMemoryExporter()

    def block_again(seconds: float) -> None:
        time.sleep(seconds)

    async with asynctrace.init(
        exporter=exporter, loop_monitor=True, loop_block_threshold=0.05
    ) as tracing:
        await asyncio.sleep(0.06)
        with span("step"):
            with span("first"):
                block_the_loop(0.4)
            with span("second"):
                block_again(0.4)
        await until(lambda: tracing.statistics().loop.blocks)  # type: ignore[union-attr]
    spans = {made.name: made for made in exporter.spans}
    for name, culprit in {"first": "block_the_loop", "second": "block_again"}.items():
        [event] = spans[name].events
        assert culprit in event.attributes["code.stacktrace"]
        # Never more than it lasted, and short by a few looks only.
        lasted = (spans[name].end - spans[name].start) / 1e9
        assert 0.1 <= spans[name].attributes[BLOCKED_TIME] <= lasted + 0.005
    assert (spans["step"].attributes, spans["step"].events) == ({}, ())


def test_who_runs_after_waiting() -> None:
    """A span that waited while another one blocked is told of both: its wait, then its block."""
    tracer = provider().get_tracer("t")
    long_ago = time.time_ns() - 60 * 10**9
    first, second = (tracer.start_span(name, start_time=long_ago) for name in ("first", "second"))
    block = Block(0.0, (first, second))  # type: ignore[arg-type]
    stack = summary(sys._getframe())
    block.is_of(first, 0.2, stack)
    block.is_of(second, 0.5, stack)
    block.lasts(0.9)
    assert first.attributes == {BLOCKED_TIME: 0.2}  # type: ignore[attr-defined]
    assert second.attributes == {  # type: ignore[attr-defined]
        WAIT_TIME: 0.2,
        BLOCKED_TIME: pytest.approx(0.4),
    }
    block.is_of(None, 1.0, stack)
    block.lasts(2.0)
    assert second.attributes[BLOCKED_TIME] == pytest.approx(0.4)  # type: ignore[attr-defined]


def test_no_longer_than_it_is_open() -> None:
    """A span that began in the middle of a block is told of no more than came after that."""
    tracer = provider().get_tracer("t")
    culprit, waiter = (
        tracer.start_span(name, start_time=time.time_ns() - 10**9) for name in ("culprit", "waiter")
    )
    block = Block(0.0, (culprit, waiter))  # type: ignore[arg-type]
    block.is_of(culprit, 3.0, summary(sys._getframe()))
    assert culprit.attributes[BLOCKED_TIME] == pytest.approx(1.0, abs=0.5)  # type: ignore[attr-defined]
    assert waiter.attributes[WAIT_TIME] == pytest.approx(1.0, abs=0.5)  # type: ignore[attr-defined]


def test_costs_add_up() -> None:
    """A span that is blocked twice is told of both; one that has ended is left alone."""
    tracer = provider().get_tracer("t")
    long_ago = time.time_ns() - 60 * 10**9
    culprit, waiter, ended = (
        tracer.start_span(name, start_time=long_ago) for name in ("culprit", "waiter", "ended")
    )
    open_spans = (culprit, waiter, ended)
    for late in (0.2, 0.3):
        block = Block(0.0, open_spans)  # type: ignore[arg-type]
        block.is_of(culprit, late, summary(sys._getframe()))
        block.lasts_still(late + 0.01)  # too little more
        block.lasts(late + 0.1)
    ended.end()
    block.lasts(9.0)
    assert culprit.attributes[BLOCKED_TIME] == pytest.approx(0.3 + 9.0)  # type: ignore[attr-defined]
    assert waiter.attributes[WAIT_TIME] == pytest.approx(0.3 + 9.0)  # type: ignore[attr-defined]
    assert ended.attributes[WAIT_TIME] == pytest.approx(0.3 + 0.4)  # type: ignore[attr-defined]
    assert len(culprit.events) == 2  # type: ignore[attr-defined]


def test_a_fault_is_contained(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong in the thread is counted, and it goes on watching."""
    looked: list[object] = []

    def fail(self: LoopMonitor, watched: TracerProvider) -> None:
        looked.append(watched)
        raise KeyError("x")

    monkeypatch.setattr(LoopMonitor, "_look", fail)

    async def main() -> dict[str, int]:
        async with asynctrace.init(
            exporter="none", loop_monitor=True, loop_block_threshold=0.02
        ) as tracing:
            await until(lambda: len(looked) > 1)
            return dict(tracing.statistics().faults)

    assert sum(asyncio.run(main()).values()) >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_fork() -> None:
    """A child does not have the monitor of its parent."""
    done = await run_program_async(
        """
        import asyncio, os, warnings
        warnings.simplefilter("ignore")
        import asynctrace

        async def main():
            async with asynctrace.init(exporter="none", loop_monitor=True) as tracing:
                pid = os.fork()
                if not pid:
                    os._exit(0 if tracing.statistics().loop is None else 1)
                print(os.waitpid(pid, 0)[1], tracing.statistics().loop is None)

        asyncio.run(main())
        """
    )
    assert (done.out.split(), done.code) == (["0", "False"], 0), done.err


@pytest.mark.slow
async def test_overhead_at_rest() -> None:
    """Heartbeat and watchdog together take less than half a percent of one core."""
    done = await run_program_async(
        """
        import asyncio, time
        import asynctrace

        async def main():
            async with asynctrace.init(exporter="none", loop_monitor=True):
                await asyncio.sleep(0.2)
                cpu, wall = time.process_time(), time.monotonic()
                await asyncio.sleep(3)
                print((time.process_time() - cpu) / (time.monotonic() - wall))

        asyncio.run(main())
        """
    )
    assert float(done.out) < 0.005
