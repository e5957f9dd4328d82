"""One exporter's pipeline: a queue, the task that drains it, and the book of what became of it.

`append` may be called in any thread; everything else runs on the host loop. The rules (what fits,
what to do about a failure, whether to send at all, which span a flush waits for) are in `queue`,
`retry`, `circuit`, `request_size` and `ledger`; this is the shell that waits and calls.
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

from .circuit import Circuit, CircuitState
from .contracts import (
    Batch,
    Delivered,
    Exporter,
    Item,
    Outcome,
    SpanDropReason,
    Undelivered,
    Unrepeatable,
)
from .ended import Ended
from .ledger import Flush, Ledger
from .outage import OutageLog
from .queue import SpanQueue
from .reports import ExporterReport, ExporterStatistics
from .request_size import RequestSize
from .retry import Action, Decision, RetryPolicy

CLOSE_GRACE = 0.1
"""Seconds that a cancelled export, and then the exporter's `close`, get beyond the deadline."""
LONGEST_PAUSE = 30.0
"""Seconds between two probes of a receiver that has been away for long."""
_UNSENT = Undelivered("circuit_open", "the receiver is away or asked for quiet", retryable=True)
_UNKNOWN = Undelivered("cut_off", "the exporter was left behind; it may yet deliver the spans")


