"""A span as the SDK's exporters want it, made from what was sent: for replaying through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from asynctrace.otlp.records import LinkRecord, SpanRecord

_KINDS: Final = (SpanKind.INTERNAL, *SpanKind)
"""By OTLP's number; 0 is unspecified."""
_STATUS_CODES: Final = tuple(StatusCode)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_IS_REMOTE: Final = 0x200
"""Of OTLP's span flags."""


def readable_span(record: SpanRecord) -> ReadableSpan:
    """The span that `record` tells of, with its own resource and scope."""
    state = TraceState.from_header([record.trace_state])
    context = _context(record.trace_id, record.span_id, 0, state)
    parent = None
    if record.parent_span_id:
        parent = _context(record.trace_id, record.parent_span_id, record.flags, state)
    scope = record.scope
    return ReadableSpan(
        name=record.name,
        context=context,
        parent=parent,
        kind=_KINDS[record.kind] if record.kind < len(_KINDS) else SpanKind.INTERNAL,
        start_time=record.start,
        end_time=record.end,
        attributes=_attributes(record.attributes),
        events=[
            Event(event.name, _attributes(event.attributes), event.timestamp)
            for event in record.events
        ],
        links=[_link(link) for link in record.links],
        status=_status(record),
        resource=Resource(_attributes(record.resource.attributes), record.resource.schema_url),
        instrumentation_scope=InstrumentationScope(
            scope.name, scope.version, scope.schema_url, _attributes(scope.attributes)
        ),
    )


def _context(trace_id: str, span_id: str, flags: int, state: TraceState) -> SpanContext:
    # Only sampled spans are ever exported, and OTLP from Python does not carry the flag.
    return SpanContext(
        int(trace_id or "0", 16), int(span_id or "0", 16), bool(flags & _IS_REMOTE), _SAMPLED, state
    )


def _link(link: LinkRecord) -> Link:
    state = TraceState.from_header([link.trace_state])
    context = _context(link.trace_id, link.span_id, link.flags, state)
    return Link(context, _attributes(link.attributes))


def _status(record: SpanRecord) -> Status:
    known = 0 < record.status_code < len(_STATUS_CODES)
    code = _STATUS_CODES[record.status_code] if known else StatusCode.UNSET
    # The SDK warns of a description that goes with any other code.
    return Status(code, record.status_message if code is StatusCode.ERROR else None)


def _attributes(attributes: Mapping[str, object]) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", attributes)
