"""How many bytes of spans go into one request: fewer once a receiver has refused more."""

from __future__ import annotations

import math

GROW_AFTER = 32
"""Requests taken in a row after which a larger one is tried: the receiver may have changed."""


class RequestSize:
    """Halves when a request was too large, doubles when many were not: a pure rule.

    It counts bytes and not spans, for that is what receivers limit: a single huge span leaves the
    requests beside it as they are.
    """

    __slots__ = ("_taken", "limit")

    def __init__(self) -> None:
        self.limit: float = math.inf
        """Bytes of spans in one request; one span always fits."""
        self._taken = 0

    def refused(self, size: int) -> None:
        """A request with `size` bytes of spans, more than one of them, was too large."""
        self.limit = min(self.limit, size / 2)
        self._taken = 0

    def taken(self) -> None:
        """A request was taken."""
        self._taken += 1
        if self._taken >= GROW_AFTER:
            self._taken = 0
            self.limit *= 2

    def __repr__(self) -> str:
        return f"<RequestSize limit={self.limit:g}>"
