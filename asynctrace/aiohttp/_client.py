"""aiohttp's client, traced by its own public means, a `TraceConfig`: one CLIENT span per attempt.

A redirect is an attempt of its own, and so is the one that aiohttp refuses to follow: it is told
before it is looked at. The span is current while aiohttp works, from the request to the response's
headers: its signals are sent in the caller's own task. It ends when the connection is let go: by
the end of the body, by closing, or by an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import ClientSession, TraceConfig
from opentelemetry.context import get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    get_current_span,
    set_span_in_context,
)
from yarl import URL

from asynctrace import metrics, semconv
from asynctrace._http.client import OPTIONS, PLAIN, Shaping
from asynctrace._http.contrib import is_outside, quiet
from asynctrace._http.suppression import is_suppressed
from asynctrace.aiohttp._client_contrib import has_contrib
from asynctrace.aiohttp._client_hop import (
    Hop,
    hop_of,
    is_plain,
    is_refusal,
    note,
    note_sent,
)
from asynctrace.aiohttp._client_options import Request, place_of
from asynctrace.aiohttp._client_request import (
    KNOWN_METHODS,
    describe,
    has_context,
    location_of,
    request_after,
    said,
)
from asynctrace.trace.tracer import Tracer
from asynctrace.tracing import Tracing, running

if TYPE_CHECKING:
    from typing import Unpack

    from asynctrace.aiohttp._client_options import ClientOptions

SCOPE_NAME: Final = "asynctrace.aiohttp.client"


def trace_config(
    *, tracing: Tracing | None = None, **options: Unpack[ClientOptions]
) -> TraceConfig:
    """What traces a session, for `aiohttp.ClientSession(trace_configs=[...])`.

    A request says more of itself by `trace_request_ctx={"asynctrace": {...}}`, with the keys
    `resend_count` and `url_template`.

    Args:
        tracing: The :class:`~asynctrace.Tracing` to use; by default the one that runs when a
            request is sent. While none runs, nothing is traced.
        options: see :class:`~asynctrace.aiohttp.ClientOptions`.

    Raises:
        ConfigError: an option cannot be used.
    """
    shaping = Shaping.of(options, os.environ, place_of)
    return _ClientTracing(tracing, shaping or PLAIN).config()


def client_session(
    base_url: str | URL | None = None,
    *,
    tracing: Tracing | None = None,
    trace_configs: Iterable[TraceConfig] | None = None,
    # Any: the options of a session are listed nowhere but in its constructor.
    **options: Any,
) -> ClientSession:
    """A traced `aiohttp.ClientSession`: a genuine one, with every option that it takes::

        async with asynctrace.aiohttp.client_session("http://orders") as session:
            async with session.get("/orders/17") as response:
                order = await response.json()

    Args:
        tracing: see :func:`trace_config`.
        trace_configs: Others than ours, which comes first.
        options: those of `aiohttp.ClientSession`, and of :func:`trace_config`.
    """
    ours: Any = {name: options.pop(name) for name in OPTIONS & options.keys()}
    configs = [trace_config(tracing=tracing, **ours), *(trace_configs or ())]
    return ClientSession(base_url, trace_configs=configs, **options)


class _ClientTracing:
    """The listener of a session."""

    def __init__(self, tracing: Tracing | None, shaping: Shaping) -> None:
        self._given = tracing
        self.shaping = shaping
        self._metrics: metrics.ClientMetrics | None = None
        self._meter_provider: MeterProvider | None = None
        self._has_looked = False

    def config(self) -> TraceConfig:
        config = TraceConfig()
        config.on_request_start.append(self._started)
        config.on_request_redirect.append(self._redirected)
        config.on_request_end.append(self._ended)
        config.on_request_exception.append(self._failed)
        if self.shaping.phases:
            for signal, phase, begins in (
                (config.on_connection_queued_start, "pool_wait", True),
                (config.on_connection_queued_end, "pool_wait", False),
                (config.on_connection_create_start, "connect", True),
                (config.on_connection_create_end, "connect", False),
            ):
                signal.append(partial(note, phase, begins))
            config.on_connection_create_end.append(partial(note, "send", True))
            config.on_connection_reuseconn.append(partial(note, "send", True))
            config.on_request_headers_sent.append(note_sent)
            config.on_request_chunk_sent.append(note_sent)
        return config

    # ---- what aiohttp tells

    async def _started(self, session: ClientSession, state: SimpleNamespace, told: Request) -> None:
        tracing = running() if self._given is None else self._given
        if tracing is None or is_suppressed(get_current()):
            return
        try:
            if is_outside(get_current_span(), told.headers):
                return
            hop = self._begin(tracing, told, *said(state), theirs=has_context(tracing, told))
            hop.enter(quiet() if has_contrib(session) else None)
        except Exception as error:
            tracing.tracer_provider.fault("aiohttp client request", error)
            return
        state.asynctrace = hop
        try:
            await self._enrich("enrich_request", hop, hop.span, told)
        except BaseException as error:  # cancelled; of a start that fails aiohttp tells no end
            hop.leave()
            hop.fail(error)
            raise

    async def _redirected(
        self,
        session: ClientSession,
        state: SimpleNamespace,
        told: aiohttp.TraceRequestRedirectParams,
    ) -> None:
        hop = hop_of(state)
        # Without a location it is an answer like others, of which aiohttp is going to tell.
        if hop is None or location_of(told.response) is None:
            return
        try:
            hop.leave()
            hop.take_back()  # before all that might fail
            hop.received(told.response)
            hop.end(told.response.content.total_bytes if is_plain(told.response) else None)
            after = request_after(told)
            if after is None:  # nowhere to go, which aiohttp is going to raise
                return
            state.asynctrace = following = self._begin(
                hop.tracing, after, hop.count + 1, None, theirs=hop.theirs
            )
            following.enter(quiet() if has_contrib(session) else None)
        except Exception as error:
            hop.fault("aiohttp client redirect", error)
            return
        await self._enrich("enrich_request", following, following.span, after)

    async def _ended(
        self, session: ClientSession, state: SimpleNamespace, told: aiohttp.TraceRequestEndParams
    ) -> None:
        hop = hop_of(state)
        if hop is None:
            return
        response = told.response
        try:
            await self._enrich("enrich_response", hop, hop.span, hop.request, response)
        finally:
            hop.leave()
        try:
            hop.received(response)
            hop.follow(response)
        except Exception as error:
            hop.fault("aiohttp client response", error)
            hop.end(None)

    async def _failed(
        self,
        session: ClientSession,
        state: SimpleNamespace,
        told: aiohttp.TraceRequestExceptionParams,
    ) -> None:
        hop = hop_of(state)
        if hop is None:
            return
        error = told.exception
        try:
            hop.leave()
            if is_refusal(error):
                hop.refused(error)
            else:
                hop.fail(error)
        except Exception as fault:
            hop.fault("aiohttp client failure", fault)

    # ---- what is done

    def _begin(
        self,
        tracing: Tracing,
        request: Request,
        count: int,
        template: str | None,
        *,
        theirs: bool,
    ) -> Hop:
        """Start the span of an attempt, and put its context into the headers to be sent.

        One that is to be skipped has neither, and may still be followed by others.
        """
        fault = tracing.tracer_provider.fault
        shaping = self.shaping
        try:
            if shaping.skip is not None and shaping.skip(request):
                return Hop(tracing, shaping, None, INVALID_SPAN, request, count, theirs)
        except Exception as error:
            fault("skip", error)
        self._measure()
        method = request.method if request.method in KNOWN_METHODS else semconv.OTHER_METHOD
        tracer = tracing.get_tracer(SCOPE_NAME, schema_url=semconv.SCHEMA_URL)
        name = semconv.span_name(method, template)
        build = partial(describe, shaping, count, template)
        context = get_current()
        if isinstance(tracer, Tracer):
            parent = get_current_span(context)
            span: Span = tracer.start_lazily(
                name, SpanKind.CLIENT, parent, build, request, context=context
            )
        else:
            span = tracer.start_span(name, context, SpanKind.CLIENT, build(request))
        hop = Hop(tracing, shaping, self._metrics, span, request, count, theirs)
        try:
            if not theirs and shaping.may_carry_context(request):
                carrier: dict[str, str] = {}
                tracing.propagator.inject(carrier, set_span_in_context(span, context))
                hop.add(carrier)
        except Exception as error:
            fault("propagate_to", error)
        return hop

    def _measure(self) -> None:
        """See whether the process has another meter provider by now."""
        provider = metrics.process_provider()
        if provider is not self._meter_provider or not self._has_looked:
            meter = metrics.meter(SCOPE_NAME)
            self._metrics = None if meter is None else metrics.ClientMetrics(meter)
            self._meter_provider = metrics.process_provider()
            self._has_looked = True

    async def _enrich(self, option: str, hop: Hop, *args: object) -> None:
        hook = getattr(self.shaping, option)
        if hook is not None and hop.span.is_recording():
            try:
                answer = hook(*args)
                if answer is not None:
                    await answer
            except Exception as error:
                hop.fault(option, error)
