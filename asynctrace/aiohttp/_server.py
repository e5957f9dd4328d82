"""The middleware: one SERVER span per request, current while the request is handled.

Hot: everything here runs for each request, sampled or not. What can wait until the sampler has
decided waits, and what is the same for the next request is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, set_span_in_context
from opentelemetry.trace import Tracer as ApiTracer

from asynctrace import semconv
from asynctrace.aiohttp._ending import (
    Reason,
    Situation,
    is_one_write,
    of_exception,
    of_response,
    of_unsent,
    tell,
    was_sent,
)
from asynctrace.aiohttp._request import Targets, parent_of
from asynctrace.context import ContextToken, attach, detach
from asynctrace.trace.sink import Faults
from asynctrace.trace.tracer import Tracer
from asynctrace.tracing import Tracing, running

SCOPE_NAME: Final = "asynctrace.aiohttp"

_Begun: TypeAlias = tuple[Span, ContextToken]


class ServerTracing:
    """How one application is traced. Kept in the application; knows nothing of it itself.

    `tracing` is the Tracing in use; None means the one that runs when a request arrives.
    """

    __slots__ = ("_adopted", "_propagator", "_start", "_stopping", "_targets", "tracing")

    def __init__(self, tracing: Tracing | None, known_methods: frozenset[str]) -> None:
        self.tracing = tracing
        self._adopted: Tracing | None = None
        self._targets = Targets(known_methods)
        self._stopping = False

    def __repr__(self) -> str:
        return f"<ServerTracing by {self.tracing or 'whichever runs'}>"

    async def note_shutdown(self, _app: web.Application) -> None:
        """For `on_shutdown`: aiohttp sends it before it cancels the handlers that take too long."""
        self._stopping = True

    def begin(self, request: web.Request) -> _Begun | None:
        """Start the request's span and make it current. None when it is not to be traced here."""
        tracing = self.tracing or running()
        if tracing is None:
            return None
        try:
            if not self._is_outermost(request):
                return None
            if tracing is not self._adopted:
                self._adopt(tracing)
            target = self._targets.of(request)
            parent, context = parent_of(request.headers, self._propagator)
            span = self._start(
                target.name, SpanKind.SERVER, parent, target.attributes, request, context=context
            )
            return span, attach(span, context)
        except Exception as error:
            _report(tracing, "aiohttp request", error)
            return None

    def responded(self, span: Span, request: web.Request, response: object) -> bool:
        """End the span of a request whose handler returned, or raised, `response`.

        False when sending takes time: then the span ends with the task that aiohttp runs the
        request in, and stays current until then, because the body may be made by the caller's code.
        """
        if not span.is_recording():
            return True
        try:
            if not isinstance(response, web.StreamResponse):  # aiohttp answers 500 in its place
                tell(span, of_response(500))
            elif is_one_write(response):
                if request.transport is not None:
                    tell(span, of_response(response.status))
                else:
                    tell(span, of_unsent(self._why_closed(request), None))
            elif (task := asyncio.current_task()) is not None:
                task.add_done_callback(partial(self._sent, span, request, response))
                return False
        except Exception as error:
            self._fault("aiohttp response", error)
        self._end(span)
        return True

    def failed(self, span: Span, request: web.Request, error: BaseException) -> bool:
        """The same for a handler that raised `error`."""
        if isinstance(error, web.HTTPException):
            return self.responded(span, request, error)
        if not span.is_recording():
            return True
        try:
            answered = not _is_closed(request) and request.writer.output_size == 0
            self._tell_failure(span, request, error, answered=answered)
        except Exception as fault:
            self._fault("aiohttp failure", fault)
        self._end(span)
        return True

    def _sent(
        self,
        span: Span,
        request: web.Request,
        response: web.StreamResponse,
        task: asyncio.Task[object],
    ) -> None:
        """The request's task is done: for `response`, which was not ready when the handler was."""
        if not span.is_recording():
            return
        try:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            status_sent = response.status if response.prepared else None
            if error is not None:
                self._tell_failure(span, request, error, status_sent=status_sent)
            elif was_sent(response) or not _is_closed(request):
                tell(span, of_response(response.status))
            else:
                tell(span, of_unsent(self._why_closed(request), status_sent))
        except Exception as fault:
            self._fault("aiohttp response", fault)
        self._end(span)

    def _tell_failure(
        self,
        span: Span,
        request: web.Request,
        error: BaseException,
        *,
        answered: bool = False,
        status_sent: int | None = None,
    ) -> None:
        stops = self._is_stopped(request) and not _is_lost(request)
        situation = Situation(
            client_left=_is_closed(request) and not stops,
            server_stops=stops,
            answered=answered,
            status_sent=status_sent,
        )
        tell(span, of_exception(error, situation))
        if isinstance(error, Exception):
            span.record_exception(error)

    def _why_closed(self, request: web.Request) -> Reason:
        return "shutdown" if self._is_stopped(request) else "client_disconnect"

    def _is_stopped(self, request: web.Request) -> bool:
        """Whether the server shuts down, and the connection's task was cancelled: not the request's
        own alone, as the application may do.
        """
        task: asyncio.Task[None] | None = request.task  # None once the connection has ended
        return self._stopping and (task is None or task.cancelling() > 0)

    def _is_outermost(self, request: web.Request) -> bool:
        """Whether no application further out has made this request's span already."""
        apps = request.match_info.apps
        if len(apps) == 1:
            return True
        for app in apps:
            server = app.get(KEY)
            if server is not None:
                return server is self
        return True

    def _adopt(self, tracing: Tracing) -> None:
        self._start = _starter(tracing.get_tracer(SCOPE_NAME, schema_url=semconv.SCHEMA_URL))
        self._propagator = tracing.propagator
        self._adopted = tracing

    def _end(self, span: Span) -> None:
        try:
            span.end()
        except Exception as error:  # not by a span of ours
            self._fault("aiohttp end", error)

    def _fault(self, where: str, error: Exception) -> None:
        _report(self._adopted, where, error)


