"""Received spans, in memory and bounded: the oldest make room for the newest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from asynctrace.otlp.records import SpanRecord


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What came in since the start: `received == kept + evicted + rejected`."""

    received: int
    kept: int
    evicted: int
    """Made room for newer ones."""
    rejected: int
    """Had no valid ids, so that they belong to no trace."""


class SpanStore:
    """The last `capacity` valid spans, in the order of arrival."""

    def __init__(self, capacity: int) -> None:
        self._spans: deque[SpanRecord] = deque(maxlen=capacity)
        self._received = 0
        self._rejected = 0

    def add(self, spans: Iterable[SpanRecord]) -> int:
        """Keep the spans that have valid ids; returns how many have not."""
        rejected = 0
        for span in spans:
            self._received += 1
            if _is_id(span.trace_id, 32) and _is_id(span.span_id, 16):
                self._spans.append(span)
            else:
                rejected += 1
        self._rejected += rejected
        return rejected

    def spans(self) -> tuple[SpanRecord, ...]:
        return tuple(self._spans)

    def statistics(self) -> StoreStatistics:
        kept = len(self._spans)
        return StoreStatistics(
            received=self._received,
            kept=kept,
            evicted=self._received - self._rejected - kept,
            rejected=self._rejected,
        )

    def __repr__(self) -> str:
        return f"<SpanStore {len(self._spans)}/{self._spans.maxlen} spans>"


def _is_id(text: str, digits: int) -> bool:
    """Records carry hex of whatever bytes were sent: check length, and that it is not all zero."""
    return len(text) == digits and text.strip("0") != ""
