"""Spans of every kind, and the same span as each encoder wants it."""

from __future__ import annotations

import enum
from collections import deque
from types import MappingProxyType, SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from asynctrace.otlp.encode import SpanEncoder, encode_resource, encode_scope, join_request


class Number(int):
    def __and__(self, other: int) -> int:
        raise AssertionError("the content counts, not the methods")

    __index__ = __int__ = __and__  # type: ignore[assignment]


class Text(str):
    __slots__ = ()

    def encode(self, *args: Any, **options: Any) -> bytes:
        raise AssertionError("the content counts, not the methods")


class Blob(bytes):
    def __len__(self) -> int:
        raise AssertionError("the content counts, not the methods")


class Colour(enum.IntEnum):
    RED = 3


class Shape(enum.StrEnum):
    ROUND = "round"


texts = st.text(max_size=12) | st.sampled_from(["", "GET", "ä€😀", "\0", "x" * 127, "x" * 20000])
keys = st.sampled_from(["http.route", "a", "", "k" * 300]) | st.text(max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-200, 200)
    | st.floats()
    | st.binary(max_size=8)
    | texts
    | st.sampled_from([Number(5), Text("t"), Blob(b"b"), Colour.RED, Shape.ROUND, 1, True, 1.0])
)
unencodable = st.sampled_from([2**63, -(2**63) - 1, "a\ud800", "\udcff", {1, 2}, object(), 1j])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of arrays and mappings, whatever classes they have."""
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=3).map(tuple)
            | st.lists(inner, max_size=3).map(deque)
            | st.dictionaries(keys, inner, max_size=3)
            | st.dictionaries(st.integers() | st.booleans(), inner, max_size=2)
            | st.dictionaries(keys, inner, max_size=3).map(MappingProxyType)
        ),
        max_leaves=6,
    )


values = nested(scalars) | st.sampled_from([range(3), bytearray(b"ab"), memoryview(b"c")])
attributes = st.dictionaries(keys, values, max_size=6)
wild_attributes = st.dictionaries(
    keys | st.just("\ud800"), values | unencodable | nested(scalars | unencodable), max_size=6
)
uint32 = st.sampled_from([0, 1, 127, 128, 2**32 - 1]) | st.integers(0, 2**32 - 1)
times = st.sampled_from([0, 1, 2**64 - 1]) | st.integers(0, 2**64 - 1)
trace_ids = st.integers(0, 2**128 - 1)
span_ids = st.integers(0, 2**64 - 1)


@st.composite
def contexts(draw: st.DrawFn) -> SpanContext:
    states = st.dictionaries(st.from_regex(r"\A[a-z]{1,5}\Z"), st.just("v"), max_size=3)
    return SpanContext(
        draw(trace_ids),
        draw(span_ids),
        draw(st.booleans()),
        TraceFlags(draw(st.integers(0, 3))),
        TraceState(list(draw(states).items())),
    )


@st.composite
def events(draw: st.DrawFn, given: st.SearchStrategy[Any] = attributes) -> SimpleNamespace:
    return SimpleNamespace(
        name=draw(texts),
        timestamp=draw(times),
        attributes=draw(st.none() | given),
        dropped_attributes=draw(uint32),
    )


@st.composite
def links(draw: st.DrawFn, given: st.SearchStrategy[Any] = attributes) -> SimpleNamespace:
    return SimpleNamespace(
        context=draw(contexts()),
        attributes=draw(st.none() | given),
        dropped_attributes=draw(uint32),
    )


@st.composite
def statuses(draw: st.DrawFn) -> Status:
    code = draw(st.sampled_from(StatusCode))
    return Status(code, draw(texts) if code is StatusCode.ERROR else None)


@st.composite
def spans(draw: st.DrawFn, given: st.SearchStrategy[Any] = attributes) -> SimpleNamespace:
    """Make a span as the official encoder reads it."""
    context = draw(contexts())
    parents = contexts().filter(lambda parent: parent.span_id != 0)
    return SimpleNamespace(
        context=context,
        get_span_context=lambda: context,
        parent=draw(st.none() | parents),
        name=draw(texts),
        kind=draw(st.sampled_from(SpanKind)),
        start_time=draw(times),
        end_time=draw(times),
        attributes=draw(given),
        dropped_attributes=draw(uint32),
        events=draw(st.lists(events(given), max_size=3)),
        dropped_events=draw(uint32),
        links=draw(st.lists(links(given), max_size=3)),
        dropped_links=draw(uint32),
        status=draw(statuses()),
        resource=Resource({}),
        instrumentation_scope=InstrumentationScope("scope", "1"),
    )


def span(**changes: Any) -> SimpleNamespace:
    """Make a plain span with a few differences."""
    context = SpanContext(1, 2, False)
    plain: dict[str, Any] = {
        "context": context,
        "get_span_context": lambda: context,
        "parent": None,
        "name": "GET",
        "kind": SpanKind.SERVER,
        "start_time": 1,
        "end_time": 2,
        "attributes": {},
        "dropped_attributes": 0,
        "events": (),
        "dropped_events": 0,
        "links": (),
        "dropped_links": 0,
        "status": Status(),
        "resource": Resource({}),
        "instrumentation_scope": InstrumentationScope("scope", "1"),
    }
    return SimpleNamespace(**plain | changes)


def official(*given: SimpleNamespace) -> bytes:
    """Encode spans with OpenTelemetry's encoder."""
    return encode_spans(given).SerializeToString()  # type: ignore[arg-type]


def arguments(given: SimpleNamespace) -> tuple[Any, ...]:
    """Give what our encoder takes for a span."""
    remote = given.parent is not None and given.parent.is_remote
    return (
        given.context.trace_id,
        given.context.span_id,
        given.context.trace_state.to_header(),
        given.parent.span_id if given.parent else 0,
        0x300 if remote else 0x100,
        given.name,
        given.kind.value + 1,
        given.start_time,
        given.end_time,
        given.attributes,
        given.dropped_attributes,
        given.events,
        given.dropped_events,
        given.links,
        given.dropped_links,
        given.status.status_code.value,
        given.status.description,
    )


def ours(*given: SimpleNamespace, encoder: SpanEncoder | None = None) -> bytes:
    """Encode spans of one resource and scope with our encoder."""
    encoder = encoder or SpanEncoder()
    resource, scope = given[0].resource, given[0].instrumentation_scope
    return join_request(
        encode_resource(resource.attributes, resource.schema_url),
        [
            (
                encode_scope(scope.name, scope.version, scope.attributes, scope.schema_url),
                [encoder.span(*arguments(one)) for one in given],
            )
        ],
    )


def parsed(body: bytes) -> ExportTraceServiceRequest:
    """Read a request with protobuf's own parser."""
    return ExportTraceServiceRequest.FromString(body)


def canonical(body: bytes) -> bytes:
    """Give the same bytes for the same message, also where NaN is in it."""
    return parsed(body).SerializeToString(deterministic=True)
