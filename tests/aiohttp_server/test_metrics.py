"""The metrics of requests: recorded exactly once, whatever happens, and only for a provider."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from asynctrace import metrics, semconv
from asynctrace.aiohttp import setup
from asynctrace.aiohttp._server import KEY
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import PATIENCE, Recorder, Serving, app_of, get, ok, until
from tests.support.programs import run_program

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""As the conventions want them."""


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """Reads what the process's meter provider has recorded."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._api, "_METER_PROVIDER", provider)
    yield reader
    provider.shutdown()


def _points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    return {
        metric.name: list(metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


async def _handler(request: web.Request) -> web.StreamResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"12345"

    match request.query_string:
        case "raise":
            raise ValueError("theirs")
        case "missing":
            raise web.HTTPNotFound
        case "stream":
            return web.Response(body=body())
        case "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        case _:
            await request.read()
    return web.Response(text="fine")


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("", 200, None),
        ("stream", 200, None),
        ("missing", 404, None),
        ("raise", 500, "ValueError"),
        ("cancel", None, "asyncio.exceptions.CancelledError"),
    ],
)
@pytest.mark.parametrize("sampled", [True, False])
async def test_each_request_is_measured_once(
    reader: InMemoryMetricReader, query: str, status: int | None, error: str | None, sampled: bool
) -> None:
    """Also when it fails, is cancelled, or its trace is not sampled."""
    options: dict[str, Any] = {} if sampled else {"sampler": ALWAYS_OFF}
    async with init(set_global=False, exporter="none", **options) as tracing:
        app = app_of(_handler, "/{x}")
        setup(app, tracing)
        async with Serving(app) as service:
            async with service.connection(get(f"/1?{query}", "Connection: close")) as stream:
                await stream.read()
            points = _points(reader)
    [duration] = points["http.server.request.duration"]
    expected = {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.route": "/{x}",
        "network.protocol.version": "1.1",
        "http.response.status_code": status,
        "error.type": error,
    }
    assert duration.attributes == {k: v for k, v in expected.items() if v is not None}
    assert duration.count == 1
    assert duration.explicit_bounds == BUCKETS
    [active] = points["http.server.active_requests"]
    assert (active.value, set(active.attributes)) == (0, {"http.request.method", "url.scheme"})
    assert set(points) <= semconv.METRICS


async def test_sizes_of_bodies_and_requests_under_way(
    reader: InMemoryMetricReader, tracing: Tracing, recorder: Recorder
) -> None:
    """Both ways; and a request counts as active until it is over."""
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        await release.wait()
        return web.Response(body=b"12345")

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        asking = asyncio.create_task(service.status("/", "POST", data=b"123"))
        await until(lambda: recorder.started == 1)
        assert _points(reader)["http.server.active_requests"][0].value == 1
        release.set()
        await asyncio.wait_for(asking, PATIENCE)
        points = _points(reader)
    assert points["http.server.request.body.size"][0].sum == 3
    assert points["http.server.response.body.size"][0].sum == 5
    await recorder.one()


@pytest.mark.parametrize("when", ["before", "before all of it", "during"])
async def test_a_request_whose_client_left_is_measured_once(
    reader: InMemoryMetricReader,
    tracing: Tracing,
    recorder: Recorder,
    handler_cancellation: bool,
    when: str,
) -> None:
    """Before its response or in the middle of it; and it is not active any more."""

    async def handler(request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await until(lambda: request.transport is None)
            yield b"never"

        if when != "during":
            await until(lambda: request.transport is None)
        return web.Response(body=b"never" if when == "before all of it" else body())

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get("/")) as stream:
            if when == "during":
                await stream.readuntil(b"first")
            await until(lambda: recorder.started == 1)
        await recorder.one()
        points = _points(reader)
    [duration] = points["http.server.request.duration"]
    assert duration.count == 1
    assert "error.type" in duration.attributes
    assert points["http.server.active_requests"][0].value == 0
    assert "http.server.response.body.size" not in points


async def test_what_is_skipped_is_not_measured(
    reader: InMemoryMetricReader, tracing: Tracing
) -> None:
    """Neither begun nor ended."""
    app = app_of(ok)
    setup(app, tracing, skip=["/"])
    async with Serving(app) as service:
        assert await service.status("/") == 200
    assert _points(reader) == {}


@pytest.mark.may_block("writes a log line")
async def test_a_meter_that_fails_does_not_reach_the_request(
    tracing: Tracing, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when instruments are made, nor when they are used."""

    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("theirs")

    app, second = app_of(ok), app_of(ok)
    setup(app, tracing)
    setup(second, tracing)
    provider = MeterProvider(shutdown_on_exit=False)
    monkeypatch.setattr(metrics._api, "_METER_PROVIDER", provider)
    monkeypatch.setattr(metrics.ServerMetrics, "end", fail)
    async with Serving(app) as service:
        assert await service.fetch("/") == (200, "fine")
    monkeypatch.setattr(metrics, "meter", fail)
    async with Serving(second) as service:
        assert await service.fetch("/") == (200, "fine")
    assert len(recorder.spans) == 2
    assert set(tracing.statistics().faults) == {"aiohttp metrics", "aiohttp engine"}
    provider.shutdown()


async def test_without_a_meter_provider_nothing_is_measured(tracing: Tracing) -> None:
    """And nothing is spent on it: the application takes the short way."""
    app = app_of(ok)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.status("/")
    assert app[KEY].instead is None


_LATE = """
import asyncio, sys
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import asynctrace

reader = InMemoryMetricReader()
options = {"skip": ["/health"]} if "options" in sys.argv else {}

async def handler(request):
    if request.query_string:
        metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    return web.Response()

async def main():
    async with asynctrace.init(exporter="none"):
        app = web.Application()
        app.router.add_get("/", handler)
        asynctrace.setup(app, **options)
        async with TestClient(TestServer(app)) as client:
            for path in ("/", "/?set", "/", "/"):
                await client.get(path)
    [resource] = reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            for point in metric.data.data_points:
                print(metric.name, getattr(point, "count", None) or point.value)

asyncio.run(main())
"""


@pytest.mark.may_block("runs a program")
@pytest.mark.parametrize("arguments", [[], ["options"]])
def test_a_meter_provider_that_is_set_later(arguments: list[str]) -> None:
    """Requests are measured from the next on; the one under way is not half measured.

    This notices when the API's private names have moved.
    """
    ended = run_program(_LATE, *arguments)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.splitlines()) == [
        "http.server.active_requests 0",
        "http.server.request.duration 2",
        "http.server.response.body.size 2",
    ]


async def test_an_application_is_not_kept_for_a_meter_provider(tracing: Tracing) -> None:
    """Who waits for one is held weakly."""
    app = app_of(ok)
    setup(app, tracing)
    app[KEY].current()
    seen = weakref.ref(app[KEY])
    del app
    gc.collect()
    assert seen() is None


async def test_an_api_without_the_private_names_serves_on(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that is set later is then not noticed."""
    monkeypatch.delattr(metrics._api._PROXY_METER_PROVIDER, "_meters")
    app = app_of(ok)
    setup(app, tracing)
    async with Serving(app) as service:
        assert await service.status("/") == 200
    assert tracing.statistics().faults == {}


def test_what_counts_as_a_meter_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the API's placeholder, by which this notices when that is renamed, nor the no-op."""
    assert metrics.meter("x") is None
    assert metrics.meter("x", api.NoOpMeterProvider()) is None
    provider = MeterProvider(shutdown_on_exit=False)
    assert metrics.meter("x", provider) is not None
    provider.shutdown()
