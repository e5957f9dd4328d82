"""The least: one line traces every request of an aiohttp service.

    python examples/minimal_service.py

Spans go to the collector that the OTEL_* variables name, by default the one on this machine.
"""

from __future__ import annotations

import os

from aiohttp import web

import asynctrace


async def hello(request: web.Request) -> web.Response:
    return web.json_response({"hello": request.match_info["name"]})


def make_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/hello/{name}", hello)
    asynctrace.setup(app, service_name="minimal")
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
