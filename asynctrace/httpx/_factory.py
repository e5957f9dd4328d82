"""create_client(): a genuine client with everything that belongs around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from asynctrace.errors import ConfigError
from asynctrace.httpx._client import instrument

if TYPE_CHECKING:
    from typing import Unpack

    import httpx
    from aiohttp import web

    from asynctrace.httpx._client import Engine
    from asynctrace.httpx._options import CreateOptions
    from asynctrace.tracing import Tracing


def create_client(
    *,
    tracing: Tracing | None = None,
    engine: Engine | None = None,
    logical_span: bool = False,
    transport: httpx.AsyncBaseTransport | Literal["aiohttp"] | None = None,
    app: web.Application | None = None,
    **options: Unpack[CreateOptions],
) -> httpx.AsyncClient:
    """A traced `httpx.AsyncClient`: a genuine one, with every option that it takes::

        async with asynctrace.create_client(base_url="http://orders", timeout=2.0) as client:
            response = await client.get("/orders/17")

    httpx is imported by the first call.

    Args:
        tracing, engine, logical_span: see :func:`asynctrace.instrument`.
        transport: A transport of httpx's; or "aiohttp" for connections made by aiohttp's client,
            which take less than half of the processor time. Needs the extra `asynctrace[fast]`.
        app: An aiohttp application, of a server, that closes the client when it cleans up: while
            tracing still runs.
        options: those of `httpx.AsyncClient`, and of :class:`~asynctrace.httpx.TracingOptions`.

    Raises whatever `httpx.AsyncClient` raises, and:
        ConfigError: an option cannot be used, `httpx-aiohttp` is not installed, or the application
            has started already.
    """
    import httpx

    from asynctrace.httpx._shaping import TracingOptions

    of_client: dict[str, Any] = dict(options)
    of_tracing: Any = {
        name: of_client.pop(name) for name in TracingOptions.__annotations__ if name in of_client
    }
    if transport == "aiohttp":
        transport = _aiohttp_transport(of_client)
    elif isinstance(transport, str):
        raise ConfigError("transport", transport, "'aiohttp' or a transport of httpx is needed")
    client = instrument(
        httpx.AsyncClient(transport=transport, **of_client),
        tracing=tracing,
        engine=engine,
        logical_span=logical_span,
        **of_tracing,
    )
    if app is not None:
        _close_with(app, client)
    return client


def _aiohttp_transport(options: dict[str, Any]) -> httpx.AsyncBaseTransport:
    """aiohttp's client in the shape of a transport, with the client's options that concern one."""
    import httpx

    try:
        from httpx_aiohttp import AiohttpTransport
    except ImportError as error:
        raise ConfigError(
            "transport", "aiohttp", "install httpx-aiohttp: pip install 'asynctrace[fast]'"
        ) from error
    names = ("verify", "cert", "trust_env", "http1", "http2", "limits")
    given = {name: options[name] for name in names if name in options}
    if options.get("http2"):
        raise ConfigError("http2", True, "aiohttp's client speaks HTTP/1.1 alone")
    proxy = options.pop("proxy", None)
    if proxy is not None:
        given["proxy"] = proxy if isinstance(proxy, httpx.Proxy) else httpx.Proxy(url=proxy)
    return AiohttpTransport(**given)


def _close_with(app: web.Application, client: httpx.AsyncClient) -> None:
    """Have `app` close `client`, while tracing runs: that ends in a handler which is added when the
    application starts. Made during the start, the client goes before it, right behind the
    application's clean-up contexts."""

    async def close(app: web.Application) -> None:
        await client.aclose()

    try:
        if app.on_startup.frozen:
            app.on_cleanup.insert(1, close)
        else:
            app.on_cleanup.append(close)
    except RuntimeError as error:
        raise ConfigError("app", app, "make the client before the application starts") from error
