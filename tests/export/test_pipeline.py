"""One exporter's pipeline: batches, schedule, retries, flush, close; exporters by temper."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest
from opentelemetry.sdk.resources import Resource

from asynctrace.export.contracts import Delivered, Item, SpanDropReason, Undelivered
from asynctrace.export.pipeline import Pipeline
from asynctrace.export.reports import ExporterReport, ExporterStatistics
from asynctrace.export.retry import RetryPolicy
from asynctrace.otlp.encode import SpanEncoder
from tests.support.exporters import REFUSED, UNREACHABLE, ScriptedExporter, hang, no_spans, stubborn

_encode = SpanEncoder()

NEVER = 3600.0
"""A schedule that no test lives to see."""
QUICK = RetryPolicy(initial=0.001, maximum=0.002)
PATIENT = RetryPolicy(initial=NEVER, maximum=NEVER)


def item(number: int) -> Item:
    """The span whose id is `number`."""
    data = _encode.span(1, number, "", 0, 0x101, "s", 1, 10, 20, {}, 0, (), 0, (), 0, 0, None)
    return None, data, None


def ids(*numbers: int) -> list[str]:
    return [f"{number:016x}" for number in numbers]


class Running:
    """A pipeline and the task that drains it."""

    def __init__(self, pipeline: Pipeline, exporter: ScriptedExporter) -> None:
        self.pipeline = pipeline
        self.exporter = exporter
        self.task = asyncio.create_task(pipeline.run())

    def add(self, *numbers: int) -> None:
        for number in numbers:
            if self.pipeline.queue.admits():
                self.pipeline.append(item(number))

    def figures(self) -> ExporterStatistics:
        """A snapshot, which always adds up."""
        figures = self.pipeline.statistics()
        assert figures.accepted == (
            figures.exported
            + figures.failed
            + sum(figures.dropped.values())
            + figures.queued
            + figures.in_flight
        )
        return figures

    async def until(self, condition: Callable[[ExporterStatistics], bool]) -> ExporterStatistics:
        """Wait until the figures are so; they add up at each look."""
        async with asyncio.timeout(5):
            while not condition(self.figures()):
                await asyncio.sleep(0)
        return self.figures()

    async def flush(self, timeout: float = 5.0) -> tuple[ExporterReport, bool]:
        return await self.pipeline.finish_flush(self.pipeline.begin_flush(), soon(timeout))

    async def close(self, timeout: float = 5.0) -> None:
        """Close as `Delivery` does it."""
        self.pipeline.begin_close(time.monotonic() + timeout)
        await asyncio.wait({self.task}, timeout=timeout)
        self.task.cancel()
        await asyncio.wait({self.task})
        self.pipeline.close_books(SpanDropReason.DEADLINE)


@contextlib.asynccontextmanager
async def running(
    exporter: ScriptedExporter,
    *,
    batch: int = 3,
    queue: int = 100,
    schedule: float = NEVER,
    retry: RetryPolicy = QUICK,
    attempt_timeout: float = 5.0,
    export_timeout: float = 5.0,
    jitter: float = 0.5,
) -> AsyncIterator[Running]:
    def alarm() -> None:
        asyncio.get_running_loop().call_soon(pipeline.wake)

    pipeline = Pipeline(
        exporter,
        name=exporter.name,
        resource=Resource.get_empty,
        alarm=alarm,
        ended=no_spans(),
        max_queue_size=queue,
        max_queue_bytes=10**6,
        max_export_batch_size=batch,
        schedule_delay=schedule,
        attempt_timeout=attempt_timeout,
        export_timeout=export_timeout,
        retry=retry,
        jitter=lambda: jitter,
    )
    run = Running(pipeline, exporter)
    await asyncio.sleep(0)
    try:
        yield run
    finally:
        await run.close(0.05)


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


# ---- batches and schedule


async def test_a_full_batch_goes_out_at_once() -> None:
    """Without waiting for the schedule; what does not fill a batch waits."""
    async with running(ScriptedExporter(), batch=3) as run:
        run.add(1, 2)
        await asyncio.sleep(0.01)
        assert run.exporter.attempts == []
        run.add(3, 4)
        await run.until(lambda figures: figures.exported == 3)
        assert run.exporter.attempts == [ids(1, 2, 3)]
        assert run.figures().queued == 1


async def test_spans_that_come_during_an_export_wait_for_a_batch_of_their_own() -> None:
    """A steady load makes full batches, not one request per round trip."""
    release = asyncio.Event()

    async def slowly() -> Delivered:
        await release.wait()
        return Delivered()

    async with running(ScriptedExporter([slowly]), batch=3) as run:
        run.add(1, 2, 3)
        await run.until(lambda figures: figures.in_flight == 3)
        run.add(4, 5)
        release.set()
        await run.until(lambda figures: figures.exported == 3)
        await asyncio.sleep(0.01)
        assert run.figures().queued == 2
        run.add(6)
        await run.until(lambda figures: figures.exported == 6)
        assert run.exporter.attempts == [ids(1, 2, 3), ids(4, 5, 6)]


async def test_the_schedule_sends_what_is_there() -> None:
    """A batch that never fills goes out after the delay."""
    async with running(ScriptedExporter(), schedule=0.02) as run:
        run.add(1, 2)
        begun = time.monotonic()
        await run.until(lambda figures: figures.exported == 2)
        assert time.monotonic() - begun < 2
        assert run.exporter.attempts == [ids(1, 2)]
        run.add(3)
        await run.until(lambda figures: figures.exported == 3)


async def test_batches_have_the_configured_size_and_keep_the_order() -> None:
    """Ten spans in batches of four, one export at a time."""
    async with running(ScriptedExporter(), batch=4) as run:
        run.add(*range(1, 11))
        report, timed_out = await run.flush()
        assert (report.exported, timed_out) == (10, False)
        assert run.exporter.attempts == [ids(1, 2, 3, 4), ids(5, 6, 7, 8), ids(9, 10)]
        assert run.exporter.most_concurrent == 1


async def test_an_idle_pipeline_makes_no_request() -> None:
    """Nor does the flush of an empty queue."""
    async with running(ScriptedExporter(), schedule=0.005) as run:
        await asyncio.sleep(0.03)
        report, timed_out = await run.flush()
        assert report.exported == 0
        assert report
        assert not timed_out
        assert run.exporter.calls == []


async def test_a_full_queue_refuses_the_newcomer() -> None:
    """The oldest are kept, and the others counted by reason."""
    async with running(ScriptedExporter(), batch=50, queue=3) as run:
        run.add(1, 2, 3, 4, 5)
        assert run.figures().dropped == {"queue_full": 2}
        await run.flush()
        assert run.exporter.delivered == ids(1, 2, 3)


# ---- retries


async def test_a_transient_failure_is_retried() -> None:
    """The same batch, until it is taken; each further attempt is counted."""
    exporter = ScriptedExporter([UNREACHABLE, UNREACHABLE])
    async with running(exporter) as run:
        run.add(1, 2, 3)
        figures = await run.until(lambda figures: figures.exported == 3)
        assert exporter.attempts == [ids(1, 2, 3)] * 3
        assert figures.retries == 2
        assert figures.last_error == "unreachable: nobody there"
        assert figures.last_error_time is not None
        assert figures.last_success_time is not None


@pytest.mark.parametrize("outcome", [REFUSED, RuntimeError("bug"), KeyError("bug")])
async def test_a_permanent_failure_is_not(outcome: object) -> None:
    """Refused batches and exporters that raise: counted as failed, and the next batch is sent."""
    exporter = ScriptedExporter([outcome])
    async with running(exporter) as run:
        run.add(1, 2, 3, 4, 5, 6)
        figures = await run.until(lambda figures: figures.exported == 3)
        assert figures.failed == 3
        assert figures.retries == 0
        assert exporter.delivered == ids(4, 5, 6)


async def test_retries_end_with_the_export_timeout() -> None:
    """A batch that nobody takes is given up, and counted."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with running(exporter, export_timeout=0.3) as run:
        run.add(1, 2, 3)
        begun = time.monotonic()
        await run.until(lambda figures: figures.failed == 3)
        assert time.monotonic() - begun < 2
        assert len(exporter.attempts) > 1
        assert min(exporter.remaining) >= -0.01


