"""When a SERVER span ends, and what it says when the request did not simply succeed."""

from __future__ import annotations

import asyncio
import gc
import io
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from asynctrace.aiohttp import setup
from asynctrace.aiohttp._ending import (
    Outcome,
    Reason,
    Situation,
    of_exception,
    of_response,
    of_unsent,
)
from asynctrace.aiohttp._server import KEY
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import PATIENCE, Recorder, Serving, app_of, get, until


def _said(span: ReadableSpan) -> tuple[object, object, object]:
    """Status code, error.type and reason."""
    attributes = span.attributes or {}
    return (
        attributes.get("http.response.status_code"),
        attributes.get("error.type"),
        attributes.get("asynctrace.cancellation.reason"),
    )


async def _gone(request: web.Request) -> None:
    """Return when the client has left, however long the handler is patient."""
    await until(lambda: request.transport is None)


# --- the client leaves ---------------------------------------------------------------------------


async def test_a_client_that_leaves_is_no_success(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool
) -> None:
    """While the handler works: no status code, status ERROR, and the reason."""
    begun = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        begun.set()
        await _gone(request)
        return web.Response()

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get("/")):
            await asyncio.wait_for(begun.wait(), PATIENCE)
        span = await recorder.one()
    kind = "asyncio.exceptions.CancelledError" if handler_cancellation else "client_disconnect"
    assert _said(span) == (None, kind, "client_disconnect")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.events == ()


async def test_a_client_that_leaves_in_the_middle_of_a_stream(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool
) -> None:
    """A handler that writes finds out; the error is told, and that it was the client."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await _gone(request)
        await response.write(b"never")
        return response

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get("/")) as reader:
            await reader.readuntil(b"first")
        span = await recorder.one()
    status_code, kind, reason = _said(span)
    assert (status_code, reason) == (None, "client_disconnect")
    assert str(kind).endswith("CancelledError" if handler_cancellation else "ConnectionResetError")
    assert span.status.status_code is StatusCode.ERROR


async def test_a_client_that_leaves_while_a_body_is_generated(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool
) -> None:
    """After the handler has returned; aiohttp swallows the failing write, the span does not."""

    async def handler(request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await _gone(request)
            yield b"never"

        return web.Response(body=body())

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get("/")) as reader:
            await reader.readuntil(b"first")
        span = await recorder.one()
    kind = "asyncio.exceptions.CancelledError" if handler_cancellation else "client_disconnect"
    assert _said(span) == (200, kind, "client_disconnect")
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("shaped", [True, False])
async def test_a_connection_that_closes_takes_no_response(
    tracing: Tracing, recorder: Recorder, shaped: bool
) -> None:
    """A client that says no more is hung up on by aiohttp, which forgets the transport a step
    later; what is written in between is lost.
    """

    async def handler(request: web.Request) -> web.Response:
        await until(lambda: request.transport is None or request.transport.is_closing())
        assert request.transport is not None
        return web.Response(text="lost")

    app = app_of(handler)
    setup(app, tracing, trusted_proxies=1 if shaped else 0)
    async with Serving(app) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(get("/"))
        await until(lambda: recorder.started == 1)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        span = await recorder.one()
    assert _said(span) == (None, "client_disconnect", "client_disconnect")


@pytest.mark.parametrize("header", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_client_that_leaves_in_the_middle_of_its_upload(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool, header: str
) -> None:
    """The handler that reads finds out."""

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get("/", header) + b"5\r\nhello\r\n"):
            await until(lambda: recorder.started == 1)
        span = await recorder.one()
    kind = "asyncio.exceptions.CancelledError" if handler_cancellation else "ConnectionResetError"
    assert _said(span) == (None, kind, "client_disconnect")


async def test_a_client_that_leaves_in_the_middle_of_a_file(
    tracing: Tracing, recorder: Recorder, tmp_path: Path, handler_cancellation: bool
) -> None:
    """The kernel was sending it; the span is no success, and tells no size."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(100_000_000)

    async def handler(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get("/")) as reader:
            await reader.readexactly(1000)
        span = await recorder.one()
    status_code, _, reason = _said(span)
    assert (status_code, reason) == (200, "client_disconnect")
    assert span.status.status_code is StatusCode.ERROR
    assert "http.response.body.size" not in (span.attributes or {})


# --- others end the request ----------------------------------------------------------------------


