"""Zipkin, by OpenTelemetry's own package in a thread of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import asynctrace
from asynctrace.config import plugins
from asynctrace.errors import ConfigError
from tests.support.programs import run_program_async


class Zipkin:
    """Takes spans as Zipkin's HTTP API does."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        zipkin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                zipkin.spans += json.loads(body)
                self.send_response(202)
                self.end_headers()

            def log_request(self, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/api/v2/spans"


@pytest.fixture
def zipkin() -> Iterator[Zipkin]:
    made = Zipkin()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


PROGRAM = """
    import asyncio, asynctrace

    async def main():
        async with asynctrace.init(service_name="shop") as tracing:
            with asynctrace.span("order"):
                with asynctrace.span("pay"):
                    pass
            assert await tracing.force_flush()
            print(tracing.statistics().exporters.keys())

    asyncio.run(main())
"""


async def test_spans_arrive_by_the_variable_beside_others(zipkin: Zipkin) -> None:
    """The package reads its own settings; `console` beside it gets the same spans."""
    ended = await run_program_async(
        PROGRAM,
        OTEL_TRACES_EXPORTER="zipkin,console",
        OTEL_EXPORTER_ZIPKIN_ENDPOINT=zipkin.url,
    )
    assert ended.code == 0, ended.err
    pay, order = sorted(zipkin.spans, key=lambda span: span["name"], reverse=True)
    assert (pay["name"], order["name"]) == ("pay", "order")
    assert pay["parentId"] == order["id"]
    assert pay["localEndpoint"]["serviceName"] == "shop"
    *spans, exporters = ended.out.splitlines()
    assert [json.loads(line)["name"] for line in spans] == ["pay", "order"]
    assert exporters == "dict_keys(['zipkin_json', 'console'])"


async def test_a_package_that_does_not_work_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what it says itself."""

    def broken(name: str) -> None:
        raise ImportError(f"no module for {name}")

    monkeypatch.setattr(plugins, "load_exporter", broken)
    with pytest.raises(ConfigError, match="no module for zipkin_json") as caught:
        await asynctrace.init(exporter="zipkin", set_global=False)
    assert caught.value.setting == "exporter"
