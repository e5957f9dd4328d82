"""Clients: a traced one made, an existing one traced in place and restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asynctrace.errors import AsyncTraceError, ConfigError
from asynctrace.httpx._library import library_of
from asynctrace.httpx._transport import AsyncTracingTransport, TracingTransport

if TYPE_CHECKING:
    from typing import Unpack

    import httpx
    import httpx2

    from asynctrace.httpx._options import ClientOptions
    from asynctrace.tracing import Tracing

    AnyClient = httpx.AsyncClient | httpx.Client | httpx2.AsyncClient | httpx2.Client

ClientT = TypeVar("ClientT", bound="AnyClient")


def create_client(
    *, tracing: Tracing | None = None, **options: Unpack[ClientOptions]
) -> httpx.AsyncClient:
    """A traced `httpx.AsyncClient`: a genuine one, with every option that it takes::

        async with asynctrace.create_client(base_url="http://orders", timeout=2.0) as client:
            response = await client.get("/orders/17")

    `tracing` is the :class:`~asynctrace.Tracing` to use; by default the one that runs when a
    request is sent. httpx is imported by the first call.

    Raises whatever `httpx.AsyncClient` raises.
    """
    import httpx

    return instrument(httpx.AsyncClient(**options), tracing=tracing)


def instrument(client: ClientT, *, tracing: Tracing | None = None) -> ClientT:
    """Trace every request of `client`, of httpx or httpx2, for asyncio or not; return it.

    Its transport and those of its mounts and proxies are wrapped in place. A transport that is
    traced already stays as it is, so doing it twice traces once, with the first `tracing`.

    Raises:
        ConfigError: `client` is no client of httpx or httpx2.
        AsyncTraceError: this version of the library keeps its transports elsewhere.
    """
    kind = _tracing_transport(client)

    def wrap(transport: Any) -> Any:
        if isinstance(transport, (AsyncTracingTransport, TracingTransport)):
            return transport
        wrapper = kind(transport, tracing=tracing)
        wrapper.by_instrument = True
        return wrapper

    _replace_transports(client, wrap)
    return client


def uninstrument(client: ClientT) -> ClientT:
    """Take back what :func:`instrument` did: the client has the very transports it had before.

    A tracing transport that somebody else has put there stays. Requests under way are traced to
    their end.
    """
    _tracing_transport(client)

    def unwrap(transport: Any) -> Any:
        if isinstance(transport, (AsyncTracingTransport, TracingTransport)):
            return transport.wrapped if transport.by_instrument else transport
        return transport

    _replace_transports(client, unwrap)
    return client


def _tracing_transport(client: object) -> type[AsyncTracingTransport | TracingTransport]:
    """The kind of transport that `client` wants."""
    library = library_of(type(client))
    if library is not None and isinstance(client, library.AsyncClient):
        return AsyncTracingTransport
    if library is not None and isinstance(client, library.Client):
        return TracingTransport
    raise ConfigError("client", client, "pass a client of httpx or httpx2, or use create_client()")


def _replace_transports(client: object, change: Callable[[Any], Any]) -> None:
    """Change every transport of a client. The one place that reaches into a client.

    There is no public way to the transports of a client that exists, and those of its proxies are
    made by the client itself, from arguments and environment.
    """
    inside = cast("Any", client)
    try:
        transport, mounts = inside._transport, inside._mounts
    except AttributeError as error:
        raise AsyncTraceError(
            f"{type(client).__module__}.{type(client).__qualname__} keeps its transports elsewhere",
            hint="pass transport=asynctrace.httpx.AsyncTracingTransport(...) to the client",
        ) from error
    changed = {key: None if mount is None else change(mount) for key, mount in mounts.items()}
    inside._transport = change(transport)
    mounts.update(changed)
