"""aiohttp's own client: the same spans and options as the httpx clients have."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from opentelemetry import baggage, context
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace import init, semconv
from asynctrace._http.client import OPTIONS
from asynctrace.aiohttp import ClientOptions, client_session, trace_config
from asynctrace.errors import ConfigError
from asynctrace.httpx import TracingOptions
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Recorder, Server, until
from tests.httpx_client.test_metrics import Measured, measured

__all__ = ["measured"]

SIZE = "http.response.body.size"
END = "asynctrace.http.response.body.end"


@pytest.fixture
async def session(tracing: Tracing) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_session(tracing=tracing) as opened:
        yield opened


def _attributes(recorder: Recorder) -> dict[str, Any]:
    return dict(recorder.one().attributes or {})


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_an_answer(
    session: aiohttp.ClientSession, server: Server, recorder: Recorder, status: int
) -> None:
    """What an httpx client tells of a response, this tells as well."""
    async with session.get(server.url(f"/{status}")) as response:
        assert await response.read() == b"hello"
    span = recorder.one()
    attributes = _attributes(recorder)
    assert (span.name, span.kind) == ("GET", SpanKind.CLIENT)
    assert 0 < attributes.pop("asynctrace.http.time_to_headers") < 5
    error = {"error.type": str(status)} if status >= 400 else {}
    assert attributes == {
        "http.request.method": "GET",
        "url.full": server.url(f"/{status}"),
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "http.response.status_code": status,
        "network.protocol.version": "1.1",
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
        SIZE: 5,
        **error,
    }
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    [traceparent] = server.requests[0].header("traceparent")
    assert traceparent == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-03"


async def test_the_span_ends_with_the_body(
    session: aiohttp.ClientSession, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Between headers and the last byte it is open, and knows its peer."""
    async with session.get(server.url("/drip")) as response:
        [open_span] = tracing.open_spans()
        assert (open_span.attributes or {})["network.peer.address"] == "127.0.0.1"
        assert await response.content.readexactly(5) == b"hello"
        assert recorder.spans == []
        server.go_on.set()
        assert await response.content.read() == b"world"
    attributes = _attributes(recorder)
    assert (attributes[SIZE], attributes.get(END)) == (10, None)


async def test_closed_early(
    session: aiohttp.ClientSession, server: Server, recorder: Recorder
) -> None:
    """Leaving before the end is no error, whatever the caller leaves with."""

    async def leave() -> None:
        async with session.get(server.url("/drip")) as response:
            await response.content.readexactly(5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave()
    attributes = _attributes(recorder)
    assert (attributes[SIZE], attributes[END]) == (5, "closed")
    assert "error.type" not in attributes


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
async def test_abandoned(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """A response that nobody wants ends its span when aiohttp lets go of it."""
    async with client_session(tracing=tracing) as session:
        assert (await session.get(server.url("/drip"))).status == 200
    await until(lambda: gc.collect() >= 0 and recorder.spans)
    assert _attributes(recorder)[END] == "abandoned"
    assert tracing.open_spans() == ()


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/cut", 200, "aiohttp.client_exceptions.ClientPayloadError"),
        ("/garbage", None, "aiohttp.client_exceptions.ClientResponseError"),
        ("/silent", None, "aiohttp.client_exceptions.SocketTimeoutError"),
        ("/drip", 200, "aiohttp.client_exceptions.SocketTimeoutError"),
    ],
)
async def test_failures(
    server: Server,
    tracing: Tracing,
    recorder: Recorder,
    path: str,
    status: int | None,
    error: str,
) -> None:
    """Before the headers and in the body: the exception that the caller gets."""
    timeout = aiohttp.ClientTimeout(sock_read=0.1)
    with pytest.raises((aiohttp.ClientError, TimeoutError)):
        async with (
            client_session(tracing=tracing, timeout=timeout) as session,
            session.get(server.url(path)) as response,
        ):
            await response.read()
    attributes = _attributes(recorder)
    assert attributes.get("http.response.status_code") == status
    assert attributes["error.type"] == error
    assert recorder.one().status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("status", [404, 500])
async def test_raise_for_status(
    server: Server, tracing: Tracing, recorder: Recorder, measured: Measured, status: int
) -> None:
    """A session that raises because of the status has got an answer: its span says which."""
    async with client_session(
        tracing=tracing, raise_for_status=True, capture_response_headers=["content-length"]
    ) as session:
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(server.url(f"/{status}"))
    span = recorder.one()
    attributes = _attributes(recorder)
    assert attributes["http.response.status_code"] == status
    assert attributes["error.type"] == str(status)
    assert attributes["http.response.header.content-length"] == ("5",)
    assert 0 < attributes["asynctrace.http.time_to_headers"] < 5
    assert span.status.status_code is StatusCode.ERROR
    assert span.events == ()
    assert measured.one()["http.response.status_code"] == status
    assert measured.one()["error.type"] == str(status)