async def test_a_hanging_attempt_is_cut_and_retried() -> None:
    """Each attempt has its own time-out."""
    exporter = ScriptedExporter([hang, hang])
    async with running(exporter, attempt_timeout=0.02) as run:
        run.add(1, 2, 3)
        figures = await run.until(lambda figures: figures.exported == 3)
        assert figures.retries == 2
        assert figures.last_error == "timeout: no answer within 0.02 s"


async def test_partial_success_is_counted() -> None:
    """Rejected spans have failed; nonsense about them cannot break the figures."""
    answers = [Delivered(1, "bad"), Delivered(99), Delivered(-5)]
    async with running(ScriptedExporter(answers)) as run:
        run.add(*range(1, 10))
        figures = await run.until(lambda figures: figures.exported + figures.failed == 9)
        assert (figures.exported, figures.failed) == (2 + 0 + 3, 1 + 3)
        assert figures.last_error == "3 spans rejected"


async def test_what_the_receiver_asked_for_is_waited_for() -> None:
    """A flush is a reason to hurry, yet not to ignore `Retry-After`."""
    throttled = Undelivered("http_429", "slow down", retryable=True, retry_after=0.05)
    exporter = ScriptedExporter([throttled])
    async with running(exporter, batch=1) as run:
        run.add(1)
        await run.until(lambda figures: figures.retries == 1)
        begun = time.monotonic()
        report, _ = await run.flush()
        assert report.exported == 1
        assert time.monotonic() - begun > 0.03


