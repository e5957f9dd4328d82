"""A collector on this machine: takes OTLP over HTTP and keeps the spans for looking at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from asynctrace.otlp.records import SpanRecord
from asynctrace.tree import Trace, build
from asynctrace.viewer import otlp_http
from asynctrace.viewer.store import SpanStore, StoreStatistics

TRACES_PATH = "/v1/traces"

_CLOSING = 1.0  # seconds that requests in flight get when the collector closes


class Collector:
    """An OTLP/HTTP receiver; give `url` to exporters as their endpoint.

    ::

        async with Collector() as collector:
            ...  # OTEL_EXPORTER_OTLP_ENDPOINT=collector.url
            await collector.wait_for(lambda spans: len(spans) >= 3, timeout=5.0)
            traces = collector.traces()

    Memory is bounded: the last `max_spans` are kept, and a request may have `max_request_bytes`,
    compressed and not. Port 0 is any free port. It trusts nobody, but asks nobody who they are:
    leave it on loopback.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_spans: int = 100_000,
        max_request_bytes: int = 16 * 2**20,
    ) -> None:
        self._host = host
        self._port = port
        self._store = SpanStore(max_spans)
        self._max_request_bytes = max_request_bytes
        self._runner: web.AppRunner | None = None
        self._arrival = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it listens, once it was entered: the base that exporters add their path to."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def spans(self) -> tuple[SpanRecord, ...]:
        """What is kept, in the order of arrival."""
        return self._store.spans()

    def traces(self) -> list[Trace[SpanRecord]]:
        """What is kept, as trees."""
        return build(self._store.spans())

    def statistics(self) -> StoreStatistics:
        """How many spans came, and what became of them."""
        return self._store.statistics()

    async def wait_for(
        self, condition: Callable[[tuple[SpanRecord, ...]], bool], *, timeout: float
    ) -> None:
        """Wait until the kept spans satisfy the condition, which is asked at each arrival.

        Raises:
            TimeoutError: they do not after `timeout` seconds; the message says what had come.
        """
        try:
            async with asyncio.timeout(timeout):
                while not condition(self.spans):
                    await self._arrival.wait()
        except TimeoutError:
            raise TimeoutError(f"after {timeout} s there are {self.statistics()}") from None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=self._max_request_bytes)
        app.router.add_post(TRACES_PATH, self._receive)
        # Bodies are decompressed here, within the limit, and not by aiohttp.
        runner = web.AppRunner(
            app, auto_decompress=False, access_log=None, shutdown_timeout=_CLOSING
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        answer = await self._answer(request)
        return web.Response(
            status=answer.status, body=answer.body, content_type=answer.content_type
        )

    async def _answer(self, request: web.Request) -> otlp_http.Answer:
        try:
            spans = otlp_http.read_spans(
                await self._body(request),
                content_type=request.content_type,
                encoding=request.headers.get("Content-Encoding", ""),
                limit=self._max_request_bytes,
            )
        except otlp_http.RefusedError as error:
            return otlp_http.refused(error, request.content_type)
        rejected = self._store.add(spans)
        arrival, self._arrival = self._arrival, asyncio.Event()
        arrival.set()
        return otlp_http.accepted(request.content_type, rejected=rejected)

    async def _body(self, request: web.Request) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise otlp_http.too_large(self._max_request_bytes) from None

    def __repr__(self) -> str:
        state = "closed" if self._runner is None else self.url
        return f"<Collector {state}: {self._store!r}>"
