"""The answer to a call, put together from headers, data and trailers in the order they come."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from .outcome import Answer, Code

MAX_ANSWER: Final = 64 * 1024
"""Bytes of a response message that are taken; it holds a short text or nothing."""
MAX_TEXT: Final = 1000
"""Characters of the server's message that are kept."""
PREFIX: Final = 5

_BY_HTTP_STATUS: Final = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
"""doc/http-grpc-status-mapping.md of gRPC: for answers of a proxy, which have no gRPC status."""
_BY_RESET: Final = {
    0x7: Code.UNAVAILABLE,  # REFUSED_STREAM
    0x8: Code.CANCELLED,
    0xB: Code.RESOURCE_EXHAUSTED,  # ENHANCE_YOUR_CALM
    0xC: Code.PERMISSION_DENIED,  # INADEQUATE_SECURITY
}
"""Error codes of HTTP/2, by PROTOCOL-HTTP2.md of gRPC; the others are INTERNAL."""


class Response:
    """Collects one answer. `data` and the ends give the `Answer` when it is certain."""

    __slots__ = ("_body", "_fields", "_status")

    def __init__(self) -> None:
        self._status = 0  # of HTTP
        self._fields: dict[bytes, bytes] = {}
        self._body = bytearray()

    def headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take headers or trailers. An answer without a message has all of it in one."""
        self._fields.update(headers)
        self._status = _number(self._fields.get(b":status", b""), 0)

    def data(self, data: bytes) -> Answer | None:
        """Take a piece of the body; an answer only when it is too much."""
        self._body += data
        if len(self._body) > MAX_ANSWER + PREFIX:
            text = f"the answer is longer than {MAX_ANSWER} bytes; nobody knows what it says"
            return Answer(Code.INTERNAL, text)
        return None

    def end(self) -> Answer:
        """The server has said all."""
        code = self._fields.get(b"grpc-status")
        if code is None:
            return self._without_status()
        return Answer(
            Code(_number(code, Code.UNKNOWN)),
            message=_text(self._fields.get(b"grpc-message", b"")),
            body=self._message(),
            details=_binary(self._fields.get(b"grpc-status-details-bin", b"")),
            pushback=_ascii(self._fields.get(b"grpc-retry-pushback-ms")),
        )

    def reset(self, error: int) -> Answer:
        """The server has cut the call off."""
        return Answer(
            _BY_RESET.get(error, Code.INTERNAL), f"the server reset the call with code {error}"
        )

    def _without_status(self) -> Answer:
        """Somebody answered who does not speak gRPC, such as a proxy."""
        kind = _ascii(self._fields.get(b"content-type")) or "no content type"
        message = f"an answer without a gRPC status: HTTP {self._status}, {kind}"
        if not kind.startswith("application/grpc") and self._body:
            message += f": {_text(bytes(self._body[:200])).strip()}"
        return Answer(_BY_HTTP_STATUS.get(self._status, Code.UNKNOWN), message)

    def _message(self) -> bytes:
        """The response message; empty when it is cut short, or compressed in a way unknown."""
        body = self._body
        if len(body) < PREFIX or len(body) != PREFIX + int.from_bytes(body[1:PREFIX], "big"):
            return b""
        message = bytes(body[PREFIX:])
        return _decompressed(message) if body[0] else message


def _number(digits: bytes, otherwise: int) -> int:
    """Of up to three digits, like all status codes; int() refuses to read thousands of them."""
    return int(digits) if digits.isdigit() and len(digits) <= 3 else otherwise


def _decompressed(message: bytes) -> bytes:
    """Gzip or zlib, whichever it is, up to `MAX_ANSWER` bytes."""
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(message, MAX_ANSWER)
    except zlib.error:
        return b""


def _text(value: bytes) -> str:
    """Percent-decoded UTF-8; what is not is kept or replaced, never an error."""
    return unquote_to_bytes(value).decode("utf-8", "replace")[:MAX_TEXT]


def _binary(value: bytes) -> bytes:
    """Base64, with or without padding."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return b""


def _ascii(value: bytes | None) -> str | None:
    return None if value is None else value.decode("ascii", "replace")[:MAX_TEXT]
