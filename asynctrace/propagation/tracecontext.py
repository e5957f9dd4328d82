"""W3C Trace Context Level 2: the ids and flags in ``traceparent``, strictly by the specification.

Reading is pure and hot: one call per request of a service, also for traces that are not sampled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, TraceState

from asynctrace.propagation.tracestate import parse_tracestate

__all__ = ["RemoteSpan", "SpanIdentity", "format_traceparent", "identity", "remote_span"]

# Bits that Level 2 defines: sampled (1) and random trace id (2). All others MUST be sent as zero,
# so they end here and are not carried on.
_KNOWN_FLAGS = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID
_FLAGS = {f"{flags:02x}": flags & _KNOWN_FLAGS for flags in range(0x100)}

# Explicit classes, because "\d" and int() also take digits of other scripts, and int() takes
# signs, spaces and underscores.
_FIELDS = "-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
_match_version_00 = re.compile("00" + _FIELDS).fullmatch
# A later version may append to what we know, after a dash; "ff" is forbidden for good.
_match_later_version = re.compile(
    "(?!00|ff)[0-9a-f]{2}" + _FIELDS + "(?:-.*)?", re.DOTALL
).fullmatch

_new = object.__new__


class RemoteSpan(NonRecordingSpan):
    """The sender's span as we know it: its ids, its flags and its ``tracestate``.

    Most are only ever a parent, whose ids are read and nothing else, so the ``SpanContext`` is made
    when somebody asks for it.
    """

    _span_context: SpanContext | None = None

    def __init__(
        self, trace_id: int, span_id: int, trace_flags: int, trace_state: TraceState | None = None
    ) -> None:
        # The base class would store a SpanContext, which is what we put off.
        self._trace_id = trace_id
        self._span_id = span_id
        self._trace_flags = trace_flags
        self._trace_state = trace_state

    def get_span_context(self) -> SpanContext:
        context = self._span_context
        if context is None:
            context = self._span_context = SpanContext(
                self._trace_id,
                self._span_id,
                is_remote=True,
                trace_flags=TraceFlags(self._trace_flags),
                trace_state=self._trace_state,
            )
        return context

    def __repr__(self) -> str:
        traceparent = format_traceparent(self._trace_id, self._span_id, self._trace_flags)
        return f"RemoteSpan({traceparent!r}, {self._trace_state!r})"


def remote_span(traceparents: Sequence[str], tracestates: Sequence[str]) -> RemoteSpan | None:
    """The sender's span, from all ``traceparent`` and all ``tracestate`` headers of one message.

    None when there is no usable ``traceparent``: absent, malformed in any way, or more than one,
    because then nobody can tell which is meant. The ``tracestate`` headers are not looked at in
    that case; unusable ones, on the other hand, do not harm the ``traceparent``.
    """
    if len(traceparents) != 1:
        return None
    value = traceparents[0]
    match = _match_version_00(value)
    if match is None:
        value = value.strip(" \t")  # white space around a header's value is not part of it
        match = _match_version_00(value) or _match_later_version(value)
        if match is None:
            return None
    trace_id, span_id, flags = match.groups()
    # Past the constructor, as for every span that is made for each request.
    span = _new(RemoteSpan)
    span._trace_id = trace_number = int(trace_id, 16)
    span._span_id = span_number = int(span_id, 16)
    if not trace_number or not span_number:  # all zeros means "none"
        return None
    span._trace_flags = _FLAGS[flags]
    span._trace_state = parse_tracestate(tracestates) if tracestates else None
    return span


def format_traceparent(trace_id: int, span_id: int, flags: int) -> str:
    """The ``traceparent`` of a span, in version 00, with the flags that this version defines."""
    # Twice as fast as an f-string, which formats each number by a call.
    return "00-%032x-%016x-%02x" % (trace_id, span_id, flags & _KNOWN_FLAGS)  # noqa: UP031


class SpanIdentity(NamedTuple):
    """What is propagated of a span. ``trace_id`` is 0 when there is nothing to propagate."""

    trace_id: int
    span_id: int
    trace_flags: int
    trace_state: TraceState | None


def identity(span: Span) -> SpanIdentity:
    """The propagated part of any span of the OpenTelemetry API.

    The spans of this library keep it in four fields and make a ``SpanContext`` only when asked;
    reading the fields spares them that.
    """
    try:
        return SpanIdentity(span._trace_id, span._span_id, span._trace_flags, span._trace_state)  # type: ignore[attr-defined]
    except AttributeError:
        context = span.get_span_context()
        if not context.is_valid:
            return _NOTHING
        return SpanIdentity(
            context.trace_id, context.span_id, context.trace_flags, context.trace_state
        )


_NOTHING = SpanIdentity(0, 0, 0, None)
