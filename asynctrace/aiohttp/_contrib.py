"""OpenTelemetry's own aiohttp instrumentation: as the engine, or found active in the process.

A request has one span in any case. Contrib's middleware stands in every application that was made
while its instrumentor was active. `setup` takes it out of the application that it sets up. In an
application joined to that one it stays, because aiohttp lets nobody change it any more, and ours
stands back for its requests. Either is said in the log, once per application.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

if TYPE_CHECKING:
    from asynctrace.aiohttp._server import ServerTracing
    from asynctrace.tracing import Tracing

_logger = logging.getLogger("asynctrace")

_MODULE: Final = "opentelemetry.instrumentation.aiohttp_server"

_traced_by_contrib: WeakKeyDictionary[web.Application, bool] = WeakKeyDictionary()


def take_over(app: web.Application) -> None:
    """Take contrib's middleware out of an application that is not frozen."""
    found = [middleware for middleware in app.middlewares if _is_contrib(middleware)]
    for middleware in found:
        app.middlewares.remove(middleware)
    if found:
        _logger.info(
            "%r is traced by asynctrace: setup() took OpenTelemetry contrib's middleware out", app
        )


def is_traced_by_contrib(apps: Iterable[web.Application]) -> bool:
    """Whether contrib's middleware runs in one of the applications of a request."""
    return _MODULE in sys.modules and any(map(_has_contrib, apps))


def _has_contrib(app: web.Application) -> bool:
    known = _traced_by_contrib.get(app)
    if known is None:
        known = _traced_by_contrib[app] = any(map(_is_contrib, app.middlewares))
        if known:
            _logger.info("%r is traced by OpenTelemetry contrib, asynctrace stands back", app)
    return known


def _is_contrib(middleware: object) -> bool:
    return getattr(middleware, "__module__", None) == _MODULE


class ContribEngine:
    """Contrib's middleware in place of ours, with the provider of one Tracing."""

    __slots__ = ("_middleware", "_server")

    def __init__(self, server: ServerTracing, tracing: Tracing) -> None:
        self._server = server
        self._middleware = _make_middleware(tracing)
        _logger.info("aiohttp requests are traced by OpenTelemetry contrib (engine='contrib')")

    def __repr__(self) -> str:
        return "<ContribEngine>"

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What the middleware does, as `_server.middleware` has it."""
        if self._server.target_of(request).elsewhere:
            return await handler(request)
        return await self._middleware(request, handler)


def _make_middleware(tracing: Tracing) -> Middleware:
    """Contrib's middleware with a provider of its own.

    It reads settings from globals of its module that only the instrumentor sets; so unless that is
    active already, it is made so for a moment, in which no other code runs.
    """
    from opentelemetry.instrumentation.aiohttp_server import (
        AioHttpServerInstrumentor,
        create_aiohttp_middleware,
    )

    instrumentor = AioHttpServerInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument(skip_dep_check=True)
        instrumentor.uninstrument()
    made: Middleware = create_aiohttp_middleware(tracing.tracer_provider)
    return made
