"""The bounded queue between `Span.end`, in any thread, and the drain task on the host loop.

Two rules keep it free of locks. Appending is one `deque.append`, which is atomic; everything else
is done by one consumer, the pipeline on its host. What other threads count, they count with one
atomic step of an `itertools.count`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import count, islice
from operator import itemgetter

from .contracts import Item, SpanDropReason

_data = itemgetter(1)


def _size(items: Iterable[Item]) -> int:
    """In bytes. Without an instruction of the interpreter's for each item: they are all the spans
    of a service.
    """
    return sum(map(len, map(_data, items)))


class AtomicCounter:
    """Counts up in any thread without a lock: `next` of `itertools.count` is one C call."""

    __slots__ = ("_count", "increment")

    def __init__(self) -> None:
        self._count = count()
        self.increment = self._count.__next__

    def read(self) -> int:
        # Its text, "count(7)", is the one public way to look at a count without taking a number.
        return int(repr(self._count)[len("count(") : -1])

    def __repr__(self) -> str:
        return f"<AtomicCounter {self.read()}>"


class SpanQueue:
    """Bounded in spans and in bytes; refuses newcomers when full and counts them by reason.

    Spans have sequence numbers in the order of their arrival, `sequence` is that of the newest.
    Threads that append at the same instant can overshoot the bound by one span each.
    """

    __slots__ = ("_bytes", "_items", "_refused", "closed", "max_bytes", "max_spans", "taken")

    def __init__(self, *, max_spans: int, max_bytes: int) -> None:
        self.max_spans = max_spans
        self.max_bytes = max_bytes
        self.closed = False
        self.taken = 0
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._refused = {
            SpanDropReason.QUEUE_FULL: AtomicCounter(),
            SpanDropReason.QUEUE_BYTES: AtomicCounter(),
            SpanDropReason.CLOSED: AtomicCounter(),
            SpanDropReason.ENCODING: AtomicCounter(),
        }

    def __len__(self) -> int:
        return len(self._items)

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def sequence(self) -> int:
        """The sequence number of the newest span: how many have ever been queued."""
        return self.taken + len(self._items)

    @property
    def refused(self) -> dict[str, int]:
        """How many spans were refused on arrival, by reason."""
        counts = {reason: counter.read() for reason, counter in self._refused.items()}
        return {reason: number for reason, number in counts.items() if number}

    @property
    def full(self) -> bool:
        return len(self._items) >= self.max_spans or self._bytes >= self.max_bytes

    def admits(self) -> bool:
        """Whether there is room for a span; when not, one refusal is counted. Any thread."""
        if self.closed:
            self._refused[SpanDropReason.CLOSED].increment()
        elif len(self._items) >= self.max_spans:
            self._refused[SpanDropReason.QUEUE_FULL].increment()
        elif self._bytes >= self.max_bytes:
            self._refused[SpanDropReason.QUEUE_BYTES].increment()
        else:
            return True
        return False

    def room(self, number: int) -> int:
        """How many of `number` spans there is room for, as far as can be said before their bytes
        are known: `extend` has the last word. Any thread."""
        if self.closed or self._bytes >= self.max_bytes:
            return 0
        return min(number, max(0, self.max_spans - len(self._items)))

    def refuse(self, reason: str) -> None:
        """Count a span that `admits` let in and that could not be queued after all. Any thread."""
        self._refused[reason].increment()

    def append(self, item: Item) -> int:
        """Queue a span that was admitted; returns the new length. Any thread, also a finalizer."""
        # CPython switches threads between instructions only at calls and backward jumps, so this
        # addition is whole; were one lost, `take` would set the figure right on an empty queue.
        self._bytes += len(item[1])
        self._items.append(item)
        return len(self._items)

    def extend(self, items: list[Item]) -> int:
        """`admits` and `append` for spans that there was `room` for; returns the new length."""
        size = _size(items)
        if self._bytes + size <= self.max_bytes:
            self._bytes += size
            self._items.extend(items)
        else:
            for item in items:
                if self.admits():
                    self.append(item)
        return len(self._items)

    def take(self, limit: int, max_bytes: float = math.inf) -> list[Item]:
        """The oldest spans, at most `limit` and `max_bytes` of them, and at least one if there is
        one. Only the host calls this."""
        popleft = self._items.popleft
        limit = min(limit, len(self._items))
        if max_bytes < self._bytes:
            limit = self._fitting(limit, max_bytes)
        taken = [popleft() for _ in range(limit)]
        self.taken += len(taken)
        self._bytes -= _size(taken)
        if not self._items:
            self._bytes = 0
        return taken

    def _fitting(self, limit: int, max_bytes: float) -> int:
        size = 0
        for number, (_, data, _) in enumerate(islice(self._items.copy(), limit)):
            size += len(data)
            if size > max_bytes:
                return max(number, 1)
        return limit

    def put_back(self, items: list[Item]) -> None:
        """Undo a `take`: these are the oldest again. Only the host calls this."""
        self._items.extendleft(reversed(items))
        self.taken -= len(items)
        self._bytes += _size(items)

    def __repr__(self) -> str:
        return f"<SpanQueue {len(self)}/{self.max_spans} spans, {self._bytes} bytes>"
