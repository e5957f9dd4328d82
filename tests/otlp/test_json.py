"""OTLP/JSON says the same as OTLP protobuf, and is read in every form that is allowed."""

from __future__ import annotations

import base64
import contextlib
import json as json_text
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from asynctrace.otlp import json
from asynctrace.otlp.decode import DecodeError, decode_request
from asynctrace.otlp.records import PartialSuccess, RpcStatus, SpanRecord
from tests.otlp import samples

IDS = ("traceId", "spanId", "parentSpanId")


def converted_ids(message: Any, convert: Any) -> Any:
    """Change the identifiers, which OTLP writes in hex where protobuf writes base64."""
    if isinstance(message, list):
        return [converted_ids(item, convert) for item in message]
    if not isinstance(message, dict):
        return message
    return {
        name: convert(value) if name in IDS else converted_ids(value, convert)
        for name, value in message.items()
    }


def hex_of(value: str) -> str:
    return base64.b64decode(value).hex()


def base64_of(value: str) -> str:
    return base64.b64encode(bytes.fromhex(value)).decode()


@given(st.lists(samples.spans(), max_size=2))
def test_records_come_back(spans: list[SimpleNamespace]) -> None:
    """Reading what was written gives the same records in the same order."""
    records = decode_request(samples.official(*spans))
    assert repr(json.decode_json(json.encode_json(records))) == repr(records)


@given(samples.spans())
def test_protobufs_own_json_is_read(span: SimpleNamespace) -> None:
    """The JSON that protobuf writes gives the records that the protobuf bytes give."""
    body = samples.official(span)
    written = json_format.MessageToDict(samples.parsed(body))
    text = json_text.dumps(converted_ids(written, hex_of)).encode()
    assert repr(json.decode_json(text)) == repr(decode_request(body))


@given(samples.spans())
def test_protobuf_reads_our_json(span: SimpleNamespace) -> None:
    """Our JSON gives the official message when protobuf reads it."""
    body = samples.official(span)
    written = json_text.loads(json.encode_json(decode_request(body)))
    request = json_format.ParseDict(converted_ids(written, base64_of), ExportTraceServiceRequest())
    assert repr(decode_request(request.SerializeToString())) == repr(decode_request(body))


def request(span: Any) -> bytes:
    return json_text.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def one(**members: Any) -> SpanRecord:
    (record,) = json.decode_json(request(members))
    return record


def value(**member: Any) -> Any:
    return one(attributes=[{"key": "k", "value": member}]).attributes["k"]


def test_forms_that_are_allowed_besides_ours() -> None:
    """Numbers as strings or numbers, enumerations by name, ids in upper case, null for absent."""
    assert one(startTimeUnixNano=5).start == one(startTimeUnixNano="5").start == 5
    assert one(startTimeUnixNano=5.0).start == 5
    assert one(kind="SPAN_KIND_CLIENT").kind == one(kind=3).kind == 3
    assert one(status={"code": "STATUS_CODE_ERROR"}).status_code == 2
    assert one(traceId="AB" * 16).trace_id == "ab" * 16
    assert one(name=None, attributes=None, status=None, somethingNew=[1]).name == ""
    assert value(intValue="-7") == value(intValue=-7) == -7
    assert value(doubleValue="1.5e3") == value(doubleValue=1500) == 1500.0
    assert isinstance(value(doubleValue=1), float)
    assert value(doubleValue="-Infinity") == -float("inf") == -value(doubleValue="Infinity")
    assert value(bytesValue="-_8=") == value(bytesValue="+/8") == b"\xfb\xff"
    assert value() is None
    assert value(stringValue=None, boolValue=False) is False
    assert value(arrayValue={}) == ()
    assert value(kvlistValue={"values": [{"key": "a"}]}) == {"a": None}


