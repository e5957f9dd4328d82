"""A pipeline with a spool: what it cannot deliver goes to disk, and comes back from there.

Spans go to disk when the queue is full, when their batch failed after all retries, and when the
deadline of a shutdown or the exit of the process cuts them off.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from opentelemetry.sdk.resources import Resource

from asynctrace import _threads
from asynctrace.export.contracts import (
    Batch,
    Delivered,
    Exporter,
    Item,
    Outcome,
    SpanDropReason,
    Undelivered,
)
from asynctrace.export.ledger import Flush
from asynctrace.export.pipeline import CLOSE_GRACE, Pipeline
from asynctrace.export.reports import ExporterReport, ExporterStatistics, combined
from asynctrace.export.retry import Action

from .overflow import Overflow
from .replay import Replay
from .rules import is_worth_keeping
from .spool import Saver, Spool
from .store import Store

ROOM = 8
"""How many times as many spans as the queue may be on their way from a full queue to disk: what
ends in a single step of the loop comes before the disk can. In bytes it is no more than the queue.
"""


class SpoolingPipeline(Pipeline):
    """Like `Pipeline`, and loses nothing while the disk has room."""

    spills = True

    def __init__(
        self,
        exporter: Exporter,
        *,
        directory: Path,
        max_bytes: int,
        name: str,
        resource: Callable[[], Resource],
        alarm: Callable[[], None],
        max_queue_size: int,
        max_queue_bytes: int,
        max_export_batch_size: int,
        **options: Any,
    ) -> None:
        super().__init__(
            exporter,
            name=name,
            resource=resource,
            alarm=alarm,
            max_queue_size=max_queue_size,
            max_queue_bytes=max_queue_bytes,
            max_export_batch_size=max_export_batch_size,
            **options,
        )
        self.spool = Spool(Store(directory, exporter=name, max_bytes=max_bytes))
        self._overflow = Overflow(
            self.spool,
            resource=resource,
            alarm=alarm,
            batch_size=max_export_batch_size,
            max_spans=ROOM * max_queue_size,
            max_bytes=max_queue_bytes,
            request_size=lambda: self._request_size.limit,
            stalls=self.stalls,
        )
        self._replay = Replay(
            self.spool, send=self._send_stored, calm=self._is_calm, clock=self._clock
        )
        self._saver = Saver(self.spool, self._enter, stalls=self.stalls)
        self._replaying: asyncio.Task[None] | None = None

    # ---- any thread

    def admits(self) -> bool:
        if self.queue.full and not self.queue.closed:
            return self._overflow.queue.admits()
        return super().admits()

    def append(self, item: Item) -> None:
        if self.queue.full:
            self._overflow.append(item)
        else:
            super().append(item)

    def statistics(self) -> ExporterStatistics:
        figures = super().statistics()
        queue, ledger = self._overflow.queue, self._overflow.ledger
        refused, queued = queue.refused, len(queue)
        spool = self.spool.statistics()
        written = figures.spooled + ledger.spooled
        # Read once, and never more than was written: the figures add up in each snapshot, although
        # a thread deletes.
        evicted = min(self.spool.store.evicted_own, written)
        dropped = Counter(figures.dropped) + ledger.dropped + Counter(refused)
        dropped += Counter({SpanDropReason.SPOOL_EVICTED: evicted})
        return replace(
            figures,
            accepted=figures.accepted + queue.taken + queued + sum(refused.values()),
            dropped=MappingProxyType(dict(dropped)),
            spooled=written - evicted,
            queued=figures.queued + queued,
            queued_bytes=figures.queued_bytes + queue.bytes,
            in_flight=figures.in_flight + ledger.in_flight,
            replayed=spool.replayed,
            spool=spool,
        )

    @property
    def settled(self) -> bool:
        return super().settled and self._overflow.settled

    # ---- the host

    def wake(self) -> None:
        super().wake()
        if self._loop is asyncio.get_running_loop():
            self._overflow.wake()

    async def _serve(self, wake: asyncio.Event) -> None:
        """Beside the draining: write out what overflows, and send what is on disk."""
        measured = self.stalls.measured
        writing = asyncio.create_task(
            measured(self._overflow.run()), name=f"asynctrace {self.name} spool"
        )
        replaying = self._replaying = asyncio.create_task(
            measured(self._replay.run()), name=f"asynctrace {self.name} replay"
        )
        try:
            await super()._serve(wake)
            await writing
        except GeneratorExit:  # the loop was closed around the task: nothing can be awaited
            raise
        except BaseException:  # whatever ends this, its tasks end with it
            await _end(writing, replaying)
            raise
        await _end(writing, replaying)

    def _detach(self) -> None:
        super()._detach()
        self._overflow.detach()

    def begin_flush(self, *, since: Flush | None = None) -> Flush:
        flush = super().begin_flush(since=since)
        beside = since.beside if since is not None else None
        flush.beside = self._overflow.ledger.begin_flush(
            self._overflow.queue.sequence, since=beside
        )
        return flush

    async def finish_flush(self, flush: Flush, deadline: float) -> tuple[ExporterReport, bool]:
        beside = flush.beside
        assert beside is not None
        ledger = self._overflow.ledger
        try:
            report, timed_out = await super().finish_flush(flush, deadline)
            written, late = await ledger.finish_flush(beside, deadline - self._clock())
        finally:
            ledger.end_flush(beside)  # where the first was cancelled, nobody waits for the second
        return combined(report, written), timed_out or late

    def begin_close(self, deadline: float, *, retries: bool = True) -> None:
        super().begin_close(deadline, retries=retries)
        self._overflow.queue.closed = True
        self._overflow.wake()
        if self._replaying is not None:
            self._replaying.cancel()  # what is on disk is safe; the time is for what is not

    async def save(self) -> None:
        """Write everything that is left to disk, and leave the spool to whoever comes next."""
        self._overflow.queue.closed = True
        await self._saver.finish()
        self._reclaim()
        while len(self.queue):
            await self._saver.save(self._next_batch())
        await self._overflow.finish()
        if self.spool.store.is_writing:
            await _threads.call(self.spool.store.seal)

    def close_books(self, reason: str) -> None:
        super().close_books(reason)
        self._overflow.close_books(reason)

    def forget(self) -> None:
        super().forget()
        self._replaying = None
        self._saver.forget()
        self._overflow.after_fork()
        self._replay.after_fork()
        self.spool.after_fork()

    def expect_exit(self) -> None:
        super().expect_exit()
        self.spool.inline = True

    def export_at_exit(self, deadline: float) -> None:
        if self.ledger.closed:
            return
        self._overflow.queue.closed = True
        self._overflow.write_out_now()
        self._drain_at_exit(deadline)
        while len(self.queue):
            batch = self._next_batch()
            self._enter(batch, self.spool.save_now(batch))
        self.close_books(SpanDropReason.EXIT)

    # ---- the drain task

    async def _may_send(self) -> bool:
        return self._attempts.may_send()  # what may not go out goes to disk

    async def _leave_unsent(self, batch: Batch) -> None:
        await self._saver.save(batch)

    async def _conclude(self, batch: Batch, action: Action, outcome: Outcome) -> None:
        if not self._in_flight.holds(batch):
            return
        if action is Action.POSTPONE:
            await self._saver.save(batch)  # on disk it waits as well, and the queue has room
        elif is_worth_keeping(outcome) and not outcome.too_large:
            self._outage.given_up()
            await self._saver.save(batch)
        else:
            await super()._conclude(batch, action, outcome)

    def _conclude_at_exit(self, batch: Batch, outcome: Outcome) -> None:
        if is_worth_keeping(outcome):
            self._enter(batch, self.spool.save_now(batch))
        else:
            super()._conclude_at_exit(batch, outcome)

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        super()._settle(batch, outcome)
        if isinstance(outcome, Delivered):
            self._replay.delivered()

    def _note_failure(self, failure: Undelivered) -> None:
        super()._note_failure(failure)
        self._replay.failed()

    def _reclaim(self) -> None:
        self._saver.forget()
        super()._reclaim()

    def _give_up(self, batch: Batch) -> None:
        if not self._saver.holds(batch):  # otherwise whoever closes waits for it
            super()._give_up(batch)

    def _enter(self, batch: Batch, reason: str | None) -> None:
        """Settle a batch that was saved, or dropped for `reason`."""
        if reason is None:
            if self._in_flight.settle(batch, spooled=len(batch)):
                self._replay.spooled()
        elif self._in_flight.settle(batch, dropped=len(batch), reason=reason):
            self._outage.lost(len(batch))

    # ---- the replay task

    def _is_calm(self) -> bool:
        circuit = self._attempts.circuit
        throttled = circuit.throttled and circuit.wait(self._clock()) > 0
        return not self.queue.closed and len(self.queue) < self._batch_size and not throttled

    async def _send_stored(self, batch: Batch) -> Outcome:
        outcome = await self._attempts.deliver_once(batch)
        if isinstance(outcome, Delivered):
            self.ledger.note_answer(outcome.rejected, outcome.message)
            self._outage.delivered(outcome.rejected, outcome.message)
        elif outcome.too_large:
            self._note_too_large(batch, outcome)
        else:
            self._note_failure(outcome)
            if outcome.retryable and outcome.retry_after is not None:
                self._attempts.open_circuit(outcome)
        return outcome

    def _note_too_large(self, batch: Batch, failure: Undelivered) -> None:
        """No outage: the spans are sent in smaller requests, and so are those still to come."""
        self.ledger.note_error(failure)
        if len(batch) > 1:
            self._request_size.refused(batch.size)
        else:
            self._outage.too_large(batch.size, failure)

    def __repr__(self) -> str:
        spooled = self.ledger.spooled + self._overflow.ledger.spooled
        return f"<Spooling{super().__repr__()[1:-1]} spooled={spooled}>"


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for them, not for ever: one may hang in an exporter."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=CLOSE_GRACE)
