"""The table of W3C rules over real sockets: a service between two others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDict
from opentelemetry.sdk.trace import TracerProvider

from asynctrace.propagation import Propagator, remote_span
from tests.propagation.w3c_cases import CASES, SPAN_ID, TRACE_ID, Case

_PROPAGATOR = Propagator.from_names(["tracecontext", "baggage"])
_TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("w3c")


class Hop:
    """A service that calls another one `calls` times for each request, and what arrives there."""

    def __init__(self) -> None:
        self.arrived: list[CIMultiDict[str]] = []
        self.url = ""
        self.session: aiohttp.ClientSession

    async def handle(self, request: web.Request) -> web.Response:
        context = _PROPAGATOR.extract(request.headers)
        with _TRACER.start_as_current_span("handle", context):
            for _ in range(int(request.query["calls"])):
                with _TRACER.start_as_current_span("call"):
                    headers: CIMultiDict[str] = CIMultiDict()
                    _PROPAGATOR.inject(headers)
                    await self.session.post(f"{self.url}/last", headers=headers)
        return web.Response()

    async def last(self, request: web.Request) -> web.Response:
        self.arrived.append(CIMultiDict(request.headers))
        return web.Response()

    async def send(self, *headers: tuple[str, str], calls: int = 1) -> list[CIMultiDict[str]]:
        self.arrived.clear()
        await self.session.post(f"{self.url}/?calls={calls}", headers=headers)
        return list(self.arrived)


@pytest_asyncio.fixture
async def hop() -> AsyncIterator[Hop]:
    hop = Hop()
    app = web.Application()
    app.add_routes([web.post("/", hop.handle), web.post("/last", hop.last)])
    async with TestServer(app) as server, aiohttp.ClientSession() as hop.session:
        hop.url = str(server.make_url("")).rstrip("/")
        yield hop


def _judge(case: Case, headers: CIMultiDict[str]) -> str | None:
    """What is wrong with the headers that arrived, if anything."""
    span = remote_span(headers.getall("traceparent", ()), headers.getall("tracestate", ()))
    if span is None:
        return "no valid traceparent arrived"
    context = span.get_span_context()
    if f"{context.span_id:016x}" == SPAN_ID:
        return "the sender's span id went on"
    if (f"{context.trace_id:032x}" == TRACE_ID) is not case.continued:
        return f"{TRACE_ID} became {context.trace_id:032x}"
    if headers.get("tracestate", "") != case.state:
        return f"tracestate arrived as {headers.getall('tracestate', [])}"
    return None


async def test_every_rule(hop: Hop) -> None:
    """The next service is reached with the trace continued, or afresh, as the rules have it."""
    wrong = {}
    for case in CASES:
        if case.over_http:
            [arrived] = await hop.send(*case.headers)
            if (fault := _judge(case, arrived)) is not None:
                wrong[case.rule] = fault
    assert wrong == {}


async def test_several_calls_of_one_request(hop: Hop) -> None:
    """They share the sender's trace and have a span each."""
    arrived = await hop.send(("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"), calls=3)
    spans = [remote_span(headers.getall("traceparent"), ()) for headers in arrived]
    contexts = [span.get_span_context() for span in spans if span is not None]
    assert {f"{context.trace_id:032x}" for context in contexts} == {TRACE_ID}
    assert len({context.span_id for context in contexts}) == 3


async def test_several_calls_without_a_usable_parent(hop: Hop) -> None:
    """They share a new trace and have a span each."""
    for value in ("", f"00-{'0' * 32}-{SPAN_ID}-01"):
        arrived = await hop.send(("traceparent", value), calls=3)
        spans = [remote_span(headers.getall("traceparent"), ()) for headers in arrived]
        contexts = [span.get_span_context() for span in spans if span is not None]
        assert len({context.trace_id for context in contexts}) == 1
        assert contexts[0].trace_id != 0
        assert len({context.span_id for context in contexts}) == 3


def test_the_table_itself() -> None:
    """No rule is listed twice, and nothing is left out over HTTP that HTTP could carry."""
    rules = [case.rule for case in CASES]
    assert len(rules) == len(set(rules))
    kept_out = [case for case in CASES if not case.over_http]
    assert all(
        len(value) > 8190 or not value.isascii() or not value.isprintable()
        for case in kept_out
        for value in [case.headers[-1][1]]
    )
