"""Requests of which more is asked than a span: the options of setup(), and metrics.

An application that asks for nothing never gets here, see `_server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags

from asynctrace import semconv
from asynctrace.aiohttp._body import meter_body, meter_of, size_of
from asynctrace.aiohttp._ending import Outcome, is_one_write
from asynctrace.aiohttp._exchange import Exchange
from asynctrace.aiohttp._forwarded import client_of
from asynctrace.aiohttp._options import Shape
from asynctrace.aiohttp._request import Target, address_of, caller_of
from asynctrace.aiohttp._websocket import watch_upgrade
from asynctrace.context import ContextToken, attach, detach
from asynctrace.metrics import ServerMetrics
from asynctrace.propagation import format_traceparent, identity
from asynctrace.trace.span import DroppedSpan
from asynctrace.trace.span import Span as OurSpan

if TYPE_CHECKING:
    from asynctrace.aiohttp._server import ServerTracing

# The exchange of the request that runs in this task, for the signal that announces its response.
_exchange: ContextVar[ShapedExchange | None] = ContextVar("asynctrace.exchange", default=None)

_TRACE_HEADERS: Final = {"traceresponse": "traceresponse", "server-timing": "Server-Timing"}


class Shaping:
    """Traces the requests of one application by its options."""

    __slots__ = ("_server", "metrics", "shape")

    def __init__(self, server: ServerTracing, shape: Shape, metrics: ServerMetrics | None) -> None:
        self._server = server
        self.shape = shape
        self.metrics = metrics

    def __repr__(self) -> str:
        return f"<Shaping by {self.shape}>"

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What the middleware does, as `_server.middleware` has it."""
        shape = self.shape
        try:
            target = self._server.target_of(request)
            skipped = not target.elsewhere and self._skips(request)
            exchange = None if skipped or target.elsewhere else self._begin(request, target)
        except Exception as error:
            self._server.fault("aiohttp request", error)
            skipped, exchange = False, None
        if exchange is None:
            return await (self._skip(request, handler) if skipped else handler(request))
        if shape.flush_after is not None:
            self._server.holds.add(request, shape.flush_after)
        try:
            if shape.enrich_request is not None:
                await self._call("enrich_request", shape.enrich_request, exchange.span, request)
            try:
                response = await handler(request)
            except web.HTTPException as answer:
                await self._enrich_response(exchange, answer)
                raise
            await self._enrich_response(exchange, response)
        except BaseException as error:
            exchange.failed(error)
            raise
        self._server.learn(request, response)
        exchange.responded(response)
        return response

    async def announce(self, request: web.Request, response: web.StreamResponse) -> None:
        """For `on_response_prepare`: the headers are complete and not sent yet."""
        try:
            exchange = _exchange.get()
            if exchange is not None:
                exchange.prepare(response)
            elif self.shape.protocol_errors and hdrs.EXPECT in request.headers:
                self._note_refusal(request, response)
        except Exception as error:
            self._server.fault("aiohttp response headers", error)

    def _note_refusal(self, request: web.Request, response: web.StreamResponse) -> None:
        """Trace what the route's `expect_handler` answered, which no middleware gets to see."""
        target = self._server.target_of(request)
        if not target.elsewhere and not self._skips(request):
            exchange = self._begin(request, target)
            exchange.prepare(response)
            exchange.responded(response)

    def _skips(self, request: web.Request) -> bool:
        try:
            return self.shape.skip is not None and bool(self.shape.skip(request))
        except Exception as error:
            self._server.fault("skip", error)
            return False

    def _begin(self, request: web.Request, target: Target) -> ShapedExchange:
        server = self._server
        shape = self.shape
        parent, context = caller_of(request.headers, server.propagator)
        links: tuple[Link, ...] = ()
        if shape.incoming != "parent":
            if parent is not None and shape.incoming == "link":
                links = (Link(parent.get_span_context()),)
            parent = context = None
        name = target.name
        if shape.span_name is not None:
            name = self._name(shape.span_name, request) or name
        span = server.start(
            name,
            SpanKind.SERVER,
            parent,
            partial(self._describe, target),
            request,
            context,
            links=links,
        )
        if type(span) is OurSpan and request.headers.get("Upgrade") is not None:
            watch_upgrade(request, server.conversation())
        if target.streams and (type(span) is OurSpan or self.metrics is not None):
            meter_body(request)
        return ShapedExchange(self, target, request, span, attach(span, context))

    def _describe(self, target: Target, request: web.Request) -> semconv.Attributes:
        """The creation-time attributes. Like those of the target, they may be asked for late."""
        shape = self.shape
        attributes = target.attributes(request)
        query = attributes.pop(semconv.URL_QUERY, None)
        if shape.capture_query and isinstance(query, str):
            attributes[semconv.URL_QUERY] = semconv.redact_query(query, shape.redact_parameters)
        if shape.trusted_proxies:
            is_rfc = shape.forwarded_header == "forwarded"
            values = request.headers.getall(shape.forwarded_header, ())
            client = client_of(values, shape.trusted_proxies, rfc7239=is_rfc)
            peer, port = address_of(getattr(request.protocol, "peername", request.remote))
            if client is not None and peer:
                attributes[semconv.CLIENT_ADDRESS] = client
                attributes[semconv.NETWORK_PEER_ADDRESS] = peer
                if port is not None:
                    attributes[semconv.NETWORK_PEER_PORT] = port
        if shape.request_headers is not None:
            attributes.update(shape.request_headers.attributes(request.headers.items()))
        return attributes

    def _name(self, name: object, request: web.Request) -> str | None:
        try:
            made: object = name(request) if callable(name) else None
            return made if isinstance(made, str) else None
        except Exception as error:
            self._server.fault("span_name", error)
            return None

    async def _enrich_response(self, exchange: ShapedExchange, response: object) -> None:
        enrich = self.shape.enrich_response
        if enrich is not None and isinstance(response, web.StreamResponse):
            await self._call("enrich_response", enrich, exchange.span, exchange.request, response)

    async def _call(self, where: str, hook: object, *arguments: object) -> None:
        """A hook of the user's: its errors are contained, its cancellation is the request's."""
        try:
            done: object = hook(*arguments) if callable(hook) else None
            if isinstance(done, Awaitable):
                await done
        except Exception as error:
            self._server.fault(where, error)

    async def _skip(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Without a span; and without those inside, by a parent that is not sampled."""
        if self.shape.keep_children:
            return await handler(request)
        token = attach(self._unsampled(request))
        try:
            response = await handler(request)
        except BaseException:  # the handler's, which goes on; a `finally` would be too early below
            detach(token)
            raise
        if is_one_write(response):  # else its body is yet to be made, in this task and no other
            detach(token)
        return response

    def _unsampled(self, request: web.Request) -> Span:
        caller, _ = caller_of(request.headers, self._server.propagator)
        ids = self._server.id_generator
        trace_id = identity(caller).trace_id if caller is not None else ids.generate_trace_id()
        context = SpanContext(trace_id, ids.generate_span_id(), False, TraceFlags(0))
        return DroppedSpan(context)


class ShapedExchange(Exchange):
    """An exchange with everything that was asked for."""

    __slots__ = ("_headers", "_shaping", "_started", "_target")

    def __init__(
        self,
        shaping: Shaping,
        target: Target,
        request: web.Request,
        span: Span,
        token: ContextToken,
    ) -> None:
        super().__init__(shaping._server, request, span, token)
        self._shaping = shaping
        self._target = target
        self._headers: semconv.Attributes = {}
        self._started = perf_counter()
        if shaping.metrics is not None:
            shaping.metrics.begin(target.method, request.scheme)
        if shaping.shape.wants_announcements:
            _exchange.set(self)

    def prepare(self, response: web.StreamResponse) -> None:
        """Set the headers that tell the span, and see which ones the response has."""
        shape = self._shaping.shape
        trace_id, span_id, flags, _ = identity(self.span)
        traceparent = format_traceparent(trace_id, span_id, flags)
        if "traceresponse" in shape.sent_headers:
            response.headers["traceresponse"] = traceparent
        if "server-timing" in shape.sent_headers:
            response.headers.add("Server-Timing", f'traceparent;desc="{traceparent}"')
        if shape.response_headers is not None and self.span.is_recording():
            self._headers = shape.response_headers.attributes(response.headers.items())

    def failed(self, error: BaseException) -> None:
        """As any exchange; but where headers are captured, aiohttp's error response is awaited,
        unless that waits for the span.
        """
        task = asyncio.current_task()
        if (
            task is None
            or self._shaping.shape.response_headers is None
            or isinstance(error, web.HTTPException)
            or not isinstance(error, Exception)
            or self.request in self._server.holds
        ):
            super().failed(error)
            return
        outcome = self._of_error(error)
        task.add_done_callback(lambda _: self._end(outcome))

    def _may_end_early(self, response: web.StreamResponse) -> bool:
        # The headers are complete when aiohttp prepares the response, after the handler.
        return self._shaping.shape.response_headers is None and super()._may_end_early(response)

    def _end(self, outcome: Outcome | None) -> None:
        try:
            if self._shaping.metrics is not None:
                self._measure(self._shaping.metrics, outcome)
            if outcome is not None and self._headers:
                outcome = outcome.and_also(self._headers)
        except Exception as error:
            self._server.fault("aiohttp metrics", error)
        super()._end(outcome)

    def _measure(self, metrics: ServerMetrics, outcome: Outcome | None) -> None:
        request = self.request
        said = {} if outcome is None else outcome.attributes
        attributes: semconv.Attributes = {
            name: said[name] for name in _MEASURED_OF_OUTCOME if name in said
        }
        attributes[semconv.NETWORK_PROTOCOL_VERSION] = "{}.{}".format(*request.version)
        if self._target.route:
            attributes[semconv.HTTP_ROUTE] = self._target.route
        response_size = said.get(semconv.HTTP_RESPONSE_BODY_SIZE)
        if response_size is None and self._response is not None:  # as good as sent
            response_size = size_of(request, self._response, meter_of(request))
        metrics.end(
            self._target.method,
            request.scheme,
            perf_counter() - self._started,
            attributes,
            request.content_length,
            response_size if isinstance(response_size, int) else None,
        )


_MEASURED_OF_OUTCOME: Final = (semconv.HTTP_RESPONSE_STATUS_CODE, semconv.ERROR_TYPE)
