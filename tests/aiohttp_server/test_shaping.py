"""The options of setup(): what a span says, which requests have one, and what stays home."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Span, SpanKind, StatusCode

from asynctrace._http.headers import HeaderCapture
from asynctrace.aiohttp import setup
from asynctrace.aiohttp._forwarded import address_of, client_of
from asynctrace.aiohttp._options import PLAIN, ServerOptions, Shape
from asynctrace.aiohttp._server import KEY
from asynctrace.errors import ConfigError
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import PATIENCE, Recorder, Serving, app_of, ok

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def _attributes(recorder: Recorder) -> dict[str, object]:
    return dict((await recorder.one()).attributes or {})


# --- skip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "skip",
    [
        ["/users/42"],
        ["/users/{id}"],
        ["/users/*"],
        [re.compile("users/[0-9]+")],
        lambda request: request.match_info.get("id") == "42",
    ],
)
async def test_skipped_requests_have_no_span(
    tracing: Tracing, recorder: Recorder, skip: object
) -> None:
    """By path, route, beginning, pattern or predicate; spans inside are dropped with them."""

    async def handler(_request: web.Request) -> web.Response:
        with tracing.get_tracer("test").start_as_current_span("inside"):
            return web.Response(text="fine")

    app = app_of(handler, "/users/{id}")
    app.router.add_get("/other", ok)
    setup(app, tracing, skip=skip)  # type: ignore[arg-type]
    async with Serving(app) as service:
        assert await service.status("/users/42") == 200
        assert await service.status("/users/42", headers={"traceparent": PARENT}) == 200
        assert await service.status("/other") == 200
    assert [span.name for span in recorder.spans] == ["GET /other"]


async def test_the_body_of_a_skipped_request_is_skipped_with_it(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Also when aiohttp makes it behind the handler; and nothing of it stays for the next one."""

    async def body() -> AsyncIterator[bytes]:
        with tracing.get_tracer("test").start_as_current_span("inside"):
            yield b"fine"

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body())

    app = app_of(handler)
    app.router.add_get("/other", ok)
    setup(app, tracing, skip=["/"])
    async with Serving(app) as service:
        assert await service.fetch("/") == (200, "fine")
        assert await service.status("/other") == 200
    assert [span.name for span in recorder.spans] == ["GET /other"]
    assert recorder.started == 1


async def test_children_of_a_skipped_request_are_kept_when_asked(
    tracing: Tracing, recorder: Recorder
) -> None:
    """They then begin traces of their own."""

    async def handler(_request: web.Request) -> web.Response:
        with tracing.get_tracer("test").start_as_current_span("inside"):
            return web.Response(text="fine")

    app = app_of(handler)
    setup(app, tracing, skip=["/"], skipped_children="keep")
    async with Serving(app) as service:
        await service.status("/", headers={"traceparent": PARENT})
    span = await recorder.one()
    assert (span.name, span.parent) == ("inside", None)


@pytest.mark.may_block("writes a log line")
async def test_a_predicate_that_fails_skips_nothing(tracing: Tracing, recorder: Recorder) -> None:
    """The request is answered and traced, the fault counted."""
    app = app_of(ok)
    setup(app, tracing, skip=lambda _request: 1 / 0 > 0)
    async with Serving(app) as service:
        assert await service.fetch("/") == (200, "fine")
    await recorder.one()
    assert tracing.statistics().faults == {"skip": 1}


