"""Deadlines hold whatever else is slow: processors, and loops other than the caller's."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import SpanProcessor

from asynctrace.initialization import init
from asynctrace.testing import InMemoryExporter
from asynctrace.tracing import Tracing
from tests.support.stopwatch import in_time


class Slow(SpanProcessor):
    """Takes its time for everything, until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.released.wait(20)

    def shutdown(self) -> None:
        self.released.wait(20)


@pytest.fixture
def slow() -> Iterator[Slow]:
    processor = Slow()
    yield processor
    processor.released.set()


async def test_a_report_is_not_truthy_when_processors_were_late(slow: Slow) -> None:
    """Nobody knows what they still hold; the deadline holds all the same."""
    exporter = InMemoryExporter()
    async with init(exporter=exporter, set_global=False, span_processors=[slow]) as running:
        running.get_tracer("t").start_span("span").end()
        with in_time(0.1):
            report = await running.force_flush(0.1)
        assert not report
        assert report.timed_out
        closed = await running.shutdown(0.1)
        assert not closed
        assert closed.exported == 1


async def test_the_sync_methods_never_block_the_loop_that_delivers(slow: Slow) -> None:
    """Slow processors are flushed in a thread; the answer on the loop is False, at once."""
    exporter = InMemoryExporter()
    async with init(exporter=exporter, set_global=False, span_processors=[slow]) as running:
        with in_time(0):
            assert running.tracer_provider.force_flush() is False
        slow.released.set()


class OtherLoop:
    """A loop in a thread, in which a `Tracing` is started."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def start(self) -> Tracing:
        starting = init(exporter=InMemoryExporter(), set_global=False)

        async def start() -> Tracing:
            return await starting

        return asyncio.run_coroutine_threadsafe(start(), self.loop).result(10)

    def close(self) -> None:
        async def finish() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(finish(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture
def other() -> Iterator[OtherLoop]:
    loop = OtherLoop()
    yield loop
    loop.close()


@pytest.mark.parametrize("method", ["force_flush", "shutdown"])
async def test_a_blocked_loop_elsewhere_does_not_delay_the_caller(
    other: OtherLoop, method: str
) -> None:
    """The report says that it timed out; and a second shutdown gives the same report."""
    running = other.start()
    running.get_tracer("t").start_span("span").end()
    release = threading.Event()
    other.loop.call_soon_threadsafe(release.wait, 20)
    try:
        with in_time(0.2):
            report = await getattr(running, method)(0.2)
        assert report.timed_out
        assert not report
    finally:
        release.set()
    closed = await running.shutdown(2.0)
    if method == "shutdown":
        assert closed is report
        assert closed.exported + sum(closed.dropped.values()) == 1


async def test_a_span_that_the_shutdown_has_ended_is_ended_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its owner cannot know; a span that its owner ends twice is a mistake, and is told."""
    async with init(exporter=InMemoryExporter(), set_global=False) as running:
        left_open = running.get_tracer("t").start_span("left open")
        twice = running.get_tracer("t").start_span("twice")
        twice.end()
        await running.shutdown(1.0)
    with caplog.at_level(logging.WARNING, logger="asynctrace"):
        left_open.set_attribute("late", 1)
        left_open.end()
        assert caplog.records == []
        twice.end()
        assert len(caplog.records) == 1
