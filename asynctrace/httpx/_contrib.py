"""OpenTelemetry's own httpx instrumentation, when it is active in the process as well.

One attempt gets one span, and what is further out in the call makes it: when contrib's was there
first, ours stands back; when contrib's comes after ours, it is told to keep quiet.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING

from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span

from asynctrace.propagation import format_traceparent, identity

if TYPE_CHECKING:
    import httpx

_SCOPE = "opentelemetry.instrumentation.httpx"


def is_outside(current: Span, request: httpx.Request) -> bool:
    """Whether contrib's instrumentation made `current` for this very request.

    It has then put the span into the request's headers. A request that is made inside of another's
    span (by an application behind `ASGITransport`) carries no such header, or another one.
    """
    scope = getattr(current, "instrumentation_scope", None)
    if scope is None or scope.name != _SCOPE:
        return False
    trace_id, span_id, flags, _ = identity(current)
    return bool(request.headers.get("traceparent") == format_traceparent(trace_id, span_id, flags))


def quiet(transport: object, send: Callable[..., object]) -> Context | None:
    """The context to call `send` in when contrib's instrumentation sits behind ours; else None.

    In it contrib's HTTP instrumentations make no span and send no header. They sit there as the
    `transport`, or patched around `send` by a wrapt proxy, where there is a bound method otherwise;
    a proxy of somebody else's passes for contrib's.
    """
    is_patched = type(send) is not MethodType and hasattr(send, "__wrapped__")
    if not is_patched and not type(transport).__module__.startswith(_SCOPE):
        return None
    # Contrib has imported this already; elsewhere its 30 ms are not spent.
    from opentelemetry.instrumentation.utils import suppress_http_instrumentation

    with suppress_http_instrumentation():
        return get_current()