# ---- too large


def at_most(spans: int) -> Callable[[list[str]], Delivered | Undelivered]:
    """A receiver with a limit."""
    too_large = Undelivered("http_413", "4 MB is enough", too_large=True)
    return lambda sent: too_large if len(sent) > spans else Delivered()


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7])
async def test_a_batch_that_is_too_large_is_split(limit: int) -> None:
    """Until its parts fit: every span arrives once, in order; the next batch is smaller at once."""
    exporter = ScriptedExporter(judge=at_most(limit))
    async with running(exporter, batch=8) as run:
        run.add(*range(1, 17))
        report, _ = await run.flush()
        assert report
        assert exporter.delivered == ids(*range(1, 17))
        refused = [sent for sent in exporter.attempts if len(sent) > limit]
        assert len(refused) == [0, 3, 2, 2, 0, 1, 0, 1][limit]
        assert run.figures().retries == len(refused)
        assert run.figures().circuit == "closed"


async def test_a_single_span_that_is_too_large_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a reason and a line in the log; its neighbours arrive."""
    giant = 5

    def no_giants(sent: list[str]) -> Delivered | Undelivered:
        return at_most(0 if ids(giant)[0] in sent else 100)(sent)

    exporter = ScriptedExporter(judge=no_giants)
    async with running(exporter, batch=8) as run:
        run.add(*range(1, 17))
        report, timed_out = await run.flush()
        assert not timed_out
        assert report.dropped == {"too_large": 1}
        assert exporter.delivered == ids(*(n for n in range(1, 17) if n != giant))
        assert run.figures().last_error == "http_413: 4 MB is enough"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "is too large for the receiver" in line


async def test_what_is_too_large_is_split_at_the_end_as_well() -> None:
    """A shutdown is no reason to lose spans that fit."""
    exporter = ScriptedExporter(judge=at_most(2))
    async with running(exporter, batch=8) as run:
        run.add(*range(1, 8))
        await run.close()
        assert exporter.delivered == ids(*range(1, 8))


# ---- the circuit


def throttled(seconds: float) -> Undelivered:
    return Undelivered("http_429", "slow down", retryable=True, retry_after=seconds)


async def test_a_long_outage_opens_the_circuit() -> None:
    """One batch is given up; those behind it wait, and no request is made."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with running(exporter, batch=2, queue=5, retry=PATIENT, export_timeout=0.02) as run:
        run.add(1, 2, 3, 4)
        figures = await run.until(lambda figures: figures.circuit == "open")
        assert (figures.failed, figures.queued) == (2, 2)
        made = len(exporter.attempts)
        run.add(5, 6, 7, 8, 9)
        await asyncio.sleep(0.05)
        assert len(exporter.attempts) == made
        assert run.figures().dropped == {"queue_full": 2}
        assert "circuit=open" in repr(run.pipeline)


