"""Bodies that take their time: the span of a request ends when the last byte is out.

It says how long the first byte took and how large the body was. Work that is done while the body
is made belongs to the request, so the span is current for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import asynctrace


async def report(_request: web.Request) -> web.Response:
    """A body from an async generator."""

    async def lines() -> AsyncIterator[bytes]:
        for number in range(3):
            with asynctrace.span("compute line"):
                await asyncio.sleep(0.01)
            yield f"line {number}\n".encode()

    return web.Response(body=lines(), content_type="text/plain")


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events, until there are no more or the client has left."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(3):
        await response.write(f"data: {number}\n\n".encode())
        await asyncio.sleep(0.01)
    return response


def make_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/report", report)
    app.router.add_get("/events", events)
    # Caller and browser can find the trace of what they got.
    asynctrace.setup(app, service_name="streaming", response_headers=["traceresponse"])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
