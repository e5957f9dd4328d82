"""Closes the streams of abandoned responses, so that their connections go back to the pool."""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx import AsyncByteStream

    from asynctrace.httpx._exchange import Exchange


class Closer:
    """One transport's. httpx alone never closes them, and such a connection is lost to its pool.

    The transport owns the tasks, and waits for them when it is closed.
    """

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def close_soon(
        self,
        stream: AsyncByteStream,
        loop: AbstractEventLoop | None,
        exchange: Exchange | None = None,
    ) -> None:
        """Close `stream` on its loop. From any thread, also from a finalizer; never raises."""
        if loop is None:
            return
        # An empty context: that of whoever happened to collect the garbage has no part in this.
        context = contextvars.Context()
        try:
            loop.call_soon_threadsafe(self._start, stream, loop, context=context)
            if exchange is not None:
                loop.call_soon_threadsafe(exchange.record_late, context=context)
        except RuntimeError:  # the loop is closed, and its connections are gone with it
            pass

    async def settle(self) -> None:
        """Wait until nothing is being closed on this loop. Cancelling stops the waiting alone."""
        # None on trio's, where there is nothing of ours to wait for.
        loop = asyncio._get_running_loop()
        # A copy, as other loops close what is theirs in other threads.
        tasks = [task for task in tuple(self._tasks) if task.get_loop() is loop]
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, stream: AsyncByteStream, loop: AbstractEventLoop) -> None:
        task = loop.create_task(_close(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __repr__(self) -> str:
        return f"Closer(closing={len(self._tasks)})"


async def _close(stream: AsyncByteStream) -> None:
    try:
        await stream.aclose()
    except Exception:  # a connection that cannot be closed is no use to anybody
        pass
