"""Requests that are not over before their spans are delivered.

Some hosts freeze a process as soon as its response is out: functions as a service, or containers
that are given a processor only while they have a request. What is queued then waits for the next
request, if there is one. So the end of the response is held until the spans are delivered:

==============================================  =================================================
the response                                    is held
==============================================  =================================================
bytes, or an error                              before it is sent
a body that the handler writes                  before the end of the body
a file, a generator: sent after the handler     not at all; but the request is not over before
a body that the handler ends by `write_eof()`   the same
==============================================  =================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from aiohttp import web

from asynctrace.aiohttp._ending import is_one_write
from asynctrace.tracing import Tracing


class Server(Protocol):
    """What this wants to know of the server."""

    def current(self) -> Tracing | None: ...
    def fault(self, where: str, error: Exception) -> None: ...


class Postponed(Protocol):
    """An exchange that waits for the end of its response."""

    request: web.Request

    def sent_already(self) -> None:
        """The response is out: end the span now."""


class Hold:
    """One request that is held."""

    __slots__ = ("exchange", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.exchange: Postponed | None = None
        """Where the span does not end with the handler."""


class Holds:
    """The requests of one application that are held."""

    __slots__ = ("_server", "waiting")

    def __init__(self, server: Server) -> None:
        self._server = server
        self.waiting: dict[int, Hold] = {}
        """By the id of the request; looked at for every request, and most often empty."""

    def add(self, request: web.Request, timeout: float) -> None:
        """Hold `request`, which runs in this task, for `timeout` seconds at most."""
        task = asyncio.current_task()
        if task is not None and id(request) not in self.waiting:
            self.waiting[id(request)] = Hold(timeout)
            task.add_done_callback(partial(self._forget, id(request)))

    def __contains__(self, request: web.Request) -> bool:
        return id(request) in self.waiting

    def _forget(self, key: int, _task: asyncio.Task[object]) -> None:
        self.waiting.pop(key, None)

    def postpone(self, exchange: Postponed) -> None:
        """The span of a request ends later than its handler."""
        hold = self.waiting.get(id(exchange.request))
        if hold is not None:
            hold.exchange = exchange

    async def release(self, request: web.Request, response: object) -> None:
        """Have the spans of `request` delivered, and let it go with its response, or an error.

        A cancelled request is let go at once.
        """
        hold = self.waiting.pop(id(request), None)
        if hold is None or not isinstance(response, (web.StreamResponse, Exception)):
            return
        if hold.exchange is not None and isinstance(response, web.StreamResponse):
            try:
                if not response.prepared:
                    is_held = is_one_write(response)  # its body waits for aiohttp
                    await response.prepare(request)
                    if not is_held:
                        await response.write_eof()
            except ConnectionError:  # aiohttp will meet it, too, and the span tells it
                return
            hold.exchange.sent_already()
        await flush(self._server.current(), hold.timeout, self._server.fault)

    async def around(
        self, request: web.Request, handling: Awaitable[web.StreamResponse]
    ) -> web.StreamResponse:
        """Await `handling`, and release the request with what comes of it."""
        try:
            response = await handling
        except BaseException as error:
            await self.release(request, error)
            raise
        await self.release(request, response)
        return response

    def __repr__(self) -> str:
        return f"<Holds {len(self.waiting)} requests>"


async def flush(
    tracing: Tracing | None, timeout: float, fault: Callable[[str, Exception], None]
) -> None:
    """Deliver what has ended; whatever goes wrong is not the request's trouble."""
    if tracing is None:
        return
    try:
        await tracing.force_flush(timeout)
    except Exception as error:
        fault("flush_after", error)