@pytest.mark.parametrize(
    "span",
    [
        [],
        "x",
        {"traceId": "xy"},
        {"traceId": "abc"},
        {"traceId": "ab cd"},
        {"traceId": 5},
        {"name": 5},
        {"name": "\ud800"},
        {"kind": "SPAN_KIND_OTHER"},
        {"kind": "CLIENT"},
        {"kind": True},
        {"kind": 2**31},
        {"flags": -1},
        {"flags": 1.5},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": "1_0"},
        {"startTimeUnixNano": " 1"},
        {"startTimeUnixNano": 2**64},
        {"attributes": {}},
        {"attributes": [None]},
        {"attributes": [{"value": 5}]},
        {"attributes": [{"value": {"intValue": 2**63}}]},
        {"attributes": [{"value": {"intValue": "9" * 5000}}]},
        {"attributes": [{"value": {"boolValue": "true"}}]},
        {"attributes": [{"value": {"doubleValue": "nan"}}]},
        {"attributes": [{"value": {"doubleValue": True}}]},
        {"attributes": [{"value": {"doubleValue": 10**400}}]},
        {"attributes": [{"value": {"bytesValue": "a"}}]},
        {"attributes": [{"value": {"bytesValue": "a!b="}}]},
        {"attributes": [{"value": {"stringValue": "a", "boolValue": True}}]},
    ],
)
def test_members_of_another_type_are_refused(span: Any) -> None:
    """A member that is there and wrong is an error that names what was expected."""
    with pytest.raises(DecodeError):
        json.decode_json(request(span))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"resourceSpans": NaN}',
        b"[" * 100_000,
        b'{"resourceSpans": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """Text that is no JSON, or no object, is an error and nothing worse."""
    with pytest.raises(DecodeError):
        json.decode_json(body)


def test_deep_values_are_refused() -> None:
    """A value that nests without end is an error and not a crash."""
    deep: dict[str, Any] = {}
    for _ in range(120):
        deep = {"arrayValue": {"values": [deep]}}
    with pytest.raises(DecodeError, match="deeper"):
        value(**deep)


def test_refusing_does_not_depend_on_the_depth_of_what_is_refused() -> None:
    """A text that nests just as deep as can be parsed is refused like any other."""
    for depth in range(700, 1100):
        with pytest.raises(DecodeError):
            json.decode_json(b'{"resourceSpans": [' + b"[" * depth + b"]" * depth + b"]}")


MESSAGES = ["resourceSpans", "scopeSpans", "spans", "resource", "events", "status", "values"]
MEMBERS = ["attributes", "key", "value", "traceId", "kind", "code", "intValue", "arrayValue"]
ANSWERS = ["partialSuccess", "rejectedSpans", "details", "@type", "retryDelay", "message"]
names = st.sampled_from(MESSAGES + MEMBERS + ANSWERS)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
)


@given(documents.map(lambda document: json_text.dumps(document).encode()) | st.binary(max_size=20))
def test_garbage_raises_decode_error_only(body: bytes) -> None:
    """Whatever is sent, reading it gives records or a DecodeError."""
    for decode in (json.decode_json, json.decode_response, json.decode_status):
        with contextlib.suppress(DecodeError):
            decode(body)


@given(st.integers(0, 2**63 - 1), samples.texts)
def test_partial_success_comes_back(rejected: int, message: str) -> None:
    """A collector's answer is read as it was written."""
    partial = PartialSuccess(rejected=rejected, message=message)
    assert json.decode_response(json.encode_response(partial)) == partial


@given(st.integers(0, 16), samples.texts, st.none() | st.integers(0, 10**6))
def test_status_comes_back(code: int, message: str, delay: int | None) -> None:
    """A refusal is read as it was written, with the delay that it asks for."""
    status = RpcStatus(code=code, message=message, retry_delay=None if delay is None else delay / 8)
    assert json.decode_status(json.encode_status(status)) == status


def test_answers_from_elsewhere() -> None:
    """Foreign details are passed over, a delay that is none is an error."""
    assert json.encode_response(PartialSuccess()) == b"{}"
    assert json.decode_status(b'{"details": [{"@type": "x"}]}') == RpcStatus()
    info = '{"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": %s}]}'
    assert json.decode_status((info % '"1.5s"').encode()).retry_delay == 1.5
    with pytest.raises(DecodeError):
        json.decode_status((info % '"soon"').encode())
