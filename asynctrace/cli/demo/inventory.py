"""inventory: reserves goods; some are slow to move, and some do not exist."""

import asyncio

from aiohttp import web

import asynctrace
from asynctrace.cli.demo.service import serve


async def reserve(request: web.Request) -> web.Response:
    item = request.match_info["item"]
    if item == "piano":
        await asyncio.sleep(0.4)
    if item == "unicorn":
        raise LookupError("there are no unicorns")
    return web.json_response({"reserved": item})


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_put("/stock/{item}/{order}", reserve)
    asynctrace.setup(app, service_name="inventory")
    return app


if __name__ == "__main__":
    serve(create_app())
