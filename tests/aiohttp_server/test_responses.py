"""What a SERVER span says about a request and its response."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest
from aiohttp import web
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.aiohttp import setup
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import PATIENCE, Recorder, Serving, app_of, get, ok


async def test_a_request_is_described(tracing: Tracing, recorder: Recorder) -> None:
    """One SERVER span, named after the route, with the attributes of the stable conventions."""
    app = app_of(ok, "/users/{id}")
    setup(app, tracing)
    async with Serving(app) as service:
        headers = {"Host": "shop.example:8443", "User-Agent": "curl/8"}
        await service.status("/users/4%202?a=1&sig=abc", headers=headers)
    span = await recorder.one()
    assert (span.name, span.kind, span.parent) == ("GET /users/{id}", SpanKind.SERVER, None)
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
    attributes = dict(span.attributes or {})
    assert attributes == {
        "http.request.method": "GET",
        "http.route": "/users/{id}",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/users/4%202",
        "url.query": "a=1&sig=REDACTED",
        "server.address": "shop.example",
        "server.port": 8443,
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
    }


async def test_a_request_without_host_is_described_by_its_socket(
    tracing: Tracing, recorder: Recorder
) -> None:
    """HTTP/1.0 has no Host header, and its version is told."""
    app = app_of(ok)
    setup(app, tracing)
    async with Serving(app) as service:
        port = service.port
        async with service.connection(b"GET / HTTP/1.0\r\n\r\n") as reader:
            await asyncio.wait_for(reader.read(), PATIENCE)
    attributes = (await recorder.one()).attributes or {}
    assert attributes["network.protocol.version"] == "1.0"
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["server.port"] == port
    assert "user_agent.original" not in attributes
    assert "url.query" not in attributes


async def test_a_request_over_a_unix_socket_has_no_peer(
    tracing: Tracing, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The client's end has no name; the server's is a path."""
    path = str(tmp_path_factory.mktemp("s") / "http.sock")
    app = app_of(ok)
    setup(app, tracing)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, path).start()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        await writer.wait_closed()
    finally:
        await runner.cleanup()
    attributes = (await recorder.one()).attributes or {}
    assert attributes["server.address"] == path
    assert not {"server.port", "client.address", "network.peer.address"} & attributes.keys()


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 499, 500, 503, 599])
@pytest.mark.parametrize("raised", [True, False], ids=["raised", "returned"])
async def test_a_response_tells_its_status(
    tracing: Tracing, recorder: Recorder, status: int, raised: bool
) -> None:
    """5xx is an error and 4xx is not; raised or returned, a response makes no exception event."""

    async def handler(_request: web.Request) -> web.Response:
        if raised and (kind := _exception(status)) is not None:
            raise kind
        return web.Response(status=status)

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        assert await service.status("/", allow_redirects=False) == status
    span = await recorder.one()
    attributes = span.attributes or {}
    failed = status >= 500
    assert attributes["http.response.status_code"] == status
    assert span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
    assert span.status.description is None
    assert attributes.get("error.type") == (str(status) if failed else None)
    assert span.events == ()


def _exception(status: int) -> web.HTTPException | None:
    for kind in web.HTTPException.__subclasses__():
        for leaf in (kind, *kind.__subclasses__()):
            if leaf.status_code == status:
                return leaf("/") if issubclass(leaf, web.HTTPMove) else leaf()  # type: ignore[call-arg]
    return None


class AppError(Exception):
    """An error of the application."""


async def test_an_exception_is_recorded_once_and_passes(
    tracing: Tracing, recorder: Recorder
) -> None:
    """One event, error.type, the 500 that aiohttp answers; the other middlewares see it."""
    seen: list[BaseException] = []

    async def handler(_request: web.Request) -> web.Response:
        raise AppError("no stock")

    @web.middleware
    async def outer(request: web.Request, handler: object) -> web.StreamResponse:
        try:
            return await handler(request)  # type: ignore[operator, no-any-return]
        except AppError as error:
            seen.append(error)
            raise

    app = app_of(handler)
    setup(app, tracing)
    app.middlewares.insert(0, outer)
    async with Serving(app) as service:
        assert await service.status("/") == HTTPStatus.INTERNAL_SERVER_ERROR
    span = await recorder.one()
    attributes = span.attributes or {}
    assert attributes["http.response.status_code"] == 500
    assert attributes["error.type"] == f"{__name__}.AppError"
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "AppError: no stock"
    [event] = span.events
    assert event.name == "exception"
    assert (event.attributes or {})["exception.type"] == f"{__name__}.AppError"
    assert [str(error) for error in seen] == ["no stock"]


@pytest.mark.parametrize("by_asyncio", [True, False], ids=["asyncio", "other"])
async def test_a_timeout_is_answered_504(
    tracing: Tracing, recorder: Recorder, by_asyncio: bool
) -> None:
    """A TimeoutError out of a handler; a reason only when asyncio made it of a cancellation."""

    async def handler(_request: web.Request) -> web.Response:
        if by_asyncio:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        raise TimeoutError("the database")

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        assert await service.status("/") == HTTPStatus.GATEWAY_TIMEOUT
    span = await recorder.one()
    attributes = span.attributes or {}
    assert attributes["http.response.status_code"] == 504
    assert attributes["error.type"] == "TimeoutError"
    assert attributes.get("asynctrace.cancellation.reason") == ("timeout" if by_asyncio else None)
    assert span.status.status_code is StatusCode.ERROR


async def test_a_handler_that_returns_nothing_is_an_error(
    tracing: Tracing, recorder: Recorder
) -> None:
    """aiohttp answers 500 in its place, and so the span says."""

    async def handler(_request: web.Request) -> None:
        return None

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        assert await service.status("/") == HTTPStatus.INTERNAL_SERVER_ERROR
    span = await recorder.one()
    assert (span.attributes or {})["http.response.status_code"] == 500
    assert (span.attributes or {})["error.type"] == "500"
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.may_block("writes a log line")
async def test_an_exception_that_cannot_be_printed_is_told_by_its_class(
    tracing: Tracing, recorder: Recorder
) -> None:
    """A `__str__` that raises does not cost the span."""

    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def handler(_request: web.Request) -> web.Response:
        raise UnprintableError

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, logger=_silent()) as service:
        assert await service.status("/") == HTTPStatus.INTERNAL_SERVER_ERROR
    span = await recorder.one()
    assert span.status.description == "UnprintableError"


def _silent() -> object:
    import logging

    logger = logging.getLogger("tests.silent")
    logger.disabled = True
    return logger


async def test_keep_alive_and_pipelining_keep_requests_apart(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Requests on one connection have a span and a trace each."""
    app = app_of(ok, "/{n}")
    setup(app, tracing)
    async with Serving(app) as service:
        requests = b"".join(get(f"/{n}") for n in range(20))
        async with service.connection(requests):
            spans = await recorder.take(20)
    assert [(span.attributes or {})["url.path"] for span in spans] == [f"/{n}" for n in range(20)]
    assert len({span.context.trace_id for span in spans}) == 20
