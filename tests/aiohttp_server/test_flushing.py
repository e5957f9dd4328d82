"""Responses that end when their spans are delivered, for hosts that freeze a process after them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

import asynctrace
from asynctrace.aiohttp import flush_after, setup
from asynctrace.aiohttp._server import KEY
from asynctrace.errors import ConfigError
from tests.aiohttp_server.harness import Handler, Serving, get, ok, until
from tests.support.collector import Answer, ScriptedCollector


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


def names(collector: ScriptedCollector) -> list[str]:
    return sorted(span.name for span in collector.spans)


async def inner(_request: web.Request) -> web.Response:
    with asynctrace.span("inner"):
        return web.Response(text="done")


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(3):
        await response.write(b"piece ")
    return response


async def generated(_request: web.Request) -> web.Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"piece "

    return web.Response(body=pieces())


async def refusing(_request: web.Request) -> web.Response:
    raise web.HTTPForbidden


async def failing(_request: web.Request) -> web.Response:
    raise ValueError("no")


def by_option(handler: Handler, collector: ScriptedCollector) -> web.Application:
    app = web.Application()
    app.router.add_get("/", handler)
    setup(app, endpoint=collector.url, flush_after=2.0)
    return app


def by_wrapper(handler: Handler, collector: ScriptedCollector) -> web.Application:
    app = web.Application()
    app.router.add_get("/", flush_after(handler))
    setup(app, endpoint=collector.url)
    return app


def beside_other_options(handler: Handler, collector: ScriptedCollector) -> web.Application:
    """Those for which a span waits for the headers of its response."""
    app = web.Application()
    app.router.add_get("/", handler)
    setup(
        app,
        endpoint=collector.url,
        flush_after=2.0,
        capture_response_headers=["content-type"],
        response_headers=["traceresponse"],
    )
    return app


Make = Callable[[Handler, ScriptedCollector], web.Application]
ways = pytest.mark.parametrize("make", [by_option, by_wrapper, beside_other_options])


@ways
@pytest.mark.parametrize(
    ("handler", "status"), [(inner, 200), (refusing, 403), (failing, 500), (streamed, 200)]
)
async def test_when_the_response_has_ended_its_spans_are_delivered(
    make: Make, handler: Handler, status: int, collector: ScriptedCollector
) -> None:
    """The request's own span and those inside, whatever the answer was; nobody has to wait."""
    async with Serving(make(handler, collector)) as service:
        assert await service.status("/") == status
        delivered = names(collector)
    assert delivered == (["GET /", "inner"] if handler is inner else ["GET /"])
    span = next(span for span in collector.spans if span.name == "GET /")
    assert span.attributes["http.response.status_code"] == status


@ways
async def test_a_body_that_is_streamed_is_not_held_but_its_end_is(
    make: Make, collector: ScriptedCollector
) -> None:
    """Its pieces arrive while the collector takes its time; the end comes after that."""
    collector.then(Answer(delay=0.3))
    async with (
        Serving(make(streamed, collector)) as service,
        service.session.get(f"http://127.0.0.1:{service.port}/") as response,
    ):
        assert await response.content.readexactly(18) == b"piece " * 3
        assert collector.spans == []
        assert await response.content.read() == b""
        assert names(collector) == ["GET /"]


@ways
async def test_what_aiohttp_sends_itself_is_followed_by_the_delivery(
    make: Make, collector: ScriptedCollector, tmp_path: Path
) -> None:
    """A generator's body or a file: the connection answers nothing else before."""
    (tmp_path / "page").write_text("page")

    async def file(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "page")

    for handler, text in ((generated, "piece " * 3), (file, "page")):
        async with Serving(make(handler, collector)) as service:
            assert await service.fetch("/") == (200, text)
            await until(lambda: names(collector) == ["GET /"])
        (span,) = collector.spans
        assert span.attributes["http.response.status_code"] == 200
        collector.requests.clear()


@ways
async def test_a_collector_that_hangs_costs_no_more_than_the_time_out(
    make: Make, collector: ScriptedCollector
) -> None:
    """The response comes then, and the spans stay queued."""
    collector.then(Answer(silent=True))
    app = web.Application()
    if make is by_option:
        app.router.add_get("/", ok)
        setup(app, endpoint=collector.url, flush_after=0.1, shutdown_timeout=0.1)
    else:
        app.router.add_get("/", flush_after(ok, timeout=0.1))
        setup(app, endpoint=collector.url, shutdown_timeout=0.1)
    async with Serving(app) as service:
        begun = time.monotonic()
        assert await service.status("/") == 200
        assert 0.1 <= time.monotonic() - begun < 5


async def test_without_setup_the_spans_inside_are_delivered(collector: ScriptedCollector) -> None:
    """There is no span of the request, and what was made in it counts all the same."""
    app = web.Application()
    app.router.add_get("/", flush_after(inner))
    app.router.add_get("/fails", flush_after(failing))
    async with asynctrace.init(endpoint=collector.url), Serving(app) as service:
        assert await service.status("/") == 200
        assert names(collector) == ["inner"]
        assert await service.status("/fails") == 500


async def test_without_tracing_the_handler_is_all() -> None:
    """Nothing runs, nothing is waited for."""
    app = web.Application()
    app.router.add_get("/", flush_after(ok))
    async with Serving(app) as service:
        assert await service.status("/") == 200


async def test_requests_that_nobody_holds_do_not_wait(collector: ScriptedCollector) -> None:
    """The wrapper is for its own handler."""
    app = web.Application()
    app.router.add_get("/held", flush_after(ok))
    app.router.add_get("/", ok)
    setup(app, endpoint=collector.url, schedule_delay=60)
    async with Serving(app) as service:
        assert await service.status("/") == 200
        assert collector.spans == []
        assert await service.status("/held") == 200
        assert names(collector) == ["GET /", "GET /held"]


async def test_skipped_requests_do_not_wait(collector: ScriptedCollector) -> None:
    """A health check has nothing to deliver."""
    app = web.Application()
    app.router.add_get("/health", ok)
    setup(app, endpoint=collector.url, flush_after=2.0, skip=["/health"])
    async with Serving(app) as service:
        assert await service.status("/health") == 200
    assert collector.requests == []


async def test_a_client_that_leaves_does_not_hold_its_request(
    collector: ScriptedCollector,
) -> None:
    """Its handler is cancelled, and nothing is waited for; nothing is kept of it either."""
    arrived = asyncio.Event()

    async def waiting(_request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    app = by_wrapper(waiting, collector)
    async with Serving(app, handler_cancellation=True) as service:
        async with service.connection(get("/")):
            await arrived.wait()
        server = app[KEY]
        await until(lambda: not server.holds.waiting)
        assert repr(server.holds) == "<Holds 0 requests>"


async def test_a_connection_that_breaks_in_the_body_is_told_by_the_span(
    collector: ScriptedCollector,
) -> None:
    """What cannot be sent is not held."""

    async def endless(_request: web.Request) -> web.Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)

        return web.Response(body=pieces())

    async with (
        Serving(by_wrapper(endless, collector)) as service,
        service.connection(get("/")) as reader,
    ):
        await reader.readexactly(100)
    (span,) = collector.spans
    assert span.status_code == 2


@pytest.mark.parametrize("timeout", [-1, "1", True])
def test_a_time_out_that_is_none_is_refused(timeout: float) -> None:
    """When it is given, and not at the first request."""
    with pytest.raises(ConfigError):
        flush_after(ok, timeout=timeout)
    with pytest.raises(ConfigError):
        setup(web.Application(), flush_after=timeout)
