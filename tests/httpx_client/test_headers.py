"""Trace context goes to the server, and into nothing that the caller holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import httpx2
import pytest
from opentelemetry import baggage, context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import (
    suppress_http_instrumentation,
    suppress_instrumentation,
)
from opentelemetry.propagators.b3 import B3SingleFormat
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from asynctrace.httpx import AsyncTracingTransport, instrument
from asynctrace.httpx._request import outgoing
from asynctrace.initialization import init
from asynctrace.propagation import Propagator
from asynctrace.trace.span import DroppedSpan
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server

# Each digit of an id is a one.
ONES_128 = int("1" * 32, 16)
ONES_64 = int("1" * 16, 16)

THEIRS = "00-11111111111111111111111111111111-2222222222222222-01"


async def test_the_client_span_is_the_parent(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """The server is told the CLIENT span's ids, and that it is sampled."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, server.url("/200"))
    span = recorder.one().context
    [traceparent] = server.requests[0].header("traceparent")
    assert traceparent.split("-")[1:3] == [f"{span.trace_id:032x}", f"{span.span_id:016x}"]
    assert int(traceparent.split("-")[3], 16) & 1 == 1


async def test_not_sampled(
    kind: Kind, server: Server, unsampled: Tracing, recorder: Recorder
) -> None:
    """A trace that is not sampled still goes on, marked so; the response is not touched."""
    async with kind.client() as client:
        instrument(client, tracing=unsampled)
        request = client.build_request("GET", server.url("/200"))
        transport = client._transport
        handle = transport.handle_async_request if kind.is_async else transport.handle_request
        response = await kind.call(handle, request)
        assert "asynctrace" not in type(response.stream).__module__
        await kind.call(response.aread if kind.is_async else response.read)
    assert recorder.started == []
    [traceparent] = server.requests[0].header("traceparent")
    assert int(traceparent.split("-")[3], 16) & 1 == 0


async def test_the_callers_objects_stay(kind: Kind, server: Server, tracing: Tracing) -> None:
    """Request, headers and the dict they came from are as before, and are the response's."""
    given = {"X-Mine": "1"}
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        request = client.build_request("POST", server.url("/200"), headers=given, content=b"body")
        headers, before, state = request.headers, request.headers.raw, set(vars(request))
        response = await kind.call(client.send, request)
    assert given == {"X-Mine": "1"}
    assert request.headers is headers
    assert request.headers.raw == before
    assert set(vars(request)) == state
    assert response.request is request
    assert server.requests[0].header("x-mine") == ["1"]
    assert len(server.requests[0].header("traceparent")) == 1


async def test_a_request_sent_many_times_at_once(
    server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Each sending of one request object has a span and a header of its own."""
    async with httpx.AsyncClient() as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", server.url("/200"))
        await asyncio.gather(*[client.send(request) for _ in range(8)])
    sent = {request.header("traceparent")[0].split("-")[2] for request in server.requests}
    assert sent == {f"{span.context.span_id:016x}" for span in recorder.spans}
    assert len(sent) == 8


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
async def test_the_callers_traceparent_wins(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, name: str
) -> None:
    """A trace context that the caller has set goes out as it is; the span is made all the same."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        token = context.attach(baggage.set_baggage("mine", "1"))
        try:
            await kind.call(
                client.get, server.url("/200"), headers={name: THEIRS, "tracestate": "a=b"}
            )
        finally:
            context.detach(token)
    recorder.one()
    [request] = server.requests
    assert request.header("traceparent") == [THEIRS]
    assert request.header("tracestate") == ["a=b"]
    assert request.header("baggage") == []


async def test_baggage(kind: Kind, server: Server, tracing: Tracing) -> None:
    """The current baggage goes along; the caller's own header is left as it is."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        token = context.attach(baggage.set_baggage("who", "me"))
        try:
            await kind.call(client.get, server.url("/200"))
            await kind.call(client.get, server.url("/200"), headers={"baggage": "x=y"})
        finally:
            context.detach(token)
    assert [request.header("baggage") for request in server.requests] == [["who=me"], ["x=y"]]
    assert all(len(request.header("traceparent")) == 1 for request in server.requests)


class _AddsState(Sampler):
    """A sampler that is not the SDK's own: it is asked, and sees the attributes."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def should_sample(self, *args: Any, **options: Any) -> SamplingResult:
        attributes = args[4] if len(args) > 4 else options.get("attributes")
        self.asked.append(dict(attributes or {}))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, TraceState([("vendor", "1")]))

    def get_description(self) -> str:
        return "adds state"


