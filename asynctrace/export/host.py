"""Where the drain tasks run: the loop of `init`, or a daemon thread with a loop of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asynctrace import _threads

T = TypeVar("T")


WIND_UP = 0.2
"""Seconds for what still runs on a loop of ours when its work is done."""


class Host:
    """A loop, seen from any thread of the process that it belongs to."""

    __slots__ = ("loop", "owned", "pid")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, owned: bool = False) -> None:
        self.loop = loop
        self.owned = owned
        """Whether the loop is ours, in a daemon thread, and not the program's."""
        self.pid = os.getpid()

    @classmethod
    def in_thread(cls, main: Callable[[], Coroutine[Any, Any, None]]) -> Host:
        """A host in a new daemon thread, which runs `main()` and ends with it.

        Safe in a finalizer: no lock is taken and nothing is waited for.

        Raises:
            RuntimeError: no thread can be started.
        """
        host = cls(asyncio.new_event_loop(), owned=True)

        def serve() -> None:
            try:
                host.loop.run_until_complete(main())
                host.loop.run_until_complete(_wind_up())
            finally:
                host.loop.close()

        try:
            _threads.start(serve)
        except RuntimeError:
            host.loop.close()
            raise
        return host

    @property
    def alive(self) -> bool:
        return not self.loop.is_closed() and self.pid == os.getpid()

    @property
    def serving(self) -> bool:
        """Whether work that is posted gets done: a loop that stands still may never run again."""
        return self.alive and (self.owned or self.loop.is_running())

    def is_here(self) -> bool:
        """Whether the caller runs in this host's loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def post(self, function: Callable[[], object]) -> bool:
        """Have `function` called on the host soon; False when the host is gone."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` on the host, from whichever loop the caller runs in."""
        if self.is_here():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def __repr__(self) -> str:
        kind = "daemon thread" if self.owned else "loop of init"
        return f"<Host {kind}{'' if self.alive else ', gone'}>"


async def _wind_up() -> None:
    """Let those who wait for an answer have it, and cancel what does not end by itself."""
    late = asyncio.all_tasks() - {asyncio.current_task()}
    if late:
        _, late = await asyncio.wait(late, timeout=WIND_UP)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=WIND_UP)
