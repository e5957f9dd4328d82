"""When a SERVER span ends, and what it says when the request did not simply succeed."""

from __future__ import annotations

import asyncio
import gc
import io
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import make_mocked_request
from aiohttp.typedefs import Handler
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
from asynctrace.semconv import error_type
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


async def _generated(request: web.Request) -> web.Response:
    """A body that is made after the handler has returned, and outlives the client."""

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await _gone(request)
        yield b"never"

    return web.Response(body=body())


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
    assert (status_code, reason) == (200, "client_disconnect")
    assert str(kind).endswith("CancelledError" if handler_cancellation else "ConnectionResetError")
    assert span.status.status_code is StatusCode.ERROR


async def test_a_client_that_leaves_while_a_body_is_generated(
    tracing: Tracing, recorder: Recorder, handler_cancellation: bool
) -> None:
    """After the handler has returned; aiohttp swallows the failing write, the span does not."""

    app = app_of(_generated)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get("/")) as reader:
            await reader.readuntil(b"first")
        span = await recorder.one()
    kind = "asyncio.exceptions.CancelledError" if handler_cancellation else "client_disconnect"
    assert _said(span) == (200, kind, "client_disconnect")
    assert span.status.status_code is StatusCode.ERROR


async def test_a_stream_that_begins_when_the_client_has_left_has_no_status(
    tracing: Tracing, recorder: Recorder
) -> None:
    """Its head could not be sent."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await _gone(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"never")
        return response

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")):
            await until(lambda: recorder.started == 1)
        span = await recorder.one()
    status_code, kind, reason = _said(span)
    assert (status_code, reason) == (None, "client_disconnect")
    assert str(kind).endswith("ConnectionResetError")


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

    app = app_of(_generated)
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

    app = app_of(_generated)
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


KINDS_OF_ERRORS = (
    ValueError,
    TimeoutError,
    web.HTTPOk,
    partial(web.HTTPFound, "/elsewhere"),
    web.HTTPNotFound,
    web.HTTPServiceUnavailable,
)


@pytest.mark.parametrize("make", KINDS_OF_ERRORS)
@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_error_after_the_response_began_is_no_other_response(
    tracing: Tracing, recorder: Recorder, make: Callable[[], Exception], pieces: int, method: str
) -> None:
    """The client has its status already: the span tells that one, whatever the error stands for."""
    error = make()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=202)
        await response.prepare(request)
        for _ in range(pieces):
            await response.write(b"first")
        raise error

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        request = get("/", "Connection: close").replace(b"GET", method.encode())
        async with service.connection(request) as reader:
            wire = await reader.read()
        span = await recorder.one()
    assert wire.startswith(b"HTTP/1.1 202 ")
    assert _said(span) == (202, error_type(type(error)), None)
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]
    assert "http.response.body.size" not in (span.attributes or {})


@pytest.mark.parametrize("kind", [ValueError, web.HTTPNotFound])
async def test_a_response_that_began_unseen_has_no_status_but_its_route_is_learned(
    tracing: Tracing, recorder: Recorder, kind: type[Exception]
) -> None:
    """The handler leaves it to another function, where the first request cannot look."""

    async def begin(request: web.Request) -> None:
        await web.StreamResponse(status=202).prepare(request)

    async def handler(request: web.Request) -> web.StreamResponse:
        await begin(request)
        raise kind

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        for count in (1, 2):
            async with service.connection(get("/", "Connection: close")) as reader:
                assert (await reader.read()).startswith(b"HTTP/1.1 202 ")
            await recorder.take(count)
    first, second = recorder.spans
    assert _said(first) == (None, error_type(kind), None)
    assert _said(second) == (202, error_type(kind), None)


async def test_what_an_expectation_was_answered_is_no_response(
    tracing: Tracing, recorder: Recorder
) -> None:
    """By an application's own handler for it, where it counts as if it were one."""

    async def expect(request: web.Request) -> None:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        if request.query_string:
            raise web.HTTPServiceUnavailable
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"fine")
        return response

    app = web.Application()
    app.router.add_get("/", handler, expect_handler=expect)
    setup(app, tracing)
    headers = "Expect: 100-continue", "Connection: close"
    async with Serving(app) as service:
        for path in ("/", "/?fail"):
            async with service.connection(get(path, *headers)) as reader:
                await reader.read()
        stream, failure = await recorder.take(2)
    assert _said(stream) == (200, None, None)
    assert (stream.attributes or {})["http.response.body.size"] == 4
    assert _said(failure) == (503, "503", None)


