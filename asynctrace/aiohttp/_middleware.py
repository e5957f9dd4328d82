"""The middleware: one SERVER span per request, current while the request is handled.

Hot: it runs for each request, sampled or not, between other code, so that what counts is how many
functions and objects are touched. Therefore what happens to every usual request is in line (a call
for its beginning and one for its end would cost a caller who does not sample a tenth more), and
everything else is somewhere else. What can wait until the sampler has decided waits, and what is
the same for the next request is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import Response
from multidict import CIMultiDictProxy
from opentelemetry.context import Context
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import SpanKind

from asynctrace.aiohttp._body import meter_body
from asynctrace.aiohttp._ending import of_response
from asynctrace.aiohttp._exchange import Exchange
from asynctrace.aiohttp._request import (
    BAGGAGE,
    HOST,
    TRACEPARENT,
    TRACESTATE,
    UPGRADE,
    USER_AGENT,
    Target,
    caller_of,
)
from asynctrace.aiohttp._server import ServerTracing
from asynctrace.aiohttp._websocket import Conversation, watch_upgrade
from asynctrace.context import attach, detach
from asynctrace.context.current import NOTHING, SPAN_KEY, VARIABLE
from asynctrace.propagation import remote_span
from asynctrace.propagation.tracestate import parse_tracestate
from asynctrace.trace.received import ReceivedSpan, match_sampled
from asynctrace.trace.span import DroppedSpan, Span
from asynctrace.trace.unsampled import UnsampledSpan, match_unsampled
from asynctrace.tracing import running

_SERVER: Final = SpanKind.SERVER

_new: Final = object.__new__

_DROPPED: Final = frozenset({DroppedSpan, UnsampledSpan})

_READY: Final = frozenset({bytes, type(None)})
"""Bodies behind which no more code of the application's runs."""

_SENT: Final = {
    status: outcome.attributes
    for status in map(int, HTTPStatus)
    if not (outcome := of_response(status)).is_error
}
"""What the spans of responses that are no errors end with, by status."""


def middleware(server: ServerTracing) -> Middleware:
    """The middleware that traces by `server`."""
    known = server.known
    held = server.holds.waiting

    @web.middleware
    async def trace_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        tracing = server.tracing or running()
        if tracing is not server.adopted:
            server.adopt(tracing)
        if server.instead is not None:
            return await server.holds.around(request, server.instead.handle(request, handler))

        span: ApiSpan | None = None
        try:
            key = request.method, request.match_info.route
            target = known.get(key) or server.describe(request)
            if not target.elsewhere:
                headers = request.headers
                # What happens to be current is never the parent: it is left over from where the
                # server was started, and every request would become a part of that.
                parent = context = None
                if server.asks_propagator or BAGGAGE in headers:
                    parent, context = caller_of(headers, server.propagator)
                else:
                    traceparents = headers.getall(TRACEPARENT, ())
                    # The last digit first: of a sampled trace it is odd, and that is soon seen.
                    if (
                        traceparents
                        and traceparents[0].endswith("0")
                        and server.drops_unsampled
                        and len(traceparents) == 1
                        and match_unsampled(traceparents[0])
                    ):
                        span = unsampled = _new(UnsampledSpan)
                        unsampled._headers = headers
                    else:
                        span = _receive(server, request, target, headers, traceparents)
                        if span is None and traceparents:
                            parent = remote_span(traceparents, headers.getall(TRACESTATE, ()))
                if span is None:
                    build = target.attributes
                    span = server.start(target.name, _SERVER, parent, build, request, context)
                    if target.streams or UPGRADE in headers:
                        _watch(request, target, span)
                if context is None and VARIABLE is not None and not VARIABLE.get(NOTHING):
                    token = VARIABLE.set(Context({SPAN_KEY: span}))  # as `attach` does
                else:
                    token = attach(span, context)
        except Exception as error:
            server.fault("aiohttp request", error)
            span = None
        if span is None:
            return await handler(request)

        try:
            response = await handler(request)
        except BaseException as error:
            if type(span) in _DROPPED:
                detach(token)
            else:
                Exchange(server, request, span, token).failed(error)
            if held:
                await server.holds.release(request, error)
            raise

        # Bytes, to a client that is there, are as good as sent. Asks for no more than it must, see
        # `Exchange` for the rest. The exact classes, because isinstance() of aiohttp's is slow.
        ended = False
        try:
            if type(response) is Response and type(response.body) in _READY:
                if type(span) in _DROPPED:
                    ended = True
                elif (type(span) is ReceivedSpan or type(span) is Span) and not (
                    target.streams
                    or response.compression
                    or (transport := request.transport) is None
                    or transport.is_closing()
                    or span._end_time is not None
                    or (attributes := _SENT.get(response.status)) is None
                ):
                    span.end_with(attributes)
                    ended = True
        except Exception as error:
            server.fault("aiohttp response", error)
        if ended:
            detach(token)
        else:
            server.learn(request, response)
            Exchange(server, request, span, token).responded(response)
        if held:
            await server.holds.release(request, response)
        return response

    return trace_request


def _receive(
    server: ServerTracing,
    request: web.Request,
    target: Target,
    headers: CIMultiDictProxy[str],
    traceparents: Sequence[str],
) -> ApiSpan | None:
    """The span of a request that says nothing unusual, begins a trace, or is sampled; else None."""
    # Of several headers nobody can tell which is meant: as if there were none.
    traceparent = traceparents[0] if len(traceparents) == 1 else ""
    if traceparent and not match_sampled(traceparent):
        return None
    host = headers.get(HOST)
    if host is None:
        return None
    states = headers.getall(TRACESTATE, ()) if traceparent else ()
    state = parse_tracestate(states) if states else None
    try:
        # Not the request itself, nor its headers: they may be large, and are the application's.
        scheme, version, url = request.scheme, request.version, request.rel_url
        facts = host, scheme, version, url, request.remote, headers.get(USER_AGENT)
    except Exception as error:  # of an odd transport
        server.fault("attributes", error)
        return None
    span = server.receive(target.name, _SERVER, traceparent, state, target.describe, facts)
    if span is not None and (target.streams or UPGRADE in headers):
        _watch(request, target, span)
    return span


def _watch(request: web.Request, target: Target, span: ApiSpan) -> None:
    """Watch a body from its beginning, or a WebSocket, where there is a span to tell it."""
    if type(span) is not ReceivedSpan and type(span) is not Span:
        return
    if target.streams:
        meter_body(request)
    if UPGRADE in request.headers:
        watch_upgrade(request, Conversation())
