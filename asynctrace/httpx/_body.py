"""The response's body on its way to the reader: counts its bytes, and ends the span when it ends.

Both streams are their own iterators. Generators would be shorter to write; but one that is left in
the middle is closed later by whoever finds it, in another task, and here nothing is left to close.
"""

from __future__ import annotations

from asyncio import events
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Final, Literal

from asynctrace import semconv
from asynctrace.httpx._closer import Closer
from asynctrace.httpx._ending import end_with, failed
from asynctrace.httpx._library import StreamClasses
from asynctrace.trace.span import Span as OurSpan

if TYPE_CHECKING:
    from httpx import AsyncByteStream, SyncByteStream
    from opentelemetry.trace import Span

    from asynctrace.httpx._exchange import Exchange
else:
    AsyncByteStream = SyncByteStream = object  # the library's own are added by `_library.fit`


BodyEnd = Literal["closed", "abandoned"]
"""The end of a body that was neither read to its end nor failed."""


class _Body:
    """The span of a body, ended once: by its end, by an error, or by nobody wanting it any more."""

    _span: Span | None = None  # None: has ended
    _exchange: Exchange | None = None
    _size = 0
    """In bytes, as they came over the wire."""

    def _finish(self, end: BodyEnd | None = None) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        told: semconv.Attributes = {semconv.HTTP_RESPONSE_BODY_SIZE: self._size}
        if end is not None:
            told[semconv.RESPONSE_BODY_END] = end
        exchange = self._exchange
        # Usually there is a span of ours and nothing else: in line, for the call that it saves.
        if exchange is None and type(span) is OurSpan and span._end_time is None:
            span.end_with(told)
        else:
            end_with(span, told, exchange, in_finalizer=end == "abandoned")

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
        try:
            self._parts = self._stream.__aiter__()
        except BaseException as error:
            self._fail(error)
            raise
        return self

    async def __anext__(self) -> bytes:
        try:
            part = await self._parts.__anext__()
        except StopAsyncIteration:
            if self._span is not None:
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
        if self._span is not None:  # usually the body was read to its end before
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
        try:
            self._parts = iter(self._stream)
        except BaseException as error:
            self._fail(error)
            raise
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


ASYNC_BODIES: Final = StreamClasses(AsyncBody, "AsyncByteStream")
BODIES: Final = StreamClasses(Body, "SyncByteStream")