async def test_nobody_listens(session: aiohttp.ClientSession, recorder: Recorder) -> None:
    """A connection that is refused is the span's error."""
    async with Server() as server:
        url = server.url("/")
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get(url)
    assert _attributes(recorder)["error.type"].endswith("ClientConnectorError")


@pytest.mark.parametrize("path", ["/silent", "/drip"])
async def test_cancelled(
    session: aiohttp.ClientSession, server: Server, recorder: Recorder, path: str
) -> None:
    """Cancellation is told, and is no error."""

    async def get() -> None:
        async with session.get(server.url(path)) as response:
            await response.read()

    task = asyncio.create_task(get())
    await server.arrived.wait()
    if path == "/drip":
        [span] = recorder.started
        await until(lambda: "http.response.status_code" in span.attributes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    attributes = _attributes(recorder)
    assert attributes["asynctrace.cancellation.reason"] == "cancelled"
    assert "error.type" not in attributes


async def test_redirects(
    session: aiohttp.ClientSession, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Every hop is an attempt of its own, counted, under the same parent, and sent as such."""
    with tracing.get_tracer("test").start_as_current_span("outer") as outer:
        async with session.get(server.url("/redirect/200")) as response:
            await response.read()
    first, second, _ = recorder.spans
    assert [(s.attributes or {}).get("http.request.resend_count") for s in (first, second)] == [
        None,
        1,
    ]
    assert [(s.attributes or {})["http.response.status_code"] for s in (first, second)] == [
        302,
        200,
    ]
    assert (second.attributes or {})["url.full"] == server.url("/200")
    for span, request in zip((first, second), server.requests, strict=True):
        assert span.parent is not None
        assert span.parent.span_id == outer.get_span_context().span_id
        [traceparent] = request.header("traceparent")
        assert f"{span.context.span_id:016x}" in traceparent


async def test_too_many_redirects(
    session: aiohttp.ClientSession, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """The redirect that aiohttp refuses to follow has a span with that error."""
    with pytest.raises(aiohttp.TooManyRedirects):
        await session.get(server.url("/redirect/redirect"), max_redirects=1)
    first, refused = recorder.spans
    assert (first.attributes or {})["http.response.status_code"] == 302
    assert (refused.attributes or {})["error.type"].endswith("TooManyRedirects")
    assert tracing.open_spans() == ()


async def test_what_a_request_says(
    session: aiohttp.ClientSession, server: Server, recorder: Recorder
) -> None:
    """Its attempt and its template, by the context that a request may have for its traces."""
    said = {"asynctrace": {"resend_count": 2, "url_template": "/{status}"}}
    async with session.get(server.url("/200"), trace_request_ctx=said) as response:
        await response.read()
    assert recorder.one().name == "GET /{status}"
    attributes = _attributes(recorder)
    assert attributes["http.request.resend_count"] == 2
    assert attributes["url.template"] == "/{status}"


async def test_the_callers_headers(session: aiohttp.ClientSession, server: Server) -> None:
    """Its own trace context and baggage win, and its objects stay as they are."""
    theirs = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"traceparent": theirs, "baggage": "x=y"}
    token = context.attach(baggage.set_baggage("who", "me"))
    try:
        await session.get(server.url("/redirect/200"), headers=headers)
        await session.get(server.url("/200"), headers={"Baggage": "x=y"})
        await session.get(server.url("/200"))
    finally:
        context.detach(token)
    assert [r.header("traceparent") == [theirs] for r in server.requests] == [
        True,
        True,
        False,
        False,
    ]
    assert [r.header("baggage") for r in server.requests[2:]] == [["x=y"], ["who=me"]]
    assert headers == {"traceparent": theirs, "baggage": "x=y"}


async def test_options(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """The options of an httpx client have the same names here, and do the same."""
    assert set(ClientOptions.__annotations__) == set(TracingOptions.__annotations__) == OPTIONS
    calls: list[object] = []

    async def enrich(span: Any, request: Any, *response: Any) -> None:
        calls.append(response)
        span.set_attribute(f"mine.{len(calls)}", request.url.path)

    async with client_session(
        server.url("/"),
        tracing=tracing,
        propagate_to=["elsewhere"],
        skip=lambda request: request.url.path == "/404",
        enrich_request=enrich,
        enrich_response=enrich,
        capture_request_headers=["x-.*"],
        capture_response_headers=["content-length"],
        redact_headers=["x-key"],
        capture_query=["token"],
        phases=True,
        headers={"x-tenant": "7"},
    ) as session:
        await session.get("/404")
        assert recorder.started == []
        response = await session.get("/200", headers={"x-key": "k"})
        await response.read()
    assert [len(call) for call in calls] == [0, 1]  # type: ignore[arg-type]
    assert all(request.header("traceparent") == [] for request in server.requests)
    attributes = _attributes(recorder)
    assert attributes["mine.1"] == attributes["mine.2"] == "/200"
    assert attributes["http.request.header.x-tenant"] == ("7",)
    assert attributes["http.request.header.x-key"] == ("REDACTED",)
    assert attributes["http.response.header.content-length"] == ("5",)
    phases = {
        name.removeprefix("asynctrace.http.phase.")
        for name in attributes
        if name in semconv.HTTP_PHASES.values()
    }
    assert {"send", "wait", "receive"} <= phases <= {"send", "wait", "receive", "connect"}


async def test_end_at_headers(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """The span has ended while the body is still to come."""
    async with (
        client_session(tracing=tracing, end_span_at="headers") as session,
        session.get(server.url("/drip")) as response,
    ):
        assert "http.response.body.size" not in _attributes(recorder)
        server.go_on.set()
        assert await response.read() == b"helloworld"


@pytest.mark.may_block("writes a log line")
async def test_functions_that_fail(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """What the user's functions raise is told, and nobody is harmed."""

    def fail(*_: object) -> bool:
        raise RuntimeError("no")

    hooks: Any = dict.fromkeys(("skip", "propagate_to", "enrich_request", "enrich_response"), fail)
    async with (
        client_session(tracing=tracing, **hooks) as session,
        session.get(server.url("/200")) as response,
    ):
        assert await response.read() == b"hello"
    assert _attributes(recorder)["http.response.status_code"] == 200
    assert tracing.statistics().faults == dict.fromkeys(hooks, 1)


async def test_wrong_options() -> None:
    """They are refused at once, and so are those that nobody knows."""
    with pytest.raises(ConfigError, match="'body' or 'headers'"):
        trace_config(end_span_at="never")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no_such_option"):
        client_session(no_such_option=1)


async def test_suppressed_and_without_tracing(server: Server, recorder: Recorder) -> None:
    """No span and no header where it is quiet, or nothing runs."""
    async with client_session() as session:
        await session.get(server.url("/200"))
        async with init(exporter="none", span_processors=[recorder]):
            with suppress_http_instrumentation():
                await session.get(server.url("/200"))
            assert recorder.started == []
            await session.get(server.url("/200"))
    recorder.one()
    assert [len(request.header("traceparent")) for request in server.requests] == [0, 0, 1]


async def test_not_sampled(server: Server, unsampled: Tracing, recorder: Recorder) -> None:
    """The decision goes on, and nothing is recorded."""
    async with client_session(tracing=unsampled) as session:
        await (await session.get(server.url("/404"))).read()
    assert recorder.started == []
    assert server.requests[0].header("traceparent")[0].endswith("-02")


async def test_another_trace_config_of_the_users(
    server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Both listen."""
    heard: list[str] = []
    theirs = aiohttp.TraceConfig()

    async def listen(session: Any, state: Any, told: Any) -> None:
        heard.append(told.method)

    theirs.on_request_start.append(listen)
    async with client_session(tracing=tracing, trace_configs=[theirs]) as session:
        await session.get(server.url("/200"))
    recorder.one()
    assert heard == ["GET"]


async def test_websockets(tracing: Tracing, recorder: Recorder) -> None:
    """The span of a websocket is that of its handshake."""
    from aiohttp import web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    [address] = runner.addresses
    async with (
        client_session(tracing=tracing) as session,
        session.ws_connect(f"http://127.0.0.1:{address[1]}/") as ws,
    ):
        assert _attributes(recorder)["http.response.status_code"] == 101
        await ws.send_str("hello")
        assert await ws.receive_str() == "hello"
    await runner.cleanup()


async def test_durations(
    session: aiohttp.ClientSession, server: Server, measured: Measured
) -> None:
    """Recorded once for each request, whichever way it ends."""
    async with session.get(server.url("/404")) as response:
        await response.read()
    attributes = measured.one()
    assert attributes == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "url.scheme": "http",
        "http.response.status_code": 404,
        "network.protocol.version": "1.1",
        "error.type": "404",
    }
    async with session.get(server.url("/drip")):
        pass
    assert sum(point.count for point in measured.points()) == 2