async def test_one_batch_probes_and_the_first_success_closes() -> None:
    """A probe is one attempt; in vain, its spans stay the oldest in the queue."""
    policy = RetryPolicy(initial=0.001, maximum=0.01)
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with running(exporter, batch=2, retry=policy, export_timeout=0.02) as run:
        run.add(1, 2, 3, 4, 5, 6)
        await run.until(lambda figures: figures.circuit == "open")
        made = len(exporter.attempts)
        await run.until(lambda _: len(exporter.attempts) >= made + 3)
        assert set(map(tuple, exporter.attempts[made:])) == {tuple(ids(3, 4))}
        assert run.figures().failed == 2
        exporter.then = Delivered()
        figures = await run.until(lambda figures: figures.exported == 4)
        assert figures.circuit == "closed"
        assert exporter.delivered == ids(3, 4, 5, 6)


async def test_a_refusal_closes_the_circuit_too() -> None:
    """Whoever refuses is there."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with running(exporter, batch=2, retry=PATIENT, export_timeout=0.02) as run:
        run.add(1, 2, 3, 4, 5, 6)
        await run.until(lambda figures: figures.circuit == "open")
        exporter.then = REFUSED
        report, timed_out = await run.flush()
        assert (report.failed, timed_out) == (4, False)
        assert run.figures().circuit == "closed"


async def test_a_flush_tries_once_through_an_open_circuit() -> None:
    """In vain, the spans are pending and kept; a success lets everything go."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with running(exporter, batch=2, retry=PATIENT, export_timeout=0.02) as run:
        run.add(1, 2, 3, 4, 5, 6)
        await run.until(lambda figures: figures.circuit == "open")
        made = len(exporter.attempts)
        report, timed_out = await run.flush(0.05)
        assert (report.pending, timed_out) == (4, True)
        assert len(exporter.attempts) == made + 1
        exporter.then = Delivered()
        report, timed_out = await run.flush()
        assert (report.exported, timed_out) == (4, False)


async def test_a_shutdown_in_a_hurry_gets_over_one_broken_connection() -> None:
    """Even with less time than the back-off would take."""
    exporter = ScriptedExporter([UNREACHABLE])
    async with running(exporter, batch=2, retry=PATIENT) as run:
        run.add(1)
        await run.close(0.2)
        assert exporter.delivered == ids(1)


async def test_a_shutdown_tries_every_batch_where_no_outage_is_known() -> None:
    """The first may fail for its own reasons."""
    exporter = ScriptedExporter([UNREACHABLE, UNREACHABLE])
    async with running(exporter, batch=2, retry=PATIENT) as run:
        for number in (1, 2, 3):
            run.pipeline.append(item(number))
        await run.close(0.2)
        assert exporter.delivered == ids(3)


@pytest.mark.parametrize("back", [True, False])
async def test_a_shutdown_tries_once_through_an_open_circuit(back: bool) -> None:
    """In vain, it does not wait for its deadline, and does not ask for every batch."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with running(exporter, batch=2, retry=PATIENT, export_timeout=0.02) as run:
        run.add(1, 2, 3, 4, 5, 6)
        await run.until(lambda figures: figures.circuit == "open")
        made = len(exporter.attempts)
        if back:
            exporter.then = Delivered()
        begun = time.monotonic()
        await run.close(20)
        assert time.monotonic() - begun < 5
        assert len(exporter.attempts) - made == (2 if back else 1)
        assert exporter.delivered == (ids(3, 4, 5, 6) if back else [])
        assert run.figures().failed == (2 if back else 6)
        assert run.figures().dropped == {}


async def test_throttling_holds_between_batches() -> None:
    """`Retry-After` beyond the batch's time: nothing fails, nothing is sent before it is over."""
    exporter = ScriptedExporter([throttled(0.1)])
    async with running(exporter, batch=2, export_timeout=0.05) as run:
        run.add(1, 2, 3, 4)
        await run.until(lambda figures: figures.circuit == "open")
        begun = time.monotonic()
        flushed, timed_out = await run.flush(0.02)
        assert (flushed.pending, timed_out) == (4, True)
        figures = await run.until(lambda figures: figures.exported == 4)
        assert time.monotonic() - begun > 0.08
        assert exporter.attempts == [ids(1, 2), ids(1, 2), ids(3, 4)]
        assert figures.failed == 0


