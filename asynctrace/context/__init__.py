"""Spans around the program's own work, and the context that tasks and threads take along.

=============  =============================================================================
current        which span is current: attach, detach
outcome        how a span tells that its work failed or was cancelled
scope          span()
traced         @traced; generators are in a module of their own
tasks          create_task()
baggage        baggage(): what travels with the trace
stopping       stopping(): whether the program is to end
own            which tasks are the tracing's, not the program's
=============  =============================================================================
"""

from __future__ import annotations

from asynctrace.context.baggage import BaggageAttributes, baggage
from asynctrace.context.current import (
    ContextToken,
    attach,
    attach_context,
    detach,
    without_span,
)
from asynctrace.context.outcome import end_span, error_type, tell_outcome
from asynctrace.context.scope import Attributes, HasTracerProvider, SpanScope, links_to, span
from asynctrace.context.stopping import stopping
from asynctrace.context.tasks import Relation, create_task
from asynctrace.context.traced import traced

__all__ = [
    "Attributes",
    "BaggageAttributes",
    "ContextToken",
    "HasTracerProvider",
    "Relation",
    "SpanScope",
    "attach",
    "attach_context",
    "baggage",
    "create_task",
    "detach",
    "end_span",
    "error_type",
    "links_to",
    "span",
    "stopping",
    "tell_outcome",
    "traced",
    "without_span",
]
