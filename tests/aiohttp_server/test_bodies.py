"""How much of a body was sent, and when its first byte was."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import time_ns

import pytest
from aiohttp import web
from aiohttp.http import StreamWriter
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st

from asynctrace import semconv
from asynctrace.aiohttp import flush_after, setup
from asynctrace.aiohttp._body import BodyMeter, size_of
from asynctrace.aiohttp._request import _begins_responses
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import Recorder, Serving, app_of, get

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


@pytest.mark.parametrize("handler", [stream, generated, events, compressed, reader])
async def test_the_size_of_a_body_is_what_went_over_the_wire(
    tracing: Tracing,
    recorder: Recorder,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> None:
    """Without headers and chunks' framing; compressed, when it was."""
    attributes, size = await _sent(handler, tracing, recorder)
    assert attributes["http.response.body.size"] == size > 0


@pytest.mark.parametrize("body", [b"", b"abc", b"a" * 300])
async def test_a_header_that_comes_twice_is_no_body(
    tracing: Tracing, recorder: Recorder, body: bytes
) -> None:
    """Cookies, for example: each has a header of its own."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        for number in range(5):
            response.headers.add("Link", f"</{number}>; rel=preload")
            response.set_cookie(f"cookie{number}", "value")
        await response.prepare(request)
        if body:
            await response.write(body)
        return response

    attributes, size = await _sent(handle, tracing, recorder)
    assert attributes["http.response.body.size"] == size == len(body)
    assert (semconv.TIME_TO_FIRST_BYTE in attributes) is bool(body)


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


async def test_the_first_byte_is_not_the_last(tracing: Tracing, recorder: Recorder) -> None:
    """It was sent before the client had it."""
    went_on = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await went_on.wait()
        await response.write(b"last")
        return response

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/", "Connection: close")) as reader:
            await reader.readuntil(b"first")
            received = time_ns()
            went_on.set()
            await reader.read()
        span = await recorder.one()
    seconds = (span.attributes or {})["asynctrace.http.time_to_first_byte"]
    assert isinstance(seconds, float)
    assert span.start_time is not None
    assert span.start_time + seconds * 1e9 <= received


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


@dataclass(frozen=True)
class Body:
    """One body, and how it goes out: "chunked" is one of bytes, compressed in pieces."""

    pieces: list[bytes]
    way: str
    coding: web.ContentCoding | None
    version: str
    at_once: bool
    """Whether the pieces of a stream are written by as many tasks."""

    async def respond(self, request: web.Request) -> web.StreamResponse:
        response = self._response()
        if self.coding is not None:
            response.enable_compression(self.coding)
        if self.way == "chunked":
            response.enable_chunked_encoding()
        if not isinstance(response, web.Response):
            await response.prepare(request)
            if self.at_once:
                await asyncio.gather(*map(response.write, self.pieces))
            else:
                for piece in self.pieces:
                    await response.write(piece)
        return response

    def _response(self) -> web.StreamResponse:
        headers = {"X-Name": "caf\xe9"}
        if self.way == "stream":
            return web.StreamResponse(headers=headers)
        if self.way == "generated":
            return web.Response(body=self._generate(), headers=headers)
        content = b"".join(self.pieces)
        return web.Response(body=io.BytesIO(content) if self.way == "reader" else content)

    async def _generate(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


_sizes = st.sampled_from([0, 1, 9, 10, 15, 16, 17, 255, 256, 4095, 4096, 70_000]) | st.integers(
    0, 300_000
)
_pieces = st.builds(
    lambda size, dense: Random(size).randbytes(size) if dense else b"x" * size,
    _sizes,
    st.booleans(),
)
_bodies = st.builds(
    Body,
    pieces=st.lists(_pieces, max_size=5),
    way=st.sampled_from(["stream", "generated", "reader", "chunked"]),
    coding=st.none() | st.sampled_from([web.ContentCoding.gzip, web.ContentCoding.deflate]),
    version=st.sampled_from(["1.0", "1.1"]),
    at_once=st.booleans(),
).filter(lambda body: body.way != "chunked" or (body.coding is not None and body.version == "1.1"))


@given(bodies=st.lists(_bodies, min_size=1, max_size=10))
@example([Body([b"", Random(1).randbytes(70_000)], "stream", web.ContentCoding.gzip, "1.1", False)])
@example([Body([b"x" * 4_000_000] * 3, "stream", None, "1.1", True)])  # each waits for the client
def test_any_body_has_the_size_that_went_over_the_wire(bodies: list[Body]) -> None:
    """Whatever its pieces and their sizes, compressed or not, with chunks and without."""
    asyncio.run(_send_all(bodies))


async def _send_all(bodies: list[Body]) -> None:
    recorder = Recorder()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await bodies[int(request.match_info["number"])].respond(request)
        if not isinstance(response, web.Response):  # so that it is seen to begin responses itself
            await response.prepare(request)
        return response

    async with init(set_global=False, exporter="none", span_processors=[recorder]) as tracing:
        app = app_of(handler, "/{number}")
        setup(app, tracing)
        async with Serving(app) as service:
            for number, body in enumerate(bodies):
                request = get(f"/{number}", "Connection: close", version=body.version)
                async with service.connection(request) as reader:
                    sent = _body_of(await reader.read())
                span = (await recorder.take(number + 1))[number]
                assert (span.attributes or {}).get("http.response.body.size") == len(sent)
        assert tracing.statistics().faults == {}


def _body_of(wire: bytes) -> bytes:
    """The body of a response that the server closed the connection after."""
    head, _, rest = wire.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1."), head
    if b"Transfer-Encoding: chunked" not in head:
        return rest
    data = b""
    while rest != b"0\r\n\r\n":
        digits, _, rest = rest.partition(b"\r\n")
        size = int(digits, 16)
        assert size
        assert rest[size : size + 2] == b"\r\n"
        data, rest = data + rest[:size], rest[size + 2 :]
    return data


async def test_a_header_that_cannot_be_encoded_is_no_trouble_of_ours(tracing: Tracing) -> None:
    """As in the name of a file that is not UTF-8; whatever aiohttp makes of that."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Disposition": 'filename="caf\udce9"'})
        await response.prepare(request)
        await response.write(TEXT)
        return response

    wires = []
    for traced in (False, True):
        app = app_of(handler)
        if traced:
            setup(app, tracing)
        async with (
            Serving(app) as service,
            service.connection(get("/", "Connection: close")) as reader,
        ):
            wires.append(await reader.read())
    assert wires[0][:12] == wires[1][:12]
    assert len(wires[0]) == len(wires[1]) > 0


