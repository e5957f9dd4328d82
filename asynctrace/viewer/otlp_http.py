"""OTLP over HTTP from the receiver's side: bodies to spans, results to answers. Pure, no I/O.

https://opentelemetry.io/docs/specs/otlp/#otlphttp: protobuf or JSON, told by the content type, and
the answer in the same encoding; gzip at least; a refused request gets a google.rpc.Status.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from asynctrace.otlp import decode, encode, json
from asynctrace.otlp.records import PartialSuccess, RpcStatus, SpanRecord
from asynctrace.otlp.wire import DecodeError

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

# google.rpc.Code
_INVALID_ARGUMENT = 3
_RESOURCE_EXHAUSTED = 8
_UNIMPLEMENTED = 12

_GZIP = 31  # zlib's numbers for the framing it is to expect
_ZLIB = 15
_RAW = -15


class RefusedError(Exception):
    """The request cannot be taken: `status` is the HTTP status, `code` the google.rpc one."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the sender."""

    status: int
    content_type: str
    body: bytes


def read_spans(body: bytes, *, content_type: str, encoding: str, limit: int) -> list[SpanRecord]:
    """Decode the body of a request whose decompressed size may be `limit` bytes at most.

    Raises:
        RefusedError: unknown content type or encoding (415), too large (413), or not OTLP (400).
    """
    if content_type not in (PROTOBUF, JSON):
        raise RefusedError(
            415, _UNIMPLEMENTED, f"content type {content_type!r} is neither {PROTOBUF} nor {JSON}"
        )
    plain = decompress(body, encoding, limit)
    try:
        if content_type == JSON:
            return json.decode_json(plain)
        return decode.decode_request(plain)
    except DecodeError as error:
        raise RefusedError(400, _INVALID_ARGUMENT, str(error)) from error


def accepted(content_type: str, *, rejected: int) -> Answer:
    """The answer to a request that was taken, but for `rejected` spans of it."""
    message = "trace id or span id is not valid" if rejected else ""
    partial = PartialSuccess(rejected=rejected, message=message)
    if content_type == JSON:
        return Answer(200, JSON, json.encode_response(partial))
    return Answer(200, PROTOBUF, encode.encode_response(partial))


def refused(error: RefusedError, content_type: str) -> Answer:
    """The answer to a request that was not taken: a Status, in JSON unless they sent protobuf."""
    status = RpcStatus(code=error.code, message=str(error))
    if content_type == PROTOBUF:
        return Answer(error.status, PROTOBUF, encode.encode_status(status))
    return Answer(error.status, JSON, json.encode_status(status))


def too_large(limit: int) -> RefusedError:
    """The refusal of a body of more than `limit` bytes."""
    return RefusedError(413, _RESOURCE_EXHAUSTED, f"the request is larger than {limit} bytes")


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a `Content-Encoding`, never making more than `limit` bytes of the body.

    Raises:
        RefusedError: unknown encoding (415), more than `limit` (413), corrupt or cut short (400).
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        plain = body
    elif encoding in ("gzip", "x-gzip"):
        plain = _inflate(body, _GZIP, limit)
    elif encoding == "deflate":
        # RFC 9110 means zlib's framing by it, and there have always been senders that leave it out.
        plain = _inflate(body, _ZLIB if _has_zlib_header(body) else _RAW, limit)
    else:
        raise RefusedError(
            415, _UNIMPLEMENTED, f"content encoding {encoding!r} is neither gzip nor deflate"
        )
    if len(plain) > limit:
        raise too_large(limit)
    return plain


def _inflate(body: bytes, framing: int, limit: int) -> bytes:
    stream = zlib.decompressobj(framing)
    try:
        plain = stream.decompress(body, limit + 1)  # one more than allowed shows that it is more
    except zlib.error as error:
        raise RefusedError(
            400, _INVALID_ARGUMENT, f"the compressed body is corrupt: {error}"
        ) from error
    if len(plain) <= limit and (not stream.eof or stream.unused_data):
        fault = "is cut short" if not stream.eof else "goes on after its end"
        raise RefusedError(400, _INVALID_ARGUMENT, f"the compressed body {fault}")
    return plain


def _has_zlib_header(body: bytes) -> bool:
    """RFC 1950: method 8, and the first two bytes are a multiple of 31."""
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
