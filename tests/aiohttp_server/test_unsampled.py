"""Requests whose caller did not sample: nothing is recorded, and the context goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from opentelemetry import trace
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler

from asynctrace.aiohttp import setup
from asynctrace.initialization import init
from asynctrace.propagation import inject, remote_span
from asynctrace.trace.ids import RANDOM_TRACE_ID
from asynctrace.trace.unsampled import UnsampledSpan, match_unsampled
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import Recorder, Serving, app_of, get, ok

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Seen:
    """What a handler sends to others, and what a span that it starts sends."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracer = tracing.get_tracer("test")
        self.sent: list[dict[str, str]] = []

    async def handle(self, _request: web.Request) -> web.Response:
        self._send()
        with self._tracer.start_as_current_span("child") as child:
            assert not child.is_recording()
            self._send()
        self._send()
        return web.Response()

    def _send(self) -> None:
        carrier: dict[str, str] = {}
        inject(carrier)
        self.sent.append(carrier)


async def test_the_context_goes_on(tracing: Tracing, recorder: Recorder) -> None:
    """The caller's trace and tracestate, a span id of the service's own, the flag still clear."""
    seen = Seen(tracing)
    app = app_of(seen.handle)
    setup(app, tracing)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00", "tracestate": "a=1,b=2"}
    async with Serving(app) as service:
        await service.status("/", headers=headers)
    before, child, after = seen.sent
    assert before == after != child
    for carrier in (before, child):
        version, trace_id, span_id, flags = carrier["traceparent"].split("-")
        assert (version, trace_id, flags) == ("00", TRACE, "00")
        assert span_id not in (PARENT, "0" * 16)
        assert carrier["tracestate"] == "a=1,b=2"
    assert recorder.started == 0


async def test_the_random_flag_goes_on(tracing: Tracing) -> None:
    """It says something about the trace id, which stays."""
    seen = Seen(tracing)
    app = app_of(seen.handle)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.status("/", headers={"traceparent": f"00-{TRACE}-{PARENT}-02"})
    assert {carrier["traceparent"][-2:] for carrier in seen.sent} == {f"{RANDOM_TRACE_ID:02x}"}