async def test_a_throttled_shutdown_asks_once_more() -> None:
    """And no more than that when the receiver wants to be left alone beyond the deadline."""
    exporter = ScriptedExporter(then=throttled(60))
    async with running(exporter, batch=2) as run:
        run.add(1, 2, 3, 4, 5, 6)
        await run.until(lambda figures: figures.circuit == "open")
        begun = time.monotonic()
        await run.close(2)
        assert time.monotonic() - begun < 1.5
        assert len(exporter.attempts) == 2
        assert run.figures().failed == 6


async def test_a_shutdown_waits_for_a_throttle_that_ends_in_time() -> None:
    """The receiver said when it would take more."""
    exporter = ScriptedExporter([throttled(60), throttled(0.1)])
    async with running(exporter, batch=2, export_timeout=5) as run:
        run.add(1, 2, 3, 4)
        await run.until(lambda figures: figures.circuit == "open")
        await run.close(5)
        assert exporter.delivered == ids(1, 2, 3, 4)


# ---- flush


async def test_a_flush_during_back_off_tries_at_once() -> None:
    """Somebody waits: the back-off, however long, is over."""
    exporter = ScriptedExporter([UNREACHABLE])
    async with running(exporter, batch=1, retry=PATIENT, export_timeout=3 * NEVER) as run:
        run.add(1)
        await run.until(lambda figures: figures.retries == 1)
        report, timed_out = await run.flush()
        assert (report.exported, timed_out) == (1, False)


async def test_a_flush_keeps_its_deadline_and_the_spans_stay() -> None:
    """What was not delivered is pending and is delivered later."""
    release = asyncio.Event()

    async def slowly() -> Delivered:
        await release.wait()
        return Delivered()

    async with running(ScriptedExporter([slowly])) as run:
        run.add(1, 2)
        begun = time.monotonic()
        report, timed_out = await run.flush(0.03)
        assert time.monotonic() - begun < 1
        assert (report.exported, report.pending, timed_out) == (0, 2, True)
        assert not report
        release.set()
        await run.until(lambda figures: figures.exported == 2)
        assert run.exporter.delivered == ids(1, 2)


async def test_a_flush_does_not_wait_for_spans_that_end_after_it() -> None:
    """Its last batch ends where it began, and its report counts no later span."""
    async with running(ScriptedExporter(), batch=100) as run:
        run.add(1, 2)
        flush = asyncio.create_task(run.flush())
        await asyncio.sleep(0)
        run.add(3, 4, 5)
        report, _ = await flush
        assert report.exported == 2
        assert run.exporter.attempts == [ids(1, 2)]


async def test_two_flushes_have_their_own_figures() -> None:
    """Concurrent, and each exact."""
    release = asyncio.Event()

    async def refuse() -> Undelivered:
        await release.wait()
        return REFUSED

    async with running(ScriptedExporter([refuse]), batch=100) as run:
        run.add(1, 2)
        first = asyncio.create_task(run.flush())
        await run.until(lambda figures: figures.in_flight == 2)
        run.add(3, 4, 5)
        second = asyncio.create_task(run.flush())
        await asyncio.sleep(0)
        release.set()
        (one, _), (two, _) = await asyncio.gather(first, second)
        assert (one.failed, one.exported) == (2, 0)
        assert (two.failed, two.exported) == (2, 3)


async def test_a_cancelled_flush_leaves_the_spans_queued() -> None:
    """It only stops waiting."""
    async with running(ScriptedExporter([hang], then=Delivered()), attempt_timeout=0.05) as run:
        run.add(1)
        flush = asyncio.create_task(run.flush())
        await run.until(lambda figures: figures.in_flight == 1)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush
        assert run.figures().in_flight == 1
        report, _ = await run.flush()
        assert report.exported == 1


