"""A chat over WebSockets: one span per connection, open while it lasts.

At its end it says how many messages and bytes went each way, and who closed with which code. Every
tenth message has a span of its own, linked to that of its connection.
"""

from __future__ import annotations

import os

from aiohttp import web

import asynctrace

ROOM = web.AppKey("room", set[web.WebSocketResponse])


async def chat(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=30)
    await socket.prepare(request)
    room = request.app[ROOM]
    room.add(socket)
    try:
        async for message in socket:
            for member in list(room):
                await member.send_str(message.data)
    finally:
        room.discard(socket)
    return socket


def make_app() -> web.Application:
    app = web.Application()
    app[ROOM] = set()
    app.router.add_get("/chat", chat)
    asynctrace.setup(app, service_name="chat", message_spans=0.1)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
