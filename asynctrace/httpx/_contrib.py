"""OpenTelemetry's own httpx instrumentation, when it is active in the process as well.

One attempt gets one span, and what is further out in the call makes it: when contrib's was there
first, ours stands back; when contrib's comes after ours, it is told to keep quiet.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import modules
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span

from asynctrace.httpx._library import LIBRARIES, library_of
from asynctrace.propagation import format_traceparent, identity

if TYPE_CHECKING:
    import httpx

    from asynctrace.tracing import Tracing

_SCOPE = "opentelemetry.instrumentation.httpx"


def is_outside(current: Span, request: httpx.Request) -> bool:
    """Whether contrib's instrumentation made `current` for this very request.

    It has then put the span into the request's headers. A request that is made inside of another's
    span (by an application behind `ASGITransport`) carries no such header, or another one.
    """
    if _SCOPE not in modules:
        return False
    scope = getattr(current, "instrumentation_scope", None)
    if scope is None or scope.name != _SCOPE:
        return False
    trace_id, span_id, flags, _ = identity(current)
    return bool(request.headers.get("traceparent") == format_traceparent(trace_id, span_id, flags))


def is_contribs(transport: object) -> bool:
    """Whether `transport` is one of contrib's own."""
    return type(transport).__module__.startswith(_SCOPE)


def is_patched(send: Callable[..., object]) -> bool:
    """Whether contrib sits around a transport's method: a wrapt proxy instead of a bound method.

    A proxy of somebody else's passes for contrib's.
    """
    return type(send) is not MethodType and hasattr(send, "__wrapped__")


def quiet() -> Context:
    """The current context, but contrib's HTTP instrumentations make no span and no header in it."""
    # Contrib has imported this already; elsewhere its 30 ms are not spent.
    from opentelemetry.instrumentation.utils import suppress_http_instrumentation

    with suppress_http_instrumentation():
        return get_current()


_handed_over: WeakSet[Any] = WeakSet()


def instrument_client(client: Any, tracing: Tracing | None) -> None:
    """Let contrib trace a client, with our provider: by default that of the process."""
    _handed_over.add(client)
    _instrumentor(library_of(type(client))).instrument_client(client, **_with_provider(tracing))


def uninstrument_client(client: Any) -> None:
    """Take back what :func:`instrument_client` did, and no patch of anybody else's."""
    if client in _handed_over:
        _handed_over.discard(client)
        _instrumentor(library_of(type(client))).uninstrument_client(client)
        for transport in (client._transport, *client._mounts.values()):
            _forget_method(transport)


def _forget_method(transport: object) -> None:
    """Contrib puts a transport's method back where it had found none: on the instance."""
    for name in ("handle_request", "handle_async_request"):
        method = getattr(transport, "__dict__", {}).get(name)
        if type(method) is MethodType and method.__func__ is getattr(type(transport), name, None):
            delattr(transport, name)


def instrument_library(library: ModuleType, tracing: Tracing | None) -> None:
    """Let contrib trace all clients of a library."""
    _instrumentor(library)().instrument(**_with_provider(tracing))


def uninstrument_libraries() -> None:
    """Take back what :func:`instrument_library` did."""
    for name in LIBRARIES:
        if name in modules:
            instrumentor = _instrumentor(modules[name])()
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()


def _instrumentor(library: ModuleType | None) -> Any:
    from opentelemetry.instrumentation import httpx as contrib

    is_second = library is not None and library.__name__ == "httpx2"
    return contrib.HTTPX2ClientInstrumentor if is_second else contrib.HTTPXClientInstrumentor


def _with_provider(tracing: Tracing | None) -> dict[str, Any]:
    return {} if tracing is None else {"tracer_provider": tracing.tracer_provider}
