"""Trace context and baggage in and out of messages.

``tracestate``, ``tracecontext`` and ``baggage`` are the formats: pure, text to values and back.
``carriers`` knows where headers are kept. ``propagator`` joins both to what OpenTelemetry calls a
propagator, with the formats that ``OTEL_PROPAGATORS`` names; ``process`` has the configured one.
"""

from __future__ import annotations

from asynctrace.propagation.baggage import (
    BaggageValue,
    format_baggage,
    parse_baggage,
    sendable_baggage,
)
from asynctrace.propagation.carriers import Carrier
from asynctrace.propagation.process import extract, inject, set_default
from asynctrace.propagation.propagator import (
    BaggagePropagator,
    Propagator,
    TraceContextPropagator,
)
from asynctrace.propagation.tracecontext import (
    RemoteSpan,
    SpanIdentity,
    format_traceparent,
    identity,
    remote_span,
)
from asynctrace.propagation.tracestate import RemoteTraceState, parse_tracestate

__all__ = [
    "BaggagePropagator",
    "BaggageValue",
    "Carrier",
    "Propagator",
    "RemoteSpan",
    "RemoteTraceState",
    "SpanIdentity",
    "TraceContextPropagator",
    "extract",
    "format_baggage",
    "format_traceparent",
    "identity",
    "inject",
    "parse_baggage",
    "parse_tracestate",
    "remote_span",
    "sendable_baggage",
    "set_default",
]
