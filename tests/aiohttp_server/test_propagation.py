"""Whose child a request is, and what its handler finds current."""

from __future__ import annotations

import asyncio

from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.propagators.b3 import B3SingleFormat
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanContext

from asynctrace.aiohttp import setup
from asynctrace.aiohttp._server import KEY
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import Handler, Recorder, Serving, app_of, get, ok

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


async def test_the_callers_span_is_the_parent(tracing: Tracing, recorder: Recorder) -> None:
    """Trace id, parent and tracestate come from the headers."""
    app = app_of(ok)
    setup(app, tracing)
    async with Serving(app) as service:
        headers = {"traceparent": TRACEPARENT, "tracestate": "a=1,b=2"}
        await service.status("/", headers=headers)
    span = await recorder.one()
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.parent.is_remote
    assert span.context.trace_state.to_header() == "a=1,b=2"


async def test_tracestate_in_several_headers_is_one_list(
    tracing: Tracing, recorder: Recorder
) -> None:
    """In the order in which the headers came."""
    app = app_of(ok)
    setup(app, tracing)
    request = get("/", f"traceparent: {TRACEPARENT}", "tracestate: a=1", "tracestate: b=2")
    async with Serving(app) as service, service.connection(request):
        span = await recorder.one()
    assert span.context.trace_state.to_header() == "a=1,b=2"


