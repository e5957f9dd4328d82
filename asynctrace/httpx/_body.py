"""The response's body on its way to the reader: counts its bytes, and ends the span when it ends.

Both streams are their own iterators. Generators would be shorter to write; but one that is left in
the middle is closed later by whoever finds it, in another task, and here nothing is left to close.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import AbstractEventLoop, events
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from asynctrace.httpx._attempt import BodyEnd, failed, finished

if TYPE_CHECKING:
    from httpx import AsyncByteStream, SyncByteStream
    from opentelemetry.trace import Span

    from asynctrace.httpx._exchange import Exchange
else:
    AsyncByteStream = SyncByteStream = object  # the library's own are added by `_library.fit`


class _Body:
    """The span of a body, ended once: by its end, by an error, or by nobody wanting it any more."""

    _span: Span | None = None  # None: has ended
    _exchange: Exchange | None = None
    _size = 0

    def _finish(self, end: BodyEnd | None = None) -> None:
        span, self._span = self._span, None
        if span is not None:
            finished(span, self._size, end, self._exchange)

    def _fail(self, error: BaseException) -> None:
        span, self._span = self._span, None
        if span is not None:
            failed(span, error, self._size, self._exchange)

    def __repr__(self) -> str:
        state = "open" if self._span is not None else "ended"
        return f"<{type(self).__qualname__} {state}, {self._size} bytes>"


class AsyncBody(_Body, AsyncByteStream):
    """Around the stream of an asynchronous response."""

    def __init__(
        self,
        stream: AsyncByteStream,
        span: Span,
        exchange: Exchange | None,
        closer: Closer | None = None,
    ) -> None:
        self._stream = stream
        self._span = span
        self._exchange = exchange
        self._closer = closer
        # None on other loops than asyncio's, where `get_running_loop` would raise.
        self._loop = events._get_running_loop()

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._parts = self._stream.__aiter__()
        return self

    async def __anext__(self) -> bytes:
        try:
            part = await self._parts.__anext__()
        except StopAsyncIteration:
            self._finish()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._size += len(part)
        return part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        except BaseException as error:
            self._fail(error)
            raise
        self._finish("closed")

    def __del__(self) -> None:
        if self._span is not None:
            self._finish("abandoned")
            if self._closer is not None:
                self._closer.close_soon(self._stream, self._loop, self._exchange)


class Body(_Body, SyncByteStream):
    """Around the stream of a synchronous response.

    One that is abandoned stays unclosed, as without tracing: closing takes locks, which a finalizer
    may find held by the very code that it interrupts.
    """

    def __init__(self, stream: SyncByteStream, span: Span, exchange: Exchange | None) -> None:
        self._stream = stream
        self._span = span
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        self._parts = iter(self._stream)
        return self

    def __next__(self) -> bytes:
        try:
            part = next(self._parts)
        except StopIteration:
            self._finish()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._size += len(part)
        return part

    def close(self) -> None:
        try:
            self._stream.close()
        except BaseException as error:
            self._fail(error)
            raise
        self._finish("closed")

    def __del__(self) -> None:
        self._finish("abandoned")


class Closer:
    """Closes the streams of abandoned responses, so that their connections go back to the pool.

    httpx alone never does, and such a connection is lost to its pool for good. The transport owns
    the tasks, and waits for them when it is closed.
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
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
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
