"""Spans to bytes: foreign spans, and the state no span of a good citizen has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TraceState, set_span_in_context

from tests.trace.recording import Traced, message, remote


@pytest.mark.parametrize("is_remote", [True, False, None])
def test_a_span_of_the_sdk_is_encoded_like_ours(is_remote: bool | None) -> None:
    """Spans of foreign providers come through adapters, and must not differ."""
    provider = TracerProvider(shutdown_on_exit=False)
    context = None
    if is_remote is not None:
        parent = remote(is_remote=is_remote, state=TraceState([("k", "v")]))
        context = set_span_in_context(parent)
    span = provider.get_tracer("n").start_span(
        "n", context, SpanKind.CONSUMER, {"a": [1]}, [Link(remote().get_span_context(), {"l": 1})]
    )
    span.add_event("e", {"b": None})
    span.set_status(Status(StatusCode.ERROR, "why"))
    span.end()
    assert isinstance(span, ReadableSpan)
    assert message(span) == encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]


def test_a_readable_span_made_by_hand_may_lack_nearly_everything() -> None:
    """The constructor of the SDK's `ReadableSpan` demands a name only."""
    told = message(ReadableSpan("n"))
    assert told.name == "n"
    assert (told.trace_id, told.start_time_unix_nano) == (bytes(16), 0)


@pytest.mark.parametrize(
    "kind", [None, 3, "SERVER", SimpleNamespace(value=3), SimpleNamespace(_value_="x")]
)
def test_a_kind_that_is_none_is_unspecified(kind: Any) -> None:
    """OpenTelemetry's own encoder raises, and the span is lost."""
    assert message(Traced().span("n", kind=kind)).kind == 0


def test_a_span_that_has_not_ended_has_no_end() -> None:
    """Encoding one is unusual, and harmless."""
    assert message(Traced().span("n")).end_time_unix_nano == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "\ud800"},
        {"name": 5},
        {"start_time": 1.5},
        {"start_time": -1},
        {"attributes": {"\ud800": "\ud800", "n": float("nan"), "big": 1 << 70}},
    ],
    ids=str,
)
def test_what_otlp_cannot_express_does_not_cost_the_span(bad: dict[str, Any]) -> None:
    """Nothing raises at the end, and the rest arrives."""
    traced = Traced()
    traced.tracer.start_span(**{"name": "n", "attributes": {"ok": 1}} | bad).end()
    told = message(traced.sink.spans[0])
    assert told.span_id
    if "attributes" not in bad:
        assert [pair.key for pair in told.attributes] == ["ok"]
