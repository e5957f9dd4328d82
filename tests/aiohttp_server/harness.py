"""A service on a real socket, raw connections to it, and the spans that it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from asynctrace.tracing import Tracing
from tests.support.watching import watch

PATIENCE = 10.0


class Recorder(SpanProcessor):
    """Keeps ended spans, in the order of their ends."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.ended = 0
        self.forgets = False
        """Whether it counts only."""
        self._begun = 0
        self._watched: Tracing | None = None
        self._changed = asyncio.Event()

    def watch(self, tracing: Tracing) -> None:
        """See the spans of `tracing` without being one of its processors."""
        watch(tracing, self)
        self._watched = tracing

    @property
    def started(self) -> int:
        """How many spans have begun."""
        if self._watched is None:
            return self._begun
        return self.ended + len(self._watched.open_spans())

    def on_start(self, span: object, parent_context: object = None) -> None:
        self._begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1
        if not self.forgets:
            self.spans.append(span)
        self._changed.set()

    async def take(self, count: int) -> list[ReadableSpan]:
        """The first `count` spans, when there are as many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.spans) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.spans[:count]

    async def one(self) -> ReadableSpan:
        """The only span."""
        [span] = await self.take(1)
        assert self.started == len(self.spans) == 1
        return span

    def named(self, name: str) -> ReadableSpan:
        [span] = [span for span in self.spans if span.name == name]
        return span


@dataclass
class Service:
    """An application that is served on a port of its own."""

    runner: web.AppRunner
    session: aiohttp.ClientSession

    @property
    def port(self) -> int:
        port = self.runner.addresses[0][1]
        assert isinstance(port, int)
        return port

    async def fetch(self, path: str, method: str = "GET", **options: object) -> tuple[int, str]:
        """Status and text of a response that was read to its end."""
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, **options) as response:  # type: ignore[arg-type]
            return response.status, await response.text()

    async def headers(self, path: str) -> CIMultiDictProxy[str]:
        """The headers of a response that was read to its end."""
        async with self.session.get(f"http://127.0.0.1:{self.port}{path}") as response:
            await response.read()
            return response.headers

    async def status(self, path: str, method: str = "GET", **options: object) -> int:
        return (await self.fetch(path, method, **options))[0]

    @asynccontextmanager
    async def connection(self, request: bytes) -> AsyncIterator[asyncio.StreamReader]:
        """A connection that has sent `request`, byte by byte as given; leaving it hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            yield reader
        finally:
            writer.transport.abort()


class Serving:
    """Serves an application for the length of an `async with`."""

    def __init__(self, app: web.Application, **options: object) -> None:
        options = {"shutdown_timeout": 0.2, "access_log": None, **options}
        self.runner = web.AppRunner(app, **options)  # type: ignore[arg-type]

    async def __aenter__(self) -> Service:
        try:
            await self.runner.setup()
            await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        except BaseException:
            await self.runner.cleanup()
            raise
        self._service = Service(self.runner, aiohttp.ClientSession())
        return self._service

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._service.session.close()
        await self.runner.cleanup()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0)


Handler = Callable[[web.Request], object]


def app_of(handler: Handler, path: str = "/", **options: object) -> web.Application:
    """An application with one handler for every method."""
    app = web.Application(**options)  # type: ignore[arg-type]
    app.router.add_route("*", path, handler)  # type: ignore[arg-type]
    return app


async def ok(_request: web.Request) -> web.Response:
    return web.Response(text="fine")


def get(path: str, *headers: str, version: str = "1.1") -> bytes:
    """A raw GET request."""
    lines = [f"GET {path} HTTP/{version}", "Host: shop.example", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")
