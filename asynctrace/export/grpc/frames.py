"""The server's bytes, frame by frame, before h2 sees them. Three things of h2 make that necessary.

- On GOAWAY it closes the whole connection. But the server may still answer the call that it has
  begun (RFC 9113, section 6.8), and those with a maximum connection age do so all day: the answer
  would be lost, and the spans sent twice. So GOAWAY is kept from it.
- When a bad frame comes in one piece with good ones, the events of the good ones are lost. What an
  answer means must not hang on how the network cut it.
- A frame that is too long is refused when it has come whole, which may be 16 MiB later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from h2.exceptions import FrameTooLargeError

HEADER: Final = 9
GOAWAY: Final = 0x7
MAX_FRAME: Final = 2**14
"""Bytes of a frame's payload that we allow: the default of SETTINGS_MAX_FRAME_SIZE."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server begins no call above `last_stream`, and is about to close the connection."""

    last_stream: int
    error: int
    debug: str = ""

    def __str__(self) -> str:
        why = f" ({self.debug})" if self.debug else ""
        return f"the server said GOAWAY with code {self.error}{why}"


class FrameSplitter:
    """Takes bytes in pieces of any size; gives GOAWAYs, and for h2 pieces of one frame each."""

    __slots__ = ("_passing", "_pending")

    def __init__(self) -> None:
        self._passing = 0  # bytes of the current frame that are still to be passed on
        self._pending = b""  # the beginning of a header, or of a GOAWAY

    def feed(self, data: bytes) -> Iterator[bytes | GoAway]:
        """Split.

        Raises:
            FrameTooLargeError: a frame is longer than we allow, or this is not HTTP/2 at all.
        """
        data = self._pending + data
        position, size = 0, len(data)
        while position < size:
            if not self._passing:
                if size - position < HEADER:
                    break
                length = HEADER + int.from_bytes(data[position : position + 3], "big")
                if _is_goaway(data, position, length):
                    if size - position < length:
                        break
                    yield _goaway(data[position + HEADER : position + length])
                    position += length
                    continue
                if length > HEADER + MAX_FRAME:
                    raise FrameTooLargeError(f"a frame of {length - HEADER} bytes")
                self._passing = length
            piece = data[position : position + self._passing]
            position += len(piece)
            self._passing -= len(piece)
            yield piece
        self._pending = data[position:]


def _is_goaway(data: bytes, position: int, length: int) -> bool:
    """Whether a whole and proper GOAWAY begins here; h2 shall judge improper ones."""
    stream = int.from_bytes(data[position + 5 : position + 9], "big") & 0x7FFFFFFF
    return data[position + 3] == GOAWAY and stream == 0 and 8 <= length - HEADER <= MAX_FRAME


def _goaway(payload: bytes) -> GoAway:
    return GoAway(
        last_stream=int.from_bytes(payload[:4], "big") & 0x7FFFFFFF,
        error=int.from_bytes(payload[4:8], "big"),
        debug=payload[8:208].decode("utf-8", "replace"),
    )
