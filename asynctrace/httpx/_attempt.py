"""One attempt: a span from the call of a client's transport to the end of the response's body.

What happens in its life, in this order: :meth:`Attempts.begin`, then :meth:`Attempts.received` when
the headers are there, then :func:`finished`; or :func:`failed` at any point. Nothing here does I/O,
so that the transports and streams for asyncio and for threads share it.

The usual attempt has a span and nothing else. With options, or where durations are measured, it has
an :class:`~asynctrace.httpx._exchange.Exchange` besides, which is handed along.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from asynctrace import metrics, semconv
from asynctrace._http.client import PLAIN, Shaping
from asynctrace._http.suppression import is_suppressed
from asynctrace.context import tell_outcome
from asynctrace.context.current import current_context, span_of
from asynctrace.httpx import _contrib, _hops
from asynctrace.httpx._attributes import KNOWN_METHODS, attributes, shaped
from asynctrace.httpx._exchange import Exchange
from asynctrace.httpx._library import is_in_memory, stream_class
from asynctrace.httpx._peer import peer_of
from asynctrace.httpx._request import MARK, outgoing, without_context
from asynctrace.httpx._shaping import place_of
from asynctrace.metrics import ClientMetrics
from asynctrace.trace.span import DroppedSpan
from asynctrace.trace.span import Span as OurSpan
from asynctrace.trace.tracer import Tracer
from asynctrace.tracing import Tracing, running

if TYPE_CHECKING:
    import httpx
    from opentelemetry.trace import Tracer as ApiTracer

    from asynctrace.httpx._attributes import Build
    from asynctrace.propagation import Propagator

SCOPE_NAME: Final = "asynctrace.httpx"

BodyEnd = Literal["closed", "abandoned"]
"""The end of a body that was neither read to its end nor failed."""

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
        # The tracing used last. One value, as threads share a client.
        self._used: _Used | None = None

    def begin(self, request: httpx.Request) -> tuple[Span, httpx.Request, Exchange | None] | None:
        """Start the span of an attempt; return it and the request to send in place of `request`.

        None when there is nothing to trace: no tracing runs, it is suppressed here, the request is
        to be skipped, or the span of this attempt was made further out.
        """
        tracing = running() if self._given is None else self._given
        if tracing is None or MARK in request.__dict__:
            return None
        exchange = None
        try:
            used = self._used
            if used is None or used.tracing is not tracing:
                self._used = used = _Used.of(tracing)
            context = current_context()
            parent = span_of(context)
            # Usually the context is the current span and nothing else, or empty.
            if (len(context) > 1 or (parent is None and context)) and is_suppressed(context):
                return None
            if parent is not None and _contrib.is_outside(parent, request):
                return None
            if self._shaping is not None or used.metrics is not None:
                if self._is_skipped(request):
                    return None
                fault = tracing.tracer_provider.fault
                exchange = Exchange(request, self._shaping or PLAIN, used.metrics, fault)
            method = request.method
            name = method if method in KNOWN_METHODS else "HTTP"
            build = self._build
            if _hops.KEY in request.extensions or _hops.IN_VAIN in request.__dict__:
                name, build = _hops.shape(name, build, request)
            span = used.start(name, _CLIENT, parent, build, request, context=context)
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
        body: type[T],
        base: str,
    ) -> type[T] | None:
        """Record the headers of the response; return the class for the `body` still to come.

        None when the span has ended: the body is in memory already (the client will not ask the
        network for it), cannot be followed, as its stream is not the library's own `base`, or is
        not to be followed.
        """
        told: semconv.Attributes = {}
        try:
            status = response.status_code
            if status >= 300 or _hops.IN_VAIN in request.__dict__:
                _hops.answered(request, response)
            if exchange is None and (type(span) is DroppedSpan or not span.is_recording()):
                return None
            extensions = response.extensions
            told = semconv.client_response(status, extensions.get("http_version"))
            if (network_stream := extensions.get("network_stream")) is not None:
                told.update(peer_of(network_stream))
            if type(span) is OurSpan:
                elapsed = span._tracer._core.clock() - span._start_time
                told[semconv.TIME_TO_HEADERS] = elapsed / 1e9
            if status >= 400 and span.is_recording():
                span.set_status(StatusCode.ERROR)
            if exchange is not None:
                exchange.received(response, told)
                if exchange.shaping.end_at_headers:
                    _end(span, told, exchange)
                    return None
            kind = stream_class(body, type(response.stream), base)
            if kind is not None and not response.is_closed:
                if span.is_recording():
                    _set(span, told)
                return kind
            size = _size_in_memory(response)
            if size is not None:
                told[semconv.HTTP_RESPONSE_BODY_SIZE] = size
        except Exception as error:  # a response that is not quite one: the client will say so
            self._report("httpx response", error)
        _end(span, told, exchange)
        return None

    def _report(self, where: str, error: Exception) -> None:
        """Count and log an error of ours that the caller does not get to see."""
        if self._used is not None:
            self._used.tracing.tracer_provider.fault(where, error)

    def __repr__(self) -> str:
        return f"Attempts({self._given or 'whichever tracing runs'})"


class _Used(NamedTuple):
    """A tracing, and what of it is wanted at each attempt."""

    tracing: Tracing
    start: _Start
    propagator: Propagator
    metrics: ClientMetrics | None

    @classmethod
    def of(cls, tracing: Tracing) -> _Used:
        tracer = tracing.get_tracer(SCOPE_NAME, schema_url=semconv.SCHEMA_URL)
        meter = metrics.meter(SCOPE_NAME)
        measured = None if meter is None else metrics.ClientMetrics(meter)
        return cls(tracing, _starter(tracer), tracing.propagator, measured)


def finished(
    span: Span, size: int | None, end: BodyEnd | None = None, exchange: Exchange | None = None
) -> None:
    """End the span with the body; `size` is in bytes as they came over the wire, None: unknown."""
    told: semconv.Attributes = {}
    if size is not None:
        told[semconv.HTTP_RESPONSE_BODY_SIZE] = size
    if end is not None:
        told[semconv.RESPONSE_BODY_END] = end
    _end(span, told, exchange, in_finalizer=end == "abandoned")


def failed(
    span: Span, error: BaseException, size: int | None = None, exchange: Exchange | None = None
) -> None:
    """End the span with what went wrong: before the headers, or in the body after `size` bytes."""
    tell_outcome(span, error)
    told: semconv.Attributes = {}
    if size is not None:
        told[semconv.HTTP_RESPONSE_BODY_SIZE] = size
    if isinstance(error, GeneratorExit):  # the coroutine was closed while it waited
        told[semconv.CANCELLATION_REASON] = "cancelled"
    _end(span, told, exchange, error)


def _end(
    span: Span,
    told: semconv.Attributes,
    exchange: Exchange | None = None,
    error: BaseException | None = None,
    *,
    in_finalizer: bool = False,
) -> None:
    if exchange is not None:
        exchange.ended(told, error, in_finalizer=in_finalizer)
    # A shutdown of tracing ends, and marks, the spans that are open then.
    if isinstance(span, OurSpan):
        if span._end_time is None:
            span.end_with(told)
    elif span.is_recording():
        span.set_attributes(told)
        span.end()


def _set(span: Span, told: semconv.Attributes) -> None:
    if isinstance(span, OurSpan):
        span.update_trusted(told)
    else:
        span.set_attributes(told)


def _size_in_memory(response: httpx.Response) -> int | None:
    """The wire size of a body that was read before; None when it was not read to its end."""
    stream = response.stream
    if is_in_memory(stream) and (response.is_stream_consumed or not response.is_closed):
        return sum(map(len, stream))  # type: ignore[arg-type]  # a ByteStream is iterable
    return response.num_bytes_downloaded if response.is_stream_consumed else None


class _Start(Protocol):
    """`Tracer.start_lazily`, as far as it is used here."""

    def __call__(
        self,
        name: str,
        kind: SpanKind,
        parent: Span | None,
        build: Build,
        subject: httpx.Request,
        *,
        context: Context | None,
    ) -> Span: ...


def _starter(tracer: ApiTracer) -> _Start:
    """How `tracer` starts a span. It may be OpenTelemetry's: when tracing is disabled, or when ours
    does not fit the installed SDK.
    """
    return tracer.start_lazily if isinstance(tracer, Tracer) else partial(_start_plainly, tracer)


def _start_plainly(
    tracer: ApiTracer,
    name: str,
    kind: SpanKind,
    parent: Span | None,
    build: Build,
    subject: httpx.Request,
    *,
    context: Context | None,
) -> Span:
    return tracer.start_span(name, context, kind, build(subject))
