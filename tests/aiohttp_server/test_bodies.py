"""How much of a body was sent, and when its first byte was."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from asynctrace.aiohttp import setup
from asynctrace.aiohttp._request import _begins_responses
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import COUNTS, Recorder, Serving, app_of

needs_counts = pytest.mark.skipif(not COUNTS, reason="aiohttp counts bodies since 3.14")

TEXT = b"0123456789" * 500


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.sleep(0.02)
    for piece in (b"a", b"b" * 100_000, b"cc"):
        await response.write(piece)
    return response


async def generated(_request: web.Request) -> web.Response:
    async def body() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.02)
        yield b"a" * 10
        yield b"b" * 20

    return web.Response(body=body())


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await asyncio.sleep(0.02)
    for _ in range(3):
        await response.write(b"data: x\n\n")
    await response.write_eof()
    return response


async def compressed(_request: web.Request) -> web.Response:
    response = web.Response(body=TEXT)
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def reader(_request: web.Request) -> web.Response:
    return web.Response(body=io.BytesIO(TEXT))


async def _sent(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    tracing: Tracing,
    recorder: Recorder,
    method: str = "GET",
    **headers: str,
) -> tuple[dict[str, object], int]:
    """The span's attributes, and the size of the body as it went over the wire."""
    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        url = f"http://127.0.0.1:{service.port}/"
        async with service.session.request(
            method, url, headers=headers, auto_decompress=False
        ) as response:
            size = len(await response.read())
        return dict((await recorder.one()).attributes or {}), size


@needs_counts
@pytest.mark.parametrize("handler", [stream, generated, events, compressed, reader])
async def test_the_size_of_a_body_is_what_went_over_the_wire(
    tracing: Tracing,
    recorder: Recorder,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> None:
    """Without headers and chunks' framing; compressed, when it was."""
    attributes, size = await _sent(handler, tracing, recorder)
    assert attributes["http.response.body.size"] == size > 0


@needs_counts
@pytest.mark.parametrize("handler", [stream, generated, events])
async def test_the_first_byte_has_its_time(
    tracing: Tracing,
    recorder: Recorder,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> None:
    """When the first piece of the body was written, not when the headers were ready."""
    attributes, _ = await _sent(handler, tracing, recorder)
    seconds = attributes["asynctrace.http.time_to_first_byte"]
    assert isinstance(seconds, float)
    assert 0.019 < seconds < 5


@pytest.mark.parametrize(("bounds", "size"), [(None, 5000), ("bytes=10-19", 10)])
async def test_the_size_of_a_file(
    tracing: Tracing, recorder: Recorder, tmp_path: Path, bounds: str | None, size: int
) -> None:
    """The kernel sends it, past everything that counts; the header has promised it."""
    (tmp_path / "file").write_bytes(TEXT)

    async def handler(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "file")

    headers = {} if bounds is None else {"Range": bounds}
    attributes, received = await _sent(handler, tracing, recorder, **headers)
    assert attributes["http.response.body.size"] == received == size


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=10-19"}, 206),
        ({"Range": "bytes=9000-"}, 416),
        ({"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304),
        ({"If-Match": '"another"'}, 412),
    ],
)
async def test_what_becomes_of_a_file_is_told(
    tracing: Tracing,
    recorder: Recorder,
    tmp_path: Path,
    method: str,
    headers: dict[str, str],
    status: int,
) -> None:
    """aiohttp decides it when it prepares the response, behind the handler."""
    (tmp_path / "file").write_bytes(TEXT)

    async def handler(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "file")

    attributes, size = await _sent(handler, tracing, recorder, method, **headers)
    assert attributes["http.response.status_code"] == status
    assert "error.type" not in attributes
    assert attributes.get("http.response.body.size", size) == size
    assert size == (10 if (method, status) == ("GET", 206) else 0)


@pytest.mark.parametrize("handler", [generated, compressed])
async def test_a_response_to_head_has_no_body(
    tracing: Tracing,
    recorder: Recorder,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> None:
    """Whatever its headers say of one."""
    attributes, size = await _sent(handler, tracing, recorder, "HEAD")
    assert attributes["http.response.body.size"] == size == 0


async def test_what_is_not_known_is_not_said(tracing: Tracing, recorder: Recorder) -> None:
    """A stream that is compressed in pieces: only its size before is counted."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_compression(web.ContentCoding.deflate)
        await response.prepare(request)
        await response.write(TEXT)
        return response

    attributes, _ = await _sent(handler, tracing, recorder)
    assert "http.response.body.size" not in attributes
    assert attributes["http.response.status_code"] == 200


async def test_a_plain_response_is_not_measured(tracing: Tracing, recorder: Recorder) -> None:
    """It costs nothing extra."""

    async def handler(request: web.Request) -> web.Response:
        assert getattr(request.writer, "on_body_write", None) is None
        return web.Response(body=TEXT)

    attributes, _ = await _sent(handler, tracing, recorder)
    assert "http.response.body.size" not in attributes


@needs_counts
async def test_a_route_that_streams_unseen_is_learned(tracing: Tracing, recorder: Recorder) -> None:
    """The handler does not look like it; from the second request on the first byte is seen."""

    async def helper(request: web.Request) -> web.StreamResponse:
        return await stream(request)

    app = app_of(helper)
    setup(app, tracing)
    async with Serving(app) as service:
        await service.fetch("/")
        await service.fetch("/")
    first, second = (span.attributes or {} for span in recorder.spans)
    name = "asynctrace.http.time_to_first_byte"
    assert (name in first, name in second) == (False, True)


class View(web.View):
    async def get(self) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(self.request)
        return response


class PlainView(web.View):
    async def get(self) -> web.Response:
        return web.Response()


@pytest.mark.parametrize(
    ("handler", "streams"),
    [
        (stream, True),
        (View, True),
        (generated, False),
        (PlainView, False),
        (partial(stream), False),
    ],
)
def test_handlers_that_begin_responses_are_recognised(handler: object, streams: bool) -> None:
    """By the names in their code; what cannot be seen is learned later."""
    assert _begins_responses(handler) is streams