KEY: Final = web.AppKey("asynctrace", ServerTracing)


def middleware(server: ServerTracing) -> Middleware:
    """The middleware that traces by `server`."""

    @web.middleware
    async def trace_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        begun = server.begin(request)
        if begun is None:
            return await handler(request)
        span, token = begun
        try:
            response = await handler(request)
        except BaseException as error:
            if server.failed(span, request, error):
                detach(token)
            raise
        if server.responded(span, request, response):
            detach(token)
        return response

    return trace_request


def _is_closed(request: web.Request) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()


def _is_lost(request: web.Request) -> bool:
    """Whether the client closed the connection, when it could also be the server that did.

    At its shutdown aiohttp drops the transport as it does for a client that left, and then only
    this private name tells them apart: it is cleared when the connection is lost, and the server's
    own closing is noticed a step later. Without the name it is taken for the server, which closes.
    """
    return getattr(request.protocol, "_manager", ...) is None


class _Start(Protocol):
    """`Tracer.start_lazily`, as far as it is used here."""

    def __call__(
        self,
        name: str,
        kind: SpanKind,
        parent: Span | None,
        build: Callable[[web.Request], semconv.Attributes],
        subject: web.Request,
        *,
        context: Context | None,
    ) -> Span: ...


def _starter(tracer: ApiTracer) -> _Start:
    """How `tracer` starts a span. It may be another than ours: OpenTelemetry's, when tracing is
    disabled or when ours does not fit the installed SDK.
    """
    if isinstance(tracer, Tracer):
        return tracer.start_lazily
    return partial(_start_plainly, tracer)


def _start_plainly(
    tracer: ApiTracer,
    name: str,
    kind: SpanKind,
    parent: Span | None,
    build: Callable[[web.Request], semconv.Attributes],
    subject: web.Request,
    *,
    context: Context | None,
) -> Span:
    if context is None:
        context = set_span_in_context(INVALID_SPAN if parent is None else parent)
    return tracer.start_span(name, context, kind, build(subject))


_unowned = Faults(None)


def _report(tracing: Tracing | None, where: str, error: Exception) -> None:
    """Count and log an error of ours that the request does not get to see."""
    if tracing is None:
        _unowned(where, error)
    else:
        tracing.tracer_provider.fault(where, error)
