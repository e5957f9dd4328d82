"""OTLP protobuf to plain records: the inverse of `encode`, for bytes that anybody may have sent.

Tolerant where protobuf says so: unknown fields, and known ones of another wire type, are passed
over; a message that comes in pieces is put together. Strict about everything else. The only
exception is `DecodeError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from asynctrace.otlp import wire
from asynctrace.otlp.records import (
    AnyValue,
    EventRecord,
    LinkRecord,
    PartialSuccess,
    ResourceRecord,
    RpcStatus,
    ScopeRecord,
    SpanRecord,
)
from asynctrace.otlp.wire import DecodeError, Message

__all__ = ["DecodeError", "decode_request", "decode_response", "decode_status"]

_RETRY_INFO: Final = "google.rpc.RetryInfo"


def decode_request(body: bytes) -> list[SpanRecord]:
    """Decode an ExportTraceServiceRequest: its spans in the order they stand in.

    Raises:
        DecodeError: it is not one.
    """
    return [span for content in Message(body).messages(1) for span in _resource_spans(content)]


def decode_response(body: bytes) -> PartialSuccess:
    """Decode an ExportTraceServiceResponse; an empty one is full success.

    Raises:
        DecodeError: it is not one.
    """
    partial = Message(Message(body).message(1))
    return PartialSuccess(rejected=partial.int64(1), message=partial.text(2))


def decode_status(body: bytes) -> RpcStatus:
    """Decode a google.rpc.Status, the body of a refused request.

    Raises:
        DecodeError: it is not one.
    """
    status = Message(body)
    delay = None
    for content in status.messages(3):
        detail = Message(content)
        if detail.text(1).rpartition("/")[2] == _RETRY_INFO:
            duration = Message(Message(detail.content(2)).message(1))
            delay = duration.int64(1) + duration.int32(2) / 1e9
    return RpcStatus(code=status.int32(1), message=status.text(2), retry_delay=delay)


def _resource_spans(content: bytes) -> Iterator[SpanRecord]:
    message = Message(content)
    described = Message(message.message(1))
    resource = ResourceRecord(
        attributes=_attributes(described.messages(1)),
        dropped_attributes=described.uint32(2),
        schema_url=message.text(3),
    )
    for scope_spans in message.messages(2):
        yield from _scope_spans(scope_spans, resource)


def _scope_spans(content: bytes, resource: ResourceRecord) -> Iterator[SpanRecord]:
    message = Message(content)
    described = Message(message.message(1))
    scope = ScopeRecord(
        name=described.text(1),
        version=described.text(2),
        attributes=_attributes(described.messages(3)),
        dropped_attributes=described.uint32(4),
        schema_url=message.text(3),
    )
    for span in message.messages(2):
        yield _span(Message(span), scope, resource)


def _span(span: Message, scope: ScopeRecord, resource: ResourceRecord) -> SpanRecord:
    status = Message(span.message(15))
    return SpanRecord(
        trace_id=span.content(1).hex(),
        span_id=span.content(2).hex(),
        trace_state=span.text(3),
        parent_span_id=span.content(4).hex(),
        name=span.text(5),
        kind=span.int32(6),
        start=span.fixed64(7),
        end=span.fixed64(8),
        attributes=_attributes(span.messages(9)),
        dropped_attributes=span.uint32(10),
        events=tuple(_event(Message(event)) for event in span.messages(11)),
        dropped_events=span.uint32(12),
        links=tuple(_link(Message(link)) for link in span.messages(13)),
        dropped_links=span.uint32(14),
        status_message=status.text(2),
        status_code=status.int32(3),
        flags=span.fixed32(16),
        scope=scope,
        resource=resource,
    )


def _event(event: Message) -> EventRecord:
    return EventRecord(
        timestamp=event.fixed64(1),
        name=event.text(2),
        attributes=_attributes(event.messages(3)),
        dropped_attributes=event.uint32(4),
    )


def _link(link: Message) -> LinkRecord:
    return LinkRecord(
        trace_id=link.content(1).hex(),
        span_id=link.content(2).hex(),
        trace_state=link.text(3),
        attributes=_attributes(link.messages(4)),
        dropped_attributes=link.uint32(5),
        flags=link.fixed32(6),
    )


def _attributes(key_values: Iterable[bytes], depth: int = 0) -> dict[str, AnyValue]:
    attributes: dict[str, AnyValue] = {}
    for content in key_values:
        key_value = Message(content)
        attributes[key_value.text(1)] = _any_value(key_value.message(2), depth)
    return attributes


def _any_value(content: bytes, depth: int) -> AnyValue:
    """Read a oneof: the last member that occurs is it, and earlier ones are forgotten."""
    if depth > wire.MAX_DEPTH:
        raise DecodeError(f"a value nests deeper than {wire.MAX_DEPTH} messages")
    decoded: AnyValue = None
    member = 0
    pieces: list[bytes] = []
    for number, wire_type, value in wire.fields(content):
        match number, wire_type, value:
            case 1, wire.LENGTH, bytes():
                decoded = wire.text(value)
            case 2, wire.VARINT, _:
                decoded = bool(value)
            case 3, wire.VARINT, int():
                decoded = wire.signed(value)
            case 4, wire.FIXED64, int():
                decoded = wire.double(value)
            case ((5 | 6), wire.LENGTH, bytes()):
                # The same message again merges with the one before; read when all is there.
                if number != member:
                    pieces.clear()
                pieces.append(value)
            case 7, wire.LENGTH, bytes():
                decoded = value
            case _:
                continue
        member = number
    if member == 5:
        return tuple(_any_value(item, depth + 2) for item in _items(pieces))
    if member == 6:
        return _attributes(_items(pieces), depth + 3)
    return decoded


def _items(pieces: list[bytes]) -> list[bytes]:
    return Message(b"".join(pieces)).messages(1)