@pytest.mark.parametrize(
    "variable", ["OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS"]
)
async def test_the_excluded_urls_of_contrib_are_honoured(
    tracing: Tracing, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Comma-separated expressions that are searched for in the path."""
    monkeypatch.setenv(variable, "client/.*/info, health")
    app = app_of(ok, "/{path:.*}")
    setup(app, tracing)
    monkeypatch.delenv(variable)
    async with Serving(app) as service:
        for path in ("/client/7/info", "/api/health", "/client"):
            await service.status(path)
    assert [(span.attributes or {})["url.path"] for span in recorder.spans] == ["/client"]


# --- hooks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_hooks_see_the_span_the_request_and_the_response(
    tracing: Tracing, recorder: Recorder, asynchronous: bool
) -> None:
    """Before the handler, with the span current, and when it has returned or raised a response."""

    def on_request(span: Span, request: web.Request) -> None:
        assert trace.get_current_span() is span
        span.set_attribute("app.tenant", request.query.get("tenant", "none"))

    def on_response(span: Span, request: web.Request, response: web.StreamResponse) -> None:
        span.set_attribute("app.answer", f"{request.method} {response.status}")

    async def on_request_later(span: Span, request: web.Request) -> None:
        await asyncio.sleep(0)
        on_request(span, request)

    async def on_response_later(
        span: Span, request: web.Request, response: web.StreamResponse
    ) -> None:
        await asyncio.sleep(0)
        on_response(span, request, response)

    async def handler(request: web.Request) -> web.Response:
        if "missing" in request.query:
            raise web.HTTPNotFound
        return web.Response()

    app = app_of(handler)
    setup(
        app,
        tracing,
        enrich_request=on_request_later if asynchronous else on_request,
        enrich_response=on_response_later if asynchronous else on_response,
    )
    async with Serving(app) as service:
        await service.status("/?tenant=a")
        await service.status("/?missing")
    first, second = (dict(span.attributes or {}) for span in recorder.spans)
    assert (first["app.tenant"], first["app.answer"]) == ("a", "GET 200")
    assert (second["app.tenant"], second["app.answer"]) == ("none", "GET 404")


@pytest.mark.may_block("writes log lines")
async def test_a_hook_that_fails_is_contained(tracing: Tracing, recorder: Recorder) -> None:
    """The request is answered and described as without it."""

    async def fail_later(*_arguments: object) -> None:
        raise RuntimeError("theirs")

    def fail(*_arguments: object) -> str:
        raise RuntimeError("theirs")

    app = app_of(ok)
    setup(
        app,
        tracing,
        enrich_request=fail_later,
        enrich_response=fail,  # type: ignore[arg-type]
        span_name=fail,
    )
    async with Serving(app) as service:
        assert await service.fetch("/") == (200, "fine")
    span = await recorder.one()
    assert span.name == "GET /"
    assert span.status.status_code is StatusCode.UNSET
    assert set(tracing.statistics().faults) >= {"enrich_request", "enrich_response", "span_name"}


async def test_a_request_cancelled_in_a_hook_is_told(tracing: Tracing, recorder: Recorder) -> None:
    """The hook is part of the request: its cancellation passes through, and the span ends."""
    begun = asyncio.Event()

    async def wait(*_arguments: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    app = app_of(ok)
    setup(app, tracing, enrich_response=wait)
    async with Serving(app, handler_cancellation=True) as service:
        async with service.connection(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            await asyncio.wait_for(begun.wait(), PATIENCE)
        span = await recorder.one()
    assert (span.attributes or {})["asynctrace.cancellation.reason"] == "client_disconnect"


async def test_a_name_of_ones_own(tracing: Tracing, recorder: Recorder) -> None:
    """In place of method and route; attributes stay."""
    app = app_of(ok)
    setup(app, tracing, span_name=lambda request: f"{request.method} everything")
    async with Serving(app) as service:
        await service.status("/")
    span = await recorder.one()
    assert (span.name, (span.attributes or {})["http.route"]) == ("GET everything", "/")


# --- headers -------------------------------------------------------------------------------------


async def test_captured_headers(tracing: Tracing, recorder: Recorder) -> None:
    """All values of those asked for, secrets redacted; credentials never, even when asked for."""

    async def handler(_request: web.Request) -> web.Response:
        response = web.Response(text="fine", headers={"X-Shop": "b", "X-Trail": "1"})
        response.set_cookie("session", "secret")
        return response

    app = app_of(handler)
    setup(
        app,
        tracing,
        capture_request_headers=["x-.*", "authorization", "cookie"],
        capture_response_headers=[".*"],
        redact_headers=["x-secret"],
        deny_headers=["x-trail"],
    )
    sent = {"X-A": "1", "X-Secret": "s", "Authorization": "s", "Cookie": "s", "X-Trail": "t"}
    async with Serving(app) as service:
        await service.status("/", headers=sent)
        attributes = await _attributes(recorder)
    assert {k: v for k, v in attributes.items() if k.startswith("http.request.header.")} == {
        "http.request.header.x-a": ("1",),
        "http.request.header.x-secret": ("REDACTED",),
    }
    captured = {k for k in attributes if k.startswith("http.response.header.")}
    assert {name.rpartition(".")[2] for name in captured} == {
        *("x-shop", "content-type", "content-length", "date", "server")
    }
    assert attributes["http.response.status_code"] == 200


async def test_headers_of_an_error_are_captured(tracing: Tracing, recorder: Recorder) -> None:
    """Also those of the response that aiohttp makes of an exception."""

    async def handler(_request: web.Request) -> web.Response:
        raise ValueError("theirs")

    app = app_of(handler)
    setup(app, tracing, capture_response_headers=["content-type"])
    async with Serving(app) as service:
        await service.status("/")
        attributes = await _attributes(recorder)
    assert attributes["http.response.header.content-type"] == ("text/plain; charset=utf-8",)
    assert (attributes["error.type"], attributes["http.response.status_code"]) == (
        "ValueError",
        500,
    )


async def test_the_header_variables_of_contrib_are_honoured(
    tracing: Tracing, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is captured and what is sanitized; an option in its place wins."""
    prefix = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
    monkeypatch.setenv(f"{prefix}SERVER_REQUEST", "X-One, x-two")
    monkeypatch.setenv(f"{prefix}SERVER_RESPONSE", "content-type")
    monkeypatch.setenv(f"{prefix}SANITIZE_FIELDS", ".*two")
    app = app_of(ok)
    setup(app, tracing, capture_response_headers=["content-length"])
    for name in ("SERVER_REQUEST", "SERVER_RESPONSE", "SANITIZE_FIELDS"):
        monkeypatch.delenv(f"{prefix}{name}")
    async with Serving(app) as service:
        await service.status("/", headers={"X-One": "1", "X-Two": "2"})
        attributes = await _attributes(recorder)
    assert {k: v for k, v in attributes.items() if ".header." in k} == {
        "http.request.header.x-one": ("1",),
        "http.request.header.x-two": ("REDACTED",),
        "http.response.header.content-length": ("4",),
    }


@given(
    names=st.lists(
        st.sampled_from(["Authorization", "COOKIE", "Set-Cookie", "x-api-key", "X-Ok", "X-No"]),
        max_size=6,
    )
)
def test_the_deny_list_always_wins(names: list[str]) -> None:
    """Whatever is wanted or redacted."""
    capture = HeaderCapture("request", [".*"], [".*"], ["x-no"])
    attributes = capture.attributes((name, "secret") for name in names)
    assert set(attributes) <= {"http.request.header.x-ok"}
    assert "secret" not in repr(attributes)


def test_what_is_kept_of_header_names_is_bounded() -> None:
    """They are the client's to invent."""
    capture = HeaderCapture("request", ["x-.*"])
    for number in range(2000):
        assert capture.attributes([(f"X-{number}", "v")]) == {
            f"http.request.header.x-{number}": ("v",)
        }
    assert len(capture._known) <= 256
    assert repr(capture) == "<HeaderCapture http.request.header.((?:x-.*))>"


# --- query and client ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capture", "query"),
    [
        (True, "a=1&sig=REDACTED&token=t"),
        (False, None),
        (["token", "a"], "a=REDACTED&sig=REDACTED&token=REDACTED"),
    ],
)
async def test_the_query_is_redacted(
    tracing: Tracing, recorder: Recorder, capture: object, query: str | None
) -> None:
    """Known credentials always; more by name; or it is left out."""
    app = app_of(ok)
    setup(app, tracing, capture_query=capture, span_name=lambda _request: "x")  # type: ignore[arg-type]
    async with Serving(app) as service:
        await service.status("/?a=1&sig=s&token=t")
    assert (await _attributes(recorder)).get("url.query") == query


