"""OpenTelemetry's own tracers with our pipeline, for an SDK that our tracers do not fit.

Our spans lean on the SDK's classes. Should a future SDK change under them, tracing goes on at the
SDK's price, and the log says so once.
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import Tracer
from opentelemetry.util.types import Attributes

from .encoding import encode
from .processors import Processors
from .provider import TracerProvider
from .sink import SpanSink


def self_check() -> Exception | None:
    """Make one span of ours, in every way that matters; what goes wrong, if something does."""
    try:
        scratch = TracerProvider(sampler=ALWAYS_ON, resource=Resource.get_empty())
        with scratch.get_tracer("asynctrace").start_as_current_span("self-check") as span:
            span.set_attribute("answer", 42)
            span.add_event("event", {"answer": 42})
            span.get_span_context()
        if not isinstance(span, ReadableSpan) or not encode(span):
            raise TypeError(f"{span!r} cannot be encoded")
    except Exception as error:
        return error
    return None


class FallbackProvider(TracerProvider):
    """A provider of ours with tracers of the SDK. It knows of no open spans."""

    def __init__(
        self,
        *,
        sampler: Sampler,
        resource: Resource,
        sink: SpanSink,
        id_generator: IdGenerator | None = None,
        span_limits: SpanLimits | None = None,
        max_open_spans: int = 10_000,
        disabled: bool = False,
    ) -> None:
        super().__init__(
            sampler=sampler,
            resource=resource,
            id_generator=id_generator,
            span_limits=span_limits,
            sink=sink,
            max_open_spans=max_open_spans,
            disabled=disabled,
        )
        self._sdk = sdk.TracerProvider(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=False,
            active_span_processor=_SinkLast(self.processors, sink),
            id_generator=id_generator,
            span_limits=span_limits,
        )

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        return self._sdk.get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )


class _SinkLast(sdk.SynchronousMultiSpanProcessor):
    """The processors of a provider of ours, and our pipeline behind them."""

    def __init__(self, processors: Processors, sink: SpanSink) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so in the SDK
        self._processors = processors
        self._sink = sink

    def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:
        self._processors.on_start(span, parent_context)

    def _on_ending(self, span: sdk.Span) -> None:
        self._processors._on_ending(span)

    def on_end(self, span: ReadableSpan) -> None:
        self._processors.on_end(span)
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self._sink.on_end(span)
