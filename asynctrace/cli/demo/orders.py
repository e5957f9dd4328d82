"""orders: reserves the goods, answers, and has the parcel packed by a worker."""

import asyncio
import sys
from collections.abc import AsyncIterator

import httpx
from aiohttp import web

import asynctrace
from asynctrace.cli.demo.service import serve

INVENTORY = web.AppKey("inventory", httpx.AsyncClient)
PARCELS = web.AppKey("parcels", asynctrace.TracedQueue[str])


async def place(request: web.Request) -> web.Response:
    order = request.match_info["order"]
    item = (await request.json())["item"]
    answer = await request.app[INVENTORY].put(f"/stock/{item}/{order}")
    answer.raise_for_status()
    request.app[PARCELS].put_nowait(order)  # packed later, in the trace of this order
    return web.json_response({"order": order, "item": item}, status=201)


async def pack(parcels: asynctrace.TracedQueue[str]) -> None:
    while True:
        async with parcels.process("parcels"):
            await asyncio.sleep(0.001)  # tape, label


async def packing(app: web.Application) -> AsyncIterator[None]:
    app[PARCELS] = asynctrace.TracedQueue()
    worker = asyncio.create_task(pack(app[PARCELS]))
    yield
    await app[PARCELS].join()  # no parcel is left behind
    worker.cancel()
    await asyncio.wait([worker])


def create_app(inventory_url: str) -> web.Application:
    async def client(app: web.Application) -> AsyncIterator[None]:
        async with asynctrace.create_client(base_url=inventory_url) as app[INVENTORY]:
            yield

    app = web.Application()
    app.router.add_put("/orders/{order}", place)
    app.cleanup_ctx.extend([client, packing])
    asynctrace.setup(app, service_name="orders")
    return app


if __name__ == "__main__":
    serve(create_app(inventory_url=sys.argv[1]))
