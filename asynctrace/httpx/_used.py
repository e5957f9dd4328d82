"""What a transport uses of the tracing its attempts belong to: looked up once, not for each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind

from asynctrace import metrics, semconv
from asynctrace.metrics import ClientMetrics
from asynctrace.trace.tracer import Tracer
from asynctrace.tracing import Tracing

if TYPE_CHECKING:
    import httpx
    from opentelemetry.trace import Tracer as ApiTracer

    from asynctrace.httpx._attributes import Build
    from asynctrace.propagation import Propagator

SCOPE_NAME: Final = "asynctrace.httpx"


class Start(Protocol):
    """`Tracer.start_lazily`, as far as it is used here."""

    def __call__(
        self,
        name: str,
        kind: SpanKind,
        parent: Span | None,
        build: Build,
        subject: httpx.Request,
        context: Context | None,
    ) -> Span: ...


class Used(NamedTuple):
    """A tracing, and what of it is wanted at each attempt."""

    tracing: Tracing
    start: Start
    propagator: Propagator
    meter_provider: MeterProvider | None
    """The process's, when this was looked up: another one may be set later."""
    metrics: ClientMetrics | None

    @classmethod
    def of(cls, tracing: Tracing) -> Used:
        """The means of `tracing`, and of the process's meter provider, as they are now."""
        tracer = tracing.get_tracer(SCOPE_NAME, schema_url=semconv.SCHEMA_URL)
        meter = metrics.meter(SCOPE_NAME)
        return cls(
            tracing,
            _starter(tracer),
            tracing.propagator,
            metrics.process_provider(),
            None if meter is None else ClientMetrics(meter),
        )


def _starter(tracer: ApiTracer) -> Start:
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
    context: Context | None,
) -> Span:
    return tracer.start_span(name, context, kind, build(subject))
