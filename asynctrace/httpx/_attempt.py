"""One attempt: a span from the call of a client's transport to the end of the response's body.

What happens in its life, in this order: :meth:`Attempts.begin`, then :meth:`Attempts.received` when
the headers are there, then :func:`finished`; or :func:`failed` at any point. Nothing here does I/O,
so that the transports and streams for asyncio and for threads share it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Protocol

from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span

from asynctrace import semconv
from asynctrace.context import tell_outcome
from asynctrace.httpx import _contrib
from asynctrace.httpx._library import library_of
from asynctrace.httpx._request import is_traced, outgoing
from asynctrace.httpx._suppression import is_suppressed
from asynctrace.trace.provider import TracerProvider
from asynctrace.trace.sink import Faults
from asynctrace.trace.span import Span as OurSpan
from asynctrace.trace.tracer import Tracer
from asynctrace.tracing import Tracing, running

if TYPE_CHECKING:
    import httpx
    from opentelemetry.trace import Tracer as ApiTracer

SCOPE_NAME: Final = "asynctrace.httpx"

BodyEnd = Literal["closed", "abandoned"]
"""The end of a body that was neither read to its end nor failed."""

_KNOWN_METHODS: Final = semconv.known_methods(os.environ)

_fallback: Final = Faults(None)


class Attempts:
    """What a transport makes its attempts with; the tracing is looked up at each, unless given."""

    __slots__ = ("_given", "_used")

    def __init__(self, tracing: Tracing | None) -> None:
        self._given = tracing
        # The tracing used last, and how it starts spans. One value, as threads share a client.
        self._used: tuple[Tracing, _Start] | None = None

    def begin(self, request: httpx.Request) -> tuple[Span, httpx.Request] | None:
        """Start the span of an attempt; return it and the request to send in place of `request`.

        None when there is nothing to trace: no tracing runs, it is suppressed here, or the span of
        this attempt was made further out.
        """
        tracing = running() if self._given is None else self._given
        if tracing is None or is_traced(request):
            return None
        try:
            return self._begin(tracing, request)
        except Exception as error:
            self._report("httpx request", error)
            return None

    def _begin(self, tracing: Tracing, request: httpx.Request) -> tuple[Span, httpx.Request] | None:
        context = get_current()
        if is_suppressed(context):
            return None
        parent = get_current_span(context)
        if _contrib.is_outside(parent, request):
            return None
        used = self._used
        if used is None or used[0] is not tracing:
            tracer = tracing.get_tracer(SCOPE_NAME, schema_url=semconv.SCHEMA_URL)
            self._used = used = tracing, _starter(tracer)
        start = used[1]
        name = semconv.span_name(_method(request), None)
        span = start(name, SpanKind.CLIENT, parent, _attributes, request, context=context)
        try:
            return span, outgoing(request, span, context, tracing.propagator)
        except Exception as error:
            self._report("httpx request headers", error)
            return span, request

    def received(self, span: Span, response: httpx.Response, *, followed: bool) -> bool:
        """Record the headers of the response; return whether its body is still to come.

        Otherwise the span has ended: the body is in memory already (the client will not ask the
        stream for it again), or it cannot be `followed`, as its stream is not the library's own.
        """
        size = None
        try:
            status = response.status_code
            _set(span, semconv.client_response(status, response.extensions.get("http_version")))
            if semconv.is_client_error(status):
                span.set_status(StatusCode.ERROR)
            if followed and not response.is_closed:
                return True
            size = _size_in_memory(response)
        except Exception as error:  # a response that is not quite one: the client will say so
            self._report("httpx response", error)
        finished(span, size)
        return False

    def _report(self, where: str, error: Exception) -> None:
        """Count and log an error of ours that the caller does not get to see."""
        provider = None if self._used is None else self._used[0].tracer_provider
        fault = provider._core.fault if isinstance(provider, TracerProvider) else _fallback
        fault(where, error)

    def __repr__(self) -> str:
        return f"Attempts({self._given or 'whichever tracing runs'})"


def finished(span: Span, size: int | None, end: BodyEnd | None = None) -> None:
    """End the span with the body; `size` is in bytes as they came over the wire, None: unknown."""
    attributes: semconv.Attributes = {}
    if size is not None:
        attributes[semconv.HTTP_RESPONSE_BODY_SIZE] = size
    if end is not None:
        attributes[semconv.RESPONSE_BODY_END] = end
    _end(span, attributes)


def failed(span: Span, error: BaseException, size: int | None = None) -> None:
    """End the span with what went wrong: before the headers, or in the body after `size` bytes."""
    tell_outcome(span, error)
    attributes: semconv.Attributes = {}
    if size is not None:
        attributes[semconv.HTTP_RESPONSE_BODY_SIZE] = size
    if isinstance(error, GeneratorExit):  # the coroutine was closed while it waited
        attributes[semconv.CANCELLATION_REASON] = "cancelled"
    _end(span, attributes)


def _end(span: Span, attributes: semconv.Attributes) -> None:
    # A shutdown of tracing ends, and marks, the spans that are open then.
    if span.is_recording():
        _set(span, attributes)
        span.end()


def _set(span: Span, attributes: semconv.Attributes) -> None:
    if isinstance(span, OurSpan):
        span.update_trusted(attributes)
    else:
        span.set_attributes(attributes)


def _size_in_memory(response: httpx.Response) -> int | None:
    """The wire size of a body that was read before; None when it was not read to its end."""
    if not response.is_stream_consumed:
        return None
    library = library_of(type(response))
    if library is not None and isinstance(response.stream, library.ByteStream):
        # Given to the response when it was made; the response itself does not count it.
        return sum(map(len, response.stream))
    return response.num_bytes_downloaded


def _method(request: httpx.Request) -> str:
    method = request.method
    return method if method in _KNOWN_METHODS else semconv.OTHER_METHOD


def _attributes(request: httpx.Request) -> semconv.Attributes:
    url = request.url
    scheme, host, port = url.scheme, url.raw_host.decode("ascii"), url.port
    method = _method(request)
    original = request.method if method == semconv.OTHER_METHOD else None
    full = semconv.full_url(
        scheme,
        host,
        port,
        url.raw_path.decode("ascii"),
        url.fragment,
        credentials=bool(url.userinfo),
    )
    return semconv.client_request(method, original, scheme, host, port, full)


class _Start(Protocol):
    """`Tracer.start_lazily`, as far as it is used here."""

    def __call__(
        self,
        name: str,
        kind: SpanKind,
        parent: Span | None,
        build: Callable[[httpx.Request], semconv.Attributes],
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
    build: Callable[[httpx.Request], semconv.Attributes],
    subject: httpx.Request,
    *,
    context: Context | None,
) -> Span:
    return tracer.start_span(name, context, kind, build(subject))