async def test_tracestate(kind: Kind, server: Server, recorder: Recorder) -> None:
    """A sampler's tracestate goes out, and the sampler has seen the HTTP attributes."""
    sampler = _AddsState()
    async with (
        init(set_global=False, exporter="none", sampler=sampler) as tracing,
        kind.client() as client,
    ):
        instrument(client, tracing=tracing)
        await kind.call(client.get, server.url("/200"), headers={"tracestate": "old=1"})
    assert server.requests[0].header("tracestate") == ["vendor=1"]
    assert sampler.asked[-1]["http.request.method"] == "GET"


async def test_another_propagator(kind: Kind, server: Server, recorder: Recorder) -> None:
    """The configured propagator writes the headers, and the caller's header of its kind wins."""
    async with (
        init(set_global=False, exporter="none", propagators=B3SingleFormat()) as tracing,
        kind.client() as client,
    ):
        instrument(client, tracing=tracing)
        await kind.call(client.get, server.url("/200"))
        await kind.call(client.get, server.url("/200"), headers={"B3": "0"})
    first, second = server.requests
    assert len(first.header("b3")[0].split("-")) >= 3
    assert second.header("b3") == ["0"]
    assert first.header("traceparent") == []


@pytest.mark.parametrize("suppress", [suppress_instrumentation, suppress_http_instrumentation])
async def test_suppressed(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, suppress: Any
) -> None:
    """Where instrumentation is suppressed there is no span and no header."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        with suppress():
            await kind.call(client.get, server.url("/200"))
    assert recorder.started == []
    assert server.requests[0].header("traceparent") == []


async def test_without_tracing(kind: Kind, server: Server) -> None:
    """While nothing runs, an instrumented client is an ordinary one."""
    async with kind.client() as client:
        instrument(client)
        response = await kind.call(client.get, server.url("/200"))
    assert response.content == b"hello"
    assert server.requests[0].header("traceparent") == []


async def test_the_running_tracing_is_looked_up_when_used(
    kind: Kind, server: Server, recorder: Recorder
) -> None:
    """A client made and traced before `init` works after it, through two lives."""
    async with kind.client() as client:
        instrument(client)
        for _ in range(2):
            async with init(exporter="none", span_processors=[recorder]):
                await kind.call(client.get, server.url("/200"))
        await kind.call(client.get, server.url("/200"))
    assert len(recorder.spans) == 2
    assert [len(request.header("traceparent")) for request in server.requests] == [1, 1, 0]


async def test_disabled(kind: Kind, server: Server) -> None:
    """A disabled tracing costs nothing but the look, and changes nothing."""
    async with (
        init(set_global=False, exporter="none", disabled=True) as tracing,
        kind.client() as client,
    ):
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, server.url("/200"))
    assert response.content == b"hello"
    assert server.requests[0].header("traceparent") == []


async def test_spans_of_another_tracer(kind: Kind, server: Server) -> None:
    """Should ours not fit the installed SDK, the SDK's own tracer makes the same spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing: Any = SimpleNamespace(
        tracer_provider=provider,
        get_tracer=provider.get_tracer,
        propagator=Propagator.from_names(("tracecontext", "baggage")),
        config=SimpleNamespace(engine="asynctrace"),
    )
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, server.url("/404"))
    [span] = exporter.get_finished_spans()
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "url.full": server.url("/404"),
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "http.response.status_code": 404,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
        "network.protocol.version": "1.1",
        "error.type": "404",
        "http.response.body.size": 5,
    }
    assert f"{span.context.span_id:016x}" in server.requests[0].header("traceparent")[0]


