"""OpenTelemetry's own httpx instrumentation: found active in the process, or used as the engine."""

from __future__ import annotations

from collections.abc import Callable
from sys import modules
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from asynctrace.httpx._library import LIBRARIES, library_of

if TYPE_CHECKING:
    from asynctrace.tracing import Tracing

SCOPE: Final = "opentelemetry.instrumentation.httpx"
"""Of contrib's spans, and the name of its module."""

_AIOHTTP: Final = "opentelemetry.instrumentation.aiohttp_client"


def may_have_contrib(transport: object) -> bool:
    """Whether contrib may sit in a transport: it is contrib's own, or one over aiohttp's client."""
    return type(transport).__module__.startswith((SCOPE, "httpx_aiohttp"))


def has_contrib(transport: object, send: Callable[..., object]) -> bool:
    """Whether contrib traces what goes through a transport by its method `send`.

    It is then the transport; or it listens to aiohttp's client; or a wrapt proxy of it stands in
    place of the bound method. A proxy of somebody else's passes for contrib's.
    """
    module = type(transport).__module__
    return (
        module.startswith(SCOPE)
        or (module.startswith("httpx_aiohttp") and _AIOHTTP in modules)
        or (type(send) is not MethodType and hasattr(send, "__wrapped__"))
    )


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
