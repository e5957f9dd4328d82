"""`http.client.request.duration`: once for every request, however it ends."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from asynctrace import metrics
from asynctrace.httpx import instrument
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server, until

NAME = "http.client.request.duration"


class Measured:
    """A meter provider in the place of the process's, and what was recorded."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def points(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if metric.name == NAME
        ]

    def one(self) -> dict[str, Any]:
        """The attributes of the only duration; it was recorded once."""
        [point] = self.points()
        assert point.count == 1
        assert point.sum >= 0
        return dict(point.attributes)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Measured]:
    found = Measured()
    monkeypatch.setattr(metrics.metrics, "get_meter_provider", lambda: found.provider)
    yield found
    found.provider.shutdown()


async def test_a_success(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, measured: Measured
) -> None:
    """It has what the conventions require, the stable buckets, and nothing of high cardinality."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, server.url("/200"))
    recorder.one()
    [point] = measured.points()
    assert measured.one() == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "url.scheme": "http",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert list(point.explicit_bounds)[:3] == [0.005, 0.01, 0.025]
    assert point.explicit_bounds[-1] == 10


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/404", 404, "404"),
        ("/500", 500, "500"),
        ("/cut", 200, "{}.RemoteProtocolError"),
        ("/garbage", None, "{}.RemoteProtocolError"),
        ("/silent", None, "{}.ReadTimeout"),
    ],
)
async def test_failures(
    kind: Kind,
    server: Server,
    tracing: Tracing,
    measured: Measured,
    path: str,
    status: int | None,
    error: str,
) -> None:
    """The error's type is the span's; what was recorded of a response stays."""
    async with kind.client(timeout=0.2) as client:
        instrument(client, tracing=tracing)
        try:
            await kind.call(client.get, server.url(path))
        except kind.library.TransportError:
            pass
    attributes = measured.one()
    assert attributes.get("http.response.status_code") == status
    assert attributes["error.type"] == error.format(kind.library.__name__)


async def test_not_sampled(
    kind: Kind, server: Server, unsampled: Tracing, recorder: Recorder, measured: Measured
) -> None:
    """A duration is recorded whether or not the trace is."""
    async with kind.client() as client:
        instrument(client, tracing=unsampled)
        await kind.call(client.get, server.url("/500"))
    assert recorder.started == []
    assert measured.one()["error.type"] == "500"


@pytest.mark.parametrize("path", ["/silent", "/drip"])
async def test_cancelled(
    async_kind: Kind, server: Server, tracing: Tracing, measured: Measured, path: str
) -> None:
    """A cancelled request is no error, and has no status that it did not get."""
    async with async_kind.client() as client:
        instrument(client, tracing=tracing)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.get(server.url(path))
    attributes = measured.one()
    assert "error.type" not in attributes
    assert attributes.get("http.response.status_code") == (200 if path == "/drip" else None)


async def test_closed_early(
    kind: Kind, server: Server, tracing: Tracing, measured: Measured
) -> None:
    """Closing a stream, twice even, records once."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", server.url("/drip"))
        response = await kind.call(client.send, request, stream=True)
        for _ in range(2):
            await kind.call(response.aclose if kind.is_async else response.close)
    assert measured.one()["http.response.status_code"] == 200


async def test_abandoned(
    kind: Kind, server: Server, tracing: Tracing, measured: Measured, recorder: Recorder
) -> None:
    """A finalizer takes no lock of an instrument; the duration is recorded after it."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", server.url("/drip"))
        response = await kind.call(client.send, request, stream=True)
        del response
        await until(lambda: gc.collect() >= 0 and recorder.spans)
        if not kind.is_async:  # no loop to do it on: the next request does
            assert measured.points() == []
            await kind.call(client.get, server.url("/200"))
        await until(measured.points)
    [point] = measured.points()
    assert point.count == (1 if kind.is_async else 2)


async def test_without_a_meter_provider(
    kind: Kind, tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is recorded, and nothing made that could."""
    monkeypatch.setattr("asynctrace.metrics.ClientMetrics", None)
    transport = kind.transport(lambda request: kind.library.Response(200))
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        assert (await kind.call(client.get, "http://host/")).status_code == 200


@pytest.mark.may_block("writes a log line")
async def test_an_instrument_that_fails(
    kind: Kind, tracing: Tracing, recorder: Recorder, measured: Measured
) -> None:
    """The request and its span do not notice."""
    transport = kind.transport(lambda request: kind.library.Response(200))
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, "http://host/")
        recorder.clear()
        used = client._transport._attempts._used
        used.metrics._duration = None
        await kind.call(client.get, "http://host/")
    recorder.one()
    assert tracing.statistics().faults == {NAME: 1}


_LATE = """
import asyncio, httpx
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import asynctrace
from asynctrace.aiohttp import client_session
from tests.httpx_client.harness import Server

async def main():
    async with asynctrace.init(exporter="none") as tracing, Server() as server:
        async with asynctrace.create_client() as client, client_session() as session:
            async def ask():
                await client.get(server.url("/200"))
                await (await session.get(server.url("/404"))).read()
            await ask()
            reader = InMemoryMetricReader()
            set_meter_provider(MeterProvider([reader]))
            await ask()
            await ask()
    [resource] = reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            for point in metric.data.data_points:
                print(scope.scope.name, metric.name, point.count)

asyncio.run(main())
"""


@pytest.mark.may_block("starts a process")
def test_a_meter_provider_that_is_set_later() -> None:
    """Durations are recorded from then on, though requests were sent before."""
    done = subprocess.run(
        [sys.executable, "-c", _LATE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == [
        f"asynctrace.aiohttp.client {NAME} 2",
        f"asynctrace.httpx {NAME} 2",
    ]


def test_the_public_way_to_the_meter_provider(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked where OpenTelemetry keeps the provider elsewhere by now."""
    monkeypatch.delattr(metrics._api, "_METER_PROVIDER")
    assert metrics.process_provider() is measured.provider
