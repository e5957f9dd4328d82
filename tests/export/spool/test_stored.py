"""A record as a batch: its own bytes for exporters of bytes, span objects for those of the SDK."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags

from asynctrace.export.contracts import Batch
from asynctrace.export.spool.format import Record
from asynctrace.export.spool.stored import StoredBatch
from asynctrace.otlp.decode import decode_request
from asynctrace.otlp.records import SpanRecord
from asynctrace.trace.encoding import encode
from tests.otlp import samples


def batch_of(*spans: SimpleNamespace) -> StoredBatch:
    body = samples.ours(*spans)
    return StoredBatch.of(Record(body, len(spans), 0))


def encoded(span: ReadableSpan) -> SpanRecord:
    """What would be sent of a span object."""
    items = [(span.instrumentation_scope, encode(span), span)]
    (record,) = decode_request(Batch(items, span.resource).to_otlp())
    return record


def comparable(span: SpanRecord) -> SpanRecord:
    """Without what the SDK's objects have no place for: counts of what was dropped."""
    return replace(
        span,
        kind=span.kind or SpanKind.INTERNAL.value + 1,
        status_message=span.status_message if span.status_code == StatusCode.ERROR.value else "",
        dropped_attributes=0,
        dropped_events=0,
        dropped_links=0,
        events=tuple(replace(event, dropped_attributes=0) for event in span.events),
        links=tuple(replace(link, dropped_attributes=0) for link in span.links),
    )


@given(st.lists(samples.spans(), min_size=1, max_size=3))
def test_spans_come_back_as_they_were_sent(given_spans: list[SimpleNamespace]) -> None:
    """An exporter of the SDK's gets spans that would be sent as the same bytes again."""
    batch = batch_of(*given_spans)
    sent = [repr(comparable(span)) for span in decode_request(batch.to_otlp())]  # NaN and all
    assert [repr(comparable(encoded(span))) for span in batch.spans] == sent
    assert len(batch) == len(given_spans)


def test_a_span_object_knows_its_resource_and_is_sampled() -> None:
    """The writing process's resource, not that of the process that sends."""
    body = samples.ours(samples.span())
    (record,) = decode_request(body)
    (span,) = StoredBatch.of(Record(body, 1, 0)).spans
    assert dict(span.resource.attributes) == dict(record.resource.attributes)
    assert span.context.trace_flags == TraceFlags.SAMPLED
    assert StoredBatch.of(Record(body, 1, 0)).resource == Resource.get_empty()
    assert repr(StoredBatch.of(Record(body, 1, 0))) == "<StoredBatch of 1 spans>"
