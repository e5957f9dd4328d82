"""What a new span takes over from its parent."""

from __future__ import annotations

from random import getrandbits
from typing import TYPE_CHECKING

from opentelemetry.trace import INVALID_SPAN, SpanContext, TraceState
from opentelemetry.trace import Span as ApiSpan

from asynctrace.propagation.tracecontext import RemoteSpan

from .ids import RANDOM_TRACE_ID
from .received import ReceivedSpan
from .sampling import Rule
from .span import DroppedSpan, Span
from .unsampled import UnsampledSpan

if TYPE_CHECKING:
    from .core import Core

Parent = Span | DroppedSpan | RemoteSpan
"""Whose four fields are at hand: `_trace_id`, `_span_id`, `_trace_flags`, `_trace_state`."""

PARENTS = frozenset({Span, ReceivedSpan, DroppedSpan, UnsampledSpan, RemoteSpan})
_SAMPLED = 1


def inherit(core: Core, parent: Parent | None) -> tuple[int, int, TraceState | None, Rule | None]:
    """Trace id, flags without SAMPLED, tracestate and sampling rule of a new span.

    The rule is None when the sampler has to be asked.
    """
    rules = core.rules
    if parent is None:
        ids = core.ids
        if ids.plain:
            trace_id, flags = getrandbits(128) or ids.trace_id(), RANDOM_TRACE_ID
        else:
            trace_id, flags = ids.trace_id(), ids.flags()
        return trace_id, flags, None, None if rules is None else rules.root
    flags = parent._trace_flags
    rule: Rule | None
    if rules is None:
        rule = None
    elif type(parent) is RemoteSpan:
        rule = rules.remote_sampled if flags & _SAMPLED else rules.remote_not_sampled
    else:
        rule = rules.local_sampled if flags & _SAMPLED else rules.local_not_sampled
    return parent._trace_id, flags & RANDOM_TRACE_ID, parent._trace_state, rule


def as_parent(core: Core, span: object) -> Parent | None:
    """Any span of any make as a parent; None when it names no trace. Never raises."""
    if type(span) in PARENTS:
        return span  # type: ignore[return-value]  # one of these, exactly
    if span is INVALID_SPAN or not isinstance(span, ApiSpan):
        return None
    try:
        return _adopt(span.get_span_context())
    except Exception as error:
        core.fault("parent span", error)
        return None


def _adopt(context: object) -> Parent | None:
    if context is None:
        return None
    if not isinstance(context, SpanContext):
        raise TypeError(f"the parent's context is a {type(context).__name__}")
    if not context.is_valid:
        return None
    if context.is_remote:
        # An empty tracestate as none at all: every look at it would be a call.
        state = context.trace_state or None
        return RemoteSpan(context.trace_id, context.span_id, int(context.trace_flags), state)
    return DroppedSpan(context)
