"""Spans to OTLP bytes: what the wire format's encoder wants to know, read off a span."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceState

from asynctrace.otlp.encode import SpanEncoder

from .received import ReceivedSpan
from .span import UNSET_STATUS, Span

# `SpanFlags` of OTLP's trace.proto. The eight bits for the trace flags stay zero, as in
# OpenTelemetry's own encoder for Python.
_HAS_IS_REMOTE = 0x100
_PARENT_IS_REMOTE = 0x200

_UNSPECIFIED_KIND = 0

_encoder = SpanEncoder()
"""One for the process: what it remembers of one provider's spans serves the others'."""

_write = _encoder.write


def encode(span: ReadableSpan) -> bytes:
    """The complete `ScopeSpans.spans` field of an ended span, ready to be joined into a request.

    Takes what the processors left in the span. Any span of the SDK will do, ours are faster. Never
    raises for what a span was filled with: what OTLP cannot express is left out, see `SpanEncoder`.
    """
    if type(span) is Span or type(span) is ReceivedSpan:
        # The fields themselves, in one call: a service encodes every one of its spans here.
        try:
            if type(span) is ReceivedSpan and span._facts is not None and span._outcome is not None:
                trace_id, parent_id, is_remote = _caller_of(span)
                attributes = span._describe(span._facts)
                attributes.update(span._outcome)
            else:
                trace_id, parent_id = span._trace_id, span._parent_id
                is_remote, attributes = span._parent_is_remote, span._attributes
            status = span._status
            state = span._trace_state
            return _write(
                trace_id,
                span._span_id,
                _header(state) if state else "",
                parent_id,
                _HAS_IS_REMOTE | _PARENT_IS_REMOTE if is_remote else _HAS_IS_REMOTE,
                span._name,
                span._kind._value_ + 1,  # as `_kind`
                span._start_time,
                span._end_time or 0,
                attributes,
                span._dropped_attributes,
                span._events,
                span._dropped_events,
                span._links,
                span._dropped_links,
                0 if status is UNSET_STATUS else status.status_code.value,
                None if status is UNSET_STATUS else status.description,
            )
        except Exception:  # a field that does not fit: it is repaired below
            pass
    return _encode_carefully(span)


def _caller_of(span: ReceivedSpan) -> tuple[int, int, bool]:
    """The trace id, the parent's id, and whether it is remote, without leaving them in the span."""
    if traceparent := span._traceparent:
        return int(traceparent[3:35], 16), int(traceparent[36:52], 16), True
    return span._trace_id, span._parent_id, span._parent_is_remote


def _encode_carefully(span: ReadableSpan) -> bytes:
    context = span.get_span_context() or _NO_CONTEXT
    parent = span.parent
    flags = _HAS_IS_REMOTE
    if parent is not None and parent.is_remote:
        flags |= _PARENT_IS_REMOTE
    status = span.status
    return _encoder.span(
        context.trace_id,
        context.span_id,
        _header(context.trace_state),
        parent.span_id if parent is not None else 0,
        flags,
        span.name,
        _kind(span.kind),
        span.start_time or 0,
        span.end_time or 0,
        span.attributes or {},
        span.dropped_attributes,
        span.events,
        span.dropped_events,
        span.links,
        span.dropped_links,
        status.status_code.value,
        status.description,
    )


_NO_CONTEXT = SpanContext(0, 0, is_remote=False)


def _kind(kind: SpanKind) -> int:
    """OTLP counts from "unspecified", OpenTelemetry's enumeration from INTERNAL."""
    try:
        # `_value_` is the documented attribute behind the property `value`, which is slow.
        return int(kind._value_ + 1)
    except (AttributeError, TypeError):  # whatever was given as a kind is none
        return _UNSPECIFIED_KIND


def _header(state: TraceState) -> str:
    return ",".join(f"{key}={value}" for key, value in state.items())
