"""How the span of an attempt ends: with its body, with an error, or cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import Span

from asynctrace import semconv
from asynctrace.context import end_span
from asynctrace.trace.span import Span as OurSpan

if TYPE_CHECKING:
    from asynctrace.httpx._exchange import Exchange


def end_with(
    span: Span,
    told: semconv.Attributes,
    exchange: Exchange | None,
    *,
    in_finalizer: bool = False,
) -> None:
    """End the span with its last attributes, unless a shutdown of tracing has ended it."""
    if exchange is not None:
        exchange.ended(told, None, in_finalizer=in_finalizer)
    if type(span) is OurSpan:
        if span._end_time is None:
            span.end_with(told)
    elif span.is_recording():
        span.set_attributes(told)
        span.end()


def failed(
    span: Span, error: BaseException, size: int | None = None, exchange: Exchange | None = None
) -> None:
    """End the span with what went wrong: before the headers, or in the body after `size` bytes.

    One that is cancelled ends a few steps of the loop later, when it shows whether an enclosing
    scope took the cancellation back.
    """
    told: semconv.Attributes = {}
    if size is not None:
        told[semconv.HTTP_RESPONSE_BODY_SIZE] = size
    # Whichever it is (trio's, gevent's, a coroutine that was closed), the request was given up.
    # `end_span` knows asyncio's own better.
    if not isinstance(error, (Exception, BaseExceptionGroup)):
        told[semconv.CANCELLATION_REASON] = "cancelled"
    if exchange is not None:
        # A coroutine may have been closed by the garbage collector.
        exchange.ended(told, error, in_finalizer=isinstance(error, GeneratorExit))
    if span.is_recording():
        span.set_attributes(told)
        end_span(span, error)
