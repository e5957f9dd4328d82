"""Under gunicorn each worker has a tracing of its own: it starts and ends with the application.

    gunicorn examples.gunicorn_service:make_app --worker-class aiohttp.GunicornWebWorker

The application is made after the fork, by the factory, and nothing is started before that.
"""

from __future__ import annotations

import os

from aiohttp import web

import asynctrace


async def hello(_request: web.Request) -> web.Response:
    return web.json_response({"worker": os.getpid()})


async def make_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", hello)
    asynctrace.setup(app, service_name="gunicorn")
    return app
