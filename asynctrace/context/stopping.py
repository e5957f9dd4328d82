"""Being asked to stop: a request, who heeds it, and when what is left is cancelled.

::

    request() -> close_intake() -> messages in flight end -> cut() -> the rest is cancelled

This is the state only. `asynctrace.worker` has the signals and the deadlines; it stands here
because a span that is cut off has to say so. Everything happens on the loop of whoever stops, but
for the messages, which may be processed in threads.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

DRAIN_TIMEOUT = 5.0  # seconds, unless somebody says otherwise


class Stop:
    """One request to stop, for a program or for a part of it (`within`).

    In force for the code in whose context it is (`CURRENT`), tasks and threads started there too.
    """

    def __init__(self, within: Stop | None = None, *, drain_timeout: float = DRAIN_TIMEOUT) -> None:
        self._within = within
        self.drain_timeout = drain_timeout
        """Seconds that messages in flight have to end, once it is requested."""
        self._requested = asyncio.Event()
        self._cut = False
        self._parts: list[Stop] = []
        self._asked: set[weakref.ref[asyncio.Task[Any] | threading.Thread]] = set()
        self._messages: set[object] = set()  # not a number: threads change it, too
        self._message_ended = asyncio.Event()
        self._intake_closed = False
        self._waiting: dict[asyncio.Timeout, asyncio.Task[Any] | None] = {}
        self.on_request: Callable[[], object] | None = None
        """Called when it is requested."""
        self.on_idle: Callable[[], object] | None = None
        """Called, in any thread, when the last message in flight has ended."""

    @property
    def requested(self) -> bool:
        return self._requested.is_set() or (self._within is not None and self._within.requested)

    @property
    def cancels(self) -> bool:
        """Whether a cancellation that arrives now is, or is due to, that of the shutdown."""
        return self._cut or (self._within is not None and self._within.cancels)

    def part(self) -> Stop:
        """A request for a part of the program; it is made, too, when that for the whole is."""
        part = Stop(self, drain_timeout=self.drain_timeout)
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

    def cut(self) -> None:
        """Say, before cancelling, that it is the shutdown which cancels."""
        self._cut = True

    async def wait(self) -> None:
        """Wait for the request."""
        await self._requested.wait()

    # ---- who heeds it

    def ask(self) -> None:
        """The task or thread that runs has asked whether it is requested."""
        self._asked.add(weakref.ref(_runs_here(), self._asked.discard))

    @property
    def heeded(self) -> bool:
        """Whether somebody is there to end the program: a part of it, or who has asked.

        Who waits for an item of a queue does not ask again before it comes.
        """
        waiting = self._waiting.values()
        asked = [one() for one in tuple(self._asked)]
        return bool(self._parts) or any(
            one is not None and _lives(one) and one not in waiting for one in asked
        )

    # ---- the intake of the program, which is closed when that drains

    @property
    def intake_closed(self) -> bool:
        """Whether ``TracedQueue.process`` gives out no further items."""
        return self._program()._intake_closed

    def close_intake(self) -> None:
        """Let no further messages be begun, not even by those who wait for one already."""
        if not self._intake_closed:
            self._intake_closed = True
            for limit in self._waiting:
                limit.reschedule(0.0)  # long past

    async def take_in(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Await an item. Raises ``TimeoutError`` when the intake is closed before it comes."""
        program = self._program()
        async with asyncio.timeout(None) as limit:
            program._waiting[limit] = asyncio.current_task()
            try:
                return await waiting
            finally:
                del program._waiting[limit]

    async def wait_nothing_at_work(self) -> None:
        """Wait, the intake being closed, until who has nothing to do can be cancelled.

        Not before the last message in flight has ended, because a task that ends may take others
        along, which are at work.
        """
        program = self._program()
        await program.wait_idle()
        program.cut()

    def _program(self) -> Stop:
        return self if self._within is None else self._within._program()

    # ---- messages in flight

    @property
    def in_flight(self) -> int:
        """Messages that are being processed."""
        return len(self._messages)

    def begin(self, message: object) -> None:
        """A message is being processed from now on. Any thread."""
        stop: Stop | None = self
        while stop is not None:
            stop._messages.add(message)
            stop = stop._within

    def end(self, message: object) -> None:
        """That message is done with. Any thread."""
        stop: Stop | None = self
        while stop is not None:
            stop._messages.discard(message)
            if not stop._messages and stop.on_idle is not None:
                stop.on_idle()
            stop = stop._within

    async def wait_idle(self) -> None:
        """Wait until no message is in flight, as far as :meth:`look_again` is called."""
        while self._messages:
            self._message_ended.clear()
            await self._message_ended.wait()

    def look_again(self) -> None:
        """Have those look who wait for messages to end. On the loop, after `on_idle`."""
        self._message_ended.set()

    def __repr__(self) -> str:
        state = "cancels" if self.cancels else "requested" if self.requested else "not requested"
        return f"<Stop {state}, {self.in_flight} in flight>"


def _runs_here() -> asyncio.Task[Any] | threading.Thread:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        task = None
    return threading.current_thread() if task is None else task


def _lives(one: asyncio.Task[Any] | threading.Thread) -> bool:
    return one.is_alive() if isinstance(one, threading.Thread) else not one.done()


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

    A program in which a task has called it has a way of its own to end, for as long as that task
    lives: when the signal comes, ``run`` gives it `drain_timeout` seconds to return by itself, and
    cancels only what is left after them. (A task that waits in ``TracedQueue.process`` does not
    count: it would not ask again.) It may be asked in threads, too. In a ``Worker``'s handler it
    is about that worker. Elsewhere nobody can ask: it stays false, and awaiting it waits for ever.
    """
    stop = CURRENT.get()
    if stop is not None:
        stop.ask()
    return Stopping(stop)
