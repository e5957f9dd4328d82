"""Spans as four fields: all that a child, a header or a log line wants to know of most of them.

`SpanContext` is an object of six parts with flags and a tracestate that are objects, too. It costs
more than everything else about a span that is not recorded, and most are never asked for it.
"""

from __future__ import annotations

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState


class LeanSpan:
    """The fields, and the `SpanContext` made of them when somebody asks for it."""

    # Set by the tracer for each span.
    _trace_id: int
    _span_id: int
    _trace_flags: int
    _trace_state: TraceState | None

    _span_context: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        context = self._span_context
        if context is None:
            context = self._span_context = SpanContext(
                self._trace_id,
                self._span_id,
                is_remote=False,
                trace_flags=TraceFlags(self._trace_flags),
                trace_state=self._trace_state,
            )
        return context

    @property
    def _context(self) -> SpanContext:
        """The SDK's field. To assign to it moves the span, as it does there."""
        return self.get_span_context()

    @_context.setter
    def _context(self, context: SpanContext) -> None:
        self._trace_id = context.trace_id
        self._span_id = context.span_id
        self._trace_flags = int(context.trace_flags)
        self._trace_state = context.trace_state or None
        self._span_context = context


class DroppedSpan(LeanSpan, NonRecordingSpan):
    """The span of a trace that is not sampled: it carries the context on, and nothing else."""

    def __repr__(self) -> str:
        return f"DroppedSpan({self.get_span_context()!r})"