async def test_a_request_cut_off_by_shutdown_says_so(tracing: Tracing, recorder: Recorder) -> None:
    """aiohttp cancels what has not finished in time; the client was still there."""
    begun = asyncio.Event()

    async def handler(_request: web.Request) -> web.Response:
        begun.set()
        await asyncio.Event().wait()
        return web.Response()

    app = app_of(handler)
    setup(app, tracing)
    serving = Serving(app, shutdown_timeout=0.05)
    async with serving as service, service.connection(get("/")):
        await asyncio.wait_for(begun.wait(), PATIENCE)
        await serving.runner.cleanup()
        span = await recorder.one()
    assert _said(span) == (None, "asyncio.exceptions.CancelledError", "shutdown")
    assert span.status.status_code is StatusCode.ERROR


KINDS = ("plain", "stream", "generated", "file", "upload", "websocket", "cleaning up")


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_the_shutdown_cuts_off_says_so(
    tracing: Tracing, recorder: Recorder, tmp_path: Path, handler_cancellation: bool, kind: str
) -> None:
    """Wherever the request was: the client is still there, and is not blamed."""
    begun = asyncio.Event()
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(100_000_000)

    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await asyncio.Event().wait()

    async def handler(request: web.Request) -> web.StreamResponse:
        if kind == "file":
            begun.set()
            return web.FileResponse(path)
        if kind == "generated":
            return web.Response(body=endless())
        if kind == "stream":
            response = web.StreamResponse()
            await response.prepare(request)
            async for piece in endless():
                await response.write(piece)
        if kind == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            begun.set()
            await socket.receive()
        begun.set()
        try:
            await (request.read() if kind == "upload" else asyncio.Event().wait())
        finally:
            for _ in range(10 if kind == "cleaning up" else 0):
                await asyncio.sleep(0)
        raise AssertionError

    app = app_of(handler)
    setup(app, tracing)
    serving = Serving(app, shutdown_timeout=0.05, handler_cancellation=handler_cancellation)
    upgrade = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"
    headers = {
        "upload": ("Content-Length: 9",),
        "websocket": (*upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    }.get(kind, ())
    async with serving as service, service.connection(get("/", *headers)) as reader:
        await asyncio.wait_for(begun.wait(), PATIENCE)
        if kind == "file":
            await reader.readexactly(1000)
        await serving.runner.cleanup()
        span = await recorder.one()
    assert _said(span)[2] == "shutdown"
    assert span.status.status_code is StatusCode.ERROR


async def test_a_client_that_leaves_a_body_during_the_shutdown_is_told_from_it(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool
) -> None:
    """While aiohttp waits for the rest of it to be sent."""

    async def handler(request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await _gone(request)
            yield b"never"

        return web.Response(body=body())

    app = app_of(handler)
    setup(app, tracing)
    serving = Serving(app, shutdown_timeout=PATIENCE, handler_cancellation=handler_cancellation)
    async with serving as service:
        async with service.connection(get("/")) as reader:
            await reader.readuntil(b"first")
            stopping = asyncio.create_task(serving.runner.cleanup())
            await until(lambda: app[KEY].stopping)
        span = await recorder.one()
        await stopping
    assert _said(span)[2] == "client_disconnect"


async def test_a_shutdown_is_over_when_the_application_starts_again(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool
) -> None:
    """What ends a request in its second life is not the end of the first."""

    async def handler(request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await _gone(request)
            yield b"never"

        return web.Response(body=body())

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app):
        pass
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get("/")) as reader:
            await reader.readuntil(b"first")
        span = await recorder.one()
    assert _said(span)[2] == "client_disconnect"


async def test_a_handler_that_outlives_its_cancellation_is_told_by_the_shutdown(
    tracing: Tracing, recorder: Recorder
) -> None:
    """What it returns cannot be sent any more, and that was not the client's doing."""
    begun = asyncio.Event()

    async def handler(_request: web.Request) -> web.Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return web.Response()

    app = app_of(handler)
    setup(app, tracing)
    serving = Serving(app, shutdown_timeout=0.05)
    async with serving as service, service.connection(get("/")):
        await asyncio.wait_for(begun.wait(), PATIENCE)
        await serving.runner.cleanup()
        span = await recorder.one()
    assert _said(span) == (None, "shutdown", "shutdown")


async def test_a_client_that_leaves_during_the_shutdown_is_told_from_it(
    tracing: Tracing, recorder: Recorder
) -> None:
    """While aiohttp waits for the handler; this notices when its private name has moved."""
    begun = asyncio.Event()

    async def handler(_request: web.Request) -> web.Response:
        begun.set()
        await asyncio.Event().wait()
        return web.Response()

    app = app_of(handler)
    setup(app, tracing)
    serving = Serving(app, shutdown_timeout=PATIENCE, handler_cancellation=True)
    async with serving as service:
        async with service.connection(get("/")):
            await asyncio.wait_for(begun.wait(), PATIENCE)
            stopping = asyncio.create_task(serving.runner.cleanup())
            await until(lambda: app[KEY].stopping)
        span = await recorder.one()
        await stopping
    assert _said(span) == (None, "asyncio.exceptions.CancelledError", "client_disconnect")


@pytest.mark.parametrize("stopping", [True, False])
async def test_a_request_cancelled_by_the_application_says_so(
    tracing: Tracing, recorder: Recorder, stopping: bool
) -> None:
    """Its own task alone was cancelled, so it is not the shutdown, even when there is one."""

    async def handler(_request: web.Request) -> web.Response:
        task = asyncio.current_task()
        assert task is not None
        if stopping:
            await app.shutdown()
        task.cancel()
        await asyncio.sleep(0)
        return web.Response()

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")) as reader:
            assert await reader.read() == b""
        span = await recorder.one()
    assert _said(span) == (None, "asyncio.exceptions.CancelledError", "cancelled")
    assert span.status.status_code is StatusCode.ERROR


async def test_an_error_after_the_response_began_claims_no_status(
    tracing: Tracing, recorder: Recorder
) -> None:
    """aiohttp cannot answer 500 any more, and the span does not say that it did."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        raise ValueError("no second")

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")) as reader:
            await reader.read()
        span = await recorder.one()
    assert _said(span) == (None, "ValueError", None)
    assert [event.name for event in span.events] == ["exception"]


async def test_an_error_in_a_generated_body_is_told(tracing: Tracing, recorder: Recorder) -> None:
    """The status was sent, and the response failed all the same."""

    async def handler(_request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            raise ValueError("no second")

        return web.Response(body=body())

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")) as reader:
            await reader.read()
        span = await recorder.one()
    assert _said(span) == (200, "ValueError", None)
    assert span.status.description == "ValueError: no second"
    assert [event.name for event in span.events] == ["exception"]


# --- responses that take their time --------------------------------------------------------------


async def test_the_span_of_a_generated_body_lasts_as_long_as_the_body(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Open while the body is made, current for the code that makes it, and ended afterwards."""
    went_on = asyncio.Event()

    async def handler(_request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await went_on.wait()
            with tracing.get_tracer("test").start_as_current_span("in the body"):
                yield b"second"

        return web.Response(body=body())

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/", "Connection: close")) as reader:
            await reader.readuntil(b"first")
            assert [span.name for span in tracing.open_spans()] == ["GET /"]
            went_on.set()
            await reader.read()
        child, server = await recorder.take(2)
    assert child.parent is not None
    assert child.parent.span_id == server.context.span_id
    assert _said(server) == (200, None, None)
    assert server.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("kind", ["stream", "file", "compressed", "payload", "prepared", "empty"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_every_kind_of_response_has_its_span(
    tracing: Tracing, recorder: Recorder, tmp_path: Path, kind: str, method: str
) -> None:
    """Sent to its end, each is a success with its status."""
    (tmp_path / "file").write_bytes(b"x" * 100_000)

    async def handler(request: web.Request) -> web.StreamResponse:
        if kind == "file":
            return web.FileResponse(tmp_path / "file", status=203)
        if kind == "payload":
            return web.Response(body=io.BytesIO(b"x" * 5000), status=203)
        if kind == "stream":
            stream = web.StreamResponse(status=203)
            await stream.prepare(request)
            if method == "GET":
                await stream.write(b"first")
            await stream.write_eof()
            return stream
        if kind == "empty":
            return web.Response(status=203)
        response = web.Response(body=b"x" * 5000, status=203)
        if kind == "compressed":
            response.enable_compression()
        if kind == "prepared":
            await response.prepare(request)
        return response

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.fetch("/", method)
        span = await recorder.one()
    assert _said(span) == (203, None, None)
    assert span.status.status_code is StatusCode.UNSET


async def test_a_websocket_has_one_span_until_it_closes(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Open while messages go to and fro; the status is that of the upgrade."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.session.ws_connect(f"http://127.0.0.1:{service.port}/") as socket:
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"
            assert [span.name for span in tracing.open_spans()] == ["GET /"]
            await socket.close()
            assert (await socket.receive()).type is WSMsgType.CLOSED
        span = await recorder.one()
    assert _said(span) == (101, None, None)


async def test_a_response_replaced_further_out_is_no_disconnect(
    tracing: Tracing, recorder: Recorder
) -> None:
    """A stream that the parent application throws away was not cut off by the client."""

    async def stream(_request: web.Request) -> web.StreamResponse:
        return web.StreamResponse()

    @web.middleware
    async def replace(request: web.Request, handler: object) -> web.StreamResponse:
        await handler(request)  # type: ignore[operator]
        return web.Response(text="instead")

    inner = app_of(stream)
    setup(inner, tracing)
    outer = web.Application(middlewares=[replace])
    outer.add_subapp("/inner", inner)
    async with Serving(outer) as service:
        assert await service.fetch("/inner/") == (200, "instead")
        span = await recorder.one()
    assert _said(span) == (200, None, None)


async def test_a_span_that_the_handler_ended_is_left_alone(
    tracing: Tracing, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is added to it, and nothing is logged about that."""

    async def handler(request: web.Request) -> web.Response:
        trace.get_current_span().end()
        if request.query_string:
            raise ValueError
        return web.Response(body=ok_body() if request.method == "PUT" else None)

    async def ok_body() -> AsyncIterator[bytes]:
        yield b"x"

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.status("/")
        await service.status("/", "PUT")
        await service.status("/?fail")
        await recorder.take(3)
    assert [_said(span)[0] for span in recorder.spans] == [None] * 3
    assert [r for r in caplog.records if r.name == "asynctrace"] == []


async def test_aborted_requests_leave_nothing_behind(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool
) -> None:
    """No open span, no task, and nothing that keeps the requests alive."""
    requests: weakref.WeakSet[web.Request] = weakref.WeakSet()

    async def handler(request: web.Request) -> web.Response:
        requests.add(request)
        await _gone(request)
        return web.Response()

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        for count in range(1, 51):
            async with service.connection(get("/")):
                await until(lambda count=count: recorder.started == count)  # type: ignore[misc]
            await recorder.take(count)
        assert tracing.open_spans() == ()
    recorder.spans.clear()
    gc.collect()
    assert len(requests) == 0


# --- the decisions, without a server -------------------------------------------------------------

_errors = st.sampled_from(
    [
        ValueError("x"),
        ConnectionResetError(),
        TimeoutError(),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
    ]
)
_situations = st.builds(
    Situation,
    client_left=st.booleans(),
    server_stops=st.booleans(),
    answered=st.booleans(),
    status_sent=st.none() | st.integers(100, 599),
)


@given(error=_errors, situation=_situations)
def test_an_exception_is_never_a_success(error: BaseException, situation: Situation) -> None:
    """It is an error with a type; a status code only if one was, or is, sent."""
    outcome = of_exception(error, situation)
    assert outcome.is_error
    assert outcome.attributes["error.type"]
    status_code = outcome.attributes.get("http.response.status_code")
    answered = situation.answered and isinstance(error, Exception)
    assert (status_code in (500, 504)) if answered else (status_code == situation.status_sent)
    reason = outcome.attributes.get("asynctrace.cancellation.reason")
    if reason == "client_disconnect":
        assert situation.client_left
    if reason == "shutdown":
        assert situation.server_stops or isinstance(error, (KeyboardInterrupt, SystemExit))
    if isinstance(error, asyncio.CancelledError):
        assert reason is not None
        assert outcome.exception is None


@given(status_code=st.integers(100, 999))
def test_a_response_is_an_error_from_500_on(status_code: int) -> None:
    """And then the status code is the error's type."""
    outcome = of_response(status_code)
    assert outcome.is_error is (status_code >= 500)
    assert outcome.attributes["http.response.status_code"] == status_code
    assert outcome.attributes.get("error.type") == (
        str(status_code) if status_code >= 500 else None
    )


@pytest.mark.parametrize("reason", ["client_disconnect", "shutdown"])
def test_a_closed_connection_tells_what_was_sent(reason: Reason) -> None:
    """The status code is there only if the client may have seen it."""
    said = {"error.type": reason, "asynctrace.cancellation.reason": reason}
    assert of_unsent(reason, None) == Outcome(dict(said), is_error=True)
    said_and_sent = {**said, "http.response.status_code": 200}
    assert of_unsent(reason, 200) == Outcome(said_and_sent, is_error=True)
