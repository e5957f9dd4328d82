"""Spans that have ended and are not bytes yet.

They are encoded in bursts: between the steps of a request the encoder's code and tables are cold,
and a span costs twice what it does behind another span.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan

from .stall import StallMeter

BURST = 64
"""Spans that are encoded together: a fraction of a millisecond."""


class Ended:
    """A bounded buffer that any thread, and any finalizer, adds to without waiting.

    `queue(spans, number)` takes as many off the left of `spans`; `refuse` counts one for which no
    `room` is left. Only one thread at a time hands spans on, and no more of them than two bursts
    for the sake of one that it adds.
    """

    __slots__ = ("_burst", "_handing_on", "_idle", "_queue", "_refuse", "_spans", "_stalls", "room")

    def __init__(
        self,
        queue: Callable[[deque[ReadableSpan], int], None],
        refuse: Callable[[], None],
        *,
        room: int,
        burst: int,
        stalls: StallMeter | None = None,
    ) -> None:
        self._queue = queue
        self._refuse = refuse
        self._spans: deque[ReadableSpan] = deque()
        self._handing_on = threading.Lock()
        self._stalls = stalls or StallMeter()
        self.room = room
        self.burst = burst

    @property
    def burst(self) -> int:
        """How many wait for each other; more than there is `room` for: until they are fetched."""
        return self._burst

    @burst.setter
    def burst(self, burst: int) -> None:
        self._burst = burst
        # Up to so many a span need only be kept, and that is all that most of them meet.
        self._idle = min(burst - 1, self.room)

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: ReadableSpan) -> None:
        """Take a span; hand on a burst when there is one. Never waits, never raises."""
        waiting = len(self._spans)
        if waiting < self._idle:
            self._spans.append(span)
        elif waiting >= self.room:
            self._refuse()
        else:
            self._spans.append(span)
            self.hand_on(2 * self._burst)

    def hand_on(self, limit: int | None = None) -> bool:
        """Queue what waits, at most `limit` spans; False when another thread is at it already."""
        # Not a blocking acquire: the other may be code that this one, a finalizer, interrupts.
        if not self._handing_on.acquire(blocking=False):
            return False
        begun = self._stalls.begin()
        try:
            waiting = len(self._spans)
            self._queue(self._spans, waiting if limit is None else min(limit, waiting))
        finally:
            self._handing_on.release()
            self._stalls.end_call(begun)
        return True

    async def wait_handed_on(self, deadline: float) -> None:
        """Until every span that was added before the call is queued, or `deadline` has come."""
        # Another thread that is at it will be done before an event could tell.
        while not self.hand_on() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0)

    def forget(self) -> None:
        """In a forked child: the spans are the parent's, and so may the lock be."""
        self._spans.clear()
        self._handing_on = threading.Lock()

    def __repr__(self) -> str:
        return f"<Ended {len(self._spans)} of {self.room} spans>"
