"""The batch between the queue and the ledger: taken, and not settled yet. There is one at most.

Whoever takes a batch may lose it meanwhile: to the next host, where its own loop stood still, or to
the end of the pipeline, which counts it as dropped. So what comes back late is entered only for the
batch that is still held, and no span is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from opentelemetry.sdk.resources import Resource

from .contracts import Batch
from .ledger import Ledger
from .queue import SpanQueue


class InFlight:
    """Moves spans from a queue to a ledger, a batch at a time. Only the host calls this."""

    __slots__ = ("_ledger", "_queue", "_resource", "batch")

    def __init__(
        self, queue: SpanQueue, ledger: Ledger, *, resource: Callable[[], Resource]
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._resource = resource
        self.batch: Batch | None = None

    def take(self, limit: int, max_bytes: float = math.inf) -> Batch:
        """The oldest spans, ending where a flush ends so that its figures are exact."""
        target = self._ledger.next_target()
        if target is not None and target > self._queue.taken:
            limit = min(limit, target - self._queue.taken)
        batch = self.batch = Batch(self._queue.take(limit, max_bytes), self._resource())
        self._ledger.in_flight = len(batch)
        return batch

    def holds(self, batch: Batch) -> bool:
        """Whether it is this batch that is in flight, and not taken from whoever asks."""
        return self.batch is batch

    def put_back(self, batch: Batch) -> None:
        """Undo `take`: these spans are the oldest of the queue again."""
        if self.holds(batch):
            self.batch = None
            self._queue.put_back(list(batch.items))
            self._ledger.in_flight = 0

    def settle(
        self,
        batch: Batch,
        *,
        exported: int = 0,
        failed: int = 0,
        spooled: int = 0,
        dropped: int = 0,
        reason: str = "",
    ) -> bool:
        """Enter what became of the batch; False, and nothing, when it is not held any more."""
        if not self.holds(batch):
            return False
        self.batch = None
        self._ledger.settle(
            exported=exported, failed=failed, spooled=spooled, dropped=dropped, reason=reason
        )
        return True

    def close_books(self, reason: str) -> int:
        """Count all that is not settled as dropped, and enter nothing more; how many spans."""
        if self._ledger.closed:
            return 0
        self.batch = None
        undelivered = len(self._queue.take(len(self._queue))) + self._ledger.in_flight
        self._ledger.settle(dropped=undelivered, reason=reason)
        self._ledger.closed = True
        return undelivered

    def __repr__(self) -> str:
        return f"<InFlight {self.batch!r}>"
