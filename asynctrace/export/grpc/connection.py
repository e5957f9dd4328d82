"""HTTP/2 as a client that makes one call at a time: no sockets, no clocks, no loop.

`begin` a call, `send` what `bytes_to_send` gives, `receive` what comes, until there is a `result`.
Whoever does the I/O calls `bytes_to_send` after each of these, and when room has come for more.
"""

from __future__ import annotations

from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from .frames import FrameSplitter, GoAway
from .outcome import Lost, Result
from .request import Headers
from .response import Response

_CONFIG: Final = H2Configuration(client_side=True, header_encoding=None)
_SETTINGS: Final = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.MAX_HEADER_LIST_SIZE: H2Connection.DEFAULT_MAX_HEADER_LIST_SIZE,
}
SLICE: Final = 128 * 1024
"""Bytes of a message to send at once; then others may work."""
MAX_FRAMES: Final = 20_000
"""What the server may send for one call and in the idle time after it. The window updates for a
large message are hundreds, and one ping a second may go on for hours."""
_FIRST: Final = 9
_HINTS: Final = {
    b"HTTP/1.": "the server speaks HTTP/1, not gRPC: OTLP over gRPC is usually on port 4317, over "
    "HTTP on 4318",
    b"\x15\x03": "the server speaks TLS: the endpoint begins with https://",
}


class Connection:
    """The client's end of one connection."""

    def __init__(self) -> None:
        self.result: Result | None = None
        """What the last call came to; None while it is open."""
        self._h2 = H2Connection(_CONFIG)
        self._h2.local_settings = Settings(client=True, initial_values=_SETTINGS)
        self._h2.initiate_connection()
        self._splitter = FrameSplitter()
        self._first = b""  # the first bytes that came
        self._goaway: GoAway | None = None
        self._frames = 0  # since the last call began
        self._over = False
        self._response: Response | None = None  # of the call that is open
        self._stream = 0
        self._message = b""
        self._sent = 0

    # ---- a call

    def begin(self, headers: Headers, message: bytes) -> None:
        """Start a call. The result may be there at once: the server takes no call at present."""
        assert self._response is None, "one call at a time"
        self.result = None
        self._frames = 0
        try:
            self._stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(self._stream, headers)
        except H2Error as error:
            self._over = True
            self.result = Lost(f"the connection takes no call: {error}", unprocessed=True)
            return
        self._response = Response()
        self._message, self._sent = message, 0

    def bytes_to_send(self, limit: int) -> bytes:
        """What may be sent now: of the message at most `limit` bytes, as its windows allow."""
        while size := min(limit, self._sendable()):
            piece = self._message[self._sent : self._sent + size]
            self._sent += len(piece)
            limit -= len(piece)
            self._h2.send_data(self._stream, piece, end_stream=self._sent == len(self._message))
        return self._h2.data_to_send()

    @property
    def in_call(self) -> bool:
        """Whether a call has begun and has no result."""
        return self._response is not None

    @property
    def has_more(self) -> bool:
        """Whether the message could go on at once, without waiting for the server."""
        return bool(self._sendable())

    def _sendable(self) -> int:
        """Bytes of the message that fit into the next frame."""
        if self._response is None:
            return 0
        window = self._h2.local_flow_control_window(self._stream)
        room = max(0, min(window, self._h2.max_outbound_frame_size))
        return min(room, len(self._message) - self._sent)

    # ---- what comes

    def receive(self, data: bytes) -> None:
        """Take bytes from the server, in pieces of any size."""
        if len(self._first) < _FIRST:
            self._first = (self._first + data[:_FIRST])[:_FIRST]
        try:
            for piece in self._splitter.feed(data):
                self._frames += 1
                if self._frames > MAX_FRAMES:
                    self.lost("the server floods the connection with frames")
                if self._over:
                    return
                self._take(piece)
        except H2Error as error:
            self.lost(f"the server does not keep to HTTP/2: {error}")

    def lost(self, message: str) -> None:
        """The connection is gone, or is of no use any more; `message` says why."""
        self._over = True
        if self._response is not None:
            for first, hint in _HINTS.items():
                if self._first.startswith(first):
                    message = hint
            self._finish(Lost(f"{message}; {self._goaway}" if self._goaway else message))

    def _take(self, piece: bytes | GoAway) -> None:
        if isinstance(piece, GoAway):
            self._goaway = piece
            if self._response is not None and piece.last_stream < self._stream:
                self._finish(Lost(str(piece), unprocessed=True))
            return
        for event in self._h2.receive_data(piece):
            if isinstance(event, DataReceived):
                # The window of the connection is one for all calls: each byte is given back.
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if self._response is not None and getattr(event, "stream_id", None) == self._stream:
                self._handle(event, self._response)

    def _handle(self, event: Event, response: Response) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                response.headers(event.headers)
            case DataReceived():
                if (answer := response.data(event.data)) is not None:
                    self._finish(answer)
                    self._over = True  # the flood may go on
            case StreamEnded():
                unsent = len(self._message) - self._sent
                self._finish(response.end())
                if unsent:  # the server has refused without reading all: it shall not wait
                    self._h2.reset_stream(self._stream, ErrorCodes.CANCEL)
            case StreamReset():
                self._finish(response.reset(event.error_code))

    def _finish(self, result: Result) -> None:
        self._response = None
        self._message = b""
        self._sent = 0
        self.result = result

    # ---- its end

    @property
    def usable(self) -> bool:
        """Whether another call may begin."""
        return not self._over and self._goaway is None

    def close(self) -> None:
        """Take leave: a GOAWAY is among the bytes to send."""
        if not self._over:
            self._over = True
            self._h2.close_connection(ErrorCodes.NO_ERROR)

    def __repr__(self) -> str:
        state = "in a call" if self._response else "idle" if self.usable else "over"
        return f"<Connection {state}>"
