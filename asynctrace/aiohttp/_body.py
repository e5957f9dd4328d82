"""What was sent of a response's body, and when that began.

aiohttp's writer tells each piece of a body that it accepts to `on_body_write`, since 3.14; before,
nobody calls it. It counts what the application wrote: without headers and the framing of chunks,
and before compression. A file that the kernel sends passes it by.
"""

from __future__ import annotations

from time import time_ns
from typing import Final

from aiohttp import hdrs, web

_EMPTY_STATUS: Final = frozenset({204, 304, *range(100, 200)})


class BodyMeter:
    """Watches the writer of one response."""

    __slots__ = ("begun", "size")

    def __init__(self) -> None:
        self.begun = 0
        """When the first piece was accepted, in nanoseconds since the epoch; 0 before."""
        self.size = 0

    def __call__(self, size: int, _output_size: int) -> None:
        if not self.begun:
            self.begun = time_ns()
        self.size += size

    def __repr__(self) -> str:
        return f"<BodyMeter of {self.size} bytes>"


def meter_body(request: web.Request) -> None:
    """Watch the response of `request`, which has not begun."""
    writer = request.writer
    if getattr(writer, "on_body_write", None) is None:
        writer.on_body_write = BodyMeter()


def meter_of(request: web.Request) -> BodyMeter | None:
    """The meter that watches the response of `request`, if it has seen anything."""
    meter: object = getattr(request.writer, "on_body_write", None)
    return meter if isinstance(meter, BodyMeter) and meter.begun else None


def size_of(
    request: web.Request, response: web.StreamResponse, meter: BodyMeter | None
) -> int | None:
    """The size of a body that was sent to its end, as it went over the wire; None if not known.

    A header promises it, and aiohttp sends neither more nor less. Of chunks the writer's own count
    is right unless they were compressed on their way.
    """
    if request.method == hdrs.METH_HEAD or response.status in _EMPTY_STATUS:
        return 0
    if response.content_length is not None:
        return response.content_length
    if meter is None or hdrs.CONTENT_ENCODING in response.headers:
        return None
    return meter.size
