"""The span ends with the body, whichever way that ends; the ways are told apart."""

from __future__ import annotations

import asyncio
import gc
import gzip
import time
from typing import Any

import httpx
import pytest
from opentelemetry.trace import StatusCode

from asynctrace.httpx import instrument
from asynctrace.httpx._closer import Closer
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import KINDS, Kind, Recorder, Server, until

SIZE = "http.response.body.size"
END = "asynctrace.http.response.body.end"
REASON = "asynctrace.cancellation.reason"


def _facts(recorder: Recorder) -> tuple[object, object, object]:
    attributes = recorder.one().attributes or {}
    return attributes.get(SIZE), attributes.get(END), attributes.get("error.type")


async def test_the_span_ends_after_the_body(
    async_kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Between headers and the last byte the span is open, and has the status code already."""
    async with async_kind.client() as client:
        instrument(client, tracing=tracing)
        async with client.stream("GET", server.url("/drip")) as response:
            [open_span] = tracing.open_spans()
            assert (open_span.attributes or {})["http.response.status_code"] == 200
            parts = response.aiter_raw()
            assert await anext(parts) == b"hello"
            assert recorder.spans == []
            server.go_on.set()
            assert [part async for part in parts] == [b"world"]
            assert _facts(recorder) == (10, None, None)


@pytest.mark.parametrize("read", ["read", "iter_bytes", "iter_raw", "iter_text", "iter_lines"])
async def test_reading_to_the_end(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, read: str
) -> None:
    """Every way of reading counts every byte, once."""

    def consume(response: Any) -> None:
        whole = getattr(response, read)()
        if read != "read":
            list(whole)
        response.close()

    async def consume_async(response: Any) -> None:
        if read == "read":
            await response.aread()
        else:
            [part async for part in getattr(response, f"a{read}")()]
        await response.aclose()

    async with kind.client() as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", server.url("/200"))
        response = await kind.call(client.send, request, stream=True)
        await kind.call(consume_async if kind.is_async else consume, response)
    assert _facts(recorder) == (5, None, None)


async def test_the_size_is_that_on_the_wire(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """A compressed body counts compressed."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, server.url("/gzip"))
    assert len(response.content) == 10_000
    assert _facts(recorder) == (len(gzip.compress(b"x" * 10_000)), None, None)


async def test_a_body_in_memory(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A response that was made with its body has its span ended at once, with the wire size."""
    body = gzip.compress(b"x" * 1000)
    transport = kind.transport(
        lambda request: kind.library.Response(
            200, headers={"Content-Encoding": "gzip"}, content=body
        )
    )
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, "http://host/")
    assert len(response.content) == 1000
    assert _facts(recorder) == (len(body), None, None)


async def test_a_body_read_by_the_transport(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """A transport that has read (or closed) the response itself leaves nothing to wait for."""
    library = kind.library

    def respond(request: Any) -> Any:
        response = library.Response(200, stream=library.ByteStream(b"hello"), request=request)
        if request.url.path == "/read":
            response.read()
        else:
            response.close()
        return response

    async with kind.client(transport=kind.transport(respond)) as client:
        instrument(client, tracing=tracing)
        assert (await kind.call(client.get, "http://host/read")).content == b"hello"
        with pytest.raises(library.StreamError):
            await kind.call(client.get, "http://host/closed")
    read, closed = recorder.spans
    assert (read.attributes or {}).get(SIZE) == 5
    assert SIZE not in (closed.attributes or {})


@pytest.mark.parametrize("parts", [0, 1])
async def test_closed_early(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, parts: int
) -> None:
    """Leaving before the end is no error: the span has what was read, and that it was closed."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", server.url("/drip"))
        response = await kind.call(client.send, request, stream=True)
        if parts:
            iterator = response.aiter_raw() if kind.is_async else response.iter_raw()
            assert await kind.call(anext if kind.is_async else next, iterator) == b"hello"
        await kind.call(response.aclose if kind.is_async else response.close)
        assert _facts(recorder) == (5 * parts, "closed", None)
        server.go_on.set()
        if parts and kind.is_async:
            await iterator.aclose()
    assert recorder.one().status.status_code is StatusCode.UNSET


async def test_an_exception_of_the_reader(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """What goes wrong in the caller's own block is not the request's error."""
    transport = kind.transport(
        lambda request: kind.library.Response(200, stream=kind.stream(b"hello", b"world"))
    )

    async def leave(client: Any) -> None:
        async with client.stream("GET", "http://host/") as response:
            async for _ in response.aiter_raw():
                raise ZeroDivisionError

    def leave_sync(client: Any) -> None:
        with client.stream("GET", "http://host/") as response:
            for _ in response.iter_raw():
                raise ZeroDivisionError

    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(ZeroDivisionError):
            await kind.call(leave if kind.is_async else leave_sync, client)
    assert _facts(recorder) == (5, "closed", None)


async def test_a_stream_that_fails(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """An error in the middle of the body passes through, and is the span's."""
    error = RuntimeError("torn")
    transport = kind.transport(
        lambda request: kind.library.Response(200, stream=kind.stream(b"hello", error=error))
    )
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(RuntimeError) as caught:
            await kind.call(client.get, "http://host/")
    assert caught.value is error
    assert _facts(recorder) == (5, None, "RuntimeError")
    assert len(recorder.one().events) == 1


async def test_a_stream_that_cannot_be_read(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """One that fails before its first part has failed, and was not closed early."""

    def fail(self: object) -> Any:
        raise OSError("gone")

    stream = kind.stream(b"hello")
    setattr(type(stream), "__aiter__" if kind.is_async else "__iter__", fail)
    transport = kind.transport(lambda request: kind.library.Response(200, stream=stream))
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(OSError, match="gone"):
            await kind.call(client.get, "http://host/")
    assert _facts(recorder) == (0, None, "OSError")


async def test_a_stream_that_cannot_be_closed(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """An error of closing passes through, too; the span ends."""
    stream = kind.stream(b"hello")

    def fail() -> None:
        raise OSError("stuck")

    async def fail_async() -> None:
        raise OSError("stuck")

    setattr(stream, "aclose" if kind.is_async else "close", fail_async if kind.is_async else fail)
    transport = kind.transport(lambda request: kind.library.Response(200, stream=stream))
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", "http://host/")
        response = await kind.call(client.send, request, stream=True)
        with pytest.raises(OSError, match="stuck"):
            await kind.call(response.aclose if kind.is_async else response.close)
    assert _facts(recorder) == (0, None, "OSError")


async def test_abandoned(kind: Kind, server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """A response that nobody reads or closes ends its span when it is collected."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", server.url("/drip"))
        response = await kind.call(client.send, request, stream=True)
        assert recorder.spans == []
        del response
        # The thread that has made it may hold it for a moment longer.
        await until(lambda: gc.collect() >= 0 and recorder.spans)
        assert _facts(recorder) == (0, "abandoned", None)


async def test_abandoned_responses_give_their_connections_back(
    async_kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """The pool of a client is not drained by responses that were thrown away."""
    limits = async_kind.library.Limits(max_connections=1)
    async with async_kind.client(limits=limits, timeout=5.0) as client:
        instrument(client, tracing=tracing)
        for _ in range(3):
            request = client.build_request("GET", server.url("/drip"))
            response = await client.send(request, stream=True)
            del response
            gc.collect()
        assert (await client.get(server.url("/200"))).status_code == 200
    ends = [(span.attributes or {}).get(END) for span in recorder.spans]
    assert ends == ["abandoned"] * 3 + [None]
    assert tracing.open_spans() == ()


async def test_closing_waits_for_what_is_being_closed(tracing: Tracing) -> None:
    """A client that is closed leaves no task behind that closes an abandoned stream."""
    closing, go_on = asyncio.Event(), asyncio.Event()

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b""

        async def aclose(self) -> None:
            closing.set()
            await go_on.wait()
            raise OSError("of no interest to anybody")

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Slow()))
    client = instrument(httpx.AsyncClient(transport=transport), tracing=tracing)
    await client.send(client.build_request("GET", "http://host/"), stream=True)
    gc.collect()
    await closing.wait()
    task = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await task


def test_abandoned_on_a_loop_that_is_gone(recorder: Recorder) -> None:
    """A response that outlives its loop ends its span, and nothing is raised in the finalizer."""
    from asynctrace.initialization import init

    kept: list[httpx.Response] = []

    async def main() -> None:
        async with init(set_global=False, exporter="none", span_processors=[recorder]) as tracing:
            stream = KINDS[0].stream(b"hello")
            transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=stream))
            client = instrument(httpx.AsyncClient(transport=transport), tracing=tracing)
            kept.append(await client.send(client.build_request("GET", "http://host/"), stream=True))

    asyncio.run(main())
    kept.clear()
    gc.collect()
    # The shutdown of tracing has ended the span, and marked it, before it was abandoned.
    [span] = recorder.spans
    assert (span.attributes or {})["asynctrace.unfinished"] is True
    assert END not in (span.attributes or {})


@pytest.mark.parametrize("path", ["/silent", "/drip"])
async def test_cancelled(
    async_kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, path: str
) -> None:
    """Cancellation before the headers, and in the body, is told, and passes through."""
    async with async_kind.client() as client:
        instrument(client, tracing=tracing)
        task = asyncio.create_task(client.get(server.url(path)))
        await server.arrived.wait()
        if path == "/drip":
            await until(lambda: "http.response.status_code" in recorder.started[0].attributes)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    attributes = recorder.one().attributes or {}
    assert attributes[REASON] == "cancelled"
    assert END not in attributes


async def test_cancelled_at_every_step(
    server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """Wherever in its life a request is cancelled, its span ends once, and says so."""
    async with httpx.AsyncClient() as client:
        instrument(client, tracing=tracing)
        for steps in range(60):
            recorder.clear()
            task = asyncio.create_task(client.get(server.url("/200")))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            assert len(recorder.started) == len(recorder.spans) <= 1
            for span in recorder.spans:
                whole = (span.attributes or {}).get(SIZE) == 5
                assert ((span.attributes or {}).get(REASON) == "cancelled") != whole
            assert recorder.spans or isinstance(outcome, asyncio.CancelledError)
    assert tracing.open_spans() == ()


@pytest.mark.parametrize("path", ["/silent", "/drip"])
async def test_timeout_of_the_callers(
    async_kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, path: str
) -> None:
    """`asyncio.timeout` takes its cancellation back: that is told, with the time of the request."""
    async with async_kind.client() as client:
        instrument(client, tracing=tracing)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(server.url(path))
        cancelled_at = time.time_ns()
        await until(lambda: recorder.spans)
    span = recorder.one()
    assert (span.attributes or {})[REASON] == "scope"
    assert (span.end_time or 0) <= cancelled_at
    assert span.status.status_code is StatusCode.UNSET


async def test_a_coroutine_that_is_closed(tracing: Tracing, recorder: Recorder) -> None:
    """A request whose coroutine is thrown away was given up, and does not look like a success."""

    class Waits(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0)
            raise AssertionError

    client = instrument(httpx.AsyncClient(transport=Waits()), tracing=tracing)
    request = client.build_request("GET", "http://host/")
    coroutine = client._transport.handle_async_request(request)
    coroutine.send(None)
    coroutine.close()
    assert (recorder.one().attributes or {})[REASON] == "cancelled"


@pytest.mark.may_block("writes a log line")
async def test_a_response_that_is_none(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """What the client says about a transport's nonsense is what the caller gets to see."""
    async with kind.client(transport=kind.transport(lambda request: None)) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'stream'"):
            await kind.call(client.get, "http://host/")
    recorder.one()
    assert tracing.statistics().faults == {"httpx response": 1}


async def test_a_stream_of_the_wrong_kind(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A stream that a client refuses is refused, and not dressed up as one of its own."""
    response = kind.library.Response(200, stream=object())
    async with kind.client(transport=kind.transport(lambda request: response)) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(AssertionError):
            await kind.call(client.get, "http://host/")
    recorder.one()


async def test_a_stream_read_by_the_transport(
    async_kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """A transport that caches has read the stream of the network; its bytes are counted."""
    library = async_kind.library

    class Caching(library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            stream = async_kind.stream(b"hel", b"lo")
            response = library.Response(200, stream=stream, request=request)
            await response.aread()
            return response

    async with async_kind.client(transport=Caching()) as client:
        instrument(client, tracing=tracing)
        assert (await client.get("http://host/")).content == b"hello"
    assert _facts(recorder) == (5, None, None)


async def test_abandoned_outside_of_asyncio() -> None:
    """Where there is no loop of asyncio nothing can be closed, and nothing is raised."""
    closer = Closer()
    closer.close_soon(httpx.ByteStream(b""), None)
    assert repr(closer) == "Closer(closing=0)"


async def test_repr(tracing: Tracing) -> None:
    """A stream tells how far it is."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, stream=KINDS[0].stream(b"hello"))
    )
    client = instrument(httpx.AsyncClient(transport=transport), tracing=tracing)
    response = await client._transport.handle_async_request(httpx.Request("GET", "http://host/"))
    assert repr(response.stream) == "<AsyncBody open, 0 bytes>"
    await response.aread()
    assert repr(response.stream) == "<AsyncBody ended, 5 bytes>"
