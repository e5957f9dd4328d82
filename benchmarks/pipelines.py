"""Where the spans of a benchmark end: encoded in batches and thrown away, by either side."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from asynctrace.export.contracts import Batch, Delivered, Outcome

BATCH = 512


class OfficialEncoding(SpanProcessor):
    """The SDK's spans through OpenTelemetry's own encoder, in batches."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._spans.append(span)
            if len(self._spans) == BATCH:
                self.encode()

    def encode(self) -> None:
        if self._spans:
            encode_spans(self._spans).SerializeToString()
            self._spans = []


def official() -> tuple[TracerProvider, OfficialEncoding]:
    """OpenTelemetry's provider, sampling as the caller did."""
    encoding = OfficialEncoding()
    provider = TracerProvider(sampler=DEFAULT_ON, shutdown_on_exit=False)
    provider.add_span_processor(encoding)
    return provider, encoding


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