@pytest.mark.parametrize(
    ("options", "headers", "client"),
    [
        ({}, {"X-Forwarded-For": "1.2.3.4"}, "127.0.0.1"),
        ({"trusted_proxies": 1}, {"X-Forwarded-For": "6.6.6.6, 1.2.3.4"}, "1.2.3.4"),
        ({"trusted_proxies": 2}, {"X-Forwarded-For": "6.6.6.6, 1.2.3.4, 10.0.0.1"}, "1.2.3.4"),
        ({"trusted_proxies": 2}, {"X-Forwarded-For": "1.2.3.4"}, "127.0.0.1"),
        ({"trusted_proxies": 1}, {"Forwarded": "for=6.6.6.6"}, "127.0.0.1"),
        (
            {"trusted_proxies": 1, "forwarded_header": "forwarded"},
            {"Forwarded": 'for=6.6.6.6, for="[2001:db8::1]:80";proto=https'},
            "2001:db8::1",
        ),
    ],
)
async def test_the_client_behind_proxies(
    tracing: Tracing,
    recorder: Recorder,
    options: ServerOptions,
    headers: dict[str, str],
    client: str,
) -> None:
    """Only as many entries are believed as there are proxies of ours, and only of their header."""
    app = app_of(ok)
    setup(app, tracing, **options)
    async with Serving(app) as service:
        await service.status("/", headers=headers)
    attributes = await _attributes(recorder)
    assert attributes["client.address"] == client
    peer = None if client == "127.0.0.1" else "127.0.0.1"
    assert attributes.get("network.peer.address") == peer


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4:80", "1.2.3.4"),
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("unknown", ""),
        ("_hidden", "_hidden"),
    ],
)
def test_entries_of_proxies(entry: str, address: str) -> None:
    """With or without port and brackets."""
    assert address_of(entry) == address


