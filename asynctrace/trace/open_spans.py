"""The spans that were started and have not ended: bounded, weakly held."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from .span import Span


class OpenSpans:
    """A table of open spans by span id.

    The tracer writes to `table` itself, since a call would cost more than the write. A span that
    was garbage-collected without an end leaves a dead reference, which is swept when room is
    needed.
    """

    __slots__ = ("_next_sweep", "bound", "overflow", "table")

    def __init__(self, bound: int) -> None:
        self.table: dict[int, ref[Span]] = {}
        self.bound = bound
        self.overflow = 0
        """How many spans were started while the table was full: they are traced, yet not listed."""
        self._next_sweep = 0

    def make_room(self) -> bool:
        """Sweeps dead references out of a full table; counts an overflow when that was in vain.

        A vain sweep is not repeated until an eighth of the bound has overflowed: one sweep costs as
        much as the table is long, and many spans may start while it is full of living ones.
        """
        if self.overflow >= self._next_sweep:
            # Over the keys: to make pairs may start a garbage collection, and a finalizer that ends
            # a span then changes the table under the iteration.
            for span_id in list(self.table):
                reference = self.table.get(span_id)
                if reference is not None and reference() is None:
                    self.table.pop(span_id, None)
            if len(self.table) < self.bound:
                return True
            self._next_sweep = self.overflow + self.bound // 8 + 1
        self.overflow += 1
        return False

    def snapshot(self) -> tuple[Span, ...]:
        """The open spans, oldest first."""
        spans = [reference() for reference in list(self.table.values())]
        return tuple(span for span in spans if span is not None and span.is_recording())

    def clear(self) -> None:
        """Forgets every open span, and how many there were too many."""
        self.table.clear()
        self.overflow = self._next_sweep = 0

    def __repr__(self) -> str:
        return f"OpenSpans({len(self.table)} of {self.bound}, overflow={self.overflow})"
