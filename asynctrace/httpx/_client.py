"""An existing client, traced in place and restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from asynctrace.errors import AsyncTraceError, ConfigError
from asynctrace.httpx import _contrib, _logical
from asynctrace.httpx._library import library_of
from asynctrace.httpx._transport import AsyncTracingTransport, TracingTransport
from asynctrace.tracing import running

if TYPE_CHECKING:
    from typing import TypeAlias, Unpack

    import httpx
    import httpx2

    from asynctrace.httpx._shaping import TracingOptions
    from asynctrace.tracing import Tracing

    AnyClient = httpx.AsyncClient | httpx.Client | httpx2.AsyncClient | httpx2.Client
    Engine: TypeAlias = Literal["asynctrace", "contrib"]

ClientT = TypeVar("ClientT", bound="AnyClient")


def instrument(
    client: ClientT,
    *,
    tracing: Tracing | None = None,
    engine: Engine | None = None,
    logical_span: bool = False,
    **options: Unpack[TracingOptions],
) -> ClientT:
    """Trace every request of `client`, of httpx or httpx2, for asyncio or not; return it.

    Its transport and those of its mounts and proxies are wrapped in place. A transport that is
    traced already stays as it is, so doing it twice traces once, with the first options.

    Args:
        tracing: The :class:`~asynctrace.Tracing` to use; by default the one that runs when a
            request is sent.
        engine: "contrib" leaves the client to OpenTelemetry's own instrumentation, for its exact
            output, and hands its spans to ours. The other options are then not to be had. By
            default what the tracing is configured for, when one is given or runs already.
        logical_span: Whether an INTERNAL span is opened around all the attempts that a call of the
            client makes: redirects, and those of an authentication flow.
        options: see :class:`~asynctrace.httpx.TracingOptions`.

    Raises:
        ConfigError: `client` is no client of httpx or httpx2, or an option cannot be used.
        AsyncTraceError: this version of the library keeps its transports elsewhere.
    """
    kind = transport_for(client)
    if use_contrib(engine, tracing, logical_span=logical_span, options=options):
        _contrib.instrument_client(client, tracing)
        return client
    install(client, kind, tracing, options, "instrument")
    if logical_span:
        _logical.wrap_send(client, tracing, options)
    return client


def uninstrument(client: ClientT) -> ClientT:
    """Take back what :func:`instrument` did: the client has the very transports it had before.

    A tracing transport that somebody else has put there stays. Requests under way are traced to
    their end.
    """
    transport_for(client)
    _contrib.uninstrument_client(client)
    _logical.unwrap_send(client)
    remove(client, "instrument")
    return client


def install(
    client: object,
    kind: type[AsyncTracingTransport | TracingTransport],
    tracing: Tracing | None,
    options: Mapping[str, Any],
    put_by: str,
) -> None:
    """Wrap what is not traced yet."""

    def wrap(transport: Any) -> Any:
        if isinstance(transport, (AsyncTracingTransport, TracingTransport)):
            return transport
        wrapper = kind(transport, tracing=tracing, **options)
        wrapper.put_by = put_by
        return wrapper

    _replace_transports(client, wrap)


def remove(client: object, put_by: str) -> None:
    """Unwrap what :func:`install` wrapped under the same name."""

    def unwrap(transport: Any) -> Any:
        if isinstance(transport, (AsyncTracingTransport, TracingTransport)):
            return transport.wrapped if transport.put_by == put_by else transport
        return transport

    _replace_transports(client, unwrap)


def transport_for(client: object) -> type[AsyncTracingTransport | TracingTransport]:
    """The kind of transport that `client` wants. Raises ConfigError for what is no client."""
    library = library_of(type(client))
    if library is not None and isinstance(client, library.AsyncClient):
        return AsyncTracingTransport
    if library is not None and isinstance(client, library.Client):
        return TracingTransport
    raise ConfigError("client", client, "pass a client of httpx or httpx2, or use create_client()")


def use_contrib(
    engine: str | None,
    tracing: Tracing | None,
    *,
    logical_span: bool,
    options: Mapping[str, object],
) -> bool:
    """Whether the engine is contrib's.

    Raises ConfigError for one that there is not, and with options that only ours has.
    """
    if engine is None:
        known = running() if tracing is None else tracing
        engine = "asynctrace" if known is None else known.config.engine
    if engine == "asynctrace":
        return False
    if engine != "contrib":
        raise ConfigError("engine", engine, "'asynctrace' or 'contrib' is needed")
    given = [name for name, value in options.items() if value is not None]
    if logical_span:
        given.append("logical_span")
    if given:
        raise ConfigError("engine", engine, f"it knows nothing of {', '.join(given)}: drop these")
    return True


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
