"""Wherever an application runs, its requests are traced alike. Processes: see test_examples."""

from __future__ import annotations

import asyncio
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from opentelemetry import trace

from asynctrace.aiohttp import setup
from asynctrace.initialization import init
from asynctrace.tracing import Tracing, running
from tests.aiohttp_server.harness import Recorder, Serving, app_of, get, ok, until


async def test_by_the_test_utilities_of_aiohttp(tracing: Tracing, recorder: Recorder) -> None:
    """Which serve with handler_cancellation, other than a real server."""
    app = app_of(ok)
    setup(app, tracing)
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        assert response.status == 200
    await recorder.one()


async def test_without_any_server(tracing: Tracing, recorder: Recorder) -> None:
    """A handler called by a test, in its own task, leaves nothing current there."""
    app = app_of(ok)
    setup(app, tracing)
    app.freeze()
    response = await app._handle(make_mocked_request("GET", "/", app=app))
    assert isinstance(response, web.Response)
    span = await recorder.one()
    assert span.name == "GET /"
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_several_applications_in_one_process(recorder: Recorder) -> None:
    """Each with its own options, its own Tracing, and no span of the other's."""
    other = Recorder()
    one, two = app_of(ok, "/one"), app_of(ok, "/two")
    setup(one, service_name="one", exporter="none", span_processors=[recorder], skip=["/health"])
    setup(two, service_name="two", exporter="none", span_processors=[other])
    for app in (one, two):
        app.router.add_get("/health", ok)
    async with Serving(one) as first, Serving(two) as second:
        for service in (first, second):
            for path in ("/one", "/two", "/health"):
                await service.status(path)
    assert [span.name for span in recorder.spans] == ["GET /one", "GET"]
    assert [span.name for span in other.spans] == ["GET", "GET /two", "GET /health"]
    names = {span.resource.attributes["service.name"] for span in (*recorder.spans, *other.spans)}
    assert names == {"one", "two"}
    assert running() is None


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_applications_made_before_and_after_init(recorder: Recorder, before: bool) -> None:
    """And a request that arrives when nothing runs is answered and not traced."""
    app = app_of(ok)
    if before:
        setup(app)
    async with init(exporter="none", span_processors=[recorder]):
        if not before:
            setup(app)
        serving = Serving(app)
        service = await serving.__aenter__()
        assert await service.status("/") == 200
    assert await service.status("/") == 200
    await serving.__aexit__(None, None, None)
    await recorder.one()


async def test_one_application_lives_through_several_tracings(recorder: Recorder) -> None:
    """It looks up which one runs, and forgets the one before."""
    app = app_of(ok)
    setup(app)
    second = Recorder()
    async with init(exporter="none", span_processors=[recorder]):
        serving = Serving(app)
        service = await serving.__aenter__()
        await service.status("/")
    async with init(exporter="none", span_processors=[second]):
        await service.status("/")
    await serving.__aexit__(None, None, None)
    assert (len(recorder.spans), len(second.spans)) == (1, 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize("streams", [True, False])
async def test_with_an_eager_task_factory(
    tracing: Tracing, recorder: Recorder, streams: bool
) -> None:
    """Tasks that run at once, also those that aiohttp makes, have spans that end and nest."""

    async def handler(request: web.Request) -> web.StreamResponse:
        async def work() -> None:
            with tracing.get_tracer("test").start_as_current_span("work"):
                await asyncio.sleep(0)

        await asyncio.create_task(work())
        if not streams:
            return web.Response()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        return response

    app = app_of(handler)
    setup(app, tracing)
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    try:
        async with Serving(app) as service:
            await service.fetch("/")
            await service.fetch("/")
            spans = await recorder.take(4)
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    work, server = spans[:2]
    assert work.parent is not None
    assert work.parent.span_id == server.context.span_id
    assert len({span.context.trace_id for span in spans}) == 2


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "plain"])
async def test_aborted_requests_leave_no_span_task_or_context(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool, count: int, streams: bool
) -> None:
    """Clients that hang up while the handler works, many at a time."""
    tasks = len(asyncio.all_tasks())
    recorder.forgets = True

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse() if streams else web.Response()
        if streams:
            await response.prepare(request)
        await until(lambda: request.transport is None)
        return response

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:

        async def abort() -> None:
            begun = recorder.started
            async with service.connection(get("/")):
                await until(lambda: recorder.started > begun)

        for _ in range(0, count, 50):
            await asyncio.gather(*(abort() for _ in range(50)))
        await until(lambda: recorder.ended == count)
        assert tracing.open_spans() == ()
    await until(lambda: len(asyncio.all_tasks()) == tasks)
    assert trace.get_current_span() is trace.INVALID_SPAN
