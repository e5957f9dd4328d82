"""The span of aiohttp's client is current while aiohttp works; and there is one per attempt."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from types import ModuleType, SimpleNamespace
from typing import Any

import aiohttp
import pytest
from httpx_aiohttp import AiohttpTransport
from opentelemetry import context
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.propagate import inject
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, get_current_span, set_span_in_context

from asynctrace import create_client
from asynctrace.aiohttp import client_session, trace_config
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Recorder, Server, until

CONTRIB = "opentelemetry.instrumentation.aiohttp_client"
REASON = "asynctrace.cancellation.reason"


class Listener:
    """A trace config of the user's: keeps what is current at each of aiohttp's steps."""

    def __init__(self) -> None:
        self.current: list[Span] = []
        self.config = aiohttp.TraceConfig()
        self.config.on_connection_create_start.append(self._note)
        self.config.on_request_headers_sent.append(self._note)

    async def _note(self, *_: object) -> None:
        self.current.append(get_current_span())


@pytest.fixture
async def listener() -> Listener:
    return Listener()


@pytest.fixture
async def session(tracing: Tracing, listener: Listener) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_session(tracing=tracing, trace_configs=[listener.config]) as opened:
        yield opened


async def test_current_while_aiohttp_works(
    session: aiohttp.ClientSession,
    server: Server,
    tracing: Tracing,
    recorder: Recorder,
    listener: Listener,
) -> None:
    """From the connection to the response's headers; then the caller's own span is so again."""
    with tracing.get_tracer("test").start_as_current_span("outer") as outer:
        async with session.get(server.url("/drip")) as response:
            assert get_current_span() is outer
            [span] = recorder.started[1:]
            server.go_on.set()
            await response.read()
    assert len(listener.current) == 2
    assert all(current is span for current in listener.current)


async def test_each_hop_is_current(
    session: aiohttp.ClientSession, server: Server, recorder: Recorder, listener: Listener
) -> None:
    """Of a redirected request, the attempt that is being made."""
    async with session.get(server.url("/redirect/200")) as response:
        await response.read()
    assert get_current_span() is INVALID_SPAN
    first, second = recorder.spans
    created, *sent = listener.current
    assert created is first
    assert (sent[0], sent[-1]) == (first, second)


@pytest.mark.parametrize("path", ["/silent", "/garbage"])
async def test_not_current_after_a_failure(
    session: aiohttp.ClientSession, server: Server, recorder: Recorder, path: str
) -> None:
    """However the request ends, what was current before is so again."""
    with pytest.raises((aiohttp.ClientError, TimeoutError)):
        await session.get(server.url(path), timeout=aiohttp.ClientTimeout(0.1))
    assert get_current_span() is INVALID_SPAN
    recorder.one()


async def test_cancelled_in_a_hook(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """A request that is cancelled before aiohttp has begun ends its span, and restores."""
    waiting = asyncio.Event()
    seen: list[Span] = []

    async def hook(span: Span, request: object) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async with client_session(tracing=tracing, enrich_request=hook) as session:

        async def get() -> None:
            try:
                await session.get(server.url("/200"))
            finally:
                seen.append(get_current_span())

        task = asyncio.create_task(get())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: recorder.spans)
    assert (recorder.one().attributes or {})[REASON] == "cancelled"
    assert seen == [INVALID_SPAN]


@pytest.mark.parametrize("path", ["/silent", "/drip"])
async def test_timeout_of_the_callers(
    session: aiohttp.ClientSession, server: Server, recorder: Recorder, path: str
) -> None:
    """`asyncio.timeout` takes its cancellation back, and that is told."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), session.get(server.url(path)) as response:
            await response.read()
    await until(lambda: recorder.spans)
    assert (recorder.one().attributes or {})[REASON] == "scope"


# --- one span per attempt -------------------------------------------------------------------------


async def test_two_of_ours(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """A session that was given the tracing twice is traced once."""
    twice = [trace_config(tracing=tracing)]
    async with (
        client_session(tracing=tracing, trace_configs=twice) as session,
        session.get(server.url("/200")) as response,
    ):
        await response.read()
    recorder.one()
    assert len(server.requests[0].header("traceparent")) == 1


@pytest.fixture
def contribs_config(tracing: Tracing, monkeypatch: pytest.MonkeyPatch) -> aiohttp.TraceConfig:
    """What opentelemetry-instrumentation-aiohttp-client makes: it is not among the dependencies."""
    monkeypatch.setitem(sys.modules, CONTRIB, ModuleType(CONTRIB))
    tracer = tracing.get_tracer(CONTRIB)

    async def on_request_start(
        session: object, state: SimpleNamespace, told: aiohttp.TraceRequestStartParams
    ) -> None:
        state.span = None
        if is_http_instrumentation_enabled():
            state.span = tracer.start_span(told.method, kind=SpanKind.CLIENT)
            state.token = context.attach(set_span_in_context(state.span))
            inject(told.headers)

    async def on_request_end(session: object, state: SimpleNamespace, told: object) -> None:
        if state.span is not None:
            context.detach(state.token)
            state.span.end()

    config = aiohttp.TraceConfig()
    on_request_start.__module__ = on_request_end.__module__ = CONTRIB
    config.on_request_start.append(on_request_start)
    config.on_request_end.append(on_request_end)
    return config


async def test_contrib_behind_ours(
    server: Server, tracing: Tracing, recorder: Recorder, contribs_config: aiohttp.TraceConfig
) -> None:
    """Where its instrumentor puts itself, contrib keeps quiet; in every hop."""
    async with (
        client_session(tracing=tracing, trace_configs=[contribs_config]) as session,
        session.get(server.url("/redirect/200")) as response,
    ):
        await response.read()
    assert get_current_span() is INVALID_SPAN
    sent = [request.header("traceparent") for request in server.requests]
    assert [len(headers) for headers in sent] == [1, 1]
    scopes = [span.instrumentation_scope for span in recorder.spans]
    assert [scope and scope.name for scope in scopes] == ["asynctrace.aiohttp.client"] * 2


async def test_contrib_before_ours(
    server: Server, tracing: Tracing, recorder: Recorder, contribs_config: aiohttp.TraceConfig
) -> None:
    """Ours stands back for the span that is there."""
    configs = [contribs_config, trace_config(tracing=tracing)]
    async with (
        aiohttp.ClientSession(trace_configs=configs) as session,
        session.get(server.url("/200")) as response,
    ):
        await response.read()
    span = recorder.one()
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == CONTRIB
    [traceparent] = server.requests[0].header("traceparent")
    assert f"{span.context.span_id:016x}" in traceparent


async def test_contrib_under_httpx(
    server: Server,
    tracing: Tracing,
    recorder: Recorder,
    contribs_config: aiohttp.TraceConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Contrib's instrumentor also reaches the session under an httpx client, and keeps quiet."""
    original = aiohttp.ClientSession.__init__

    def instrumented(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, trace_configs=[contribs_config], **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrumented)
    async with create_client(tracing=tracing, transport=AiohttpTransport()) as client:
        await client.get(server.url("/200"))
    span = recorder.one()
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "asynctrace.httpx"
