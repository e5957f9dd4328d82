"""The decoder reads what anybody sends: official bytes, ours, and garbage."""

from __future__ import annotations

import contextlib
import math
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError as OfficialDecodeError
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status as OfficialStatus
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from asynctrace.otlp import wire
from asynctrace.otlp.decode import DecodeError, decode_request, decode_response, decode_status
from asynctrace.otlp.encode import encode_response, encode_status
from asynctrace.otlp.records import (
    KINDS,
    STATUS_CODES,
    EventRecord,
    LinkRecord,
    PartialSuccess,
    ResourceRecord,
    RpcStatus,
    ScopeRecord,
    SpanRecord,
)
from tests.otlp import samples


def record_of_value(value: common_pb2.AnyValue) -> Any:
    """Read a value off the official message, as a record has it."""
    member = value.WhichOneof("value")
    if member is None:
        return None
    content = getattr(value, member)
    if member == "array_value":
        return tuple(record_of_value(item) for item in content.values)
    if member == "kvlist_value":
        return record_of_attributes(content.values)
    return content


def record_of_attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: record_of_value(pair.value) for pair in pairs}


def record_of_span(span: Any, scope: ScopeRecord, resource: ResourceRecord) -> SpanRecord:
    return SpanRecord(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=record_of_attributes(span.attributes),
        dropped_attributes=span.dropped_attributes_count,
        events=tuple(
            EventRecord(
                name=event.name,
                timestamp=event.time_unix_nano,
                attributes=record_of_attributes(event.attributes),
                dropped_attributes=event.dropped_attributes_count,
            )
            for event in span.events
        ),
        dropped_events=span.dropped_events_count,
        links=tuple(
            LinkRecord(
                trace_id=link.trace_id.hex(),
                span_id=link.span_id.hex(),
                trace_state=link.trace_state,
                attributes=record_of_attributes(link.attributes),
                dropped_attributes=link.dropped_attributes_count,
                flags=link.flags,
            )
            for link in span.links
        ),
        dropped_links=span.dropped_links_count,
        status_code=span.status.code,
        status_message=span.status.message,
        trace_state=span.trace_state,
        flags=span.flags,
        scope=scope,
        resource=resource,
    )


def records_of(request: ExportTraceServiceRequest) -> list[SpanRecord]:
    """Read the records off the official message, independently of our decoder."""
    records = []
    for resource_spans in request.resource_spans:
        resource = ResourceRecord(
            attributes=record_of_attributes(resource_spans.resource.attributes),
            dropped_attributes=resource_spans.resource.dropped_attributes_count,
            schema_url=resource_spans.schema_url,
        )
        for scope_spans in resource_spans.scope_spans:
            scope = ScopeRecord(
                name=scope_spans.scope.name,
                version=scope_spans.scope.version,
                attributes=record_of_attributes(scope_spans.scope.attributes),
                dropped_attributes=scope_spans.scope.dropped_attributes_count,
                schema_url=scope_spans.schema_url,
            )
            records += [record_of_span(span, scope, resource) for span in scope_spans.spans]
    return records


def same(ours: list[SpanRecord], theirs: list[SpanRecord]) -> bool:
    """Compare by text, which tells True from 1 and holds NaN equal to NaN."""
    return repr(ours) == repr(theirs)


@given(st.lists(samples.spans(), max_size=2))
def test_official_bytes_are_read_as_official_messages(spans: list[SimpleNamespace]) -> None:
    """Every field of the official encoder's request arrives in the records."""
    body = samples.official(*spans)
    assert same(decode_request(body), records_of(samples.parsed(body)))


@given(samples.spans())
def test_our_bytes_come_back(span: SimpleNamespace) -> None:
    """Decoding is the inverse of encoding, up to the types that OTLP does not have."""
    (record,) = decode_request(samples.ours(span))
    assert record.trace_id == f"{span.context.trace_id:032x}"
    assert record.parent_span_id == (f"{span.parent.span_id:016x}" if span.parent else "")
    assert (record.name, record.start, record.end) == (span.name, span.start_time, span.end_time)
    assert list(record.attributes) == list(span.attributes)
    for key, value in record.attributes.items():
        given_value = span.attributes[key]
        if isinstance(given_value, (str, bool, int, bytes)):
            assert value == given_value
            assert isinstance(given_value, type(value))
    assert [event.name for event in record.events] == [event.name for event in span.events]


def test_spans_of_one_scope_share_its_record() -> None:
    """What is sent once per request is held once."""
    first, second = decode_request(samples.ours(samples.span(), samples.span()))
    assert first.resource is second.resource
    assert first.scope is second.scope


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    """Give a request with some bytes changed, cut out or put in."""
    body = bytearray(samples.official(*draw(st.lists(samples.spans(), min_size=1, max_size=2))))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 4)))
        body[start:end] = draw(st.binary(max_size=4))
    return bytes(body)


@given(mutilated() | st.binary(max_size=60))
def test_garbage_is_judged_as_protobuf_judges_it(body: bytes) -> None:
    """What protobuf's parser reads is read the same; what is refused here, it refuses, too."""
    try:
        request = samples.parsed(body)
    except OfficialDecodeError:
        # It may also object to fields that mean nothing to us.
        try:
            decode_request(body)
        except DecodeError:
            return
    else:
        assert same(decode_request(body), records_of(request))


@given(samples.spans())
def test_every_cut_is_noticed(span: SimpleNamespace) -> None:
    """A request that ends too early is an error, wherever it ends."""
    body = samples.official(span)[:400]
    for length in range(1, len(body) - 1):
        with pytest.raises(DecodeError):
            decode_request(body[:length])


def in_span(*content: bytes) -> bytes:
    return wire.delimited(1, wire.delimited(2, wire.delimited(2, b"".join(content))))


