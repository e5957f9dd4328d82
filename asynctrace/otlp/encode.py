"""Spans to OTLP protobuf in one pass, when they end.

A span is encoded by itself into the field that it will be of its request, so that a request is
made by joining bytes; see `join_request`. Fields stand in the order of their numbers and proto3's
defaults are left out, as protobuf's own writers do it.

The messages equal those of OpenTelemetry's own encoder, down to its omissions: a status is always
present, a link's trace state never is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from asynctrace.otlp import repair
from asynctrace.otlp.records import PartialSuccess, RpcStatus
from asynctrace.otlp.repair import EventLike, LinkLike
from asynctrace.otlp.values import BUDGET, KeyValueFields, append_attributes
from asynctrace.otlp.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    UINT32_MAX,
    VARINT,
    delimited,
    pack_fixed32,
    pack_fixed64,
    signed_varint,
    string,
    tag,
    varint,
)

# Span, by field number.
_TRACE_ID: Final = tag(1, LENGTH) + varint(16)
_SPAN_ID: Final = tag(2, LENGTH) + varint(8)
_TRACE_STATE: Final = 3
_PARENT_SPAN_ID: Final = tag(4, LENGTH) + varint(8)
_NAME: Final = 5
_KINDS: Final = {kind: tag(6, VARINT) + varint(kind) if kind else b"" for kind in range(6)}
_START: Final = tag(7, FIXED64)
_END: Final = tag(8, FIXED64)
_ATTRIBUTES: Final = 9
_DROPPED_ATTRIBUTES: Final = tag(10, VARINT)
_EVENTS: Final = tag(11, LENGTH)
_DROPPED_EVENTS: Final = tag(12, VARINT)
_LINKS: Final = tag(13, LENGTH)
_DROPPED_LINKS: Final = tag(14, VARINT)
_STATUS: Final = 15
_FLAGS: Final = tag(16, FIXED32)

# ScopeSpans.spans
_SPAN: Final = tag(2, LENGTH)

_EVENT_TIME: Final = tag(1, FIXED64)
_EVENT_NAME: Final = 2
_EVENT_ATTRIBUTES: Final = 3
_EVENT_DROPPED: Final = tag(4, VARINT)

_LINK_ATTRIBUTES: Final = 4
_LINK_DROPPED: Final = tag(5, VARINT)
# SpanFlags: "is remote" is known, and false or true.
_LINK_LOCAL: Final = tag(6, FIXED32) + pack_fixed32(0x100)
_LINK_REMOTE: Final = tag(6, FIXED32) + pack_fixed32(0x300)

_BOTH_TIMES: Final = struct.Struct("<cQcQ").pack

_LONGEST_NAME: Final = 256
_MOST_NAMES: Final = 4096
# The cache for a span's attributes gets the budget; events and links bring few that recur.
_MINOR_BUDGET: Final = BUDGET // 8


@dataclass(frozen=True, slots=True)
class ResourceBytes:
    """An encoded resource: two fields of ResourceSpans, each empty or whole."""

    resource: bytes
    schema_url: bytes


@dataclass(frozen=True, slots=True)
class ScopeBytes:
    """An encoded instrumentation scope: two fields of ScopeSpans, each empty or whole."""

    scope: bytes
    schema_url: bytes


SpanFields: TypeAlias = tuple[
    int, int, str, int, int, str, int, int, int,
    Mapping[str, object], int, Sequence[EventLike], int, Sequence[LinkLike], int, int, str | None,
]  # fmt: skip
"""The arguments of `SpanEncoder.write`."""

_REPAIRS: Final[tuple[Callable[..., object], ...]] = (
    partial(repair.unsigned, bits=128),  # trace_id
    partial(repair.unsigned, bits=64),  # span_id
    repair.text,  # trace_state
    partial(repair.unsigned, bits=64),  # parent_span_id
    partial(repair.unsigned, bits=32),  # flags
    repair.text,  # name
    partial(repair.member, known=_KINDS),  # kind
    partial(repair.unsigned, bits=64),  # start
    partial(repair.unsigned, bits=64),  # end
    repair.mapping,  # attributes
    partial(repair.unsigned, bits=32),  # dropped_attributes
    repair.events,  # events
    partial(repair.unsigned, bits=32),  # dropped_events
    repair.links,  # links
    partial(repair.unsigned, bits=32),  # dropped_links
    partial(repair.unsigned, bits=31),  # status_code
    repair.text,  # status_message
)


class SpanEncoder:
    """Encodes spans and remembers, within bounds, what recurs in them.

    Any thread may call it, also in a finalizer: it takes no lock, and it never raises for what a
    span was filled with. What cannot be expressed is left out or replaced, the rest of the span
    stays.
    """

    __slots__ = ("_attributes", "_event_attributes", "_link_attributes", "_names")

    def __init__(self, *, budget: int = BUDGET) -> None:
        minor = min(budget, _MINOR_BUDGET)
        self._names = _Names()
        self._attributes = KeyValueFields(_ATTRIBUTES, budget=budget)
        self._event_attributes = KeyValueFields(_EVENT_ATTRIBUTES, budget=minor)
        self._link_attributes = KeyValueFields(_LINK_ATTRIBUTES, budget=minor)

    def __repr__(self) -> str:
        spent = self._attributes.spent + self._event_attributes.spent + self._link_attributes.spent
        return f"<SpanEncoder names={len(self._names)} remembered={spent} bytes>"

    def span(self, *fields: *SpanFields) -> bytes:
        """Encode one span: the complete `ScopeSpans.spans` field, ready to be joined.

        Never raises for what a span was filled with: see `write` for the fields, and `repair` for
        what becomes of those that do not fit.
        """
        try:
            return self.write(*fields)
        except Exception:  # of whatever a field is; each repair returns the type of its field
            return self.write(
                *(repair_(field) for repair_, field in zip(_REPAIRS, fields, strict=True))  # type: ignore[arg-type]
            )

    def write(
        self,
        trace_id: int,
        span_id: int,
        trace_state: str,
        parent_span_id: int,
        flags: int,
        name: str,
        kind: int,
        start: int,
        end: int,
        attributes: Mapping[str, object],
        dropped_attributes: int,
        events: Sequence[EventLike],
        dropped_events: int,
        links: Sequence[LinkLike],
        dropped_links: int,
        status_code: int,
        status_message: str | None,
    ) -> bytes:
        """`span` for fields that are as they should be.

        `parent_span_id` 0 is none, `flags` and `kind` are OTLP's numbers, times are nanoseconds.

        Raises:
            Exception: whatever a field provokes that is not of its type, or out of its range.
        """
        parts = [_TRACE_ID, trace_id.to_bytes(16, "big"), _SPAN_ID, span_id.to_bytes(8, "big")]
        append = parts.append
        if trace_state:
            append(string(_TRACE_STATE, trace_state))
        if parent_span_id:
            append(_PARENT_SPAN_ID)
            append(parent_span_id.to_bytes(8, "big"))
        append(self._names[name])
        append(_KINDS[kind])
        if start and end:
            append(_BOTH_TIMES(_START, start, _END, end))
        else:
            append(_fixed64(_START, start) + _fixed64(_END, end))
        if attributes:
            append_attributes(append, self._attributes, attributes)
        if dropped_attributes:
            append(_uint32(_DROPPED_ATTRIBUTES, dropped_attributes))
        if events or dropped_events:
            for event in events:
                append(self._event(event))
            append(_uint32(_DROPPED_EVENTS, dropped_events))
        if links or dropped_links:
            for link in links:
                append(self._link(link))
            append(_uint32(_DROPPED_LINKS, dropped_links))
        append(_status(status_code, status_message))
        if flags:
            append(_FLAGS)
            append(pack_fixed32(flags))
        body = b"".join(parts)
        return _SPAN + varint(len(body)) + body

    def _event(self, event: EventLike) -> bytes:
        parts = [_fixed64(_EVENT_TIME, event.timestamp), string(_EVENT_NAME, event.name)]
        if event.attributes:
            append_attributes(parts.append, self._event_attributes, event.attributes)
        parts.append(_uint32(_EVENT_DROPPED, event.dropped_attributes))
        body = b"".join(parts)
        return _EVENTS + varint(len(body)) + body

    def _link(self, link: LinkLike) -> bytes:
        context = link.context
        parts = [
            _TRACE_ID,
            context.trace_id.to_bytes(16, "big"),
            _SPAN_ID,
            context.span_id.to_bytes(8, "big"),
        ]
        if link.attributes:
            append_attributes(parts.append, self._link_attributes, link.attributes)
        parts.append(_uint32(_LINK_DROPPED, link.dropped_attributes))
        parts.append(_LINK_REMOTE if context.is_remote else _LINK_LOCAL)
        body = b"".join(parts)
        return _LINKS + varint(len(body)) + body


def encode_resource(attributes: Mapping[str, object], schema_url: str | None) -> ResourceBytes:
    """Encode what is said once per request. Never raises: see `SpanEncoder`."""
    parts: list[bytes] = []
    append_attributes(parts.append, KeyValueFields(1), repair.mapping(attributes))
    return ResourceBytes(
        resource=delimited(1, b"".join(parts)),
        schema_url=string(3, repair.text(schema_url)),
    )


def encode_scope(
    name: str | None,
    version: str | None,
    attributes: Mapping[str, object] | None,
    schema_url: str | None,
) -> ScopeBytes:
    """Encode what is said once per instrumentation of a request. Never raises."""
    parts = [string(1, repair.text(name)), string(2, repair.text(version))]
    append_attributes(parts.append, KeyValueFields(3), repair.mapping(attributes))
    return ScopeBytes(
        scope=delimited(1, b"".join(parts)),
        schema_url=string(3, repair.text(schema_url)),
    )


def join_request(
    resource: ResourceBytes, groups: Iterable[tuple[ScopeBytes, Sequence[bytes]]]
) -> bytes:
    """Make an ExportTraceServiceRequest of encoded spans, which are copied once.

    Groups without spans are left out. Requests of several resources are joined by `+`: repeated
    fields of concatenated messages add up.
    """
    parts: list[bytes] = []
    size = 0
    for scope, spans in groups:
        if not spans:
            continue
        length = len(scope.scope) + sum(map(len, spans)) + len(scope.schema_url)
        head = tag(2, LENGTH) + varint(length)
        parts += (head, scope.scope, *spans, scope.schema_url)
        size += len(head) + length
    if not parts:
        return b""
    size += len(resource.resource) + len(resource.schema_url)
    head = tag(1, LENGTH) + varint(size)
    return b"".join((head, resource.resource, *parts, resource.schema_url))


def encode_response(partial: PartialSuccess) -> bytes:
    """Encode a collector's answer; full success is the empty message."""
    if not partial.rejected and not partial.message:
        return b""
    rejected = tag(1, VARINT) + signed_varint(partial.rejected) if partial.rejected else b""
    return delimited(1, rejected + string(2, partial.message))


