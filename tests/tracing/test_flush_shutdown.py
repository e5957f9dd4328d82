"""`force_flush` and `shutdown`: deadlines, reports, cancellation, other loops and threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from asynctrace import tracing
from asynctrace._lifecycle import State
from asynctrace.export.contracts import Delivered
from asynctrace.initialization import init
from asynctrace.testing import InMemoryExporter
from asynctrace.tracing import ShutdownReport, Tracing
from tests.support.exporters import REFUSED, UNREACHABLE, ScriptedExporter, hang, stubborn
from tests.support.stopwatch import in_time


def end_spans(running: Tracing, number: int) -> None:
    for index in range(number):
        running.get_tracer("t").start_span(str(index)).end()


# ---- flush


async def test_a_flush_reports_what_became_of_the_spans_before_it() -> None:
    """Per exporter and added up; the next flush has its own figures."""
    good, bad = InMemoryExporter(name="good"), ScriptedExporter(then=REFUSED, name="bad")
    async with init(exporter=[good, bad], set_global=False) as running:
        end_spans(running, 3)
        report = await running.force_flush(2.0)
        assert not report
        assert not report.timed_out
        assert (report.exported, report.failed, report.pending) == (3, 3, 0)
        assert report.exporters["good"].exported == 3
        assert report.exporters["bad"].last_error == "http_400: malformed"
        again = await running.force_flush(2.0)
        assert again
        assert (again.exported, again.failed) == (0, 0)


async def test_a_flush_is_over_in_time_and_one_exporter_delays_no_other() -> None:
    """The hung one is pending at the deadline, the other has delivered."""
    hung, good = ScriptedExporter(then=hang, name="hung"), InMemoryExporter(name="good")
    async with init(exporter=[hung, good], set_global=False, shutdown_timeout=0.05) as running:
        end_spans(running, 3)
        with in_time(0.1):
            report = await running.force_flush(0.1)
        assert report.timed_out
        assert report.exporters["hung"].pending == 3
        assert report.exporters["good"].exported == 3
        assert running.statistics().exporters["hung"].in_flight == 3


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
async def test_an_unusable_timeout_is_an_error(timeout: float) -> None:
    """Of the caller, at once; nothing is flushed or closed."""
    async with init(exporter="none", set_global=False) as running:
        with pytest.raises(ValueError, match="give seconds, 0 or more"):
            await running.force_flush(timeout)
        with pytest.raises(ValueError, match="give seconds, 0 or more"):
            await running.shutdown(timeout)
        assert running.state is State.RUNNING


async def test_there_may_be_no_limit() -> None:
    """Infinity is a time-out, too."""
    running = await init(exporter=InMemoryExporter(), span_processors=[Patient()], set_global=False)
    end_spans(running, 1)
    assert await running.force_flush(float("inf"))
    assert await running.shutdown(float("inf"))


async def test_a_timeout_of_nothing_tells_what_is_known() -> None:
    """No time at all: what is queued is pending, or dropped; an empty queue is no failure."""
    running = await init(exporter=ScriptedExporter(then=hang), set_global=False)
    end_spans(running, 2)
    assert (await running.force_flush(0)).pending == 2
    report = await running.shutdown(0)
    assert report.timed_out
    assert report.dropped == {"deadline": 2}
    idle = await init(exporter=ScriptedExporter(), set_global=False)
    assert await idle.shutdown(0)


async def test_a_flush_after_the_end_has_nothing_to_do() -> None:
    """It is empty, and true."""
    running = await init(exporter=InMemoryExporter(), set_global=False)
    await running.shutdown()
    report = await running.force_flush()
    assert report
    assert report.exporters == {}


async def test_a_flush_during_the_shutdown_waits_like_any_other() -> None:
    """It does not say delivered while the spans are on their way."""
    release = asyncio.Event()

    async def slowly() -> Delivered:
        await release.wait()
        return Delivered()

    running = await init(exporter=ScriptedExporter([slowly]), set_global=False)
    end_spans(running, 2)
    closing = asyncio.create_task(running.shutdown(5))
    await _until(lambda: running.state is State.DRAINING)
    flushing = asyncio.create_task(running.force_flush(5))
    await asyncio.sleep(0.01)
    assert not flushing.done()
    release.set()
    assert (await flushing).exported == 2
    assert (await closing).exported == 2


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


# ---- shutdown


async def test_the_report_counts_the_whole_life() -> None:
    """Also what was flushed before; and what was open is ended, marked and delivered."""
    exporter = InMemoryExporter()
    running = await init(exporter=exporter, set_global=False)
    end_spans(running, 2)
    await running.force_flush()
    open_span = running.get_tracer("t").start_span("open")
    report = await running.shutdown(2.0)
    assert report
    assert (report.exported, report.unfinished) == (3, 1)
    (unfinished,) = exporter.named("open")
    assert unfinished.attributes == {"asynctrace.unfinished": True}
    assert unfinished.status_code == 0
    assert not open_span.is_recording()
    assert running.state is State.CLOSED


async def test_closing_twice_is_silent() -> None:
    """One after the other or at once: the same report, whoever asks."""
    exporter = ScriptedExporter()
    running = await init(exporter=exporter, set_global=False)
    end_spans(running, 2)
    first, second = await asyncio.gather(running.shutdown(), running.shutdown(3.0))
    third = await running.shutdown()
    assert first is second is third
    assert exporter.calls == ["export", "close", "shutdown"]


async def test_spans_after_the_end_are_counted_as_refused() -> None:
    """They harm nobody; the report stays what it was."""
    exporter = InMemoryExporter()
    running = await init(exporter=exporter, set_global=False)
    tracer = running.get_tracer("t")
    report = await running.shutdown()
    with tracer.start_as_current_span("late"):
        pass
    assert exporter.spans == []
    assert report.dropped == {}
    assert running.statistics().exporters["memory"].dropped == {"closed": 1}


async def test_the_deadline_reaches_the_export_in_flight() -> None:
    """A receiver that never answers costs the time-out, and its spans are counted."""
    running = await init(exporter=ScriptedExporter(then=hang), set_global=False)
    end_spans(running, 5)
    with in_time(0.2):
        report = await running.shutdown(0.2)
    assert report.timed_out
    assert report.dropped == {"deadline": 5}
    assert str(report).startswith("exported 0, failed 0, dropped 5 (deadline); timed out in ")


async def test_an_exporter_that_ignores_its_cancellation_is_left_behind() -> None:
    """The deadline holds all the same."""
    released = asyncio.Event()
    running = await init(exporter=ScriptedExporter([stubborn(released)]), set_global=False)
    end_spans(running, 5)
    with in_time(0.1):
        report = await running.shutdown(0.1)
    assert report.dropped == {"deadline": 5}
    released.set()


async def test_a_hopeless_shutdown_does_not_wait_for_its_deadline() -> None:
    """When the next attempt would come too late there is nothing to wait for."""
    running = await init(
        exporter=ScriptedExporter(then=UNREACHABLE), set_global=False, export_timeout=0.05
    )
    end_spans(running, 5)
    report = await running.shutdown(20)
    assert report.elapsed < 10
    assert not report.timed_out
    assert report.failed == 5


async def test_a_cancelled_shutdown_still_closes() -> None:
    """It cuts, counts the rest, and lets the cancellation through."""
    exporter = ScriptedExporter(then=hang)
    running = await init(exporter=exporter)
    end_spans(running, 3)
    task = asyncio.create_task(running.shutdown(30))
    await _until(lambda: exporter.calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running.state is State.CLOSED
    assert tracing.running() is None
    report = await running.shutdown()
    assert report.dropped == {"shutdown_cancelled": 3}
    assert exporter.calls == ["export", "close", "shutdown"]


async def test_a_shutdown_cancelled_while_processors_hang_still_closes() -> None:
    """Whatever it was waiting for."""
    hanging = Hanging()
    exporter = ScriptedExporter(then=hang)
    running = await init(exporter=exporter, span_processors=[hanging], set_global=False)
    end_spans(running, 3)
    task = asyncio.create_task(running.shutdown(30))
    await _until(hanging.entered.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hanging.release.set()
    assert running.state is State.CLOSED
    assert (await running.shutdown()).dropped == {"shutdown_cancelled": 3}
    assert exporter.calls[-2:] == ["close", "shutdown"]


async def test_one_of_two_waiters_may_go() -> None:
    """The shutdown goes on for the other."""
    release = asyncio.Event()

    async def slowly() -> Delivered:
        await release.wait()
        return Delivered()

    running = await init(exporter=ScriptedExporter([slowly]), set_global=False)
    end_spans(running, 3)
    one = asyncio.create_task(running.shutdown(5))
    two = asyncio.create_task(running.shutdown(5))
    await _until(lambda: running.state is State.DRAINING)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    release.set()
    assert (await two).exported == 3


@pytest.mark.parametrize("steps", range(12))
async def test_a_shutdown_cancelled_at_any_step_closes(steps: int) -> None:
    """Wherever the cancellation hits, the tracing is closed and every span is counted."""
    running = await init(
        exporter=[InMemoryExporter(), ScriptedExporter(then=hang)],
        span_processors=[Patient()],
        set_global=False,
    )
    end_spans(running, 3)
    task = asyncio.create_task(running.shutdown(20))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if running.state is State.RUNNING:  # cancelled before it began
        await running.shutdown(0)
    assert running.state is State.CLOSED
    report = await running.shutdown()
    for exporter in report.exporters.values():
        assert exporter.exported + sum(exporter.dropped.values()) == 3


# ---- processors of the user's


class Patient(SpanProcessor):
    """Does nothing, and is there."""


class Hanging(SpanProcessor):
    """Hangs in `force_flush` and `shutdown` until it is released."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def shutdown(self) -> None:
        self.entered.set()
        self.release.wait(30)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.shutdown()
        return True


