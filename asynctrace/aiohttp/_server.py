"""How one application is traced: what its middleware needs to know, prepared once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import INVALID_SPAN, Link, SpanKind, TraceState, set_span_in_context
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import Tracer as ApiTracer

from asynctrace import metrics, semconv
from asynctrace.aiohttp._contrib import ContribEngine, is_traced_by_contrib
from asynctrace.aiohttp._holds import Holds
from asynctrace.aiohttp._options import PLAIN, Shape
from asynctrace.aiohttp._request import Facts, Target, Targets
from asynctrace.aiohttp._shaped import Shaping
from asynctrace.aiohttp._websocket import Conversation, start_message
from asynctrace.trace.sink import Faults
from asynctrace.trace.tracer import Tracer
from asynctrace.trace.unsampled import drops_unsampled
from asynctrace.tracing import Tracing, running

SCOPE_NAME: Final = "asynctrace.aiohttp"


class Engine(Protocol):
    """Who handles the requests of an application, when it is not the usual way."""

    def handle(self, request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]: ...


class Untraced:
    """While no Tracing runs."""

    def handle(self, request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        return handler(request)


class ServerTracing:
    """How one application is traced. Kept in the application; knows nothing of it itself.

    `tracing` is the Tracing in use; None means the one that runs when a request arrives.
    """

    __slots__ = (
        "__weakref__",
        "_shape",
        "_targets",
        "adopted",
        "asks_propagator",
        "drops_unsampled",
        "holds",
        "instead",
        "known",
        "propagator",
        "receive",
        "start",
        "stopping",
        "tracer",
        "tracing",
    )

    def __init__(
        self, tracing: Tracing | None, known_methods: frozenset[str], shape: Shape = PLAIN
    ) -> None:
        self.tracing = tracing
        self.stopping = False
        self.adopted: Tracing | None = None
        self.instead: Engine | None = Untraced()
        """Who handles requests in place of the lines below, when something else is asked for."""
        self.holds = Holds(self)
        self._shape = shape
        self._targets = Targets(known_methods)
        self.known = self._targets.known

    def __repr__(self) -> str:
        return f"<ServerTracing by {self.tracing or 'whichever runs'}>"

    async def note_start(self, _app: web.Application) -> None:
        """For `on_startup`: an application may be run again."""
        self.stopping = False

    async def note_shutdown(self, _app: web.Application) -> None:
        """For `on_shutdown`: aiohttp sends it before it cancels the handlers that take too long."""
        self.stopping = True

    def current(self) -> Tracing | None:
        """The Tracing in use at this moment, adopted."""
        tracing = self.tracing or running()
        if tracing is not self.adopted:
            self.adopt(tracing)
        return tracing

    def adopt(self, tracing: Tracing | None) -> None:
        """Prepare everything that is the same for all requests of one Tracing, or of none."""
        self.adopted = tracing
        if tracing is None:
            self.instead = Untraced()
            return
        propagator = self.propagator = tracing.propagator
        self.asks_propagator = not propagator.w3c
        self.tracer = tracing.get_tracer(SCOPE_NAME, schema_url=semconv.SCHEMA_URL)
        self.start = _starter(self.tracer)
        self.receive = _receiver(self.tracer)
        self.drops_unsampled = drops_unsampled(self.tracer)
        self.instead = None
        try:
            if tracing.config.engine == "contrib":
                self.instead = ContribEngine(self, tracing)
                return
        except Exception as error:
            self.fault("aiohttp engine", error)
        metrics.announce_to(self)  # before the look for one, so that none is missed
        self._measure_by(metrics.process_provider())

    def on_meter_provider(self, provider: MeterProvider) -> None:
        """The process has one now: it is used from the next request on. In any thread."""
        if self.adopted is not None and not isinstance(self.instead, ContribEngine):
            self._measure_by(provider)

    def _measure_by(self, provider: MeterProvider | None) -> None:
        measured = None
        try:
            meter = metrics.meter(SCOPE_NAME, provider)
            measured = None if meter is None else metrics.ServerMetrics(meter)
        except Exception as error:  # of the meter provider
            self.fault("aiohttp engine", error)
        if measured is not None or self._shape != PLAIN:
            self.instead = Shaping(self, self._shape, measured)

    async def announce(self, request: web.Request, response: web.StreamResponse) -> None:
        """For `on_response_prepare`, where headers are to be set or captured."""
        self.current()  # the middleware may not have seen this request, nor one before it
        if isinstance(self.instead, Shaping):
            await self.instead.announce(request, response)

    def learn(self, request: web.Request, response: object) -> None:
        """Watch the bodies of a route from their beginning, when its handler began this one."""
        if isinstance(response, web.StreamResponse) and response.prepared:
            self.target_of(request).streams = True

    def target_of(self, request: web.Request) -> Target:
        """What is the same for the next request like this."""
        key = request.method, request.match_info.route
        return self.known.get(key) or self.describe(request)

    def describe(self, request: web.Request) -> Target:
        """Work out the target of a request that is not known yet."""
        match_info = request.match_info
        target = self._targets.describe(request.method, match_info.route)
        # A route belongs to one application, and that to one above it.
        target.elsewhere = not self._is_outermost(match_info.apps)
        return target

    def _is_outermost(self, apps: Sequence[web.Application]) -> bool:
        """Whether neither an application further out nor contrib makes this request's span."""
        if is_traced_by_contrib(apps):
            return False
        for app in apps:
            server = app.get(KEY)
            if server is not None:
                return server is self
        return True

    def conversation(self) -> Conversation:
        """For a request that may turn into a WebSocket."""
        share = self._shape.message_spans
        start = partial(start_message, self.tracer) if share else None
        return Conversation(start, share)

    @property
    def id_generator(self) -> IdGenerator:
        """Makes the ids of spans that nobody records."""
        assert self.adopted is not None
        return self.adopted.tracer_provider.id_generator

    def fault(self, where: str, error: Exception) -> None:
        """Count and log an error of ours, or of a hook, that the request does not get to see."""
        if self.adopted is None:
            _unowned(where, error)
        else:
            self.adopted.tracer_provider.fault(where, error)


KEY: Final = web.AppKey("asynctrace", ServerTracing)


class _Start(Protocol):
    """`Tracer.start_lazily`, as far as it is used here."""

    def __call__(
        self,
        name: str,
        kind: SpanKind,
        parent: ApiSpan | None,
        build: Callable[[web.Request], semconv.Attributes],
        subject: web.Request,
        context: Context | None,
        /,
        links: Sequence[Link] = (),
    ) -> ApiSpan: ...


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
    parent: ApiSpan | None,
    build: Callable[[web.Request], semconv.Attributes],
    subject: web.Request,
    context: Context | None,
    links: Sequence[Link] = (),
) -> ApiSpan:
    if context is None:
        context = set_span_in_context(INVALID_SPAN if parent is None else parent)
    return tracer.start_span(name, context, kind, build(subject), links)


class _Receive(Protocol):
    """`Tracer.start_received`, as far as it is used here."""

    def __call__(
        self,
        name: str,
        kind: SpanKind,
        traceparent: str,
        state: TraceState | None,
        build: Callable[[Facts], semconv.Attributes],
        facts: Facts,
        /,
    ) -> ApiSpan | None: ...


def _receiver(tracer: ApiTracer) -> _Receive:
    """How `tracer` starts the span of a usual request; one of another make never does."""
    return tracer.start_received if isinstance(tracer, Tracer) else _receive_never


def _receive_never(*_arguments: object) -> None:
    return None


_unowned = Faults(None)
