"""Contrib's instrumentations of HTTP clients, when they are active in the process as well.

One attempt gets one span, and what is further out in the call makes it: when contrib's was there
first, ours stands back; when contrib's comes after ours, it is told to keep quiet.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, SpanKind

from asynctrace.propagation import format_traceparent, identity


def is_outside(current: Span | None, headers: Mapping[str, str]) -> bool:
    """Whether `current` was made, by any instrumentation, for the very request with these headers.

    It is then a CLIENT span, and in the headers already. A request that is made inside of another's
    span (by an application behind `ASGITransport`) carries no such header, or another one.
    """
    if current is None or getattr(current, "kind", None) is not SpanKind.CLIENT:
        return False
    trace_id, span_id, flags, _ = identity(current)
    return headers.get("traceparent") == format_traceparent(trace_id, span_id, flags)


def quiet() -> Context:
    """The current context, but contrib's HTTP instrumentations make no span and no header in it."""
    # Contrib has imported this already; elsewhere its 30 ms are not spent.
    from opentelemetry.instrumentation.utils import suppress_http_instrumentation

    with suppress_http_instrumentation():
        return get_current()