# ---- the end


async def test_closing_sends_the_rest_and_ends_the_exporter() -> None:
    """The queue is emptied, then `close`, then `shutdown`, once each."""
    async with running(ScriptedExporter(), batch=2) as run:
        run.add(1, 2, 3)
        await run.close()
        assert run.exporter.delivered == ids(1, 2, 3)
        assert run.exporter.calls == ["export", "export", "close", "shutdown"]
        run.add(4)
        assert run.figures().dropped == {"closed": 1}


async def test_closing_during_back_off_tries_at_once_and_gives_up_in_time() -> None:
    """Nothing is planned past the deadline."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with running(exporter, retry=PATIENT, export_timeout=3 * NEVER) as run:
        run.add(1, 2, 3)
        await run.until(lambda figures: figures.retries == 1)
        await run.close(2.0)
        assert len(exporter.attempts) == 2
        assert run.figures().failed == 3


async def test_the_deadline_cuts_an_export_that_hangs() -> None:
    """Its spans, and those behind it, are dropped and counted."""
    async with running(ScriptedExporter(then=hang)) as run:
        run.add(1, 2, 3, 4)
        await run.until(lambda figures: figures.in_flight == 3)
        await run.close(0.02)
        figures = run.figures()
        assert figures.dropped == {"deadline": 4}
        assert run.exporter.calls == ["export", "close", "shutdown"]


@pytest.mark.parametrize("late", [Delivered(), REFUSED])
async def test_an_answer_after_the_books_are_closed_changes_nothing(late: object) -> None:
    """An exporter that ignores its cancellation comes back late: its spans are counted already."""
    released = asyncio.Event()
    assert isinstance(late, Delivered | Undelivered)
    exporter = ScriptedExporter([stubborn(released, late)])
    async with running(exporter) as run:
        run.add(1, 2, 3)
        await run.until(lambda figures: figures.in_flight == 3)
        run.pipeline.begin_close(soon(0))
        run.task.cancel()
        await asyncio.sleep(0)
        run.pipeline.close_books(SpanDropReason.DEADLINE)
        before = run.figures()
        assert before.dropped == {"deadline": 3}
        released.set()
        await asyncio.wait({run.task})
        assert run.figures() == before


async def test_a_cancellation_that_comes_late_puts_nothing_back() -> None:
    """After the books are closed the batch is not queued again: it would be counted twice."""
    released = asyncio.Event()

    async def cancelled_late() -> Delivered:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await released.wait()
        raise asyncio.CancelledError

    async with running(ScriptedExporter([cancelled_late])) as run:
        run.add(1, 2, 3)
        await run.until(lambda figures: figures.in_flight == 3)
        run.task.cancel()
        await asyncio.sleep(0)
        run.pipeline.close_books(SpanDropReason.DEADLINE)
        released.set()
        await asyncio.wait({run.task})
        assert run.figures().queued == 0


@pytest.mark.parametrize("error", [RuntimeError("at close"), TimeoutError()])
async def test_an_exporter_that_raises_at_close_harms_nobody(error: BaseException) -> None:
    """Both ends are called; the error is kept for the statistics."""
    exporter = ScriptedExporter(close_with=error)
    async with running(exporter) as run:
        run.add(1)
        await run.close()
        assert run.task.done()
        assert run.task.exception() is None
        assert exporter.calls == ["export", "close", "shutdown"]
        assert run.figures().exported == 1
        assert str(run.figures().last_error).startswith("close: ")


async def test_an_exporter_that_hangs_at_close_is_left_behind() -> None:
    """For as long as the grace lasts, and no longer."""
    exporter = ScriptedExporter()

    async def never() -> None:
        await asyncio.Event().wait()

    exporter.close = never  # type: ignore[method-assign]
    async with running(exporter) as run:
        begun = time.monotonic()
        await run.close()
        assert time.monotonic() - begun < 2
        assert run.task.done()
        assert exporter.calls == ["shutdown"]


# ---- changing hosts


async def test_a_cancelled_host_hands_its_batch_to_the_next() -> None:
    """The batch in flight goes back to the front; nobody knows whether it had arrived."""
    exporter = ScriptedExporter([hang])
    async with running(exporter) as run:
        run.add(1, 2, 3, 4)
        await run.until(lambda figures: figures.in_flight == 3)
        run.task.cancel()
        await asyncio.wait({run.task})
        assert (run.figures().in_flight, run.figures().queued) == (0, 4)
        assert exporter.calls == ["export", "close"]
        run.task = asyncio.create_task(run.pipeline.run())
        report, _ = await run.flush()
        assert report.exported == 4
        assert exporter.delivered == ids(1, 2, 3, 4)


def test_a_batch_that_a_standing_loop_holds_is_reclaimed() -> None:
    """A loop that runs no more cannot be asked: the next host takes its batch over."""
    exporter = ScriptedExporter([hang])
    standing = asyncio.new_event_loop()
    stays: list[contextlib.AsyncExitStack] = []

    async def begin() -> Running:
        async with contextlib.AsyncExitStack() as stack:
            run = await stack.enter_async_context(running(exporter))
            run.add(1, 2, 3, 4)
            await run.until(lambda figures: figures.in_flight == 3)
            stays.append(stack.pop_all())  # as it is, and kept: uvloop closes what is garbage
            return run

    run = standing.run_until_complete(begin())
    old = run.task

    async def take_over() -> None:
        run.task = asyncio.create_task(run.pipeline.run())
        await run.until(lambda figures: figures.exported == 3)
        await run.close()

    asyncio.run(take_over())
    assert exporter.delivered == ids(1, 2, 3, 4)
    before = run.figures()
    old.cancel()
    standing.run_until_complete(asyncio.wait({old}))
    standing.close()
    assert run.figures() == before
    assert run.figures().accepted == 4


async def test_a_forked_child_starts_empty() -> None:
    """Nothing queued, nothing counted; the exporter is told."""
    async with running(ScriptedExporter()) as run:
        run.add(1, 2)
        run.pipeline.forget()
        figures = run.figures()
        assert (figures.accepted, figures.queued) == (0, 0)
        assert run.exporter.calls == ["after_fork"]


def without_a_loop(exporter: ScriptedExporter, *, batch_size: int) -> Pipeline:
    """As at the exit of the process: nothing runs it."""
    return Pipeline(
        exporter,
        name="x",
        resource=Resource.get_empty,
        alarm=lambda: None,
        ended=no_spans(),
        max_queue_size=10,
        max_queue_bytes=10**6,
        max_export_batch_size=batch_size,
        schedule_delay=NEVER,
        attempt_timeout=1.0,
        export_timeout=1.0,
    )


def test_the_exit_sends_without_a_loop() -> None:
    """Batch by batch, until the deadline; the rest is counted."""
    exporter = ScriptedExporter()
    pipeline = without_a_loop(exporter, batch_size=2)
    for number in (1, 2, 3):
        pipeline.append(item(number))
    pipeline.export_at_exit(soon())
    assert exporter.delivered == ids(1, 2, 3)
    assert exporter.calls == ["export_at_exit"] * 2
    pipeline.append(item(4))
    pipeline.export_at_exit(time.monotonic() - 1)
    figures = "queued=1 in_flight=0 exported=3 failed=0"
    assert repr(pipeline) == f"<Pipeline 'x' {figures} circuit=closed>"


def test_the_exit_splits_what_is_too_large() -> None:
    """Without a loop as with one."""
    exporter = ScriptedExporter(judge=at_most(2))
    pipeline = without_a_loop(exporter, batch_size=8)
    for number in range(1, 8):
        pipeline.append(item(number))
    pipeline.export_at_exit(soon())
    assert exporter.delivered == ids(*range(1, 8))
    assert pipeline.statistics().exported == 7


async def test_an_outage_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """However many batches and attempts it costs, and one more line when it is over."""
    exporter = ScriptedExporter([UNREACHABLE] * 7)
    async with running(exporter, batch=1, export_timeout=0.01, jitter=0.99) as run:
        run.add(*range(1, 9))
        figures = await run.until(lambda figures: figures.exported + figures.failed == 8)
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert lines[1].startswith("scripted delivers again after ")
        assert lines[1].endswith(f"; {figures.failed} spans were lost.")
