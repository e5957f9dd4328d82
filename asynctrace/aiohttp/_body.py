"""What went out of a response: its status, the size of its body, and when that began.

aiohttp makes one writer for each request, and whatever answers the request goes through it. A
`MeteredWriter` tells a `BodyMeter` how far the writer's public count of bytes, `output_size`, has
come; headers and the framing of chunks are taken off. So a body is measured as it went over the
wire, compressed or not. A file that the kernel sends passes the writer by.
"""

from __future__ import annotations

from itertools import count
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

if TYPE_CHECKING:
    from aiohttp.http_writer import Buffer

_EMPTY_STATUS: Final = frozenset({204, 304, *range(100, 200)})

_LAST_CHUNK: Final = len(b"0\r\n\r\n")


class BodyMeter:
    """Counts one response."""

    __slots__ = ("_told", "begun", "is_broken", "is_ending", "size", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        """Of the response that went out, or whose head waits for the first of its body; or None."""
        self.begun = 0
        """When the first of the body was sent, in nanoseconds since the epoch; 0 before."""
        self.size = 0
        self.is_ending = False
        """Whether nothing follows what is being written."""
        self.is_broken = False
        """Whether something could not be written."""
        self._told = 0
        """The writer's count up to where it is told."""

    def begin(self, output_size: int, status_line: str, headers: CIMultiDict[str]) -> None:
        """The head of a response comes next, after `output_size` bytes; in place of one that waits.

        What comes too late, after another response, is found out before that.
        """
        code = status_line[9:12]  # after "HTTP/1.1 ", by RFC 9112
        self.status = int(code) if code.isdecimal() else None
        text = status_line + "".join(name + value for name, value in headers.items())
        head = len(text.encode(errors="ignore")) + len(": \r\n") * len(headers) + len("\r\n\r\n")
        self._told = output_size + head

    def update(self, output_size: int, *, chunked: bool) -> None:
        """The writer's count after it has written: one chunk at most, and perhaps the last."""
        new = output_size - self._told
        if new <= 0 or self.status is None:
            return
        self._told = output_size
        if chunked:
            new = _without_framing(new - _LAST_CHUNK if self.is_ending else new)
        if new:
            self.size += new
            self.begun = self.begun or time_ns()

    def __repr__(self) -> str:
        return f"<BodyMeter of {self.size} bytes after {self.status}>"


class MeteredWriter(StreamWriter):
    """A writer that tells its meter what it has written, before anybody else can write."""

    asynctrace_meter: BodyMeter

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        before = self.output_size
        await super().write_headers(status_line, headers)
        transport = self.transport
        if transport is not None and not transport.is_closing():  # else newer versions fail next
            self.asynctrace_meter.begin(before, status_line, headers)

    # Any: the options differ between versions, and are for aiohttp itself.
    async def write(self, chunk: Buffer, **options: Any) -> None:
        try:
            await super().write(chunk, **options)
        except ConnectionError:
            self.asynctrace_meter.is_broken = True
            raise
        self.asynctrace_meter.update(self.output_size, chunked=self.chunked)

    async def write_eof(self, chunk: bytes = b"") -> None:
        self.asynctrace_meter.is_ending = True
        try:
            await super().write_eof(chunk)
        except ConnectionError:
            self.asynctrace_meter.is_broken = True
            raise
        self.asynctrace_meter.update(self.output_size, chunked=self.chunked)

    async def drain(self) -> None:
        # The others call this when they have written, and it may wait while somebody else writes.
        self.asynctrace_meter.update(self.output_size, chunked=self.chunked)
        await super().drain()


MeteredWriter.__name__ = MeteredWriter.__qualname__ = StreamWriter.__name__


def meter_body(request: web.Request) -> None:
    """Meter the response of `request`, which has not begun. Does nothing with a foreign writer."""
    writer = request.writer
    # Request and response keep their writer under private names. One of another class can stay
    # where it is, and no name of aiohttp's is touched.
    if type(writer) is StreamWriter:
        writer.__class__ = MeteredWriter
        writer.asynctrace_meter = BodyMeter()  # type: ignore[attr-defined]


def meter_of(request: web.Request) -> BodyMeter | None:
    """The meter of the response of `request`, if it has one."""
    meter: object = getattr(request.writer, "asynctrace_meter", None)
    return meter if isinstance(meter, BodyMeter) else None


def size_of(
    request: web.Request, response: web.StreamResponse, meter: BodyMeter | None
) -> int | None:
    """The size of a body that was sent to its end, as it went over the wire; None if not known.

    What nobody metered, or what the kernel sent, is as long as a header promised.
    """
    if request.method == hdrs.METH_HEAD or response.status in _EMPTY_STATUS:
        return 0 if meter is None else meter.size  # aiohttp lets a handler write one
    promised = response.content_length
    if meter is None or meter.status is None or (promised is not None and not meter.size):
        return promised
    if hdrs.CONTENT_ENCODING in response.headers and not meter.is_ending:
        return None  # the compressor may hold some of it yet
    return meter.size


def _without_framing(size: int) -> int:
    """The size of the data in a chunk of `size` bytes, which has its size and two line ends.

    The size is in hexadecimal digits, https://www.rfc-editor.org/rfc/rfc9112#section-7.1
    """
    if size <= _LAST_CHUNK:
        return 0
    return next(data for n in count(1) if (data := size - n - len("\r\n\r\n")) < 16**n)
