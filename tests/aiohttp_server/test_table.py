"""Every type of response by every outcome: what the span says, and that there is exactly one."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.trace import StatusCode

from asynctrace.aiohttp import setup
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import PATIENCE, Recorder, Serving, app_of, get, until

Respond = Callable[[web.Request, int], Awaitable[web.StreamResponse]]

BODY = b"x" * 5000


async def plain(_request: web.Request, status: int) -> web.StreamResponse:
    return web.Response(body=BODY, status=status)


async def empty(_request: web.Request, status: int) -> web.StreamResponse:
    return web.Response(status=status)


async def json(_request: web.Request, status: int) -> web.StreamResponse:
    return web.json_response({"a": 1}, status=status)


async def compressed(_request: web.Request, status: int) -> web.StreamResponse:
    response = web.Response(body=BODY, status=status)
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def payload(_request: web.Request, status: int) -> web.StreamResponse:
    return web.Response(body=io.BytesIO(BODY), status=status)


async def file(_request: web.Request, status: int) -> web.StreamResponse:
    return web.FileResponse(Path(__file__), status=status)


async def prepared(request: web.Request, status: int) -> web.StreamResponse:
    response = web.Response(body=BODY, status=status)
    await response.prepare(request)
    return response


async def raised(_request: web.Request, status: int) -> web.StreamResponse:
    for kind in (web.HTTPOk, web.HTTPNotFound, web.HTTPServiceUnavailable):
        if kind.status_code == status:
            raise kind
    raise AssertionError(status)


async def generated(request: web.Request, status: int) -> web.StreamResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await _waits(request)
        yield b"last"

    return web.Response(body=body(), status=status)


async def stream(request: web.Request, status: int) -> web.StreamResponse:
    response = web.StreamResponse(status=status)
    await response.prepare(request)
    await response.write(b"first")
    await _waits(request)
    await response.write(b"last")
    return response


async def events(request: web.Request, status: int) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={"Content-Type": "text/event-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b"data: first\n\n")
    await _waits(request)
    await response.write(b"data: last\n\n")
    await response.write_eof()
    return response


async def _waits(request: web.Request) -> None:
    """In the middle of a body, for a client that leaves there."""
    if request.query_string == "during":
        await until(lambda: request.transport is None)


AT_ONCE = (plain, empty, json, compressed, payload, file, prepared, raised)
SLOWLY = (generated, stream, events)
TYPES = pytest.mark.parametrize("respond", AT_ONCE + SLOWLY)


async def _span(
    tracing: Tracing,
    recorder: Recorder,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    leave: Callable[[asyncio.StreamReader], Awaitable[object]],
    *,
    query: str = "",
    handler_cancellation: bool = False,
) -> tuple[object, object, object, StatusCode]:
    """Status code, error.type, reason and status of the one span, when the client left."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app = app_of(handle)
    setup(app, tracing)
    async with Serving(app, handler_cancellation=handler_cancellation) as service:
        async with service.connection(get(f"/{query}", "Connection: close")) as reader:
            await asyncio.wait_for(leave(reader), PATIENCE)
        span = await recorder.one()
    assert tracing.open_spans() == ()
    attributes = span.attributes or {}
    return (
        attributes.get("http.response.status_code"),
        attributes.get("error.type"),
        attributes.get("asynctrace.cancellation.reason"),
        span.status.status_code,
    )


async def _reads_all(reader: asyncio.StreamReader) -> bytes:
    return await reader.read()


@TYPES
@pytest.mark.parametrize("status", [200, 404, 503])
async def test_sent_to_the_end(
    tracing: Tracing, recorder: Recorder, respond: Respond, status: int
) -> None:
    """Its status; from 500 on an error, whose type that is. That the client leaves then is well."""
    said = await _span(tracing, recorder, lambda request: respond(request, status), _reads_all)
    if status < 500:
        assert said == (status, None, None, StatusCode.UNSET)
    else:
        assert said == (status, "503", None, StatusCode.ERROR)


@TYPES
@pytest.mark.parametrize("how", ["raise", "cancel", "timeout"])
async def test_ended_before_the_response(
    tracing: Tracing, recorder: Recorder, respond: Respond, how: str
) -> None:
    """What aiohttp answers, or that it did not."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if how == "raise":
            raise ValueError("theirs")
        task = asyncio.current_task()
        assert task is not None
        if how == "cancel":
            task.cancel()
        async with asyncio.timeout(None if how == "cancel" else 0):
            await asyncio.sleep(1)
        return await respond(request, 200)

    said = await _span(tracing, recorder, handler, _reads_all)
    assert (
        said
        == {
            "raise": (500, "ValueError", None, StatusCode.ERROR),
            "cancel": (None, "asyncio.exceptions.CancelledError", "cancelled", StatusCode.ERROR),
            "timeout": (504, "TimeoutError", "timeout", StatusCode.ERROR),
        }[how]
    )


@TYPES
async def test_the_client_leaves_before_the_response(
    tracing: Tracing, recorder: Recorder, respond: Respond, handler_cancellation: bool
) -> None:
    """Whether the handler is cancelled or patient: no status, and the reason."""
    begun = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        begun.set()
        await until(lambda: request.transport is None)
        return await respond(request, 200)

    status, kind, reason, code = await _span(
        tracing, recorder, handler, lambda _reader: begun.wait(),
        handler_cancellation=handler_cancellation,
    )  # fmt: skip
    assert (reason, code) == ("client_disconnect", StatusCode.ERROR)
    assert kind is not None
    if handler_cancellation:
        assert (status, kind) == (None, "asyncio.exceptions.CancelledError")
    elif respond in (prepared, stream, events):
        assert status in (None, 200)  # aiohttp prepares a response all the same
    else:
        assert (status, kind) == (None, "client_disconnect")


@pytest.mark.parametrize("respond", SLOWLY)
async def test_the_client_leaves_in_the_middle_of_the_body(
    tracing: Tracing, recorder: Recorder, respond: Respond, handler_cancellation: bool
) -> None:
    """An error with the reason, and never a success."""
    status, kind, reason, code = await _span(
        tracing, recorder, lambda request: respond(request, 200),
        lambda reader: reader.readuntil(b"first"), query="?during",
        handler_cancellation=handler_cancellation,
    )  # fmt: skip
    assert (reason, code) == ("client_disconnect", StatusCode.ERROR)
    assert kind is not None
    assert status in (None, 200)
