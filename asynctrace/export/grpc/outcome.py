"""What the server answered, and what that means: a pure reading of the OTLP specification.

https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response says which codes may be retried, and
https://grpc.io/docs/guides/status-codes/ what they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from asynctrace.export.contracts import Delivered, Outcome, Undelivered
from asynctrace.otlp import decode


class Code(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def _missing_(cls, value: object) -> Code:
        return cls.UNKNOWN


RETRYABLE = frozenset(
    {
        Code.CANCELLED,
        Code.DEADLINE_EXCEEDED,
        Code.ABORTED,
        Code.OUT_OF_RANGE,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    }
)
"""Whatever else the answer says. RESOURCE_EXHAUSTED is retryable when it says so."""
_SIZE_CODES = frozenset({Code.RESOURCE_EXHAUSTED, Code.OUT_OF_RANGE})
_SIZE_SIGNS = ("larger than max", "exceeds maximum size", "too large")


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to a call, or the code that stands for an answer that was none."""

    code: Code
    message: str = ""
    body: bytes = b""
    """The response message; empty when there is none that can be read."""
    details: bytes = b""
    """A google.rpc.Status; empty when there is none."""
    pushback: str | None = None
    """`grpc-retry-pushback-ms` as it came."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection broke before an answer came."""

    message: str
    unprocessed: bool = False
    """Whether the server said that it has not even looked at the call."""


Result = Answer | Lost


def judge(result: Result) -> Outcome:
    """What became of the spans.

    OK with a message that cannot be read is a delivery: the receiver has said yes, and sending
    again would deliver twice.
    """
    if isinstance(result, Lost):
        return Undelivered("unreachable", result.message, retryable=True)
    if result.code is Code.OK:
        try:
            partial = decode.decode_response(result.body)
        except decode.DecodeError:
            return Delivered()
        return Delivered(partial.rejected, partial.message)
    message, delay = _details(result.details)
    pushback = _pushback(result.pushback)
    signal = delay if delay is not None else pushback
    retryable = pushback != FORBIDDEN and (
        result.code in RETRYABLE or (result.code is Code.RESOURCE_EXHAUSTED and signal is not None)
    )
    words = result.message or message
    return Undelivered(
        f"grpc_{result.code.name.lower()}",
        words,
        retryable=retryable,
        # A delay of nothing says that retrying may help, not that it should be done at once.
        retry_after=(signal or None) if retryable else None,
        too_large=result.code in _SIZE_CODES and _is_about_size(words),
    )


def _is_about_size(words: str) -> bool:
    """There is no code for it; the servers' words are the only sign.

    grpc-go and grpcio: "received message larger than max", grpc-java: "exceeds maximum size",
    tonic: "message length too large", as OUT_OF_RANGE in its older releases.
    """
    return any(sign in words.lower() for sign in _SIZE_SIGNS)


FORBIDDEN = -1.0


def _pushback(value: str | None) -> float | None:
    """Seconds, or FORBIDDEN: gRPC takes what is negative or unreadable for "do not retry".

    https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback
    """
    if value is None:
        return None
    text = value.strip()
    return int(text[:12]) / 1000 if text.isascii() and text.isdigit() else FORBIDDEN


def _details(details: bytes) -> tuple[str, float | None]:
    """The message of a Status and the delay of the RetryInfo in it, in seconds."""
    try:
        status = decode.decode_status(details)
    except decode.DecodeError:
        return "", None
    delay = status.retry_delay
    return status.message, None if delay is None else max(0.0, delay)