async def test_nothing_is_current_behind_the_request(tracing: Tracing) -> None:
    """Neither when the handler returned nor when it raised, in middlewares further out."""
    current: list[trace.Span] = []

    @web.middleware
    async def outside(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            current.append(trace.get_current_span())

    async def fail(_request: web.Request) -> web.Response:
        assert trace.get_current_span().get_span_context().trace_id == int(TRACE, 16)
        raise web.HTTPNotFound

    app = app_of(fail)
    setup(app, tracing)
    app.middlewares.insert(0, outside)
    async with Serving(app) as service:
        await service.status("/", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert current == [trace.INVALID_SPAN]


@pytest.mark.parametrize("sampler", [None, ALWAYS_OFF], ids=["by the caller", "by the sampler"])
async def test_a_body_that_is_made_behind_the_handler_belongs_to_the_request(
    recorder: Recorder, sampler: Sampler | None
) -> None:
    """What it starts is dropped with it, instead of being the root of a trace."""
    async with init(set_global=False, exporter="none", span_processors=[recorder]) as tracing:
        tracer = tracing.get_tracer("test")

        async def body() -> AsyncIterator[bytes]:
            with tracer.start_as_current_span("query") as span:
                assert not span.is_recording()
                yield b"fine"

        async def handler(_request: web.Request) -> web.Response:
            return web.Response(body=body())

        async with init(set_global=False, exporter="none", sampler=sampler) as by:
            app = app_of(handler)
            setup(app, by)
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-{'00' if sampler is None else '01'}"}
            async with Serving(app) as service:
                assert await service.fetch("/", headers=headers) == (200, "fine")
    assert recorder.started == 0


@pytest.mark.parametrize(
    "headers",
    [
        [f"traceparent: 00-{'0' * 32}-{PARENT}-00"],
        [f"traceparent: 00-{TRACE}-{'0' * 16}-00"],
        [f"traceparent: 00-{TRACE.upper()}-{PARENT}-00"],
        [f"traceparent: 00-{TRACE}-{PARENT}-0"],
        [f"traceparent: 00-{TRACE}-{PARENT}-00-0"],
        [f"traceparent: ff-{TRACE}-{PARENT}-00"],
        [f"traceparent: 00-{TRACE}-{PARENT}-00"] * 2,
        ["traceparent: 0"],
        ["traceparent:"],
    ],
)
async def test_a_malformed_header_begins_a_trace(
    tracing: Tracing, recorder: Recorder, headers: list[str]
) -> None:
    """It cannot decide against being sampled."""
    app = app_of(ok)
    setup(app, tracing)
    async with Serving(app) as service, service.connection(get("/", *headers)):
        span = await recorder.one()
    assert span.parent is None


async def test_later_versions_of_the_header_decide_too(
    tracing: Tracing, recorder: Recorder
) -> None:
    """They are read like this one."""
    seen = Seen(tracing)
    app = app_of(seen.handle)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.status("/", headers={"traceparent": f"01-{TRACE}-{PARENT}-00-new"})
    assert seen.sent[0]["traceparent"].split("-")[1] == TRACE
    assert recorder.started == 0


async def test_a_sampler_that_wants_them_gets_them(recorder: Recorder) -> None:
    """Requests are dropped unread only where the sampler drops them."""
    sampler = ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON)
    async with init(
        set_global=False, exporter="none", span_processors=[recorder], sampler=sampler
    ) as tracing:
        app = app_of(ok)
        setup(app, tracing)
        async with Serving(app) as service:
            await service.status("/", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    span = await recorder.one()
    assert f"{span.context.trace_id:032x}" == TRACE


class _Ids(RandomIdGenerator):
    def generate_span_id(self) -> int:
        return 7


async def test_an_id_generator_of_the_users_is_asked() -> None:
    """Also for the spans that nobody records."""
    async with init(set_global=False, exporter="none", id_generator=_Ids()) as tracing:
        seen = Seen(tracing)
        app = app_of(seen.handle)
        setup(app, tracing)
        async with Serving(app) as service:
            await service.status("/", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert seen.sent[0]["traceparent"] == f"00-{TRACE}-{7:016x}-00"


def _unsampled(headers: CIMultiDictProxy[str]) -> UnsampledSpan:
    span: UnsampledSpan = object.__new__(UnsampledSpan)
    span._headers = headers
    return span


def _headers(traceparent: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({"Traceparent": traceparent}))


_hexadecimal = st.text("0123456789abcdefABCDEF", min_size=1, max_size=33)
_traceparents = st.one_of(
    st.from_regex("0[01]-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True),
    st.tuples(st.just("00"), _hexadecimal, _hexadecimal, _hexadecimal).map("-".join),
)


@given(traceparent=_traceparents)
@example(f"00-{TRACE}-{PARENT}-00")
@example(f"00-{TRACE}-{PARENT}-02")
@example(f"00-{'0' * 32}-{PARENT}-00")
@example(f"00-{TRACE}-{PARENT}-00\n")
def test_what_matches_is_a_valid_header_of_a_trace_that_is_not_sampled(traceparent: str) -> None:
    """And reads, when asked, as any other header does."""
    if match_unsampled(traceparent) is None:
        return
    caller = remote_span([traceparent], ())
    assert caller is not None
    assert not caller._trace_flags & 1
    context = _unsampled(_headers(traceparent)).get_span_context()
    assert context.trace_id == caller._trace_id
    assert context.is_valid
    assert not context.is_remote


def test_threads_that_ask_at_once_get_one_id() -> None:
    """A handler may hand its context to several at the same time."""
    barrier = Barrier(8)

    def ask(span: UnsampledSpan) -> int:
        barrier.wait()
        return span.get_span_context().span_id

    with ThreadPoolExecutor(8) as executor:
        for _ in range(50):
            span = _unsampled(_headers(f"00-{TRACE}-{PARENT}-00"))
            assert len(set(executor.map(ask, [span] * 8))) == 1


def test_it_has_no_other_attributes() -> None:
    """Than those of any span that is not recorded."""
    span = _unsampled(_headers(f"00-{TRACE}-{PARENT}-00"))
    assert not hasattr(span, "attributes")
    assert not span.is_recording()
    assert TRACE in repr(span)