async def test_a_body_that_is_shorter_than_promised(tracing: Tracing, recorder: Recorder) -> None:
    """What was sent of it counts, and not the header."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        response.force_close()
        await response.prepare(request)
        await response.write(b"first")
        return response

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        async with service.connection(get("/")) as reader:
            assert (await reader.read()).endswith(b"\r\n\r\nfirst")
        span = await recorder.one()
    assert (span.attributes or {})["http.response.body.size"] == 5


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_body_that_should_not_be_there_is_told(
    tracing: Tracing, recorder: Recorder, method: str, status: int
) -> None:
    """aiohttp lets a handler write one."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        if request.query_string:
            await response.write(b"too much")
        return response

    app = app_of(handler)
    setup(app, tracing)
    async with Serving(app) as service:
        for path in ("/", "/?body"):
            request = get(path, "Connection: close").replace(b"GET", method.encode())
            async with service.connection(request) as reader:
                assert (b"too much" in await reader.read()) is (path == "/?body")
        sizes = [
            (span.attributes or {}).get("http.response.body.size")
            for span in await recorder.take(2)
        ]
    assert sizes == [0, len(b"too much")]


async def test_what_is_not_known_is_not_said(tracing: Tracing, recorder: Recorder) -> None:
    """A stream whose end waits for its span: the compressor holds the rest of it until then."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_compression(web.ContentCoding.deflate)
        await response.prepare(request)
        await response.write(TEXT)
        return response

    app = app_of(flush_after(handler))
    setup(app, tracing)
    async with Serving(app) as service:
        assert await service.fetch("/") == (200, TEXT.decode())
        attributes = (await recorder.one()).attributes or {}
    assert "http.response.body.size" not in attributes
    assert attributes["http.response.status_code"] == 200


def test_what_was_not_sent_yet_has_no_size_but_the_promised_one() -> None:
    """A meter that has seen nothing of a body does not say that it is empty."""
    request = make_mocked_request("GET", "/")
    response = web.Response(body=TEXT)
    assert size_of(request, response, BodyMeter()) == len(TEXT)
    response = web.Response(body=TEXT)
    response.enable_chunked_encoding()
    assert size_of(request, response, BodyMeter()) is None


async def test_a_plain_response_is_not_measured(tracing: Tracing, recorder: Recorder) -> None:
    """It costs nothing extra."""

    async def handler(request: web.Request) -> web.Response:
        assert type(request.writer) is StreamWriter
        return web.Response(body=TEXT)

    attributes, _ = await _sent(handler, tracing, recorder)
    assert "http.response.body.size" not in attributes


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
