"""Where the spans of a benchmark end: encoded in batches and thrown away, by either side."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from asynctrace.export.contracts import Batch, Delivered, Outcome

BATCH = 512


class EncodeOnly(SpanExporter):
    """OpenTelemetry's encoder, and nothing sent."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def official() -> TracerProvider:
    """OpenTelemetry's provider and its batch processor, sampling as the caller did."""
    provider = TracerProvider(sampler=DEFAULT_ON, shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(EncodeOnly(), max_queue_size=100_000, max_export_batch_size=BATCH)
    )
    return provider


class Discard:
    """An exporter of ours that makes the request and does not send it."""

    name = "discard"
    needs_spans = False

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        batch.to_otlp()
        return Delivered()

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        return Delivered()

    async def close(self) -> None: ...

    async def shutdown(self) -> None: ...

    def after_fork(self) -> None: ...
