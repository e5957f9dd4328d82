"""How a request ended, and what its span says about that.

===================================  ============  ======================  ======  ===============
what happened                        status code   error.type              status  reason
===================================  ============  ======================  ======  ===============
a response, returned or raised       its own       "500" and above         5xx
another exception                    500           its class               ERROR
the same, a response had begun       none (2)      its class               ERROR
another response, a response begun   none (2)      response_replaced       ERROR
the same, raised                     none (2)      its class               ERROR
a body's own ConnectionError         none (2)      ConnectionError         ERROR
a TimeoutError                       504           TimeoutError            ERROR   timeout (1)
the client left while handling       none          the exception's class   ERROR   client_disconnect
the client left, nothing noticed     none (2)      client_disconnect       ERROR   client_disconnect
the server closed, nothing noticed   none (2)      shutdown                ERROR   shutdown
cancelled by the server's shutdown   none (2)      CancelledError          ERROR   shutdown
cancelled by the application         none (2)      CancelledError          ERROR   cancelled
===================================  ============  ======================  ======  ===============

(1) when asyncio made it of a cancellation; what the operating system timed out was not cancelled.
(2) or that of the response, when its headers were sent and it is known to us.

"status" is the span's: a request that was cancelled, or whose response could not be sent, is an
error by the conventions; without a description, which the other attributes make redundant. A
response never makes an exception event. https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from aiohttp import web
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import StatusCode

from asynctrace import semconv
from asynctrace.trace.exceptions import describe_exception
from asynctrace.trace.received import ReceivedSpan
from asynctrace.trace.span import Span

Reason: TypeAlias = Literal["client_disconnect", "timeout", "shutdown", "cancelled"]

_DISCONNECT: Final = "client_disconnect"
_SHUTDOWN: Final = "shutdown"
_REPLACED: Final = "response_replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known about the connection when an exception ends a request."""

    client_left: bool = False
    server_stops: bool = False
    """The server shuts down, and has cancelled the connection with all that ran on it."""
    answered: bool = False
    """aiohttp makes an error response of the exception."""
    status_sent: int | None = None
    """Of a response that was begun before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the span says."""

    attributes: semconv.Attributes
    is_error: bool
    exception: Exception | None = None
    """What escaped from the handler; responses and cancellations are none."""

    def and_also(self, attributes: semconv.Attributes) -> Outcome:
        """The same with more to say. Outcomes are shared, so this is another one."""
        if not attributes:
            return self
        return Outcome({**self.attributes, **attributes}, self.is_error, self.exception)


@lru_cache(maxsize=256)
def of_response(status_code: int) -> Outcome:
    """The outcome of a request whose response was sent, or is as good as sent."""
    attributes: semconv.Attributes = {semconv.HTTP_RESPONSE_STATUS_CODE: status_code}
    is_error = semconv.is_server_error(status_code)
    if is_error:
        attributes[semconv.ERROR_TYPE] = str(status_code)
    return Outcome(attributes, is_error)


def of_unsent(reason: Reason, status_sent: int | None) -> Outcome:
    """The outcome of a request whose connection was gone when its response was to be sent."""
    return Outcome(_attributes(status_sent, reason, reason), is_error=True)


def of_replaced(status_sent: int | None) -> Outcome:
    """The outcome of a request whose handler returned something other than what it had begun."""
    return Outcome(_attributes(status_sent, _REPLACED, None), is_error=True)


def of_swallowed(status_sent: int | None) -> Outcome:
    """The outcome of a request whose body failed with a ConnectionError, of some other connection.

    aiohttp takes it for the client's and keeps it to itself, so that is all there is to tell.
    """
    return Outcome(
        _attributes(status_sent, semconv.error_type(ConnectionError), None), is_error=True
    )


def of_exception(error: BaseException, situation: Situation) -> Outcome:
    """The outcome of a request that ended with an exception other than a response."""
    kind = semconv.error_type(type(error))
    if not isinstance(error, Exception):
        reason = _why_interrupted(error, situation)
        return Outcome(_attributes(situation.status_sent, kind, reason), is_error=True)
    status_code = situation.status_sent
    if situation.answered:
        status_code = 504 if isinstance(error, TimeoutError) else 500
    attributes = _attributes(status_code, kind, _why_failed(error, situation))
    return Outcome(attributes, is_error=True, exception=error)


def _attributes(status_code: int | None, kind: str, reason: Reason | None) -> semconv.Attributes:
    attributes: semconv.Attributes = {semconv.ERROR_TYPE: kind}
    if status_code is not None:
        attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status_code
    if reason is not None:
        attributes[semconv.CANCELLATION_REASON] = reason
    return attributes


def _why_failed(error: Exception, situation: Situation) -> Reason | None:
    if situation.client_left and isinstance(error, ConnectionError):
        return _DISCONNECT
    if isinstance(error, TimeoutError) and isinstance(error.__cause__, asyncio.CancelledError):
        return "timeout"
    return None


def _why_interrupted(error: BaseException, situation: Situation) -> Reason | None:
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return _SHUTDOWN
    if not isinstance(error, asyncio.CancelledError):
        return None
    if situation.client_left:
        return _DISCONNECT
    return _SHUTDOWN if situation.server_stops else "cancelled"


def tell(span: ApiSpan, outcome: Outcome) -> None:
    """Put an outcome on a span that is still recording."""
    error = outcome.exception
    if type(span) is Span or type(span) is ReceivedSpan:
        span.update_trusted(outcome.attributes)
    else:
        span.set_attributes(outcome.attributes)
    if outcome.is_error:
        span.set_status(StatusCode.ERROR, None if error is None else describe_exception(error))
    if error is not None:
        span.record_exception(error)


def is_one_write(response: web.StreamResponse) -> bool:
    """Whether all that is left to do for a response is to write bytes that are there already.

    Then it is as good as sent when the handler returns. A file, an async generator, a body to be
    compressed, or a response that was begun takes its time, and may fail.
    """
    if not isinstance(response, web.Response) or response.compression or response.prepared:
        return False
    body = response.body
    return body is None or isinstance(body, (bytes, bytearray))


def was_sent(response: web.StreamResponse) -> bool:
    """Whether a response that is not `is_one_write` went out to its end.

    aiohttp swallows a write that fails; but it counts what a response sent, headers included, only
    at the end. A WebSocket's response counts nothing.
    """
    return response.body_length > 0 or isinstance(response, web.WebSocketResponse)
