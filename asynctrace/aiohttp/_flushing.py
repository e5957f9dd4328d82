"""flush_after(): a handler whose request is not over before its spans are delivered."""

from __future__ import annotations

from functools import wraps

from aiohttp import web
from aiohttp.typedefs import Handler

from asynctrace.aiohttp._holds import flush
from asynctrace.aiohttp._server import KEY, ServerTracing
from asynctrace.config import checks
from asynctrace.errors import ConfigError
from asynctrace.trace.sink import Faults
from asynctrace.tracing import running


def flush_after(handler: Handler, *, timeout: float = 2.0) -> Handler:
    """`handler`, with a response that ends when the spans are delivered, after `timeout` at most.

    For hosts that freeze a process after the response::

        app.router.add_get("/orders", flush_after(orders, timeout=1.0))

    Where the application was set up with :func:`asynctrace.aiohttp.setup`, the request's own span
    is among those that are delivered; its option `flush_after` does the same for all handlers.
    Bodies that are streamed reach the client as they are written, and only their end is held. What
    is not delivered within `timeout` seconds stays queued.

    Raises:
        ConfigError: `timeout` is not a number of seconds.
    """
    try:
        limit = checks.seconds(timeout)
    except ValueError as error:
        raise ConfigError("timeout", timeout, str(error)) from None

    @wraps(handler)
    async def flushing(request: web.Request) -> web.StreamResponse:
        server = _server_of(request)
        if server is not None and server.current() is not None:
            server.holds.add(request, limit)  # its middleware does the rest, after the span
            return await handler(request)
        try:
            response = await handler(request)
        except Exception:  # an answer, too; but who is cancelled is let go at once
            await flush(running(), limit, _unowned)
            raise
        await flush(running(), limit, _unowned)
        return response

    return flushing


def _server_of(request: web.Request) -> ServerTracing | None:
    """Who makes the request's span: the outermost application that was set up."""
    for app in request.match_info.apps:
        server = app.get(KEY)
        if server is not None:
            return server
    return None


_unowned = Faults(None)
