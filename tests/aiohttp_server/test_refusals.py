"""Requests that aiohttp refuses before any application sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.aiohttp import setup
from asynctrace.aiohttp._server import KEY
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import PATIENCE, Recorder, Service, Serving, app_of, get, ok

LONG = "x" * 20_000


async def _answer(service: Service, request: bytes) -> bytes:
    async with service.connection(request) as reader:
        return await asyncio.wait_for(reader.read(), PATIENCE)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (b"HELLO\r\n\r\n", "BadStatusLine"),
        (get("/").replace(b"Host: shop.example", b"bad header"), "BadHttpMessage"),
        (get("/", f"X-Long: {LONG}"), "LineTooLong"),
        (get(f"/{LONG}"), "LineTooLong"),
    ],
)
async def test_refused_requests_are_seen_when_asked_for(
    tracing: Tracing, recorder: Recorder, request_: bytes, error: str
) -> None:
    """One span, 400 and why; by the conventions no error of the server's.

    This notices when aiohttp's private name has moved.
    """
    app = app_of(ok)
    setup(app, tracing, protocol_errors=True)
    async with Serving(app) as service:
        assert (await _answer(service, request_)).startswith(b"HTTP/1.0 400")
    span = await recorder.one()
    attributes = dict(span.attributes or {})
    kind = attributes.pop("error.type")
    assert isinstance(kind, str)
    assert kind.startswith("aiohttp.http_exceptions.")
    assert attributes == {
        "http.request.method": "_OTHER",
        "http.response.status_code": 400,
        "url.scheme": "http",
        "client.address": "127.0.0.1",
    }
    assert (span.name, span.kind, span.parent) == ("HTTP", SpanKind.SERVER, None)
    assert span.status.status_code is StatusCode.UNSET


async def _answered(service: Service, expectation: str, version: str = "1.1") -> int:
    """The status of the final answer to a request that expects something."""
    lines = f"Expect: {expectation}", "Connection: close", "Content-Length: 0"
    answer = await _answer(service, get("/7?a=1", *lines, version=version))
    return int(answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").split()[1])


async def test_a_refused_expectation_is_seen_when_asked_for(
    tracing: Tracing, recorder: Recorder
) -> None:
    """It has found its route, and its span says what any other does. Others have one span each."""
    app = app_of(ok, "/{id}")
    setup(app, tracing, protocol_errors=True, response_headers=["traceresponse"])
    async with Serving(app) as service:
        assert await _answered(service, "a miracle") == 417
        assert await _answered(service, "100-continue") == 200
        assert await service.status("/7") == 200
    refused, continued, plain = await recorder.take(3)
    assert recorder.started == 3
    assert [span.name for span in recorder.spans] == ["GET /{id}"] * 3
    assert refused.status.status_code is StatusCode.UNSET
    assert refused.attributes is not None
    assert refused.attributes["http.response.status_code"] == 417
    assert refused.attributes["url.query"] == "a=1"
    for span in (continued, plain):
        assert span.attributes is not None
        assert span.attributes["http.response.status_code"] == 200


async def test_a_refused_expectation_is_not_seen_otherwise(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Neither by default, nor of a request that is skipped."""
    both: list[dict[str, Any]] = [{}, {"protocol_errors": True, "skip": ["/{id}"]}]
    for options in both:
        app = app_of(ok, "/{id}")
        setup(app, tracing, **options)
        async with Serving(app) as service:
            assert await _answered(service, "a miracle") == 417
    assert recorder.spans == []


async def test_a_refused_expectation_has_one_span_in_nested_applications(
    tracing: Tracing, recorder: Recorder
) -> None:
    """The signal is sent to each of them, and the outermost makes the span."""
    outer, inner = web.Application(), app_of(ok, "/{id}")
    setup(inner, tracing, protocol_errors=True)
    outer.add_subapp("/inner", inner)
    setup(outer, tracing, protocol_errors=True)
    request = get("/inner/7", "Expect: a miracle", "Connection: close")
    async with Serving(outer) as service:
        assert b" 417 " in await _answer(service, request)
    assert (await recorder.one()).name == "GET /inner/{id}"


async def test_by_default_they_are_not(tracing: Tracing, recorder: Recorder) -> None:
    """Nothing is hooked then."""
    app = app_of(ok)
    setup(app, tracing)
    async with Serving(app) as service:
        assert (await _answer(service, b"HELLO\r\n\r\n")).startswith(b"HTTP/1.0 400")
        assert await service.status("/") == 200
    await recorder.one()


