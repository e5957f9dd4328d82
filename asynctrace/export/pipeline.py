"""One exporter's pipeline: a queue, the task that drains it, and the book of what became of it.

`append` may be called in any thread; everything else runs on the host loop. The rules are in
`queue` (what fits), `retry` and `circuit` (what to do about a failure, whether to send at all),
`request_size` and `ledger` (which span a flush waits for). The calls of the exporter are made in
`attempts`; this is what joins them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from opentelemetry.sdk.resources import Resource

from .attempts import Attempts, Limits, Timed, Urgency
from .contracts import Batch, Exporter, Item, Outcome, SpanDropReason, Undelivered
from .ended import Ended
from .in_flight import InFlight
from .ledger import Flush, Ledger
from .outage import OutageLog
from .queue import SpanQueue
from .reports import ExporterReport, ExporterStatistics
from .request_size import RequestSize
from .retry import Action, RetryPolicy
from .stall import StallMeter

CLOSE_GRACE = 0.1
"""Seconds that a cancelled export, and then the exporter's `close`, get beyond the deadline."""
_UNSENT = Undelivered("circuit_open", "the receiver is away or asked for quiet", retryable=True)
_UNKNOWN = Undelivered("cut_off", "the exporter was left behind; it may yet deliver the spans")


class Pipeline:
    """Batches the queued spans of one exporter and delivers them, with retries."""

    spills = False
    """Whether a span for which the queue has no room goes elsewhere, and is not dropped."""

    def __init__(
        self,
        exporter: Exporter,
        *,
        name: str,
        resource: Callable[[], Resource],
        alarm: Callable[[], None],
        ended: Ended,
        max_queue_size: int,
        max_queue_bytes: int,
        max_export_batch_size: int,
        schedule_delay: float,
        attempt_timeout: float,
        export_timeout: float,
        retry: RetryPolicy | None = None,
        stalls: StallMeter | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.exporter = exporter
        self.needs_spans = exporter.needs_spans
        self.queue = SpanQueue(max_spans=max_queue_size, max_bytes=max_queue_bytes)
        self.stalls = stalls or StallMeter()
        self._resource = resource
        self._alarm = alarm
        self._ended = ended
        self._batch_size = max_export_batch_size
        self._schedule_delay = schedule_delay
        self._limits = Limits(attempt=attempt_timeout, export=export_timeout)
        self._retry = retry or RetryPolicy()
        self._clock = clock
        self._jitter = jitter
        self._timed: Timed | None = None
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Without a host the very first span must call for one; with a host a full batch calls.
        self._alarm_at = 1
        self._alarmed = False
        self._is_shut_down = False
        self._begin_life()

    def _begin_life(self) -> None:
        """Nothing is counted and nothing known of the receiver: at the start, and after a fork."""
        self.ledger = Ledger()
        self._in_flight = InFlight(self.queue, self.ledger, resource=self._resource)
        self._outage = OutageLog(self.name)
        self._request_size = RequestSize()
        self._attempts = Attempts(
            self.exporter,
            limits=self._limits,
            retry=self._retry,
            urgency=self._urgency,
            holds=self._in_flight.holds,
            on_failure=self._note_failure,
            on_retry=self.ledger.note_retry,
            clock=self._clock,
            jitter=self._jitter,
        )
        self._attempts.timed = self._timed

    # ---- any thread

    def admits(self) -> bool:
        """Whether there is room for a span; when not, one refusal is counted."""
        return self.queue.admits()

    def append(self, item: Item) -> None:
        """Queue an admitted span and, when a batch is full, wake the drain task."""
        self._note_queued(self.queue.append(item))

    def extend(self, items: list[Item]) -> None:
        """Queue spans for which the queue had `room`."""
        self._note_queued(self.queue.extend(items))

    def _note_queued(self, waiting: int) -> None:
        if waiting >= self._alarm_at and not self._alarmed:
            self._alarmed = True
            self._alarm()

    def statistics(self) -> ExporterStatistics:
        """A snapshot; exact on the host, a moment old elsewhere."""
        queue, ledger = self.queue, self.ledger
        refused, queued = queue.refused, len(queue) + len(self._ended)
        return ExporterStatistics(
            accepted=queue.taken + queued + sum(refused.values()),
            exported=ledger.exported,
            failed=ledger.failed,
            dropped=MappingProxyType(dict(ledger.dropped + Counter(refused))),
            queued=queued,
            queued_bytes=queue.bytes,
            in_flight=ledger.in_flight,
            retries=ledger.retries,
            last_error=ledger.last_error,
            last_error_time=ledger.last_error_time,
            last_success_time=ledger.last_success_time,
            failing=ledger.failing,
            spooled=ledger.spooled,
            circuit=self._attempts.circuit.state.value,
        )

    @property
    def capacity(self) -> int:
        """Spans that the queue can hold."""
        return self.queue.max_spans

    @property
    def settled(self) -> bool:
        """Whether it is known of every queued span what became of it."""
        return not len(self.queue) and not self.ledger.in_flight

    def report(self) -> ExporterReport:
        """The whole life of the pipeline so far."""
        return ExporterReport.of(self.statistics())

    def time_exports(self, timed: Timed) -> None:
        """Have `timed` told of the export of each batch, on the host."""
        self._timed = self._attempts.timed = timed

    # ---- the host

    def wake(self) -> None:
        """Let the drain task look at its queue now.

        Where the one of this loop has not begun yet there is no need: it begins with a look.
        """
        if self._wake is not None and self._loop is asyncio.get_running_loop():
            self._wake.set()

    async def run(self) -> None:
        """Drain the queue until it is closed and empty.

        Cancellation puts the batch in flight back into the queue, closes the exporter's
        connections to this loop and leaves the pipeline without a host: the next span calls for
        one.
        """
        self._loop = asyncio.get_running_loop()
        wake = self._wake = asyncio.Event()
        self._attempts.begin(wake)
        self._alarm_at = self._batch_size
        self._reclaim()
        try:
            await self._serve(wake)
        except GeneratorExit:  # the loop was closed around the task: nothing can be awaited
            if self._wake is wake:
                self._detach()
            raise
        except BaseException as error:
            handed_over = self._attempts.exiting and isinstance(error, RuntimeError)
            await self._leave(wake, for_good=self.queue.closed and not handed_over)
            if not handed_over:
                raise
        else:
            await self._leave(wake, for_good=self.queue.closed)

    async def _serve(self, wake: asyncio.Event) -> None:
        while not self.queue.closed or len(self.queue):
            await self._drain(await self._wait_for_batch(wake))

    def _reclaim(self) -> None:
        """Take back the batch that the last host left in flight when it stood still."""
        batch = self._in_flight.batch
        if batch is None:
            return
        if self._attempts.may_repeat(batch):
            self._in_flight.put_back(batch)
        else:
            self.ledger.note_error(_UNKNOWN)
            self._settle(batch, _UNKNOWN)

    def _detach(self) -> None:
        """Forget the host: it is gone, or another takes over. The next span calls for one."""
        self._wake = None
        self._alarm_at = 1
        self._alarmed = False

    async def _leave(self, wake: asyncio.Event, *, for_good: bool) -> None:
        if self._wake is not wake:  # the next host has taken over, and will end the exporter
            for_good = False
        else:
            self._detach()
        try:
            await self._contained(self.exporter.close())
        except asyncio.CancelledError:  # cut off: the last call is made all the same
            if for_good:
                await self.shut_exporter_down()
            raise
        if for_good:
            await self.shut_exporter_down()

    async def shut_exporter_down(self) -> None:
        """The last call of the exporter, by whoever comes to it first: the drain task, or else
        `Delivery`, where that was cancelled before its first step."""
        if not self._is_shut_down:
            self._is_shut_down = True
            await self._contained(self.exporter.shutdown())

    async def _contained(self, closing: Coroutine[Any, Any, None]) -> None:
        """Await one of the exporter's own ends, for as long as the grace lasts."""
        try:
            async with asyncio.timeout(CLOSE_GRACE):
                await closing
        except TimeoutError:
            self.ledger.last_error = "close: the exporter did not end in time"
        except Exception as error:
            self.ledger.last_error = f"close: {error!r}"

    # ---- flush and close, on the host

    def begin_flush(self, *, since: Flush | None = None) -> Flush:
        """Have all that has ended by now delivered; its report counts from here, or `since`."""
        self._ended.hand_on()
        flush = self.ledger.begin_flush(self.queue.sequence, since=since)
        self.wake()
        return flush

    async def finish_flush(self, flush: Flush, deadline: float) -> tuple[ExporterReport, bool]:
        """Wait for a flush; its report, and whether the deadline passed first.

        A cancelled flush waits no longer; the spans stay queued.
        """
        return await self.ledger.finish_flush(flush, deadline - self._clock())

    def begin_close(self, deadline: float, *, retries: bool = True) -> None:
        """Admit no more spans; drain what is queued, nothing past `deadline`."""
        self._ended.hand_on()
        self.queue.closed = True
        self._attempts.deadline = deadline
        self._attempts.retries = retries
        self.wake()

    async def save(self) -> None:
        """At the end, when nothing can be delivered any more: keep what is left, if possible."""

    def close_books(self, reason: str) -> None:
        """Count what was not delivered as dropped, and enter nothing more: the pipeline is closed.

        A drain task that did not heed its cancellation may still come back with an answer; then
        its spans are counted already.
        """
        if undelivered := self._in_flight.close_books(reason):
            message = f"{undelivered} spans were not delivered"
            self._outage.lost(undelivered, Undelivered(reason, message))

    # ---- the process

    def forget(self) -> None:
        """In a forked child: nothing queued, nothing counted, no host, no inherited connection."""
        self.queue.__init__(  # type: ignore[misc]  # a fresh start in place: others hold it
            max_spans=self.queue.max_spans, max_bytes=self.queue.max_bytes
        )
        self._begin_life()
        self._detach()
        self.exporter.after_fork()

    def expect_exit(self) -> None:
        """The interpreter exits: no thread can be started any more.

        An exporter that raises RuntimeError now may have wanted one. Its batch stays queued for
        `export_at_exit`, which needs none.
        """
        self._attempts.exiting = True

    def export_at_exit(self, deadline: float) -> None:
        """Send what is queued without asyncio, while the interpreter exits."""
        if self.ledger.closed:
            return
        self._drain_at_exit(deadline)
        self.close_books(SpanDropReason.EXIT)

    def _drain_at_exit(self, deadline: float) -> None:
        self._reclaim()
        while len(self.queue) and self._clock() < deadline:
            batch = self._next_batch()
            try:
                outcome = self.exporter.export_at_exit(batch, deadline)
            except Exception as error:  # an exporter may be anybody's
                outcome = Undelivered("exporter_error", repr(error))
            if isinstance(outcome, Undelivered) and not outcome.too_large:
                self._note_failure(outcome)
                self._outage.given_up()
            self._conclude_at_exit(batch, outcome)

    def _conclude_at_exit(self, batch: Batch, outcome: Outcome) -> None:
        if isinstance(outcome, Undelivered) and outcome.too_large:
            self._reduce(batch, outcome)
        else:
            self._settle(batch, outcome)

    # ---- the drain task

    async def _wait_for_batch(self, wake: asyncio.Event) -> int:
        """Until a batch is full, the schedule is due, or somebody flushes or closes.

        Returns the sequence number up to which the schedule has come for the spans.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._schedule_delay):
                while True:
                    wake.clear()
                    self._alarmed = False  # before the look: an append after it alarms again
                    if self._is_due():
                        return self.queue.taken
                    await wake.wait()
        self._ended.hand_on()
        return self.queue.sequence

    def _is_due(self) -> bool:
        return self.queue.closed or bool(self.ledger.flushes) or len(self.queue) >= self._batch_size

    async def _drain(self, scheduled: int) -> None:
        """Spans that arrive meanwhile wait for a batch of their own to fill, or to be due."""
        while len(self.queue) and (self._is_due() or self.queue.taken < scheduled):
            if await self._may_send():
                await self._deliver(self._next_batch())
            else:
                await self._leave_unsent(self._next_batch())

    async def _may_send(self) -> bool:
        """Wait for the circuit. False when no batch may go out any more."""
        return await self._attempts.wait_for_circuit()

    def _next_batch(self) -> Batch:
        return self._in_flight.take(self._batch_size, self._request_size.limit)

    async def _deliver(self, batch: Batch) -> None:
        """Export `batch`, trying again as the policy says, and settle it or put it back."""
        try:
            action, outcome = await self._attempts.deliver(batch)
            await self._conclude(batch, action, outcome)
        except BaseException:
            # The drain task is being cancelled; the next host or `close_books` counts the batch.
            self._give_up(batch)
            raise

    async def _conclude(self, batch: Batch, action: Action, outcome: Outcome) -> None:
        """What becomes of a batch after its last attempt."""
        if action is Action.POSTPONE:  # nothing is lost yet: until the circuit lets one through
            self._give_up(batch)
        elif isinstance(outcome, Undelivered) and action in {Action.SPLIT, Action.DROP}:
            self._reduce(batch, outcome)
        else:
            self._settle(batch, outcome)

    async def _leave_unsent(self, batch: Batch) -> None:
        """What becomes of a batch that may not go out before the end."""
        self._settle(batch, _UNSENT)

    def _give_up(self, batch: Batch) -> None:
        """Put the batch in flight back: nobody knows whether it arrived."""
        if self._attempts.may_repeat(batch):
            self._in_flight.put_back(batch)  # else it stays, for `_reclaim` or `close_books`

    def _reduce(self, batch: Batch, failure: Undelivered) -> None:
        """The batch was too large: have its spans sent in smaller ones, or drop a single span."""
        self.ledger.note_error(failure)
        if len(batch) > 1:
            self._request_size.refused(batch.size)
            self.ledger.note_retry()
            self._give_up(batch)
        elif self._in_flight.settle(batch, dropped=1, reason=SpanDropReason.TOO_LARGE):
            self._outage.too_large(batch.size, failure)

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        if isinstance(outcome, Undelivered):
            if self._in_flight.settle(batch, failed=len(batch)):
                self._outage.lost(len(batch))
            return
        if not self._in_flight.holds(batch):
            return
        rejected = min(max(outcome.rejected, 0), len(batch))
        self.ledger.note_answer(rejected, outcome.message)  # first: flushes report it
        self._in_flight.settle(batch, exported=len(batch) - rejected, failed=rejected)
        self._request_size.taken()
        self._outage.delivered(rejected, outcome.message)

    def _note_failure(self, failure: Undelivered) -> None:
        self.ledger.note_error(failure)
        self._outage.failed(failure)

    def _urgency(self) -> Urgency:
        return Urgency(self.queue.closed, self.ledger.flushes_begun)

    def __repr__(self) -> str:
        ledger, circuit = self.ledger, self._attempts.circuit
        return (
            f"<Pipeline {self.name!r} queued={len(self.queue)} in_flight={ledger.in_flight} "
            f"exported={ledger.exported} failed={ledger.failed} circuit={circuit.state}>"
        )
