"""An aiohttp request: bytes into aiohttp's protocol class, bytes out of it, a fake transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from opentelemetry.instrumentation.aiohttp_server import (
    AioHttpServerInstrumentor,
    create_aiohttp_middleware,
)

import asynctrace

from .measure import Subject
from .pipelines import BATCH, Discard, official

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def request_bytes(*, sampled: bool) -> bytes:
    flags = "01" if sampled else "00"
    return (
        "GET /users/42?page=3 HTTP/1.1\r\n"
        "Host: shop.example:8080\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\r\n"
        "Accept: application/json\r\n"
        "Accept-Encoding: gzip, deflate\r\n"
        f"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}\r\n\r\n"
    ).encode()


class FakeTransport(asyncio.Transport):
    """Swallows what is written and tells when a response was."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.7", 50123), "sockname": ("10.0.0.1", 8080)})
        self.written: asyncio.Future[None] | None = None

    def write(self, data: Any) -> None:
        if self.written is not None and not self.written.done():
            self.written.set_result(None)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"")

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def handle(request: web.Request) -> web.Response:
    return web.Response(body=b"ok")


@web.middleware
async def do_nothing(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request)


class Server:
    """An application, driven through one keep-alive connection."""

    def __init__(
        self, name: str, *, sampled: bool = True, middlewares: tuple[Any, ...] = ()
    ) -> None:
        self.name = name
        self._request = request_bytes(sampled=sampled)
        self._middlewares = middlewares

    async def start(self) -> None:
        app = web.Application(middlewares=self._middlewares)
        app.router.add_get("/users/{id}", handle)
        await self.prepare(app)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        assert self._runner.server is not None
        self._protocol = self._runner.server()
        self._transport = FakeTransport()
        self._protocol.connection_made(self._transport)

    async def prepare(self, app: web.Application) -> None:
        """Trace the application."""

    async def run(self, operations: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(operations):
            written = self._transport.written = loop.create_future()
            self._protocol.data_received(self._request)
            await written
        await self.finish()

    async def finish(self) -> None:
        """What the spans of a round still have to go through."""

    async def stop(self) -> None:
        self._protocol.connection_lost(None)
        await self._runner.cleanup()


class Contrib(Server):
    """OpenTelemetry's instrumentation, its SDK and its encoder."""

    async def prepare(self, app: web.Application) -> None:
        provider = self._provider = official()
        # Its middleware reads module globals that only the instrumentor sets.
        instrumentor = AioHttpServerInstrumentor()
        instrumentor.instrument(tracer_provider=provider)
        instrumentor.uninstrument()
        app.middlewares.append(create_aiohttp_middleware(provider))

    async def finish(self) -> None:
        self._provider.force_flush()

    async def stop(self) -> None:
        await super().stop()
        self._provider.shutdown()


class Ours(Server):
    async def prepare(self, app: web.Application) -> None:
        self._tracing = await asynctrace.init(
            service_name="benchmark",
            exporter=Discard(),
            set_global=False,
            max_queue_size=100_000,
            max_export_batch_size=BATCH,
        )
        asynctrace.setup(app, self._tracing)

    async def finish(self) -> None:
        await self._tracing.force_flush()

    async def stop(self) -> None:
        await super().stop()
        await self._tracing.shutdown()


def subjects() -> list[Subject]:
    return [
        Server("bare"),
        Server("do nothing", middlewares=(do_nothing,)),
        Contrib("contrib, sampled"),
        Contrib("contrib, not sampled", sampled=False),
        Ours("asynctrace, sampled"),
        Ours("asynctrace, not sampled", sampled=False),
    ]