class Pipeline:
    """Batches the queued spans of one exporter and delivers them, with retries."""

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
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.exporter = exporter
        self.needs_spans = exporter.needs_spans
        self.queue = SpanQueue(max_spans=max_queue_size, max_bytes=max_queue_bytes)
        self.ledger = Ledger()
        self._resource = resource
        self._alarm = alarm
        self._ended = ended
        self._batch_size = max_export_batch_size
        self._schedule_delay = schedule_delay
        self._attempt_timeout = attempt_timeout
        self._export_timeout = export_timeout
        self._retry = retry or RetryPolicy()
        self._clock = clock
        self._jitter = jitter
        self._outage = OutageLog(name)
        self._circuit = self._new_circuit()
        self._request_size = RequestSize()
        self._urgency_tried = self._urgency()
        self._deadline: float | None = None
        self._retries = True
        self._exiting = False
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batch: Batch | None = None
        # Without a host the very first span must call for one; with a host a full batch calls.
        self._alarm_at = 1
        self._alarmed = False

    # ---- any thread

    def admits(self) -> bool:
        """Whether there is room for a span; when not, one refusal is counted."""
        return self.queue.admits()

    def append(self, item: Item) -> None:
        """Queue an admitted span and, when a batch is full, wake the drain task."""
        if self.queue.append(item) >= self._alarm_at and not self._alarmed:
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
            spooled=ledger.spooled,
            circuit=self._circuit.state.value,
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
        figures = self.statistics()
        return ExporterReport(
            exported=figures.exported,
            failed=figures.failed,
            dropped=figures.dropped,
            pending=figures.queued + figures.in_flight,
            last_error=figures.last_error,
            spooled=figures.spooled,
        )

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
        self._alarm_at = self._batch_size
        self._reclaim()
        try:
            await self._serve(wake)
        except GeneratorExit:  # the loop was closed around the task: nothing can be awaited
            if self._wake is wake:
                self._detach()
            raise
        except BaseException as error:
            handed_over = self._exiting and isinstance(error, RuntimeError)
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
        batch = self._batch
        if batch is None:
            return
        if self._may_repeat(batch):
            self._give_up(batch)
        else:
            self.ledger.note_error(_UNKNOWN)
            self._settle(batch, _UNKNOWN)

    def _may_repeat(self, batch: Batch) -> bool:
        """Whether another attempt cannot deliver `batch` twice by the exporter's own doing."""
        return not (isinstance(self.exporter, Unrepeatable) and self.exporter.has_begun(batch))

    def _detach(self) -> None:
        """Forget the host: it is gone, or another takes over. The next span calls for one."""
        self._wake = None
        self._alarm_at = 1
        self._alarmed = False

    async def _leave(self, wake: asyncio.Event, *, for_good: bool) -> None:
        if self._wake is wake:  # and not that of the next host, which has taken over
            self._detach()
        await self._contained(self.exporter.close())
        if for_good:
            await self._contained(self.exporter.shutdown())

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
        self._deadline = deadline
        self._retries = retries
        self.wake()

    async def save(self) -> None:
        """At the end, when nothing can be delivered any more: keep what is left, if possible."""

    def close_books(self, reason: str) -> None:
        """Count what was not delivered as dropped, and enter nothing more: the pipeline is closed.

        A drain task that did not heed its cancellation may still come back with an answer; then
        its spans are counted already.
        """
        if self.ledger.closed:
            return
        undelivered = len(self.queue.take(len(self.queue))) + self.ledger.in_flight
        if undelivered:
            message = f"{undelivered} spans were not delivered"
            self._outage.lost(undelivered, Undelivered(reason, message))
        self._batch = None
        self.ledger.settle(dropped=undelivered, reason=reason)
        self.ledger.closed = True

    def forget(self) -> None:
        """In a forked child: nothing queued, nothing counted, no host, no inherited connection."""
        self.queue.__init__(  # type: ignore[misc]  # a fresh start in place: others hold it
            max_spans=self.queue.max_spans, max_bytes=self.queue.max_bytes
        )
        self.ledger = Ledger()
        self._outage = OutageLog(self.name)
        self._circuit = self._new_circuit()
        self._request_size = RequestSize()
        self._urgency_tried = self._urgency()
        self._batch = None
        self._detach()
        self.exporter.after_fork()

    def expect_exit(self) -> None:
        """The interpreter exits: no thread can be started any more.

        An exporter that raises RuntimeError now may have wanted one. Its batch stays queued for
        `export_at_exit`, which needs none.
        """
        self._exiting = True

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
            except Exception as error:
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
            if await self._wait_for_circuit():
                await self._deliver(self._next_batch())
            else:
                await self._conclude(self._next_batch(), _UNSENT)

    async def _wait_for_circuit(self) -> bool:
        """Until a batch may go out. False when none may before the end of a shutdown."""
        assert self._wake is not None
        while not self._may_send():
            wait = self._circuit.wait(self._clock())
            if self.queue.closed and wait >= self._time_left(self._clock()):
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            self._wake.clear()
        return True

    def _may_send(self) -> bool:
        """An open circuit lets one probe through for each flush, unless the receiver itself asked
        for quiet, and one for the shutdown in any case."""
        if not self._circuit.wait(self._clock()):
            return True
        hurried = self._urgency() != self._urgency_tried
        return hurried and (self.queue.closed or not self._circuit.throttled)

    def _next_batch(self) -> Batch:
        """The oldest spans, ending where a flush ends so that its figures are exact."""
        target = self.ledger.next_target()
        limit = self._batch_size
        if target is not None and target > self.queue.taken:
            limit = min(limit, target - self.queue.taken)
        items = self.queue.take(limit, self._request_size.limit)
        batch = self._batch = Batch(items, self._resource())
        self.ledger.in_flight = len(batch)
        return batch

    def _give_up(self, batch: Batch) -> None:
        """Put the batch in flight back: nobody knows whether it arrived."""
        if self._batch is batch:  # otherwise it was reclaimed, or the books are closed
            if not self._may_repeat(batch):
                return  # it stays in flight, for `_reclaim` or `close_books`
            self._batch = None
            self.queue.put_back(list(batch.items))
            self.ledger.in_flight = 0

    async def _deliver(self, batch: Batch) -> None:
        """Export `batch`, trying again as the policy says, and settle it or put it back."""
        started = self._clock()
        self._circuit.probe()
        attempt = 0
        try:
            while True:
                attempt += 1
                self._urgency_tried = self._urgency()
                outcome = await self._attempt(batch, started + self._export_timeout)
                if self._batch is not batch:
                    return  # it was reclaimed by the next host, or counted with the books closed
                if isinstance(outcome, Delivered):
                    await self._conclude(batch, outcome)
                    return
                decision = self._decide(outcome, batch, attempt, self._time_left(started))
                if decision.action is not Action.RETRY:
                    break
                self.ledger.retries += 1
                await self._pause(decision.delay, throttled=outcome.retry_after is not None)
            await self._carry_out(decision.action, batch, outcome)
        except BaseException:
            # The drain task is being cancelled; the next host or `close_books` counts the batch.
            self._give_up(batch)
            raise

    def _decide(
        self, failure: Undelivered, batch: Batch, attempt: int, remaining: float
    ) -> Decision:
        decision = self._retry.decide(
            failure,
            spans=len(batch),
            attempt=attempt,
            remaining=remaining if self._retries else 0.0,
            random=self._jitter(),
            probing=self._circuit.state is CircuitState.HALF_OPEN,
            closing=self.queue.closed,
        )
        if decision.action not in {Action.SPLIT, Action.DROP}:  # which are no outage
            self._note_failure(failure)
        return decision

    async def _carry_out(self, action: Action, batch: Batch, failure: Undelivered) -> None:
        """What becomes of a batch after its last attempt failed, and of the circuit."""
        quiet = failure.retry_after
        probing = self._circuit.state is not CircuitState.CLOSED
        # A shutdown that has little time proves no outage: each batch is tried.
        if failure.retryable and (probing or quiet is not None or not self.queue.closed):
            self._circuit.failed(self._clock(), random=self._jitter(), quiet=quiet)
        match action:
            case Action.SPLIT | Action.DROP:
                self._reduce(batch, failure)
            case Action.POSTPONE:
                await self._postpone(batch, failure)
            case _:
                self._outage.given_up()
                await self._conclude(batch, failure)

    def _reduce(self, batch: Batch, failure: Undelivered) -> None:
        """The batch was too large: have its spans sent in smaller ones, or drop a single span."""
        size = sum(len(data) for _, data, _ in batch.items)
        self.ledger.note_error(failure)
        if len(batch) > 1:
            self._request_size.refused(size)
            self.ledger.retries += 1
            self._give_up(batch)
        elif self._batch is batch:
            self._batch = None
            self.ledger.settle(dropped=1, reason=SpanDropReason.TOO_LARGE)
            self._outage.too_large(size, failure)

    async def _postpone(self, batch: Batch, failure: Undelivered) -> None:
        """Nothing is lost yet: the batch waits until the circuit lets one through."""
        self._give_up(batch)

    async def _conclude(self, batch: Batch, outcome: Outcome) -> None:
        """What becomes of a batch after its last attempt."""
        self._settle(batch, outcome)

    def _time_left(self, started: float) -> float:
        end = started + self._export_timeout
        if self._deadline is not None:
            end = min(end, self._deadline)
        return end - self._clock()

    async def _attempt(self, batch: Batch, end: float) -> Outcome:
        """One call of the exporter, cut off by its time-out; every failure is an answer.

        The deadline of the pipeline is not one of them: at that, the drain task is cancelled.
        """
        now = self._clock()
        timeout = min(self._attempt_timeout, max(0.0, end - now))
        deadline = now + timeout if self._deadline is None else min(now + timeout, self._deadline)
        try:
            async with asyncio.timeout(timeout) as limit:
                outcome = await self._export(batch, deadline)
        except Exception as error:
            if limit.expired():
                message = f"no answer within {timeout:g} s"
                return Undelivered("timeout", message, retryable=self._may_repeat(batch))
            if self._exiting and isinstance(error, RuntimeError):
                raise
            outcome = Undelivered("exporter_error", repr(error))
        answered = isinstance(outcome, Delivered) or not outcome.retryable
        if answered and self._circuit.state is not CircuitState.CLOSED:
            self._circuit.answered()
            self.wake()  # the drain task may wait, where another has sent this
        return outcome

    async def _export(self, batch: Batch, deadline: float) -> Outcome:
        return await self.exporter.export(batch, deadline)

    async def _pause(self, delay: float, *, throttled: bool) -> None:
        """Back off; a flush or a shutdown that begins meanwhile is a reason to try at once,
        unless the receiver itself asked for the delay."""
        assert self._wake is not None
        before = self._urgency()
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                while throttled or self._urgency() == before:
                    await self._wake.wait()
                    self._wake.clear()

    def _urgency(self) -> tuple[bool, int]:
        return self.queue.closed, self.ledger.flushes_begun

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        if self._batch is not batch:
            return  # it was reclaimed by the next host, or counted when the books were closed
        self._batch = None
        ledger = self.ledger
        if isinstance(outcome, Undelivered):
            ledger.settle(failed=len(batch))
            self._outage.lost(len(batch))
            return
        rejected = min(max(outcome.rejected, 0), len(batch))
        if rejected or outcome.message:
            ledger.last_error = outcome.message or f"{rejected} spans rejected"
            ledger.last_error_time = time.time()
        ledger.last_success_time = time.time()
        self._request_size.taken()
        ledger.settle(exported=len(batch) - rejected, failed=rejected)
        self._outage.delivered(rejected, outcome.message)

    def _note_failure(self, failure: Undelivered) -> None:
        self.ledger.note_error(failure)
        self._outage.failed(failure)

    def _new_circuit(self) -> Circuit:
        return Circuit(first=self._retry.initial, longest=LONGEST_PAUSE)

    async def _contained(self, closing: Coroutine[Any, Any, None]) -> None:
        """Await one of the exporter's own ends, for as long as the grace lasts."""
        try:
            async with asyncio.timeout(CLOSE_GRACE):
                await closing
        except TimeoutError:
            self.ledger.last_error = "close: the exporter did not end in time"
        except Exception as error:
            self.ledger.last_error = f"close: {error!r}"

    def __repr__(self) -> str:
        ledger = self.ledger
        return (
            f"<Pipeline {self.name!r} queued={len(self.queue)} in_flight={ledger.in_flight} "
            f"exported={ledger.exported} failed={ledger.failed} circuit={self._circuit.state}>"
        )