async def test_a_streamed_request(kind: Kind, tracing: Tracing) -> None:
    """A body that a transport read into memory is found in the caller's request, as without us."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"bo"
        yield b"dy"

    content = parts() if kind.is_async else iter([b"bo", b"dy"])
    transport = kind.library.MockTransport(
        lambda request: kind.library.Response(200, content=request.content)
    )
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.post, "http://host/", content=content)
    assert response.content == b"body"
    assert response.request.content == b"body"
    assert "traceparent" not in response.request.headers
    assert set(vars(response.request)) <= set(vars(httpx.Request("GET", "http://x", content=b"")))


async def test_a_request_class_of_the_users_own(tracing: Tracing) -> None:
    """The inner transport gets a request of the caller's class, with all that hangs on it."""

    class Signed(httpx.Request):
        secret: str

    seen: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    transport = AsyncTracingTransport(httpx.MockTransport(respond), tracing=tracing)
    async with httpx.AsyncClient(transport=transport) as client:
        request = Signed("POST", "http://host/", content=b"body", extensions={"a": 1})
        request.secret = "s"
        await client.send(request)
    [sent] = seen
    assert isinstance(sent, Signed)
    assert sent is not request
    assert (sent.secret, sent.content, sent.extensions["a"]) == ("s", b"body", 1)


@pytest.mark.may_block("writes a log line")
async def test_a_header_that_cannot_be_written(
    kind: Kind, tracing: Tracing, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A propagator that fails in our hands costs the header, never the request."""
    monkeypatch.setattr("asynctrace.httpx._attempt.outgoing", _fail)
    transport = kind.transport(lambda request: kind.library.Response(200, content=b"hello"))
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, "http://host/")
    assert response.content == b"hello"
    recorder.one()
    assert tracing.statistics().faults == {"httpx request headers": 1}


@pytest.mark.may_block("writes a log line")
async def test_a_span_that_cannot_be_started(
    kind: Kind, tracing: Tracing, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours before the request costs the span, never the request."""
    monkeypatch.setattr("asynctrace.httpx._attempt.SPAN_KEY", [])  # which no mapping takes
    transport = kind.transport(lambda request: kind.library.Response(200, content=b"hello"))
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, "http://host/")
    assert response.content == b"hello"
    assert recorder.started == []


def _fail(*_: object) -> None:
    raise RuntimeError("a fault of ours")


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_where_the_headers_are(library: Any) -> None:
    """The private list that the usual path appends to: notice when either library moves it."""
    headers = library.Headers([("X-Mine", "1")])
    assert headers._list == [(b"X-Mine", b"x-mine", b"1")]
    added = _sent_headers(_Request(headers))
    assert added.raw == [(b"X-Mine", b"1"), (b"traceparent", THEIRS.encode())]
    assert added["Traceparent"] == THEIRS
    assert len(headers) == 1


def test_headers_kept_elsewhere() -> None:
    """A library that has moved them costs time, and nothing else."""

    class Moved(dict[str, str]):
        pass

    assert _sent_headers(_Request(Moved(a="1"))) == {"a": "1", "traceparent": THEIRS}
    assert _sent_headers(_Request(Moved(traceparent="y"))) == {"traceparent": "y"}


class _Request:
    def __init__(self, headers: object) -> None:
        self.headers = headers


def _sent_headers(request: _Request) -> Any:
    """The headers of what goes out in place of `request`, for a span with the ids of `THEIRS`."""
    span = DroppedSpan(SpanContext(ONES_128, 2 * ONES_64, False, TraceFlags(1)))
    propagator = Propagator.from_names(["tracecontext"])
    return outgoing(cast("Any", request), span, Context(), propagator).headers
