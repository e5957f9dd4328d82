"""Work that begins in a trace whose part of it is long over: noted once, with a hint."""

from __future__ import annotations

import logging
from weakref import WeakSet

from opentelemetry import trace as trace_api
from opentelemetry.context import Context

from asynctrace.trace.span import Span

_logger = logging.getLogger("asynctrace")

_LONG = 1_000_000_000  # nanoseconds; work that is put off to just after a response is no mistake

_noted: WeakSet[trace_api.Tracer] = WeakSet()


def note_late_child(child: trace_api.Span, base: Context | None) -> None:
    """Log it, once per tracer, when the parent of `child` ended long before `child` started.

    `base` is where the child's parent was taken from; None: the current context.
    """
    parent = trace_api.get_current_span(base)
    if not isinstance(parent, Span) or parent._end_time is None or not isinstance(child, Span):
        return
    late = child._start_time - parent._end_time
    if late < _LONG or child._tracer in _noted:
        return
    _noted.add(child._tracer)
    _logger.warning(
        "The span %r was started %.1f s after its parent %r had ended. Hint: start work that "
        "outlives its request by asynctrace.create_task(..., relation='link'), and a worker that "
        "serves others too by relation='detached'. (This is said once.)",
        child.name,
        late / 1e9,
        parent.name,
    )