def encode_status(status: RpcStatus) -> bytes:
    """Encode a google.rpc.Status, with a RetryInfo among its details when it has a delay."""
    written = string(2, status.message)
    if status.code:
        written = tag(1, VARINT) + signed_varint(status.code) + written
    if status.retry_delay is not None:
        seconds, rest = divmod(round(status.retry_delay * 1e9), 10**9)
        duration = (tag(1, VARINT) + varint(seconds) if seconds else b"") + (
            tag(2, VARINT) + varint(rest) if rest else b""
        )
        url = string(1, "type.googleapis.com/google.rpc.RetryInfo")
        written += delimited(3, url + delimited(2, delimited(1, duration)))
    return written


class _Names(dict[str, bytes]):
    """The field of every span name seen; if they are too many, they are forgotten."""

    __slots__ = ()

    def __missing__(self, name: str) -> bytes:
        field = string(_NAME, name)
        if type(name) is str and len(name) <= _LONGEST_NAME:
            if len(self) >= _MOST_NAMES:
                self.clear()
            self[name] = field
        return field


def _status(code: int, message: str | None) -> bytes:
    if not code and not message:
        return _UNSET
    written = string(2, message or "")
    if code:
        written += tag(3, VARINT) + signed_varint(code)
    return delimited(_STATUS, written)


def _fixed64(tag_: bytes, value: int) -> bytes:
    return tag_ + pack_fixed64(value) if value else b""


def _uint32(tag_: bytes, value: int) -> bytes:
    if not value:
        return b""
    if not 0 <= value <= UINT32_MAX:
        raise OverflowError("a count of OTLP has 32 bits")
    return tag_ + varint(value)


_UNSET: Final = delimited(_STATUS, b"")