async def test_without_a_tracing_they_are_refused_all_the_same(recorder: Recorder) -> None:
    """There is nobody to make a span, and another server of the process is left alone."""
    app, other = app_of(ok), app_of(ok)
    setup(app, exporter="none", span_processors=[recorder], protocol_errors=True)
    async with Serving(app) as service, Serving(other) as bare:
        assert (await _answer(bare, b"HELLO\r\n\r\n")).startswith(b"HTTP/1.0 400")
        owned = app[KEY].tracing
        assert owned is not None
        app[KEY].tracing = None
        await owned.shutdown()
        assert (await _answer(service, b"HELLO\r\n\r\n")).startswith(b"HTTP/1.0 400")
    assert recorder.spans == []


@pytest.mark.may_block("writes a log line")
async def test_a_fault_while_telling_does_not_reach_the_server(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets its answer, the fault is counted."""
    app = app_of(ok)
    setup(app, tracing, protocol_errors=True)
    async with Serving(app) as service:
        assert await service.status("/") == 200
        monkeypatch.setattr(app[KEY], "tracer", None)
        assert (await _answer(service, b"HELLO\r\n\r\n")).startswith(b"HTTP/1.0 400")
    assert tracing.statistics().faults == {"aiohttp refusal": 1}


async def test_ordinary_requests_and_errors_have_one_span_all_the_same(
    tracing: Tracing, recorder: Recorder
) -> None:
    """What reaches the application is traced there, also when its handler fails."""

    async def handler(request: web.Request) -> web.Response:
        if request.query:
            raise ValueError
        return web.Response()

    app = app_of(handler)
    setup(app, tracing, protocol_errors=True)
    async with Serving(app) as service:
        await service.status("/")
        await service.status("/?fail")
    assert [span.name for span in recorder.spans] == ["GET /", "GET /"]


@pytest.mark.may_block("writes log lines")
async def test_an_aiohttp_without_the_private_name_serves_on(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says that the option does nothing."""
    from asynctrace.aiohttp import _refused

    monkeypatch.setattr(_refused, "_MAKE_SERVER", "_moved")
    app = app_of(ok)
    setup(app, tracing, protocol_errors=True)
    async with Serving(app) as service:
        assert await service.status("/") == 200
    assert "no effect" in caplog.text


_lines = st.sampled_from(
    [
        b"GET / HTTP/1.1", b"GET /%zz?a=%00&sig HTTP/1.1", b"get / HTTP/1.1", b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"GET http://[::1/ HTTP/1.1",
        b"GET http://a.example/p?q HTTP/1.1", b"BREW /pot HTTP/1.0", b"GET /\xc3\xa9 HTTP/1.1",
    ]
)  # fmt: skip
_headers = st.lists(
    st.sampled_from(
        [
            b"Host: a:b", b"Host: [", b"Host:", b"Host: a", b"Host: \xff", b"traceparent: 00-zz",
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"tracestate: =,a=b,\xff", b"baggage: a=%ff,;", b"User-Agent: \xe9\x00", b"Expect: x",
            b"X-Forwarded-For: \xff,", b"Content-Length: 5", b"Transfer-Encoding: chunked",
            b"Upgrade: websocket", b"Connection: Upgrade", b"Connection: close",
        ]
    ),
    max_size=6,
)  # fmt: skip


def _request(line: bytes, headers: list[bytes]) -> bytes:
    return b"\r\n".join([line, *headers, b"", b""])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(
        st.one_of(
            st.builds(_request, _lines, _headers),
            st.binary(max_size=40),
        ),
        min_size=1,
        max_size=3,
    ),
    shaped=st.booleans(),
)  # fmt: skip
def test_no_bytes_harm_the_server_or_leave_a_span(requests: list[bytes], shaped: bool) -> None:
    """Whatever is sent: nothing of ours fails, and every span that was started has ended."""
    asyncio.run(_fuzz(b"".join(requests), shaped))


async def _fuzz(data: bytes, shaped: bool) -> None:
    from asynctrace.initialization import init

    recorder = Recorder()
    async with init(set_global=False, exporter="none", span_processors=[recorder]) as tracing:
        app = app_of(ok, "/{path:.*}")
        if shaped:
            setup(
                app, tracing, protocol_errors=True, trusted_proxies=1, capture_query=["a"],
                capture_request_headers=[".*"], response_headers=["traceresponse"],
            )  # fmt: skip
        else:
            setup(app, tracing)
        async with Serving(app) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(data)
            writer.write_eof()
            try:
                await asyncio.wait_for(reader.read(), 0.05)
            except TimeoutError:  # the request is not complete yet
                pass
            writer.close()
            assert await service.status("/") == 200
        assert len(recorder.spans) == recorder.started >= 1
        assert tracing.open_spans() == ()
        assert tracing.statistics().faults == {}
