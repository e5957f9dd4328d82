"""gateway: takes a customer's order and passes it on to orders."""

import sys
from collections.abc import AsyncIterator

import httpx
from aiohttp import web

import asynctrace
from asynctrace.cli.demo.service import serve

ORDERS = web.AppKey("orders", httpx.AsyncClient)


async def checkout(request: web.Request) -> web.Response:
    order = request.match_info["order"]
    answer = await request.app[ORDERS].put(f"/orders/{order}", content=await request.read())
    return web.Response(status=answer.status_code, text=answer.text)


def create_app(orders_url: str) -> web.Application:
    async def client(app: web.Application) -> AsyncIterator[None]:
        async with asynctrace.create_client(base_url=orders_url) as app[ORDERS]:
            yield

    app = web.Application()
    app.router.add_post("/checkout/{order}", checkout)
    app.cleanup_ctx.append(client)
    asynctrace.setup(app, service_name="gateway")
    return app


if __name__ == "__main__":
    serve(create_app(orders_url=sys.argv[1]))
