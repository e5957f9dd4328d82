"""Options: where context goes, what gets a span, and what a span shows."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import aiohttp
import httpx
import pytest
from multidict import CIMultiDict
from opentelemetry import baggage, context
from opentelemetry.trace import get_current_span
from yarl import URL as URL_

from asynctrace import semconv
from asynctrace._http.client import OPTIONS, Shaping, is_signed
from asynctrace._http.targets import matcher
from asynctrace.aiohttp._client_options import place_of as aiohttp_place_of
from asynctrace.errors import ConfigError
from asynctrace.httpx import AsyncTracingTransport, instrument
from asynctrace.httpx._shaping import TracingOptions, place_of
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server, until

URL = "http://api.internal:8443/v1/things?q=1"


class Seen:
    """A client's transport that keeps what it is given."""

    def __init__(self, kind: Kind, *parts: bytes) -> None:
        self.requests: list[Any] = []
        self._parts = parts or (b"hel", b"lo")
        self._kind = kind
        self.transport = kind.transport(self._respond)

    def _respond(self, request: Any) -> Any:
        self.requests.append(request)
        headers = [("x-answer", "1"), ("x-answer", "2"), ("set-cookie", "secret=1")]
        stream = self._kind.stream(*self._parts)
        return self._kind.library.Response(200, headers=headers, stream=stream)


def _attributes(recorder: Recorder) -> dict[str, Any]:
    return dict(recorder.one().attributes or {})