def value_of(content: bytes) -> Any:
    (span,) = decode_request(in_span(wire.delimited(9, b"\x0a\x01k" + wire.delimited(2, content))))
    return span.attributes["k"]


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\x0a\x05ab",
        b"\x00\x01",
        b"\x0e\x01",
        b"\x0f\x01",
        b"\x0c",
        b"\x09\x01",
        b"\x0d\x01",
        b"\xff" * 11,
        b"\xff\xff\xff\xff\xff\x01\x01",
        b"\x13\x18\x01",
        b"\x13\x18\x01\x1c",
        b"\x13\x00",
        b"\x13" * 200,
        in_span(b"\x2a\x01\xff"),
        in_span(b"\x2a\x01\xff\x2a\x01a"),
    ],
)
def test_broken_messages_are_refused(body: bytes) -> None:
    """Each way of being no protobuf is an error, and it is ours."""
    with pytest.raises(OfficialDecodeError):
        samples.parsed(body)
    with pytest.raises(DecodeError):
        decode_request(body)


def test_deep_values_are_refused() -> None:
    """A value that nests without end is an error and not a crash."""
    content = b""
    for _ in range(2000):
        content = wire.delimited(5, wire.delimited(1, content))
    with pytest.raises(DecodeError, match="deeper"):
        value_of(content)


def test_unknown_fields_are_passed_over() -> None:
    """Fields of the future, of every wire type and also groups, do not disturb."""
    unknown = b"".join(
        [
            wire.tag(900, wire.VARINT) + b"\x05",
            wire.tag(901, wire.FIXED64) + bytes(8),
            wire.tag(902, wire.FIXED32) + bytes(4),
            wire.delimited(903, b"\xff\xff"),
            b"\x13\x23\x08\x01\x24\x2a\x01\xff\x14",
        ]
    )
    misfit = wire.tag(5, wire.VARINT) + b"\x01" + wire.delimited(7, b"12345678")
    body = in_span(unknown, wire.string(5, "GET"), misfit) + unknown
    (span,) = decode_request(body)
    assert (span.name, span.start) == ("GET", 0)
    assert same([span], records_of(samples.parsed(body)))


def test_messages_in_pieces_are_put_together() -> None:
    """A message that occurs twice is merged, of a oneof the last member is it."""
    a, b = wire.delimited(1, b"\x18\x01"), wire.delimited(1, b"\x18\x02")
    assert value_of(wire.delimited(5, a) + wire.delimited(5, b)) == (1, 2)
    assert value_of(wire.delimited(5, a) + b"\x10\x01" + wire.delimited(5, b)) == (2,)
    assert value_of(wire.delimited(5, a) + b"\x10\x01") is True
    assert value_of(b"\x10\x01" + wire.string(99, "future")) is True
    pieces = [wire.delimited(15, b"\x18\x01"), wire.delimited(15, wire.string(2, "m"))]
    (span,) = decode_request(in_span(*pieces))
    assert (span.status_code, span.status_message) == (1, "m")


def test_numbers_have_their_fields_width() -> None:
    """Over-long varints are cut to the width of the field, negative ones are sign-extended."""
    minus = b"\xff" * 9 + b"\x01"
    span = in_span(b"\x30" + minus, b"\x50" + minus, wire.delimited(15, b"\x18" + minus))
    (record,) = decode_request(span)
    assert (record.kind, record.dropped_attributes, record.status_code) == (-1, 2**32 - 1, -1)
    assert value_of(b"\x18" + minus) == -1
    assert math.isnan(value_of(b"\x21" + wire.pack_double(math.nan)))


# -- answers


@given(st.integers(0, 2**63 - 1), samples.texts)
def test_partial_success_is_read_and_written(rejected: int, message: str) -> None:
    """The answer of a collector is official in both directions."""
    partial = PartialSuccess(rejected=rejected, message=message)
    official = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    )
    assert decode_response(official.SerializeToString()) == partial
    written = ExportTraceServiceResponse.FromString(encode_response(partial))
    assert written.partial_success == official.partial_success


@given(st.integers(-5, 2**31 - 1), samples.texts, st.none() | st.integers(0, 10**13))
def test_status_is_read_and_written(code: int, message: str, nanoseconds: int | None) -> None:
    """A refusal is official in both directions, with the delay that it asks for."""
    official = OfficialStatus(code=code, message=message)
    if nanoseconds is not None:
        duration = Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=duration))
        official.details.append(detail)
    delay = None if nanoseconds is None else nanoseconds / 1e9
    status = decode_status(official.SerializeToString())
    assert (status.code, status.message) == (code, message)
    assert status.retry_delay == (None if delay is None else pytest.approx(delay))
    written = RpcStatus(code=code, message=message, retry_delay=delay)
    assert OfficialStatus.FromString(encode_status(written)) == official


def test_other_details_of_a_status_are_passed_over() -> None:
    """A detail of another type is no delay."""
    status = OfficialStatus(code=3)
    status.details.add().Pack(BadRequest())
    assert decode_status(status.SerializeToString()).retry_delay is None


@given(st.binary(max_size=40))
def test_garbled_answers_raise_decode_error_only(body: bytes) -> None:
    """Whatever a server answers, reading it gives an answer or a DecodeError."""
    for decode in (decode_response, decode_status):
        with contextlib.suppress(DecodeError):
            decode(body)


def test_the_enumerations_are_the_official_ones() -> None:
    """The tables of names have the numbers of the protocol."""
    assert [f"SPAN_KIND_{name}" for name in KINDS] == trace_pb2.Span.SpanKind.keys()
    assert [f"STATUS_CODE_{name}" for name in STATUS_CODES] == trace_pb2.Status.StatusCode.keys()