@given(
    forged=st.lists(st.text(st.characters(codec="latin-1"), max_size=12), max_size=4),
    proxies=st.integers(0, 5),
    rfc7239=st.booleans(),
)
def test_a_client_cannot_forge_what_a_trusted_proxy_saw(
    forged: list[str], proxies: int, rfc7239: bool
) -> None:
    """The last entry is our proxy's, whatever stands before it; and nothing raises."""
    entry = "for=9.9.9.9" if rfc7239 else "9.9.9.9"
    client_of(forged, proxies, rfc7239=rfc7239)
    if not (rfc7239 and any('"' in value for value in forged)):
        assert client_of([*forged, entry], 1, rfc7239=rfc7239) == "9.9.9.9"


# --- the trace of the caller ---------------------------------------------------------------------


@pytest.mark.parametrize("incoming", ["parent", "link", "ignore"])
async def test_what_an_incoming_trace_is(
    tracing: Tracing, recorder: Recorder, incoming: str
) -> None:
    """The parent, a link, or nothing; baggage is taken over from a parent alone."""
    seen: list[object] = []

    async def handler(_request: web.Request) -> web.Response:
        from opentelemetry import baggage

        seen.append(baggage.get_baggage("a"))
        return web.Response()

    app = app_of(handler)
    setup(app, tracing, incoming=incoming, span_name=lambda _request: "x")  # type: ignore[arg-type]
    async with Serving(app) as service:
        await service.status("/", headers={"traceparent": PARENT, "baggage": "a=b"})
    span = await recorder.one()
    assert span.kind is SpanKind.SERVER
    linked = [link.context.span_id for link in span.links]
    if incoming == "parent":
        assert span.parent is not None
        assert (span.parent.span_id, linked, seen) == (0xB7AD6B7169203331, [], ["b"])
    else:
        assert span.parent is None
        assert span.context.trace_id != 0x0AF7651916CD43DD8448EB211C80319C
        assert linked == ([0xB7AD6B7169203331] if incoming == "link" else [])
        assert seen == [None]