# --- where context goes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "goes"),
    [
        (["api.internal"], True),
        (["*.internal"], True),
        (["API.internal:8443"], True),
        (["api.internal:80"], False),
        (["http://api.internal:8443/v1/*"], True),
        (["http://api.internal:8443/v2/*"], False),
        ([re.compile("internal")], True),
        ([re.compile("q=1")], False),
        ([], False),
        (["elsewhere", "api.internal"], True),
        (lambda request: request.url.path == "/v1/things", True),
        (lambda request: False, False),
    ],
)
async def test_propagate_to(
    targets: Any, goes: bool, kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """A span is made in any case; trace context and baggage go where they may."""
    seen = Seen(kind)
    async with kind.client(transport=seen.transport) as client:
        instrument(client, tracing=tracing, propagate_to=targets)
        token = context.attach(baggage.set_baggage("who", "me"))
        try:
            await kind.call(client.get, URL)
        finally:
            context.detach(token)
    recorder.one()
    [request] = seen.requests
    assert ("traceparent" in request.headers) is goes
    assert ("baggage" in request.headers) is goes


@pytest.mark.parametrize(
    ("target", "url", "is_meant"),
    [
        ("api:443", "https://api/", True),
        ("api:443", "http://api/", False),
        ("api:80", "http://api:80/", True),
        ("https://api:443/*", "https://api/v1", True),
        ("https://api/*", "https://api:443/v1", True),
        ("https://api:444/*", "https://api/v1", False),
        ("::1", "http://[::1]:8080/", True),
        ("[::1]", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8081", "http://[::1]:8080/", False),
        ("[FE80::*]:8080", "http://[fe80::2]:8080/", True),
        ("http://[::1]:8080/*", "http://[::1]:8080/v1", True),
        ("[ab]pi", "http://api/", True),
        ("1", "http://[::1]/", False),
    ],
)
@pytest.mark.parametrize("library", [httpx, aiohttp])
def test_ports_and_addresses(library: Any, target: str, url: str, is_meant: bool) -> None:
    """A port may be named though it is the scheme's own, and an IPv6 address as in a URL."""
    if library is httpx:
        matches = matcher("skip", [target], place_of)
        assert matches(httpx.Request("GET", url)) is is_meant
    else:
        matches = matcher("skip", [target], aiohttp_place_of)
        request = aiohttp.TraceRequestStartParams("GET", URL_(url), CIMultiDict())
        assert matches(request) is is_meant


async def test_propagate_to_over_redirects(kind: Kind, tracing: Tracing) -> None:
    """A redirect to elsewhere takes neither trace context nor baggage there."""
    sent: dict[str, set[str]] = {}

    def respond(request: Any) -> Any:
        sent[request.url.host] = set(request.headers)
        if request.url.host == "a.internal":
            return kind.library.Response(302, headers={"location": "http://b.example/"})
        return kind.library.Response(200)

    async with kind.client(transport=kind.transport(respond), follow_redirects=True) as client:
        instrument(client, tracing=tracing, propagate_to=["*.internal"])
        token = context.attach(baggage.set_baggage("who", "me"))
        try:
            await kind.call(client.get, "http://a.internal/")
        finally:
            context.detach(token)
    assert {"traceparent", "baggage"} <= sent["a.internal"]
    assert sent["b.example"].isdisjoint({"traceparent", "baggage"})


@pytest.mark.may_block("writes a log line")
async def test_propagate_to_that_fails(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """When the user's function fails nothing goes out, the request does, and the fault is told."""
    seen = Seen(kind)
    async with kind.client(transport=seen.transport) as client:
        instrument(client, tracing=tracing, propagate_to=lambda request: 1 / 0 > 0)
        await kind.call(client.get, URL)
    recorder.one()
    assert "traceparent" not in seen.requests[0].headers
    assert tracing.statistics().faults == {"propagate_to": 1}


@pytest.mark.parametrize(
    ("headers", "signed"),
    [
        ({}, False),
        ({"authorization": "Bearer abc"}, False),
        ({"authorization": "Basic c2lnbmF0dXJlPQ=="}, False),
        (
            {"authorization": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c"},
            True,
        ),
        ({"authorization": "AWS4-ECDSA-P256-SHA256 Credential=a"}, True),
        ({"authorization": 'Signature keyId="k",headers="date host",signature="s"'}, True),
        ({"authorization": 'Hmac username="u", headers="date", signature="s"'}, True),
        ({"Signature-Input": 'sig=("@method");created=1', "Signature": "sig=:x:"}, True),
    ],
)
def test_signed_requests(headers: dict[str, str], signed: bool) -> None:
    """A signature over headers is told from other credentials."""
    assert is_signed(httpx.Headers(headers)) is signed


async def test_signed_requests_can_be_left_alone(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """They are sent as they were signed; others carry context."""
    seen = Seen(kind)
    headers = {"authorization": "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=c"}
    async with kind.client(transport=seen.transport) as client:
        instrument(client, tracing=tracing, propagate_signed=False)
        await kind.call(client.get, URL, headers=headers)
        await kind.call(client.get, URL)
    assert ["traceparent" in request.headers for request in seen.requests] == [False, True]
    assert len(recorder.spans) == 2


# --- skip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [["api.internal"], lambda request: True])
async def test_skip(kind: Kind, tracing: Tracing, recorder: Recorder, targets: Any) -> None:
    """No span, no header, and the very request of the caller's is sent."""
    seen = Seen(kind)
    async with kind.client(transport=seen.transport) as client:
        instrument(client, tracing=tracing, skip=targets)
        request = client.build_request("GET", URL)
        await kind.call(client.send, request)
    assert recorder.started == []
    assert seen.requests == [request]
    assert "traceparent" not in request.headers


@pytest.mark.may_block("writes a log line")
async def test_skip_that_fails(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A predicate that fails skips nothing."""
    async with kind.client(transport=Seen(kind).transport) as client:
        instrument(client, tracing=tracing, skip=lambda request: 1 / 0 > 0)
        await kind.call(client.get, URL)
    recorder.one()
    assert tracing.statistics().faults == {"skip": 1}


# --- hooks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("are_async", [False, True])
async def test_enrich(kind: Kind, tracing: Tracing, recorder: Recorder, are_async: bool) -> None:
    """Both hooks see the current span; functions and coroutine functions serve either client."""
    calls: list[Any] = []

    def request_hook(span: Any, request: Any) -> None:
        assert get_current_span() is span
        calls.append(request)
        span.set_attribute("mine.path", request.url.path)

    def response_hook(span: Any, request: Any, response: Any) -> None:
        assert get_current_span() is span
        calls.append(response)
        span.set_attribute("mine.answer", response.headers["x-answer"])

    async def request_coroutine(span: Any, request: Any) -> None:
        await asyncio.sleep(0.001)
        request_hook(span, request)

    async def response_coroutine(span: Any, request: Any, response: Any) -> None:
        await asyncio.sleep(0.001)
        response_hook(span, request, response)

    async with kind.client(transport=Seen(kind).transport) as client:
        instrument(
            client,
            tracing=tracing,
            enrich_request=request_coroutine if are_async else request_hook,
            enrich_response=response_coroutine if are_async else response_hook,
        )
        request = client.build_request("GET", URL)
        response = await kind.call(client.send, request)
    assert calls[0] is request
    assert calls[1] is response
    attributes = _attributes(recorder)
    assert (attributes["mine.path"], attributes["mine.answer"]) == ("/v1/things", "1, 2")


@pytest.mark.may_block("blocks, as any synchronous client on a loop")
async def test_a_coroutine_for_a_synchronous_client_on_a_loop(
    tracing: Tracing, recorder: Recorder
) -> None:
    """It is run to its end, and what it raises is contained."""

    async def enrich(span: Any, request: Any) -> None:
        await asyncio.sleep(0)
        span.set_attribute("mine", 1)
        raise ValueError("no")

    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with instrument(
        httpx.Client(transport=transport), tracing=tracing, enrich_request=enrich
    ) as client:
        client.get(URL)
    assert _attributes(recorder)["mine"] == 1
    assert tracing.statistics().faults == {"enrich_request": 1}


@pytest.mark.may_block("writes a log line")
@pytest.mark.parametrize("are_async", [False, True])
async def test_hooks_that_fail(
    kind: Kind, tracing: Tracing, recorder: Recorder, are_async: bool
) -> None:
    """Their errors are told, and neither the request nor the span is harmed."""

    def fail(*_: object) -> None:
        raise RuntimeError("a hook of the user's")

    async def fail_async(*_: object) -> None:
        raise RuntimeError("a hook of the user's")

    hook = fail_async if are_async else fail
    async with kind.client(transport=Seen(kind).transport) as client:
        instrument(client, tracing=tracing, enrich_request=hook, enrich_response=hook)
        response = await kind.call(client.get, URL)
    assert response.content == b"hello"
    assert _attributes(recorder)["http.response.status_code"] == 200
    assert tracing.statistics().faults == {"enrich_request": 1, "enrich_response": 1}


async def test_cancelled_in_a_hook(async_kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """Cancellation passes through; the response that nobody gets is closed."""
    stream = async_kind.stream(b"hello")
    transport = async_kind.transport(lambda _: async_kind.library.Response(200, stream=stream))
    reached = asyncio.Event()

    async def wait(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with async_kind.client(transport=transport) as client:
        instrument(client, tracing=tracing, enrich_response=wait)
        task = asyncio.create_task(client.get(URL))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert _attributes(recorder)["asynctrace.cancellation.reason"] == "cancelled"
    assert stream.closed


async def test_hooks_of_a_trace_that_is_not_sampled(
    kind: Kind, unsampled: Tracing, recorder: Recorder
) -> None:
    """They are not called: there is nothing to enrich."""
    calls: list[object] = []
    seen = Seen(kind)
    async with kind.client(transport=seen.transport) as client:
        instrument(client, tracing=unsampled, enrich_request=lambda *args: calls.append(args))
        assert (await kind.call(client.get, URL)).content == b"hello"
    assert calls == []
    assert seen.requests[0].headers["traceparent"].endswith("-02")


# --- what a span shows ---------------------------------------------------------------------------


async def test_captured_headers(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """Asked for by name or pattern; redacted without a value; denied not at all."""
    async with kind.client(transport=Seen(kind).transport) as client:
        instrument(
            client,
            tracing=tracing,
            capture_request_headers=["X-Tenant", "x-key", "authorization", "x-own"],
            capture_response_headers=["x-.*", "set-cookie"],
            redact_headers=["X-Key"],
            deny_headers=["x-own"],
        )
        headers = {"x-tenant": "7", "x-key": "k", "authorization": "Bearer s", "x-own": "o"}
        await kind.call(client.get, URL, headers=headers)
    captured = {
        name: value
        for name, value in _attributes(recorder).items()
        if name.startswith(semconv.HEADER_PREFIXES)
    }
    assert captured == {
        "http.request.header.x-tenant": ("7",),
        "http.request.header.x-key": ("REDACTED",),
        "http.response.header.x-answer": ("1", "2"),
    }


def test_headers_by_variables() -> None:
    """OpenTelemetry's variables ask for headers, unless the option does."""
    prefix = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
    environ = {f"{prefix}CLIENT_REQUEST": "x-a, x-b", f"{prefix}SANITIZE_FIELDS": "x-b"}
    shaping = Shaping.of({}, environ, place_of)
    assert shaping is not None
    assert shaping.request_headers is not None
    assert shaping.response_headers is None
    headers = [("X-A", "1"), ("X-B", "2"), ("X-C", "3")]
    assert shaping.request_headers.attributes(headers) == {
        "http.request.header.x-a": ("1",),
        "http.request.header.x-b": ("REDACTED",),
    }
    shaping = Shaping.of({"capture_request_headers": ["x-c"]}, environ, place_of)
    assert shaping is not None
    assert shaping.request_headers is not None
    assert set(shaping.request_headers.attributes(headers)) == {"http.request.header.x-c"}


@pytest.mark.parametrize(
    ("capture", "shown"),
    [
        (True, "http://REDACTED:REDACTED@host/a?token=1&b=2&sig=REDACTED#part"),
        (
            ["token", "B"],
            "http://REDACTED:REDACTED@host/a?token=REDACTED&b=REDACTED&sig=REDACTED#part",
        ),
        (False, "http://REDACTED:REDACTED@host/a"),
    ],
)
async def test_capture_query(
    kind: Kind, tracing: Tracing, recorder: Recorder, capture: Any, shown: str
) -> None:
    """Known credentials never show; the user's list adds to them, False hides the whole query."""
    async with kind.client(transport=Seen(kind).transport) as client:
        instrument(client, tracing=tracing, capture_query=capture)
        await kind.call(client.get, "http://me:pw@host/a?token=1&b=2&sig=3#part")
    assert _attributes(recorder)["url.full"] == shown


async def test_url_template(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """The request's extensions name what it asks for, and so the span."""
    async with kind.client(transport=Seen(kind).transport) as client:
        instrument(client, tracing=tracing)
        extensions = {"asynctrace": {"url_template": "/users/{id}"}}
        await kind.call(client.get, "http://host/users/7", extensions=extensions)
    assert recorder.one().name == "GET /users/{id}"
    assert _attributes(recorder)["url.template"] == "/users/{id}"


async def test_end_at_headers(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """The span has ended while the body is still to come, which the caller reads untouched."""
    async with kind.client() as client:
        instrument(client, tracing=tracing, end_span_at="headers")
        request = client.build_request("GET", server.url("/drip"))
        response = await kind.call(client.send, request, stream=True)
        attributes = _attributes(recorder)
        assert attributes["http.response.status_code"] == 200
        assert "http.response.body.size" not in attributes
        server.go_on.set()
        await kind.call(response.aread if kind.is_async else response.read)
        assert response.content == b"helloworld"
    recorder.one()


async def test_time_to_headers(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Every response says when its headers came, in seconds from the start."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", server.url("/drip"))
        response = await kind.call(client.send, request, stream=True)
        [span] = recorder.started
        await until(lambda: "http.response.status_code" in (span.attributes or {}))
        server.go_on.set()
        await kind.call(response.aread if kind.is_async else response.read)
    taken = _attributes(recorder)["asynctrace.http.time_to_headers"]
    assert 0 < taken <= (span.end_time - span.start_time) / 1e9


# --- wrong options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"propagate_to": "host"}, "a list of hosts"),
        ({"propagate_to": 7}, "a list of hosts"),
        ({"propagate_to": [7]}, "a host, a URL or a compiled pattern"),
        ({"skip": [""]}, "a host, a URL or a compiled pattern"),
        ({"propagate_signed": "no"}, "True or False"),
        ({"enrich_request": "name"}, "a function"),
        ({"capture_request_headers": "x-a"}, "a sequence of names"),
        ({"capture_request_headers": ["("]}, "not a regular expression"),
        ({"capture_query": 7}, "a sequence of names"),
        ({"end_span_at": "middle"}, "'body' or 'headers'"),
        ({"phases": 1}, "True or False"),
    ],
)
def test_wrong_values(options: dict[str, Any], message: str) -> None:
    """A value that cannot be used is refused at once, by name."""
    with pytest.raises(ConfigError, match=message) as caught:
        AsyncTracingTransport(httpx.MockTransport(lambda _: httpx.Response(200)), **options)
    assert caught.value.setting in options


def test_an_option_that_there_is_not() -> None:
    """It is a TypeError, as of any function."""
    with pytest.raises(TypeError, match="unexpected option 'skipp'"):
        instrument(httpx.Client(), skipp=["host"])  # type: ignore[call-arg]


def test_nothing_asked_for() -> None:
    """Options that say what is so anyway cost nothing."""
    nothing: dict[str, Any] = {
        "propagate_to": None,
        "propagate_signed": True,
        "capture_query": True,
        "capture_request_headers": [],
        "end_span_at": "body",
        "phases": False,
    }
    assert Shaping.of(nothing, {}, place_of) is None


def test_an_international_host() -> None:
    """Hosts are matched as they go over the wire."""
    matches = matcher("skip", ["xn--bcher-kva.example"], place_of)
    assert matches(httpx.Request("GET", "http://bücher.example/"))


def test_the_lists_of_options_agree() -> None:
    """What type checkers see is what is read."""
    assert set(TracingOptions.__annotations__) == OPTIONS
