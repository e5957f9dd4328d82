"""Requests that aiohttp refuses before any application sees them.

(One whose `Expect` is refused has found its route; `_shaped` tells it, by a signal.)

A malformed request line or a header that is too long is answered by the protocol class itself, and
no middleware, signal or hook of an application is called. So for those who ask for it, the server
that an application makes is followed to its protocols, whose public `handle_error` is told of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from asynctrace import semconv

if TYPE_CHECKING:
    from asynctrace.aiohttp._server import ServerTracing

_logger = logging.getLogger("asynctrace")

_MAKE_SERVER: Final = "_make_handler"


def watch_refusals(app: web.Application, server: ServerTracing) -> None:
    """Make spans for what `app`'s server refuses.

    By the one private name of aiohttp that this needs. Where it has moved there are no such spans,
    which the log says.
    """
    make: Callable[..., web.Server] | None = getattr(app, _MAKE_SERVER, None)
    if make is None:
        _logger.warning("protocol_errors=True has no effect with this version of aiohttp")
        return

    def make_server(*args: Any, **options: Any) -> web.Server:
        made = make(*args, **options)
        try:
            _watch(made, server)
        except TypeError:  # a server of another class, whose objects cannot change theirs
            _logger.warning("protocol_errors=True has no effect on %r", made)
        return made

    # Past aiohttp's __setattr__, which warns of foreign attributes in its debug mode.
    object.__setattr__(app, _MAKE_SERVER, make_server)


def _watch(made: web.Server, server: ServerTracing) -> None:
    class Protocol(web.RequestHandler):
        __slots__ = ()

        def handle_error(
            self,
            request: web.BaseRequest,
            status: int = 500,
            exc: BaseException | None = None,
            message: str | None = None,
        ) -> web.StreamResponse:
            if status < 500 and isinstance(exc, HttpProcessingError):
                _tell(server, request, status, exc)
            return super().handle_error(request, status, exc, message)

    class Server(type(made)):  # type: ignore[misc]  # whichever class the runner uses
        def __call__(self) -> web.RequestHandler:
            protocol: web.RequestHandler = super().__call__()
            if type(protocol) is web.RequestHandler:
                protocol.__class__ = Protocol
            return protocol

    made.__class__ = Server


def _tell(server: ServerTracing, request: web.BaseRequest, status: int, error: Exception) -> None:
    """One span, of no length: what came was never a request."""
    if server.current() is None:
        return
    try:
        attributes: semconv.Attributes = {
            semconv.HTTP_REQUEST_METHOD: semconv.OTHER_METHOD,
            semconv.URL_SCHEME: request.scheme,
            semconv.HTTP_RESPONSE_STATUS_CODE: status,
            semconv.ERROR_TYPE: semconv.error_type(type(error)),
        }
        if request.remote:
            attributes[semconv.CLIENT_ADDRESS] = request.remote
        name = semconv.span_name(semconv.OTHER_METHOD, None)
        server.tracer.start_span(name, Context(), SpanKind.SERVER, attributes).end()
    except Exception as fault:
        server.fault("aiohttp refusal", fault)
