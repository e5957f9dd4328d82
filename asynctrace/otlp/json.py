"""OTLP/JSON to plain records and back: the same requests and answers as text.

Writing and reading stand side by side, each the other's inverse. Reading raises only
`DecodeError`; see `json_object` for what it understands beyond what is written here.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, TypeAlias

from asynctrace.otlp.json_object import JSONObject, parse
from asynctrace.otlp.records import (
    KINDS,
    STATUS_CODES,
    AnyValue,
    EventRecord,
    LinkRecord,
    PartialSuccess,
    ResourceRecord,
    RpcStatus,
    ScopeRecord,
    SpanRecord,
)
from asynctrace.otlp.wire import MAX_DEPTH, DecodeError

__all__ = [
    "DecodeError",
    "decode_json",
    "decode_response",
    "decode_status",
    "encode_json",
    "encode_response",
    "encode_status",
]

_Object: TypeAlias = dict[str, Any]
_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"


# -- requests


def encode_json(records: Iterable[SpanRecord]) -> bytes:
    """Write an ExportTraceServiceRequest.

    Neighbours that share the resource and scope objects, as decoded ones do, are written together;
    the order of the records is kept.
    """
    resource_spans = [
        _some(
            resource=_resource_to_json(same_resource[0].resource),
            scopeSpans=[
                _scope_spans_to_json(same_scope) for same_scope in _runs(same_resource, "scope")
            ],
            schemaUrl=same_resource[0].resource.schema_url,
        )
        for same_resource in _runs(records, "resource")
    ]
    return _text({"resourceSpans": resource_spans})


def decode_json(body: bytes) -> list[SpanRecord]:
    """Read an ExportTraceServiceRequest: its spans in the order they stand in.

    Raises:
        DecodeError: it is not one.
    """
    return [
        _span_from_json(span, scope, resource)
        for resource_spans in parse(body).children("resourceSpans")
        for resource in [_resource_from_json(resource_spans)]
        for scope_spans in resource_spans.children("scopeSpans")
        for scope in [_scope_from_json(scope_spans)]
        for span in scope_spans.children("spans")
    ]


# -- answers


def encode_response(partial: PartialSuccess) -> bytes:
    """Write an ExportTraceServiceResponse; full success is the empty object."""
    rejected = str(partial.rejected) if partial.rejected else ""
    return _text(
        _some(partialSuccess=_some(rejectedSpans=rejected, errorMessage=partial.message)),
    )


def decode_response(body: bytes) -> PartialSuccess:
    """Read an ExportTraceServiceResponse.

    Raises:
        DecodeError: it is not one.
    """
    partial = parse(body).child("partialSuccess")
    return PartialSuccess(
        rejected=partial.int64("rejectedSpans"), message=partial.text("errorMessage")
    )


def encode_status(status: RpcStatus) -> bytes:
    """Write a google.rpc.Status, with a RetryInfo among its details when it has a delay."""
    details = []
    if status.retry_delay is not None:
        details = [{"@type": _RETRY_INFO, "retryDelay": f"{status.retry_delay:.9f}s"}]
    return _text(_some(code=status.code, message=status.message, details=details))


def decode_status(body: bytes) -> RpcStatus:
    """Read a google.rpc.Status.

    Raises:
        DecodeError: it is not one.
    """
    status = parse(body)
    delay = None
    for detail in status.children("details"):
        if detail.text("@type") == _RETRY_INFO:
            delay = detail.seconds("retryDelay")
    return RpcStatus(code=status.int32("code"), message=status.text("message"), retry_delay=delay)


# -- the messages of a request, outermost first


def _resource_to_json(resource: ResourceRecord) -> _Object:
    return _some(
        attributes=_attributes_to_json(resource.attributes),
        droppedAttributesCount=resource.dropped_attributes,
    )


def _resource_from_json(resource_spans: JSONObject) -> ResourceRecord:
    resource = resource_spans.child("resource")
    return ResourceRecord(
        attributes=_attributes_from_json(resource.children("attributes")),
        dropped_attributes=resource.uint32("droppedAttributesCount"),
        schema_url=resource_spans.text("schemaUrl"),
    )


def _scope_spans_to_json(records: Sequence[SpanRecord]) -> _Object:
    scope = records[0].scope
    return _some(
        scope=_some(
            name=scope.name,
            version=scope.version,
            attributes=_attributes_to_json(scope.attributes),
            droppedAttributesCount=scope.dropped_attributes,
        ),
        spans=[_span_to_json(record) for record in records],
        schemaUrl=scope.schema_url,
    )


def _scope_from_json(scope_spans: JSONObject) -> ScopeRecord:
    scope = scope_spans.child("scope")
    return ScopeRecord(
        name=scope.text("name"),
        version=scope.text("version"),
        attributes=_attributes_from_json(scope.children("attributes")),
        dropped_attributes=scope.uint32("droppedAttributesCount"),
        schema_url=scope_spans.text("schemaUrl"),
    )


def _span_to_json(span: SpanRecord) -> _Object:
    return _some(
        traceId=span.trace_id,
        spanId=span.span_id,
        traceState=span.trace_state,
        parentSpanId=span.parent_span_id,
        name=span.name,
        kind=span.kind,
        startTimeUnixNano=str(span.start),
        endTimeUnixNano=str(span.end),
        attributes=_attributes_to_json(span.attributes),
        droppedAttributesCount=span.dropped_attributes,
        events=[_event_to_json(event) for event in span.events],
        droppedEventsCount=span.dropped_events,
        links=[_link_to_json(link) for link in span.links],
        droppedLinksCount=span.dropped_links,
        status=_some(code=span.status_code, message=span.status_message),
        flags=span.flags,
    )


def _span_from_json(span: JSONObject, scope: ScopeRecord, resource: ResourceRecord) -> SpanRecord:
    status = span.child("status")
    return SpanRecord(
        trace_id=span.hex("traceId"),
        span_id=span.hex("spanId"),
        trace_state=span.text("traceState"),
        parent_span_id=span.hex("parentSpanId"),
        name=span.text("name"),
        kind=span.enum("kind", "SPAN_KIND_", KINDS),
        start=span.uint64("startTimeUnixNano"),
        end=span.uint64("endTimeUnixNano"),
        attributes=_attributes_from_json(span.children("attributes")),
        dropped_attributes=span.uint32("droppedAttributesCount"),
        events=tuple(_event_from_json(event) for event in span.children("events")),
        dropped_events=span.uint32("droppedEventsCount"),
        links=tuple(_link_from_json(link) for link in span.children("links")),
        dropped_links=span.uint32("droppedLinksCount"),
        status_code=status.enum("code", "STATUS_CODE_", STATUS_CODES),
        status_message=status.text("message"),
        flags=span.uint32("flags"),
        scope=scope,
        resource=resource,
    )


def _event_to_json(event: EventRecord) -> _Object:
    return _some(
        timeUnixNano=str(event.timestamp),
        name=event.name,
        attributes=_attributes_to_json(event.attributes),
        droppedAttributesCount=event.dropped_attributes,
    )


def _event_from_json(event: JSONObject) -> EventRecord:
    return EventRecord(
        timestamp=event.uint64("timeUnixNano"),
        name=event.text("name"),
        attributes=_attributes_from_json(event.children("attributes")),
        dropped_attributes=event.uint32("droppedAttributesCount"),
    )


def _link_to_json(link: LinkRecord) -> _Object:
    return _some(
        traceId=link.trace_id,
        spanId=link.span_id,
        traceState=link.trace_state,
        attributes=_attributes_to_json(link.attributes),
        droppedAttributesCount=link.dropped_attributes,
        flags=link.flags,
    )


def _link_from_json(link: JSONObject) -> LinkRecord:
    return LinkRecord(
        trace_id=link.hex("traceId"),
        span_id=link.hex("spanId"),
        trace_state=link.text("traceState"),
        attributes=_attributes_from_json(link.children("attributes")),
        dropped_attributes=link.uint32("droppedAttributesCount"),
        flags=link.uint32("flags"),
    )


# -- attributes


def _attributes_to_json(attributes: Mapping[str, AnyValue]) -> list[_Object]:
    return [{"key": key, "value": _value_to_json(value)} for key, value in attributes.items()]


def _attributes_from_json(pairs: Iterable[JSONObject], depth: int = 0) -> dict[str, AnyValue]:
    return {pair.text("key"): _value_from_json(pair.child("value"), depth) for pair in pairs}


def _value_to_json(value: AnyValue) -> _Object:
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value if math.isfinite(value) else _word(value)}
        case bytes():
            return {"bytesValue": base64.b64encode(value).decode()}
        case Mapping():
            return {"kvlistValue": _some(values=_attributes_to_json(value))}
        case _:
            return {"arrayValue": _some(values=[_value_to_json(item) for item in value])}


def _value_from_json(value: JSONObject, depth: int) -> AnyValue:
    if depth > MAX_DEPTH:
        raise DecodeError(f"a value nests deeper than {MAX_DEPTH} messages")
    match value.one_of(_MEMBERS):
        case "stringValue" as name:
            return value.text(name)
        case "boolValue" as name:
            return value.flag(name)
        case "intValue" as name:
            return value.int64(name)
        case "doubleValue" as name:
            return value.double(name)
        case "bytesValue" as name:
            return value.content(name)
        case "arrayValue" as name:
            items = value.child(name).children("values")
            return tuple(_value_from_json(item, depth + 2) for item in items)
        case "kvlistValue" as name:
            return _attributes_from_json(value.child(name).children("values"), depth + 3)
        case _:
            return None


_MEMBERS: Final = (
    "stringValue",
    "boolValue",
    "intValue",
    "doubleValue",
    "bytesValue",
    "arrayValue",
    "kvlistValue",
)


def _word(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


# -- text


def _some(**members: Any) -> _Object:
    """Make an object of what differs from proto3's defaults."""
    return {name: member for name, member in members.items() if member}


def _runs(records: Iterable[SpanRecord], shared: str) -> Iterator[list[SpanRecord]]:
    """Split into neighbours that share an object; equality would take True for 1 in attributes."""
    for _, run in groupby(records, key=lambda record: id(getattr(record, shared))):
        yield list(run)


def _text(message: _Object) -> bytes:
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="replace")
