"""From a full queue to disk: a second, short queue that a task of the host writes out.

`Span.end` cannot wait for a disk. What the disk cannot keep up with is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from opentelemetry.sdk.resources import Resource

from asynctrace.export.contracts import Batch, Item
from asynctrace.export.in_flight import InFlight
from asynctrace.export.ledger import Ledger
from asynctrace.export.queue import SpanQueue
from asynctrace.export.stall import StallMeter

from .spool import Saver, Spool


class Overflow:
    """The spans on their way from `end` to disk, and the book of them.

    `append` in any thread, after `queue.admits()`; everything else on the host.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        resource: Callable[[], Resource],
        alarm: Callable[[], None],
        batch_size: int,
        max_spans: int,
        max_bytes: int,
        request_size: Callable[[], float],
        stalls: StallMeter,
    ) -> None:
        """`request_size` is how many bytes of spans the receiver takes at once, as far as known."""
        self.queue = SpanQueue(max_spans=max_spans, max_bytes=max_bytes)
        self._spool = spool
        self._saver = Saver(spool, self._enter, stalls=stalls)
        self._resource = resource
        self._alarm = alarm
        self._batch_size = batch_size
        self._request_size = request_size
        self._wake: asyncio.Event | None = None
        self._alarmed = False
        self._begin_life()

    def _begin_life(self) -> None:
        self.ledger = Ledger()
        self._in_flight = InFlight(self.queue, self.ledger, resource=self._resource)

    def append(self, item: Item) -> None:
        """Take a span that was admitted, and have the task woken."""
        self.queue.append(item)
        if not self._alarmed:
            self._alarmed = True
            self._alarm()

    @property
    def settled(self) -> bool:
        """Whether everything is on disk, or dropped."""
        return not len(self.queue) and not self.ledger.in_flight

    def detach(self) -> None:
        """Forget the host: the next span calls for one."""
        self._wake = None
        self._alarmed = False

    def wake(self) -> None:
        if self._wake is not None:
            self._wake.set()

    async def run(self) -> None:
        """Write out what comes, until the queue is closed and empty, or it is cancelled."""
        wake = self._wake = asyncio.Event()
        self.reclaim()
        while not self.queue.closed or len(self.queue):
            wake.clear()
            self._alarmed = False  # before the look: an append after it alarms again
            if not len(self.queue) and not self.queue.closed:
                await wake.wait()
            await self.write_out()

    async def write_out(self) -> None:
        """Write what is there now and what comes meanwhile."""
        while len(self.queue):
            await self._saver.save(self._next_batch())

    async def finish(self) -> None:
        """Write what is left, after the task was cancelled."""
        await self._saver.finish()
        self.reclaim()
        await self.write_out()

    def write_out_now(self) -> None:
        """The same while the interpreter exits, in this very thread."""
        self.reclaim()
        while len(self.queue):
            batch = self._next_batch()
            self._enter(batch, self._spool.save_now(batch))

    def close_books(self, reason: str) -> None:
        """Count what has not been written as dropped, and enter nothing more."""
        self._saver.forget()
        self._in_flight.close_books(reason)

    def reclaim(self) -> None:
        """Take back the batch that was being written when its host stood still."""
        self._saver.forget()
        if self._in_flight.batch is not None:
            self._in_flight.put_back(self._in_flight.batch)

    def after_fork(self) -> None:
        """In a forked child: nothing queued, nothing counted."""
        self.queue = SpanQueue(max_spans=self.queue.max_spans, max_bytes=self.queue.max_bytes)
        self._begin_life()
        self._saver.forget()
        self.detach()

    def _next_batch(self) -> Batch:
        return self._in_flight.take(self._batch_size, self._request_size())

    def _enter(self, batch: Batch, reason: str | None) -> None:
        if reason is None:
            self._in_flight.settle(batch, spooled=len(batch))
        else:
            self._in_flight.settle(batch, dropped=len(batch), reason=reason)

    def __repr__(self) -> str:
        return f"<Overflow {self.queue!r} spooled={self.ledger.spooled}>"
