"""The same requests through contrib, in its stable mode, and through ours; prints both as JSON.

A program of its own, because contrib reads its mode once per process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asynctrace import init
from asynctrace.httpx import AsyncTracingTransport
from tests.httpx_client.harness import Server


async def requests(client: httpx.AsyncClient, base: str) -> None:
    for method, path in (
        ("GET", "/200"),
        ("POST", "/201"),
        ("GET", "/404"),
        ("GET", "/500"),
        ("BREW", "/200"),
        ("GET", "/200?sig=secret&a=1"),
    ):
        await client.request(method, base + path)
    await client.get(base.replace("://", "://me:pw@") + "/200")
    for base_url in (base + "/garbage", "http://127.0.0.1:9/"):
        try:
            await client.get(base_url)
        except httpx.HTTPError:
            pass


def facts(span: ReadableSpan) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": span.status.status_code.name,
        "description": span.status.description,
        "events": [event.name for event in span.events],
        **(span.attributes or {}),
    }


async def main() -> None:
    async with Server() as server:
        base = server.url("").replace("127.0.0.1", "localhost")
        provider = TracerProvider(shutdown_on_exit=False)
        kept = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(kept))
        contrib = AsyncOpenTelemetryTransport(httpx.AsyncHTTPTransport(), provider)
        async with httpx.AsyncClient(transport=contrib) as client:
            await requests(client, base)
        theirs = kept.get_finished_spans()
        kept.clear()
        processors = [SimpleSpanProcessor(kept)]
        async with init(exporter="none", set_global=False, span_processors=processors) as tracing:
            ours = AsyncTracingTransport(httpx.AsyncHTTPTransport(), tracing=tracing)
            async with httpx.AsyncClient(transport=ours) as client:
                await requests(client, base)
    spans = [theirs, kept.get_finished_spans()]
    json.dump([[facts(span) for span in side] for side in spans], sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
