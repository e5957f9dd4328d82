"""One attempt: a span from the call of a client's transport to the end of the response's body.

What happens in its life, in this order: :meth:`Attempts.begin`, then :meth:`Attempts.received` when
the headers are there, then :func:`~asynctrace.httpx._ending.end_with` when the body is; or
:func:`~asynctrace.httpx._ending.failed` at any point. Nothing here does I/O, so that the transports
and streams for asyncio and for threads share it.

The usual attempt has a span and nothing else. With options, or where durations are measured, it has
an :class:`~asynctrace.httpx._exchange.Exchange` besides, which is handed along.

This runs between the steps of a request, where no code is warm: what counts is how few instructions
and calls there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from sys import modules
from typing import TYPE_CHECKING, Final, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from asynctrace import semconv
from asynctrace._http.client import PLAIN, Shaping
from asynctrace._http.contrib import is_outside
from asynctrace._http.suppression import is_suppressed
from asynctrace.context.current import NOTHING, SPAN_KEY, VARIABLE, current_context
from asynctrace.httpx._attributes import KNOWN_METHODS, attributes, shaped
from asynctrace.httpx._contrib import SCOPE as CONTRIB
from asynctrace.httpx._ending import end_with
from asynctrace.httpx._exchange import Exchange
from asynctrace.httpx._hops import IN_VAIN, KEY, answered, shape
from asynctrace.httpx._library import StreamClasses, is_in_memory
from asynctrace.httpx._peer import peer_of
from asynctrace.httpx._request import MARK, outgoing, without_context
from asynctrace.httpx._shaping import place_of
from asynctrace.httpx._used import Used
from asynctrace.metrics import process_provider
from asynctrace.trace.span import Span as OurSpan
from asynctrace.tracing import Tracing, running

if TYPE_CHECKING:
    import httpx

    from asynctrace.propagation import Propagator

T = TypeVar("T")

_CLIENT: Final = SpanKind.CLIENT


class Attempts:
    """What a transport makes its attempts with; the tracing is looked up at each, unless given."""

    __slots__ = ("_build", "_given", "_is_async", "_shaping", "_used")

    def __init__(
        self, tracing: Tracing | None, options: Mapping[str, object], *, is_async: bool
    ) -> None:
        self._given = tracing
        self._shaping = shaping = Shaping.of(options, os.environ, place_of)
        self._build = attributes if shaping is None else shaped(shaping)
        self._is_async = is_async
        # What was used last. One value, as threads share a client.
        self._used: Used | None = None

    def begin(self, request: httpx.Request) -> tuple[Span, httpx.Request, Exchange | None] | None:
        """Start the span of an attempt; return it and the request to send in place of `request`.

        None when there is nothing to trace: no tracing runs, it is suppressed here, the request is
        to be skipped, or the span of this attempt was made further out.
        """
        tracing = running() if self._given is None else self._given
        state = request.__dict__
        if tracing is None or MARK in state:
            return None
        exchange = None
        try:
            used = self._used
            if (
                used is None
                or used.tracing is not tracing
                or used.meter_provider is not process_provider()
            ):
                self._used = used = Used.of(tracing)
            # As `current_context` and `span_of`, in line.
            context = current_context() if VARIABLE is None else VARIABLE.get(NOTHING)
            parent: Span | None = context.get(SPAN_KEY)  # type: ignore[assignment]  # always a span
            # Usually the context is the current span and nothing else, or empty.
            if (len(context) > 1 or (parent is None and context)) and is_suppressed(context):
                return None
            if CONTRIB in modules and is_outside(parent, request.headers):
                return None
            if self._shaping is not None or used.metrics is not None:
                if self._is_skipped(request):
                    return None
                fault = tracing.tracer_provider.fault
                exchange = Exchange(request, self._shaping or PLAIN, used.metrics, fault)
            method = request.method
            name = method if method in KNOWN_METHODS else "HTTP"
            build = self._build
            if KEY in request.extensions or IN_VAIN in state:
                name, build = shape(name, build, request)
            span = used.start(name, _CLIENT, parent, build, request, context)
        except Exception as error:
            tracing.tracer_provider.fault("httpx request", error)
            return None
        try:
            if exchange is None:
                sent = outgoing(request, span, context, used.propagator)
            else:
                sent = self._shape(request, span, context, used.propagator, exchange)
        except Exception as error:
            tracing.tracer_provider.fault("httpx request headers", error)
            sent = without_context(request)
        return span, sent, exchange

    def _is_skipped(self, request: httpx.Request) -> bool:
        """Whether the request is to be skipped; not when the user's own function fails."""
        try:
            skip = None if self._shaping is None else self._shaping.skip
            return skip is not None and bool(skip(request))
        except Exception as error:
            self._report("skip", error)
            return False

    def _shape(
        self,
        request: httpx.Request,
        span: Span,
        context: Context,
        propagator: Propagator,
        exchange: Exchange,
    ) -> httpx.Request:
        """:func:`outgoing` as the options want it. Where they fail, no context goes out."""
        try:
            may_carry_context = exchange.shaping.may_carry_context(request)
        except Exception as error:
            self._report("propagate_to", error)
            may_carry_context = False
        if may_carry_context:
            sent = outgoing(request, span, context, propagator)
        else:
            sent = without_context(request)
        exchange.listen(sent, is_async=self._is_async)
        return sent

    def received(
        self,
        span: Span,
        request: httpx.Request,
        response: httpx.Response,
        exchange: Exchange | None,
        bodies: StreamClasses[T],
    ) -> type[T] | None:
        """Record the headers of the response; return the class for the body still to come.

        None when the span has ended: the body is in memory already (the client will not ask the
        network for it), cannot be followed, as its stream is not of the library's own class, or is
        not to be followed.
        """
        told: semconv.Attributes = {}
        try:
            status = response.status_code
            if status >= 300 or IN_VAIN in request.__dict__:
                answered(request, response)
            ours = span if type(span) is OurSpan and span._end_time is None else None
            if exchange is None and ours is None and not span.is_recording():
                return None
            extensions = response.extensions
            version = extensions.get("http_version")
            told = {**semconv.client_response(status, version if type(version) is bytes else None)}
            if (network_stream := extensions.get("network_stream")) is not None:
                told.update(peer_of(network_stream))
            if ours is not None:
                waited = ours._tracer._core.clock() - ours._start_time
                told[semconv.TIME_TO_HEADERS] = waited / 1e9
            if status >= 400 and span.is_recording():
                span.set_status(StatusCode.ERROR)
            if exchange is not None and exchange.received(response, told):
                end_with(span, told, exchange)
                return None
            kind = bodies[type(response.stream)]
            if kind is not None and not response.is_closed:
                if ours is not None:
                    ours.update_trusted(told)
                elif span.is_recording():
                    span.set_attributes(told)
                return kind
            told.update(_size_in_memory(response))
        except Exception as error:  # a response that is not quite one: the client will say so
            self._report("httpx response", error)
        end_with(span, told, exchange)
        return None

    def _report(self, where: str, error: Exception) -> None:
        """Count and log an error of ours that the caller does not get to see."""
        if self._used is not None:
            self._used.tracing.tracer_provider.fault(where, error)

    def __repr__(self) -> str:
        return f"Attempts({self._given or 'whichever tracing runs'})"


def _size_in_memory(response: httpx.Response) -> semconv.Attributes:
    """The wire size of a body that was read before; nothing when it was not read to its end."""
    stream = response.stream
    if is_in_memory(stream) and (response.is_stream_consumed or not response.is_closed):
        parts: Iterable[bytes] = stream  # type: ignore[assignment]  # a ByteStream is iterable
        return {semconv.HTTP_RESPONSE_BODY_SIZE: sum(map(len, parts))}
    if response.is_stream_consumed:
        return {semconv.HTTP_RESPONSE_BODY_SIZE: response.num_bytes_downloaded}
    return {}