# --- headers that tell the span ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "stream", "raised", "failed", "generated"])
async def test_the_caller_is_told_the_span(tracing: Tracing, recorder: Recorder, kind: str) -> None:
    """On every response, also on errors and streams, and beside a Server-Timing of the app's."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if kind == "stream":
            stream = web.StreamResponse()
            await stream.prepare(request)
            await stream.write(b"x")
            return stream
        if kind == "raised":
            raise web.HTTPNotFound
        if kind == "failed":
            raise ValueError

        async def body() -> AsyncIterator[bytes]:
            yield b"x"

        content = body() if kind == "generated" else b"x"
        return web.Response(body=content, headers={"Server-Timing": "db;dur=53"})

    app = app_of(handler)
    setup(app, tracing, response_headers=["traceresponse", "server-timing"])
    async with Serving(app) as service:
        headers = await service.headers("/")
        span = await recorder.one()
    told = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-03"
    assert headers["traceresponse"] == told
    timings = headers.getall("Server-Timing")
    assert timings[-1] == f'traceparent;desc="{told}"'
    assert len(timings) == (2 if kind in ("plain", "generated") else 1)


async def test_the_span_of_an_unsampled_request_is_told_as_such(recorder: Recorder) -> None:
    """Its flags say that nothing was recorded."""
    app = app_of(ok)
    async with init(set_global=False, exporter="none", sampler=ALWAYS_OFF) as tracing:
        setup(app, tracing, response_headers=["traceresponse"], enrich_response=lambda *_: None)
        async with Serving(app) as service:
            headers = await service.headers("/")
    assert headers["traceresponse"].endswith("-02")


async def test_nested_applications_tell_one_span(tracing: Tracing, recorder: Recorder) -> None:
    """The signal is sent to each application of a request; the header is there once."""
    inner, outer = app_of(ok), web.Application()
    for app in (inner, outer):
        setup(app, tracing, response_headers=["traceresponse"])
    outer.add_subapp("/inner", inner)
    async with Serving(outer) as service:
        headers = await service.headers("/inner/")
    assert len(headers.getall("traceresponse")) == 1
    await recorder.one()


@pytest.mark.parametrize("outer_skips", [True, False])
async def test_a_handler_is_called_once(
    tracing: Tracing, recorder: Recorder, outer_skips: bool
) -> None:
    """Also when it fails below several applications with options, and none of them traces it."""
    calls: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(request.path)
        raise ValueError("theirs")

    inner, outer = app_of(handler), web.Application()
    setup(inner, tracing, trusted_proxies=1)
    setup(outer, tracing, skip=["/inner/*"] if outer_skips else [], span_name=lambda _request: "x")
    outer.add_subapp("/inner", inner)
    async with Serving(outer) as service:
        assert await service.status("/inner/") == 500
    assert calls == ["/inner/"]
    assert [span.name for span in recorder.spans] == ([] if outer_skips else ["x"])
    assert tracing.statistics().faults == {}


@pytest.mark.may_block("writes a log line")
async def test_a_fault_of_ours_does_not_reach_a_shaped_request(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler is called once, and answers."""
    from asynctrace.aiohttp import _shaped

    def fail(*_args: object) -> None:
        raise RuntimeError("ours")

    app = app_of(ok)
    setup(app, tracing, trusted_proxies=1, response_headers=["traceresponse"])
    async with Serving(app) as service:
        monkeypatch.setattr(_shaped, "identity", fail)
        assert await service.fetch("/") == (200, "fine")
        monkeypatch.setattr(_shaped, "caller_of", fail)
        assert await service.fetch("/") == (200, "fine")
    assert set(tracing.statistics().faults) == {"aiohttp response headers", "aiohttp request"}


# --- what is accepted ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"skip": "/health"},
        {"skip": [1]},
        {"skipped_children": "no"},
        {"enrich_request": 1},
        {"capture_request_headers": "x"},
        {"capture_request_headers": ["("]},
        {"capture_query": "x"},
        {"trusted_proxies": -1},
        {"trusted_proxies": True},
        {"forwarded_header": "via"},
        {"incoming": "child"},
        {"response_headers": ["x-trace"]},
        {"message_spans": 2},
        {"protocol_errors": "yes"},
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, object]) -> None:
    """At setup(), by an error that names the option; the application is left as it was."""
    app = web.Application()
    with pytest.raises(ConfigError) as caught:
        setup(app, **options)  # type: ignore[arg-type]
    assert caught.value.setting == next(iter(options))
    assert len(app.middlewares) == 0


def test_a_variable_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like the option in its place."""
    with pytest.raises(ConfigError, match="skip"):
        Shape.of({}, {"OTEL_PYTHON_EXCLUDED_URLS": "("})


@pytest.mark.parametrize("options", [{}, {"skip": [], "capture_query": True, "incoming": None}])
def test_options_that_ask_for_nothing_cost_nothing(options: dict[str, object]) -> None:
    """They are the same as none."""
    assert Shape.of(options, {}) == PLAIN


async def test_an_application_without_options_takes_the_short_way(tracing: Tracing) -> None:
    """Decided once, not per request."""
    plain, shaped = app_of(ok), app_of(ok)
    setup(plain, tracing)
    setup(shaped, tracing, trusted_proxies=1)
    async with Serving(plain) as service:
        await service.status("/")
    async with Serving(shaped) as service:
        await service.status("/")
    assert plain[KEY].instead is None
    assert repr(shaped[KEY].instead).startswith("<Shaping by Shape(")
    assert len(plain.on_response_prepare) == 0
