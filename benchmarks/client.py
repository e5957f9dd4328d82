"""An httpx request through a transport that answers at once, its body read to the end.

The body is a stream, as every body from a network is. Made in a server's request, as a gateway's
are: each tracer's own span is the parent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TracerProvider,
    set_span_in_context,
    use_span,
)

import asynctrace

from .measure import Subject
from .pipelines import BATCH, Discard, official

URL = httpx.URL("https://inventory.example:8443/stock/42?page=3")
# What httpx.AsyncClient sends by itself, and two headers of the program's.
HEADERS = [
    (b"host", b"inventory.example:8443"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"authorization", b"Bearer 0123456789abcdef"),
    (b"x-tenant", b"7"),
]


class Body(httpx.AsyncByteStream):
    """As from a socket: not in memory, and read to its end by the reader."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"ok"


class Stub(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200,
            headers=[("Content-Type", "text/plain"), ("Content-Length", "2")],
            stream=Body(),
            extensions={"http_version": b"HTTP/1.1"},
        )


def server_span(provider: TracerProvider, *, sampled: bool) -> Span:
    """The span of the request that is being served, in a trace that began elsewhere."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    caller = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA, True, flags)
    context = set_span_in_context(NonRecordingSpan(caller))
    return provider.get_tracer("server").start_span("GET /", context, SpanKind.SERVER)


class Client:
    """A transport, called as a client calls it."""

    def __init__(self, name: str, *, sampled: bool = True) -> None:
        self.name = name
        self._sampled = sampled
        self._parent: Span = INVALID_SPAN
        self._transport: httpx.AsyncBaseTransport = Stub()

    async def start(self) -> None:
        """Wrap the transport."""

    async def run(self, operations: int) -> None:
        transport = self._transport
        headers = HEADERS
        with use_span(self._parent):
            for _ in range(operations):
                request = httpx.Request("GET", URL, headers=headers)
                response = await transport.handle_async_request(request)
                assert isinstance(response.stream, httpx.AsyncByteStream)
                async for _chunk in response.stream:
                    pass
                await response.stream.aclose()
        await self.finish()

    async def finish(self) -> None:
        """What the spans of a round still have to go through."""

    async def stop(self) -> None: ...


class Contrib(Client):
    """OpenTelemetry's instrumentation, its SDK and its encoder."""

    async def start(self) -> None:
        provider = self._provider = official()
        self._parent = server_span(provider, sampled=self._sampled)
        self._transport = AsyncOpenTelemetryTransport(self._transport, tracer_provider=provider)

    async def finish(self) -> None:
        self._provider.force_flush()

    async def stop(self) -> None:
        self._parent.end()
        self._provider.shutdown()


class Ours(Client):
    async def start(self) -> None:
        self._tracing = await asynctrace.init(
            service_name="benchmark",
            exporter=Discard(),
            set_global=False,
            max_queue_size=100_000,
            max_export_batch_size=BATCH,
        )
        self._parent = server_span(self._tracing.tracer_provider, sampled=self._sampled)
        self._transport = asynctrace.httpx.AsyncTracingTransport(
            self._transport, tracing=self._tracing
        )

    async def finish(self) -> None:
        await self._tracing.force_flush()

    async def stop(self) -> None:
        self._parent.end()
        await self._tracing.shutdown()


def subjects() -> list[Subject]:
    return [
        Client("bare"),
        Contrib("contrib, sampled"),
        Contrib("contrib, not sampled", sampled=False),
        Ours("asynctrace, sampled"),
        Ours("asynctrace, not sampled", sampled=False),
    ]
