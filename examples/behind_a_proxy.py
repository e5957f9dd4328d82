"""Two services behind a proxy: who the client is, what may be told, and one trace through both.

The shop faces the public. It does not let strangers choose its traces (`incoming="link"`), believes
what its one proxy says of the client, and tells nobody's token. The stock is called by the shop.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import httpx
from aiohttp import web

import asynctrace

CLIENT = web.AppKey("client", httpx.AsyncClient)


def make_shop(stock_url: str) -> web.Application:
    async def client(app: web.Application) -> AsyncIterator[None]:
        async with asynctrace.create_client(base_url=stock_url) as session:
            app[CLIENT] = session
            yield

    async def item(request: web.Request) -> web.Response:
        answer = await request.app[CLIENT].get(f"/stock/{request.match_info['id']}")
        return web.json_response(answer.json())

    async def health(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/items/{id}", item)
    app.router.add_get("/health", health)
    app.cleanup_ctx.append(client)
    asynctrace.setup(
        app,
        service_name="shop",
        incoming="link",
        trusted_proxies=1,
        capture_query=["token"],
        capture_request_headers=["x-request-id"],
        skip=["/health"],
    )
    return app


def make_stock() -> web.Application:
    async def stock(request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["id"], "left": 3})

    app = web.Application()
    app.router.add_get("/stock/{id}", stock)
    asynctrace.setup(app, service_name="stock")
    return app


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    url = os.environ.get("STOCK_URL")
    web.run_app(make_shop(url) if url else make_stock(), host="127.0.0.1", port=port)