class Broken(SpanProcessor):
    """Raises in every hook."""

    def on_start(self, span: Span, parent_context: object = None) -> None:
        raise RuntimeError("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("on_end")

    def shutdown(self) -> None:
        raise RuntimeError("shutdown")

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        raise RuntimeError("force_flush")


async def test_a_processor_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Counted per hook, logged once per hook; the spans arrive."""
    exporter = InMemoryExporter()
    async with init(exporter=exporter, span_processors=[Broken()], set_global=False) as running:
        end_spans(running, 3)
        assert (await running.force_flush()).exported == 3
    assert running.statistics().faults == {
        "Broken.on_start": 3,
        "Broken.on_end": 3,
        "Broken.force_flush": 1,
        "Broken.shutdown": 1,
    }
    assert len(caplog.records) == 4
    assert len(exporter.spans) == 3


async def test_a_processor_that_hangs_delays_nothing_of_ours() -> None:
    """The spans are delivered meanwhile, the deadline holds, and one line tells of it."""
    hanging = Hanging()
    exporter = InMemoryExporter()
    running = await init(exporter=exporter, span_processors=[hanging], set_global=False)
    end_spans(running, 3)
    with in_time(0.2):
        report = await running.shutdown(0.2)
    hanging.release.set()
    assert report.exported == 3
    assert len(exporter.spans) == 3


async def test_a_flush_also_flushes_processors_within_its_deadline() -> None:
    """And a hanging one makes it late, not endless."""
    hanging = Hanging()
    running = await init(exporter=InMemoryExporter(), span_processors=[hanging], set_global=False)
    end_spans(running, 3)
    with in_time(0.1):
        report = await running.force_flush(0.1)
    assert report.exported == 3
    hanging.release.set()
    await running.shutdown()


# ---- other loops, other threads


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


async def test_flush_and_shutdown_may_be_awaited_in_another_loop(
    other_loop: asyncio.AbstractEventLoop,
) -> None:
    """The work is done on the host; the report comes to whoever asks."""
    running = await init(exporter=InMemoryExporter(), set_global=False)
    end_spans(running, 2)
    assert (await _in(other_loop, running.force_flush(2))).exported == 2
    end_spans(running, 1)
    report = await _in(other_loop, running.shutdown(2))
    assert report.exported == 3
    assert await running.shutdown() is report


async def test_a_shutdown_cancelled_in_another_loop_still_closes(
    other_loop: asyncio.AbstractEventLoop,
) -> None:
    """The cut reaches the host."""
    exporter = ScriptedExporter(then=hang)
    running = await init(exporter=exporter, set_global=False)
    end_spans(running, 2)
    waiting = asyncio.run_coroutine_threadsafe(running.shutdown(30), other_loop)
    await _until(lambda: exporter.calls)
    waiting.cancel()
    await _until(lambda: running.state is State.CLOSED)
    assert (await running.shutdown()).dropped == {"shutdown_cancelled": 2}


def test_after_its_loop_it_can_be_shut_down_in_the_next() -> None:
    """`asyncio.run` twice: the first forgot; it is said, and nothing is lost."""
    exporter = InMemoryExporter()

    async def start() -> Tracing:
        running = await init(exporter=exporter, set_global=False)
        end_spans(running, 2)
        return running

    with pytest.warns(ResourceWarning, match="was not shut down"):
        running = asyncio.run(start())
    report = asyncio.run(_shutdown(running))
    assert report.exported == 2


async def _shutdown(running: Tracing) -> ShutdownReport:
    return await running.shutdown(2.0)


def test_spans_after_the_loop_still_arrive() -> None:
    """A daemon thread becomes the host when the loop of `init` is gone."""
    exporter = InMemoryExporter()

    async def start() -> Tracing:
        return await init(exporter=exporter, set_global=False, schedule_delay=0.01)

    with pytest.warns(ResourceWarning, match="was not shut down"):
        running = asyncio.run(start())
    end_spans(running, 2)
    assert running.tracer_provider.force_flush(5000)
    assert len(exporter.spans) == 2
    running.tracer_provider.shutdown()
    assert running.state is State.CLOSED


def test_a_loop_closed_around_it_says_so_and_loses_nothing(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """`loop.close()` with the tasks still pending: the next flush delivers from a thread."""
    exporter = InMemoryExporter()
    loop = asyncio.new_event_loop()
    running = loop.run_until_complete(_started(exporter))
    end_spans(running, 2)
    loop.close()
    assert running.tracer_provider.force_flush(5000)
    assert len(exporter.spans) == 2
    running.tracer_provider.shutdown()


async def _started(exporter: object) -> Tracing:
    return await init(exporter=exporter, set_global=False)


def test_a_shutdown_whose_loop_is_torn_down_still_closes() -> None:
    """`asyncio.run` ends while it is under way: cut, counted, and the report can be had."""
    kept: list[Tracing] = []

    async def main() -> None:
        running = await init(exporter=ScriptedExporter(then=hang), set_global=False)
        kept.append(running)
        end_spans(running, 2)
        task = asyncio.create_task(running.shutdown(30))
        await _until(lambda: running.state is State.DRAINING)
        del task

    asyncio.run(main())
    (running,) = kept
    assert running.state is State.CLOSED
    assert asyncio.run(_shutdown(running)).dropped == {"shutdown_cancelled": 2}


async def test_spans_may_end_in_any_thread() -> None:
    """Also a span that was begun elsewhere, and many threads at once."""
    exporter = InMemoryExporter()
    async with init(exporter=exporter, set_global=False, max_export_batch_size=16) as running:
        tracer = running.get_tracer("t")

        def work() -> None:
            for _ in range(100):
                tracer.start_span("thread").end()

        begun_here = tracer.start_span("begun here")
        await asyncio.gather(
            *(asyncio.to_thread(work) for _ in range(4)), asyncio.to_thread(begun_here.end)
        )
    report = await running.shutdown()
    assert report.exported == 401
    assert len({span.span_id for span in exporter.spans}) == 401


async def test_a_span_may_end_in_a_finalizer() -> None:
    """`__del__` ends it, whatever its thread was doing."""
    exporter = InMemoryExporter()

    class Resource:
        def __init__(self) -> None:
            self.span = running.get_tracer("t").start_span("resource")
            self.me = self  # a cycle: only the collector frees it

        def __del__(self) -> None:
            self.span.end()

    async with init(exporter=exporter, set_global=False) as running:
        Resource()
        import gc

        gc.collect()
        assert (await running.force_flush()).exported == 1


# ---- the synchronous interface of the SDK


async def test_the_sdks_flush_waits_truthfully_in_another_thread() -> None:
    """True when everything arrived, False when not; the loop goes on meanwhile."""
    exporter = ScriptedExporter([Delivered(), REFUSED, hang, hang])
    running = await init(exporter=exporter, set_global=False, timeout=0.05, export_timeout=0.05)
    flush = running.tracer_provider.force_flush
    end_spans(running, 1)
    assert await asyncio.to_thread(flush, 5000) is True
    end_spans(running, 1)
    assert await asyncio.to_thread(flush, 5000) is False
    end_spans(running, 1)
    with in_time(0.5):
        assert await asyncio.to_thread(flush, 20) is False
    await running.shutdown(0.2)
    assert await asyncio.to_thread(flush, 5000) is True


async def test_the_sdks_shutdown_waits_in_another_thread() -> None:
    """When it returns everything is delivered and closed."""
    exporter = InMemoryExporter()
    running = await init(exporter=exporter)
    end_spans(running, 2)
    await asyncio.to_thread(running.tracer_provider.shutdown)
    assert running.state is State.CLOSED
    assert len(exporter.spans) == 2
    assert (await running.shutdown()).exported == 2


async def test_on_the_hosts_own_thread_it_cannot_wait_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """False, the flush is under way, and one hint at the awaitable one."""
    exporter = InMemoryExporter()
    running = await init(exporter=exporter, set_global=False)
    end_spans(running, 2)
    assert running.tracer_provider.force_flush() is False
    assert running.tracer_provider.force_flush() is False
    await _until(lambda: len(exporter.spans) == 2)
    running.tracer_provider.shutdown()
    await _until(lambda: running.state is State.CLOSED)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "await tracing.force_flush()" in line


# ---- open spans


async def test_the_table_of_open_spans_is_bounded_and_weak() -> None:
    """Overflow is counted; spans that were thrown away are forgotten."""
    async with init(exporter="none", set_global=False, max_open_spans=2) as running:
        tracer = running.get_tracer("t")
        spans = [tracer.start_span(str(number)) for number in range(3)]
        assert [span.name for span in running.open_spans()] == ["0", "1"]
        figures = running.statistics()
        assert (figures.open_spans, figures.open_span_overflow) == (2, 1)
        spans[0].end()
        del spans
        assert running.open_spans() == ()


class HoldsBack(SpanProcessor):
    """Ends a span of its own when it is flushed, as processors that aggregate do."""

    def __init__(self) -> None:
        self.running: Tracing | None = None

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        assert self.running is not None
        end_spans(self.running, 1)
        return True


async def test_a_flush_takes_what_processors_hand_on_when_they_are_flushed() -> None:
    """Its report counts these spans and those before the call, and leaves none out."""
    holding = HoldsBack()
    async with init(
        exporter=InMemoryExporter(), span_processors=[holding], set_global=False
    ) as running:
        holding.running = running
        end_spans(running, 2)
        report = await running.force_flush(2.0)
        assert report.exported == 3


async def test_a_flush_counts_from_the_call_on() -> None:
    """What is delivered between the call and its first step is in its report."""
    exporter = InMemoryExporter()
    async with init(exporter=exporter, set_global=False, max_export_batch_size=2) as running:
        for number in (2, 4, 7):
            end_spans(running, number)
            assert (await running.force_flush(2.0)).exported == number


# ---- where no thread is to be had


def test_without_a_host_a_flush_says_that_nothing_was_delivered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its loop is gone and no thread can be started: False, pending, counted, one line."""
    exporter = InMemoryExporter()
    loop = asyncio.new_event_loop()
    running = loop.run_until_complete(_started(exporter))
    end_spans(running, 2)

    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("asynctrace._threads.start", refuse)
        assert running.tracer_provider.force_flush(1000) is False
        report = asyncio.run(running.force_flush(1.0))
    assert not report
    assert report.pending == 2
    assert running.statistics().faults["host"] >= 2
    assert len([r for r in caplog.records if "host failed" in r.getMessage()]) == 1
    loop.run_until_complete(_shutdown(running))
    loop.close()
    assert len(exporter.spans) == 2


def test_a_loop_that_stands_still_hands_over(recwarn: pytest.WarningsRecorder) -> None:
    """`run_until_complete` now and then: another loop flushes and shuts down what it has."""
    exporter = ScriptedExporter([hang])
    loop = asyncio.new_event_loop()
    running = loop.run_until_complete(_started(exporter))

    async def begin() -> None:
        end_spans(running, 2)
        flush = asyncio.create_task(running.force_flush(0.02))
        await flush

    loop.run_until_complete(begin())
    assert running.statistics().in_flight == 2
    report = asyncio.run(_shutdown(running))
    assert report.exported == 2
    assert sorted(exporter.delivered) == sorted(set(exporter.delivered))
    loop.run_until_complete(asyncio.sleep(0.01))  # its old task learns that it was cancelled
    loop.close()