async def test_a_mocked_request_has_its_span(tracing: Tracing, recorder: Recorder) -> None:
    """Its writer counts nothing, and what it takes is no response that began."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=503)

    app = app_of(handler)
    setup(app, tracing)
    app.freeze()
    transport = Mock(is_closing=lambda: False)
    request = make_mocked_request("GET", "/", app=app, transport=transport)
    assert (await app._handle(request)).status == 503
    assert _said(await recorder.one()) == (503, "503", None)
    assert tracing.statistics().faults == {}


async def test_a_raised_response_that_the_handler_began_is_its_response(
    tracing: Tracing, recorder: Recorder
) -> None:
    """It is the one that goes out, and not one that comes too late."""

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.HTTPNotFound()
        await answer.prepare(request)
        raise answer

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        assert await service.fetch("/") == (404, "404: Not Found")
        span = await recorder.one()
    assert _said(span) == (404, None, None)


async def test_a_client_that_left_a_stream_is_told_from_the_response_that_is_raised_then(
    tracing: Tracing, recorder: Recorder
) -> None:
    """It was gone before; the handler turned what it found out into a response."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=202)
        await response.prepare(request)
        await response.write(b"first")
        await _gone(request)
        raise web.HTTPServiceUnavailable

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")) as reader:
            await reader.readuntil(b"first")
        span = await recorder.one()
    assert _said(span) == (202, "client_disconnect", "client_disconnect")


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


