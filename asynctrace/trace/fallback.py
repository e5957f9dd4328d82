"""OpenTelemetry's own provider with our pipeline, for an SDK that our tracer does not fit.

Our tracer leans on the SDK's classes. Should a future SDK change under it, tracing goes on at the
SDK's price, and the log says so once.
"""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from . import provider as ours
from .encoding import encode
from .sink import SpanSink


def self_check() -> Exception | None:
    """Make one span in every way that matters; what goes wrong, if it does not work here."""
    try:
        scratch = ours.TracerProvider(sampler=ALWAYS_ON, resource=Resource.get_empty())
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
    """The SDK's `TracerProvider`; what has ended goes to `sink` after all processors."""

    def __init__(
        self,
        *,
        sampler: Sampler,
        resource: Resource,
        id_generator: IdGenerator | None,
        span_limits: SpanLimits,
        sink: SpanSink,
    ) -> None:
        super().__init__(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=False,
            active_span_processor=_SinkLast(sink),
            id_generator=id_generator,
            span_limits=span_limits,
        )


class _SinkLast(SynchronousMultiSpanProcessor):
    """The SDK's chain of processors, and our pipeline behind it."""

    def __init__(self, sink: SpanSink) -> None:
        super().__init__()
        self._sink = sink

    def on_end(self, span: ReadableSpan) -> None:
        super().on_end(span)
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self._sink.on_end(span)

    def shutdown(self) -> None:
        super().shutdown()
        self._sink.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        flushed = super().force_flush(timeout_millis)
        return self._sink.force_flush(timeout_millis / 1000) and flushed