async def test_a_duplicated_traceparent_starts_a_trace(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Nobody can tell which of two is meant."""
    app = app_of(ok)
    setup(app, tracing)
    request = get("/", f"traceparent: {TRACEPARENT}", f"traceparent: {TRACEPARENT}")
    async with Serving(app) as service, service.connection(request):
        span = await recorder.one()
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE


async def test_baggage_is_current_in_the_handler(tracing: Tracing, recorder: Recorder) -> None:
    """With and without a trace context beside it."""
    seen: list[object] = []

    async def handler(_request: web.Request) -> web.Response:
        seen.append(baggage.get_baggage("user"))
        return web.Response()

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.status("/", headers={"baggage": "user=ann", "traceparent": TRACEPARENT})
        await service.status("/", headers={"baggage": "user=bob"})
        await service.status("/")
    assert seen == ["ann", "bob", None]
    first, second, third = await recorder.take(3)
    assert first.parent is not None
    assert second.parent is third.parent is None


async def test_other_propagators_are_used(recorder: Recorder) -> None:
    """What OTEL_PROPAGATORS or the option names, with more than W3C's headers."""
    async with init(
        set_global=False, exporter="none", span_processors=[recorder], propagators=B3SingleFormat()
    ) as tracing:
        app = app_of(ok)
        setup(app, tracing)
        async with Serving(app) as service:
            await service.status("/", headers={"b3": f"{TRACE}-{PARENT}-1"})
            await service.status("/", headers={"traceparent": TRACEPARENT})
    by_b3, by_w3c = recorder.spans
    assert by_b3.parent is not None
    assert f"{by_b3.parent.span_id:016x}" == PARENT
    assert by_w3c.parent is None


async def test_what_is_current_where_the_server_was_started_is_no_parent(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Neither by the direct path nor by that of other propagators."""
    app = app_of(ok)
    setup(app, tracing)
    with tracing.get_tracer("test").start_as_current_span("start"):
        async with Serving(app) as service:
            await service.status("/")
            await service.status("/", headers={"baggage": "a=1"})
            await service.status("/", headers={"traceparent": TRACEPARENT, "baggage": "a=1"})
    direct, other, child = recorder.spans[:3]
    assert direct.parent is other.parent is None
    assert child.parent is not None
    assert f"{child.parent.span_id:016x}" == PARENT


def _nested(tracing: Tracing) -> tuple[web.Application, list[SpanContext]]:
    """A handler, and a middleware around it, that look at what is current."""
    seen: list[SpanContext] = []

    def look() -> None:
        seen.append(trace.get_current_span().get_span_context())

    @web.middleware
    async def before(request: web.Request, handler: Handler) -> web.StreamResponse:
        look()
        try:
            return await handler(request)  # type: ignore[misc, no-any-return]
        finally:
            look()

    async def handler(_request: web.Request) -> web.Response:
        look()
        with tracing.get_tracer("test").start_as_current_span("child"):
            await asyncio.sleep(0)
        return web.Response()

    app = app_of(handler, middlewares=(before,))
    setup(app, tracing)
    return app, seen


async def test_middlewares_and_handlers_see_the_span(tracing: Tracing, recorder: Recorder) -> None:
    """The SERVER span is current in all of the user's code, and the parent of what it starts."""
    app, seen = _nested(tracing)
    async with Serving(app) as service:
        await service.status("/")
    child, server = await recorder.take(2)
    assert [context.span_id for context in seen] == [server.context.span_id] * 3
    assert child.parent is not None
    assert child.parent.span_id == server.context.span_id


async def test_an_unsampled_request_carries_its_trace_on(recorder: Recorder) -> None:
    """No span; but what is current has the caller's trace id and is not sampled."""
    async with init(
        set_global=False,
        exporter="none",
        span_processors=[recorder],
        sampler=ParentBased(ALWAYS_OFF),
    ) as tracing:
        app, seen = _nested(tracing)
        async with Serving(app) as service:
            await service.status("/", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
            await service.status("/")
            await service.status("/absent")
    assert recorder.spans == []
    assert {f"{context.trace_id:032x}" for context in seen[:3]} == {TRACE}
    assert not any(context.trace_flags.sampled for context in seen)
    assert all(context.is_valid for context in seen)


async def test_an_unsampled_request_that_fails_is_not_touched() -> None:
    """Its exception passes, and there is no span to tell."""

    async def handler(_request: web.Request) -> web.Response:
        raise ValueError

    async with init(set_global=False, exporter="none", sampler=ALWAYS_OFF) as tracing:
        app = app_of(handler)
        setup(app, tracing)
        async with Serving(app) as service:
            assert await service.status("/") == 500
        assert tracing.statistics().faults == {}


async def test_disabled_tracing_still_passes_the_trace_on() -> None:
    """OTEL_SDK_DISABLED records nothing, and hands the caller's context to the handler."""
    async with init(set_global=False, exporter="none", disabled=True) as tracing:
        app, seen = _nested(tracing)
        async with Serving(app) as service:
            assert await service.status("/", headers={"traceparent": TRACEPARENT}) == 200
            assert await service.status("/") == 200
    assert f"{seen[0].trace_id:032x}-{seen[0].span_id:016x}" == f"{TRACE}-{PARENT}"
    assert not seen[3].is_valid


async def test_nothing_stays_current_after_a_request(tracing: Tracing) -> None:
    """Called in the caller's own task, the application leaves the context as it was."""
    from aiohttp.test_utils import make_mocked_request

    app = app_of(ok)
    setup(app, tracing)
    app.freeze()
    before = trace.get_current_span()
    assert (await app._handle(make_mocked_request("GET", "/", app=app))).status == 200
    assert trace.get_current_span() is before
    assert app[KEY].tracing is tracing


_header_text = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=80
)
_near_misses = st.from_regex(
    r"[0-9a-fA-F]{2}-[0-9a-f]{30,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}[!-~]?", fullmatch=True
)
_headers = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "tracestate", "baggage", "Traceparent", "User-Agent", "X"]),
        _header_text | _near_misses | st.just(TRACEPARENT),
    ),
    max_size=6,
)
_path = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30)


@given(batch=st.lists(st.tuples(_path, _headers), min_size=1, max_size=20))
@example(batch=[("?sig=%ff%zz&a", [("traceparent", f"{TRACEPARENT}-x"), ("User-Agent", "\xff")])])
def test_no_header_hurts_a_request(batch: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """Whatever raw bytes arrive: what aiohttp lets through is answered and has one span."""
    asyncio.run(_send_all(batch))


async def _send_all(batch: list[tuple[str, list[tuple[str, str]]]]) -> None:
    recorder = Recorder()
    handled = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal handled
        handled += 1
        return web.Response()

    async with init(
        set_global=False, exporter="none", span_processors=[recorder], sampler=ALWAYS_ON
    ) as tracing:
        app = app_of(handler, "/{tail:.*}")
        setup(app, tracing)
        async with Serving(app) as service:
            for path, headers in batch:
                lines = [f"{name}: {value}" for name, value in headers]
                async with service.connection(
                    get(f"/{path}", "Connection: close", *lines)
                ) as reader:
                    answer = await reader.read()
                assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.0 400"))
        assert tracing.statistics().faults == {}
        assert len(recorder.spans) == handled