@pytest.mark.parametrize("when", ["at once", "midway"])
@pytest.mark.parametrize("kind", [ValueError, ConnectionResetError, web.HTTPNotFound])
async def test_a_body_that_fails_tells_what_had_been_sent(
    tracing: Tracing, recorder: Recorder, kind: type[Exception], when: str
) -> None:
    """Its own error, and no client is blamed; the status only when the client has it."""

    async def handler(_request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            if when == "midway":
                yield b"first"
            raise kind

        return web.Response(body=body(), status=202)

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")) as reader:
            wire = await reader.read()
        span = await recorder.one()
    status_code, error, reason = _said(span)
    assert (status_code == 202) is wire.startswith(b"HTTP/1.1 202 ")
    assert status_code in (None, 202)
    # aiohttp takes a body's ConnectionError for its own, and shows nobody which one it was.
    assert error == error_type(ConnectionError if kind is ConnectionResetError else kind)
    assert reason is None
    assert span.status.status_code is StatusCode.ERROR


async def test_a_body_that_notices_the_client_is_gone_tells_that(
    tracing: Tracing, recorder: Recorder
) -> None:
    """It wrote nothing to find out, and its ConnectionError is about the client."""

    async def handler(request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await _gone(request)
            raise ConnectionResetError

        return web.Response(body=body())

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")) as reader:
            await reader.readuntil(b"first")
        span = await recorder.one()
    assert _said(span) == (200, "client_disconnect", "client_disconnect")


async def test_a_client_that_is_hung_up_on_while_it_is_slow_is_told(
    tracing: Tracing, recorder: Recorder
) -> None:
    """It said that it says no more; what it has not read yet keeps the connection."""

    async def handler(request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            transport = request.transport
            assert transport is not None
            transport.set_write_buffer_limits(high=1_000_000_000)
            yield b"x" * 50_000_000
            await until(transport.is_closing)
            yield b"never"

        return web.Response(body=body())

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(get("/"))
        await until(lambda: recorder.started == 1)
        writer.write_eof()
        span = await recorder.one()
        writer.transport.abort()
    assert _said(span) == (200, "client_disconnect", "client_disconnect")


@pytest.mark.parametrize("kind", ["error", "stream", "nothing"])
@pytest.mark.parametrize("is_complete", [True, False])
async def test_another_response_than_the_one_that_began_is_an_error(
    tracing: Tracing, recorder: Recorder, kind: str, is_complete: bool
) -> None:
    """aiohttp writes it all the same, where the client does not expect it."""

    async def handler(request: web.Request) -> web.StreamResponse | None:
        response = web.StreamResponse(status=202)
        await response.prepare(request)
        await response.write(b"first")
        if is_complete:
            await response.write_eof()
        if kind == "nothing":
            return None
        return web.Response(status=503) if kind == "error" else web.StreamResponse()

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/", "Connection: close")) as reader:
            assert (await reader.read()).startswith(b"HTTP/1.1 202 ")
        span = await recorder.one()
    assert _said(span) == (202, "response_replaced", None)
    assert span.status.status_code is StatusCode.ERROR


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


@pytest.mark.parametrize("kind", ["socket", "nothing", "response", "error"])
async def test_a_websocket_that_was_closed_is_over_whatever_its_handler_returns(
    tracing: Tracing, recorder: Recorder, kind: str
) -> None:
    """The client said goodbye, and gets nothing of it."""

    async def handler(request: web.Request) -> web.StreamResponse | None:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        if kind == "error":
            raise web.HTTPNotFound
        return {"socket": socket, "response": web.Response(status=200)}.get(kind)

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.session.ws_connect(f"http://127.0.0.1:{service.port}/") as socket:
            await socket.send_str("hello")
            await socket.close()
        span = await recorder.one()
    if kind == "error":
        assert _said(span) == (101, "aiohttp.web_exceptions.HTTPNotFound", None)
    else:
        assert _said(span) == (101, None, None)
    assert (span.attributes or {})["asynctrace.websocket.messages.received"] == 1


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize("kind", ["stream", "generated", "compressed"])
async def test_a_response_replaced_further_out_is_no_disconnect(
    tracing: Tracing, recorder: Recorder, kind: str, connection: str
) -> None:
    """What the parent application sends instead is what the client gets, and the span tells."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if kind == "generated":
            return await _generated(request)
        response = web.StreamResponse() if kind == "stream" else web.Response(body=b"x" * 5000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    @web.middleware
    async def replace(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        return web.Response(text="instead", status=418)

    inner = app_of(handler)
    setup(inner, tracing)
    outer = web.Application(middlewares=[replace])
    outer.add_subapp("/inner", inner)
    async with Serving(outer) as service:
        async with service.connection(get("/inner/", f"Connection: {connection}")) as reader:
            await reader.readuntil(b"instead")
        span = await recorder.one()
    assert _said(span) == (418, None, None)
    assert (span.attributes or {})["http.response.body.size"] == len("instead")


@pytest.mark.parametrize("kind", ["left", "failed"])
async def test_a_replacement_that_is_not_sent_to_its_end_is_no_success(
    tracing: Tracing, recorder: Recorder, kind: str
) -> None:
    """Whether the client left before its end, or its body failed."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=io.BytesIO(b"never"))

    @web.middleware
    async def replace(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            if kind == "failed":
                raise ConnectionResetError
            await _gone(request)

        return web.Response(body=body())

    inner = app_of(handler)
    setup(inner, tracing)
    outer = web.Application(middlewares=[replace])
    outer.add_subapp("/inner", inner)
    async with Serving(outer) as service:
        async with service.connection(get("/inner/")) as reader:
            await reader.readuntil(b"first")
            if kind == "failed":
                await reader.read()
        span = await recorder.one()
    reason = "client_disconnect" if kind == "left" else None
    assert _said(span) == (None, reason or "ConnectionError", reason)


async def test_a_signal_that_fails_is_not_blamed_on_the_client(
    tracing: Tracing, recorder: Recorder
) -> None:
    """By an error of some connection of its own, before anything is sent."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=io.BytesIO(b"never"))

    async def fail(_request: web.Request, _response: web.StreamResponse) -> None:
        raise ConnectionResetError

    app = app_of(handler)
    app.on_response_prepare.append(fail)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")) as reader:
            assert await reader.read() == b""
        span = await recorder.one()
    assert _said(span) == (None, "ConnectionError", None)


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
