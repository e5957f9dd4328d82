"""Being asked to stop: a request, who heeds it, and when what is left is cancelled.

::

    request() -> intake is closed -> messages in flight end -> cut() -> the rest is cancelled

This is the state only. `asynctrace.worker` has the signals and the deadlines; it stands here
because a span that is cut off has to say so. Everything happens on the loop of whoever stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import ContextVar


class Stop:
    """One request to stop, for a program or for a part of it (`within`).

    In force for the code in whose context it is (`CURRENT`), tasks and threads started there too.
    """

    def __init__(self, within: Stop | None = None) -> None:
        self._within = within
        self._requested = asyncio.Event()
        self._cut = False
        self._intake_closed = False
        self._parts: list[Stop] = []
        self.heeded = False
        """Whether the program has a way of its own to end: then it is given time to do so."""
        self.in_flight = 0
        """Messages that are being processed."""
        self.on_request: Callable[[], object] | None = None
        """Called when it is requested."""
        self.on_idle: Callable[[], object] | None = None
        """Called when the last message in flight has ended."""

    @property
    def requested(self) -> bool:
        return self._requested.is_set() or (self._within is not None and self._within.requested)

    @property
    def cancels(self) -> bool:
        """Whether a cancellation that arrives now is, or is due to, that of the shutdown."""
        return self._cut or (self._within is not None and self._within.cancels)

    def part(self) -> Stop:
        """A request for a part of the program; it is made, too, when that for the whole is."""
        part = Stop(self)
        self._parts.append(part)
        if self.requested:
            part.request()
        return part

    def end_part(self, part: Stop) -> None:
        """`part` is over."""
        self._parts.remove(part)

    def request(self) -> None:
        """Ask everybody who waits for it to come to an end."""
        if self._requested.is_set():
            return
        self._requested.set()
        if self.on_request is not None:
            self.on_request()
        for part in self._parts:
            part.request()

    @property
    def intake_closed(self) -> bool:
        """Whether ``TracedQueue.process`` gives out no further items."""
        return self._intake_closed or (self._within is not None and self._within.intake_closed)

    def close_intake(self) -> None:
        """Let no new messages be begun; for programs that have no way of their own to end."""
        self._intake_closed = True

    def cut(self) -> None:
        """Say, before cancelling, that it is the shutdown which cancels."""
        self._cut = True

    async def wait(self) -> None:
        """Wait for the request."""
        await self._requested.wait()

    # ---- messages in flight

    def begin(self) -> None:
        """A message is being processed from now on."""
        stop: Stop | None = self
        while stop is not None:
            stop.in_flight += 1
            stop = stop._within

    def end(self) -> None:
        """That message is done with."""
        stop: Stop | None = self
        while stop is not None:
            stop.in_flight -= 1
            if not stop.in_flight and stop.on_idle is not None:
                stop.on_idle()
            stop = stop._within

    def __repr__(self) -> str:
        state = "cancels" if self.cancels else "requested" if self.requested else "not requested"
        return f"<Stop {state}, {self.in_flight} in flight>"


CURRENT: ContextVar[Stop | None] = ContextVar("asynctrace.stop", default=None)


class Stopping:
    """Whether the program was asked to stop: ask it (``if``), or await it."""

    __slots__ = ("_stop",)

    def __init__(self, stop: Stop | None) -> None:
        self._stop = stop

    def __bool__(self) -> bool:
        return self._stop is not None and self._stop.requested

    def __await__(self) -> Generator[object, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        await (self._stop or Stop()).wait()

    def __repr__(self) -> str:
        return "<stopping>" if self else "<not stopping>"


def stopping() -> Stopping:
    """Whether the program, run by :func:`asynctrace.run`, was asked to stop (SIGINT, SIGTERM)::

        while not asynctrace.stopping():
            await work()

        await asynctrace.stopping()  # waits for it

    A program that calls it before it is asked has a way of its own to end: ``run`` then gives it
    `drain_timeout` seconds to return by itself, and cancels only what is left after them. It may
    be asked in threads, too. In a ``Worker``'s handler it is about that worker. Elsewhere nobody
    can ask: it stays false, and awaiting it waits for ever.
    """
    stop = CURRENT.get()
    if stop is not None:
        stop.heeded = True
    return Stopping(stop)
