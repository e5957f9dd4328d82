"""create_client(): its options, aiohttp under it, an application around it, contrib in it."""

from __future__ import annotations

import asyncio
import builtins
from typing import Any

import httpx
import pytest
from aiohttp import web
from httpx_aiohttp import AiohttpTransport

import asynctrace
from asynctrace.errors import ConfigError
from asynctrace.httpx import AsyncTracingTransport, create_client, instrument, uninstrument
from asynctrace.testing import InMemoryExporter
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server

pytestmark = pytest.mark.may_block("an SSL context reads certificates")


async def test_options_for_tracing(tracing: Tracing, recorder: Recorder) -> None:
    """Options of httpx's and of ours go to whom they belong to."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, request=request))
    async with create_client(
        tracing=tracing,
        transport=transport,
        base_url="http://host",
        skip=["skipped"],
        logical_span=True,
    ) as client:
        await client.get("http://skipped/")
        assert recorder.started == []
        await client.get("/")
    assert [span.name for span in recorder.spans] == ["GET", "GET request"]


# --- aiohttp's client under httpx's --------------------------------------------------------------


async def test_over_aiohttp(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """A genuine client of httpx whose connections are aiohttp's: same spans, same header."""
    async with create_client(tracing=tracing, transport="aiohttp") as client:
        assert type(client) is httpx.AsyncClient
        transport: Any = client._transport
        assert isinstance(transport, AsyncTracingTransport)
        assert isinstance(transport.wrapped, AiohttpTransport)
        response = await client.get(server.url("/404"))
        assert response.content == b"hello"
    attributes = recorder.one().attributes or {}
    assert attributes["http.response.status_code"] == 404
    assert attributes["http.response.body.size"] == 5
    assert attributes["error.type"] == "404"
    [traceparent] = server.requests[0].header("traceparent")
    assert f"{recorder.one().context.span_id:016x}" in traceparent


async def test_failures_over_aiohttp(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """Its exceptions are httpx's, and the span's."""
    async with create_client(tracing=tracing, transport="aiohttp", timeout=0.2) as client:
        with pytest.raises(httpx.TimeoutException) as caught:
            await client.get(server.url("/silent"))
    error_type = f"httpx.{type(caught.value).__name__}"
    assert (recorder.one().attributes or {})["error.type"] == error_type


async def test_options_over_aiohttp() -> None:
    """The client's options that concern its connections reach aiohttp's transport."""
    limits = httpx.Limits(max_connections=7)
    async with create_client(
        transport="aiohttp", limits=limits, proxy="http://127.0.0.1:1", verify=False
    ) as client:
        transport: Any = client._transport
        assert transport.limits is limits
        assert str(transport.proxy.url) == "http://127.0.0.1:1"
    with pytest.raises(ConfigError, match=r"HTTP/1\.1 alone"):
        create_client(transport="aiohttp", http2=True)


async def test_without_httpx_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said, and how to get it."""
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "httpx_aiohttp":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'asynctrace\[fast\]'"):
        create_client(transport="aiohttp")


async def test_another_name() -> None:
    """There is one transport that has a name."""
    with pytest.raises(ConfigError, match="'aiohttp' or a transport of httpx"):
        create_client(transport="urllib3")  # type: ignore[arg-type]


# --- an application around it --------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before setup", "after setup", "on startup"])
async def test_closed_with_an_application(server: Server, when: str) -> None:
    """The client closes with the application, and before tracing: its last request is traced."""
    app = web.Application()
    clients: list[httpx.AsyncClient] = []
    states: list[object] = []
    exporter = InMemoryExporter()

    class Watched(httpx.AsyncHTTPTransport):
        async def aclose(self) -> None:
            states.append(asynctrace.current().state)
            await super().aclose()

    def make() -> None:
        clients.append(create_client(app=app, transport=Watched()))

    async def make_on_startup(app: web.Application) -> None:
        make()

    async def in_context(app: web.Application) -> Any:
        yield
        await clients[0].get(server.url("/200"))  # open still: contexts are left before

    if when == "before setup":
        make()
    if when == "on startup":
        app.on_startup.append(make_on_startup)
    app.cleanup_ctx.append(in_context)
    asynctrace.setup(app, service_name="shop", exporter=exporter)
    if when == "after setup":
        make()
    runner = web.AppRunner(app)
    await runner.setup()
    [client] = clients
    assert not client.is_closed
    await runner.cleanup()
    assert client.is_closed
    assert len(states) == 1
    assert [span.name for span in exporter.spans] == ["GET"]


async def test_an_application_that_runs() -> None:
    """Then it is too late, which is said."""
    app = web.Application()
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        with pytest.raises(ConfigError, match="before the application starts"):
            create_client(app=app)
    finally:
        await runner.cleanup()


# --- contrib's engine ----------------------------------------------------------------------------


async def test_contribs_engine(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """contrib traces the client into our pipeline; taken back, the client is what it was."""
    async with kind.client() as client:
        transport = client._transport
        before = dict(vars(transport))
        assert instrument(client, tracing=tracing, engine="contrib") is client
        await kind.call(client.get, server.url("/200"))
        scope = recorder.one().instrumentation_scope
        assert scope is not None
        assert scope.name == "opentelemetry.instrumentation.httpx"
        uninstrument(client)
        assert client._transport is transport
        assert vars(transport) == before
        recorder.clear()
        await kind.call(client.get, server.url("/200"))
    assert recorder.started == []


async def test_contribs_engine_finds_the_running_tracing(
    server: Server, recorder: Recorder
) -> None:
    """Without a tracing of its own it uses the process's."""
    async with (
        create_client(engine="contrib") as client,
        asynctrace.init(exporter="none", span_processors=[recorder]),
    ):
        await client.get(server.url("/200"))
    recorder.one()


async def test_the_configured_engine(server: Server, recorder: Recorder) -> None:
    """What the tracing is configured for is the default."""
    async with (
        asynctrace.init(engine="contrib", exporter="none", span_processors=[recorder]),
        create_client() as client,
    ):
        await client.get(server.url("/200"))
    scope = recorder.one().instrumentation_scope
    assert scope is not None
    assert scope.name == "opentelemetry.instrumentation.httpx"


@pytest.mark.parametrize("options", [{"skip": ["a"]}, {"logical_span": True}])
async def test_options_that_contrib_has_not(options: dict[str, Any]) -> None:
    """They are refused, not ignored."""
    with pytest.raises(ConfigError, match="drop these") as caught:
        create_client(engine="contrib", **options)
    assert next(iter(options)) in str(caught.value)


async def test_another_engine() -> None:
    """There are two."""
    with pytest.raises(ConfigError, match="'asynctrace' or 'contrib'"):
        instrument(httpx.Client(), engine="steam")  # type: ignore[arg-type]


async def test_uninstrument_leaves_contribs_own(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """What the user had contrib do is not ours to take back."""
    from opentelemetry.instrumentation import httpx as contrib

    name = "HTTPXClientInstrumentor" if kind.library is httpx else "HTTPX2ClientInstrumentor"
    instrumentor = getattr(contrib, name)
    async with kind.client() as client:
        instrumentor.instrument_client(client, tracer_provider=tracing.tracer_provider)
        uninstrument(client)
        await asyncio.sleep(0)
        await kind.call(client.get, server.url("/200"))
        recorder.one()
        instrumentor.uninstrument_client(client)
