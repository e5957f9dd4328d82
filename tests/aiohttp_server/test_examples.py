"""The examples for servers, run as their users run them, and what arrives of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from asynctrace.otlp.records import SpanRecord
from asynctrace.viewer import Collector
from tests.aiohttp_server.harness import PATIENCE, Serving

ROOT = Path(__file__).parents[2]
SERVER = 2

pytestmark = pytest.mark.may_block("starts processes, imports examples")


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with Collector() as collector:
        with monkeypatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
            yield collector


def _app(name: str, factory: str = "make_app", *arguments: str) -> web.Application:
    module = importlib.import_module(f"examples.{name}")
    app = getattr(module, factory)(*arguments)
    assert isinstance(app, web.Application)
    return app


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


@contextlib.asynccontextmanager
async def _process(*command: str, **variables: str) -> AsyncIterator[None]:
    """A program that is asked to end, and ends well."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
        assert b"Traceback" not in output, output.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def _get(url: str) -> str:
    """The text of a page that may not be there yet."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    return await response.text()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)


async def _servers(collector: Collector, count: int) -> list[SpanRecord]:
    def found() -> list[SpanRecord]:
        return [span for span in collector.spans if span.kind == SERVER]

    await collector.wait_for(lambda _: len(found()) >= count, timeout=PATIENCE)
    assert len(found()) == count
    return found()


async def test_minimal_service(collector: Collector) -> None:
    """By web.run_app, in a process of its own; what was pending is delivered at its end."""
    port = _port()
    async with _process(sys.executable, "examples/minimal_service.py", PORT=str(port)):
        assert await _get(f"http://127.0.0.1:{port}/hello/you") == '{"hello": "you"}'
    [span] = await _servers(collector, 1)
    assert (span.name, span.resource.attributes["service.name"]) == ("GET /hello/{name}", "minimal")


async def test_streaming_service(collector: Collector) -> None:
    """Spans as long as their bodies, with size and first byte; the caller knows the trace."""
    async with Serving(_app("streaming_service")) as service:
        _, text = await service.fetch("/report")
        headers = await service.headers("/events")
    report, events = await _servers(collector, 2)
    assert report.attributes["http.response.body.size"] == len(text)
    assert (report.end - report.start) > 30_000_000
    assert events.trace_id in headers["traceresponse"]
    lines = [span for span in collector.spans if span.name == "compute line"]
    assert {line.parent_span_id for line in lines} == {report.span_id}


async def test_websocket_chat(collector: Collector) -> None:
    """Counts each way, at the end of each connection."""
    async with Serving(_app("websocket_chat")) as service:
        url = f"http://127.0.0.1:{service.port}/chat"
        async with service.session.ws_connect(url) as one, service.session.ws_connect(url) as two:
            await one.send_str("hello")
            assert (await one.receive_str(), await two.receive_str()) == ("hello", "hello")
    spans = await _servers(collector, 2)
    counts = {
        way: sorted(span.attributes[f"asynctrace.websocket.messages.{way}"] for span in spans)
        for way in ("received", "sent")
    }
    assert counts == {"received": [0, 1], "sent": [1, 1]}


async def test_two_services_behind_a_proxy(collector: Collector) -> None:
    """A stranger's trace is linked, the client is the proxy's word, no token leaves."""
    async with Serving(_app("behind_a_proxy", "make_stock")) as stock:
        shop_app = _app("behind_a_proxy", "make_shop", f"http://127.0.0.1:{stock.port}")
        async with Serving(shop_app) as shop:
            headers = {
                "X-Forwarded-For": "6.6.6.6, 203.0.113.9",
                "X-Request-Id": "r1",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            }
            _, text = await shop.fetch("/items/7?token=secret", headers=headers)
            assert '"left": 3' in text
            await shop.status("/health")
    spans = {
        span.resource.attributes["service.name"]: span for span in await _servers(collector, 2)
    }
    shop_span, stock_span = spans["shop"], spans["stock"]
    assert shop_span.trace_id == stock_span.trace_id != "0af7651916cd43dd8448eb211c80319c"
    assert [link.span_id for link in shop_span.links] == ["b7ad6b7169203331"]
    assert shop_span.attributes["client.address"] == "203.0.113.9"
    assert shop_span.attributes["url.query"] == "token=REDACTED"
    assert shop_span.attributes["http.request.header.x-request-id"] == ("r1",)


async def test_gunicorn(collector: Collector) -> None:
    """A worker traces from its start to its end, in its own process."""
    pytest.importorskip("gunicorn")
    port = _port()
    command = (
        sys.executable, "-m", "gunicorn", "examples.gunicorn_service:make_app", "--worker-class",
        "aiohttp.GunicornWebWorker", "--bind", f"127.0.0.1:{port}", "--workers", "1",
    )  # fmt: skip
    async with _process(*command):
        text = await _get(f"http://127.0.0.1:{port}/")
    [span] = await _servers(collector, 1)
    worker = re.search(r"\d+", text)
    assert worker is not None
    assert span.resource.attributes["process.pid"] == int(worker.group())
