"""Clients where asyncio does not run, on several loops, and collected in other threads."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar

import httpx
import pytest
import sniffio

from asynctrace.httpx import instrument
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server

T = TypeVar("T")

REASON = "asynctrace.cancellation.reason"
END = "asynctrace.http.response.body.end"


@pytest.fixture
def without_loop(recorder: Recorder) -> Iterator[Tracing]:
    """A Tracing, while its loop does not run."""
    with asyncio.Runner() as runner:
        context = init(set_global=False, exporter="none", span_processors=[recorder])
        tracing = runner.run(context.__aenter__())
        try:
            yield tracing
        finally:
            runner.run(context.__aexit__(None, None, None))


def _drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing, without any loop: as on trio's, asyncio has none."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    except sniffio.AsyncLibraryNotFoundError:
        pytest.skip("httpx before 0.28 runs on the loops alone that it knows")
    raise AssertionError("it waits")


class Cancelled(BaseException):
    """What another library than asyncio cancels with."""


@pytest.mark.parametrize("logical_span", [False, True])
def test_without_asyncio(
    async_kind: Kind, without_loop: Tracing, recorder: Recorder, logical_span: bool
) -> None:
    """Where asyncio does not run a client answers, throws a response away, and closes."""

    def respond(request: Any) -> Any:
        return async_kind.library.Response(200, stream=async_kind.stream(b"hel", b"lo"))

    async def hook(*_: object) -> None:
        pass

    client = async_kind.library.AsyncClient(transport=async_kind.transport(respond))
    instrument(client, tracing=without_loop, logical_span=logical_span, enrich_request=hook)
    assert _drive(client.get("http://host/")).content == b"hello"
    response = _drive(client.send(client.build_request("GET", "http://host/"), stream=True))
    del response
    gc.collect()
    _drive(client.aclose())
    ends = {(span.attributes or {}).get(END) for span in recorder.spans}
    assert ends == {None, "abandoned"}
    assert len(recorder.spans) == (4 if logical_span else 2)
    assert without_loop.statistics().faults == {}


@pytest.mark.parametrize("where", ["before the headers", "in the body"])
def test_cancelled_by_another_library(
    kind: Kind, tracing: Tracing, recorder: Recorder, where: str
) -> None:
    """What is neither a result nor an error was given up, and does not look like a success."""
    raised = Cancelled()

    def respond(request: Any) -> Any:
        if where == "before the headers":
            raise raised
        return kind.library.Response(200, stream=kind.stream(b"hello", error=raised))

    client = (kind.library.AsyncClient if kind.is_async else kind.library.Client)(
        transport=kind.transport(respond)
    )
    instrument(client, tracing=tracing, logical_span=True)

    def get() -> None:
        answer = client.get("http://host/")
        if kind.is_async:
            _drive(answer)

    with pytest.raises(Cancelled) as caught:
        get()
    assert caught.value is raised
    attempt, logical = recorder.spans
    assert (attempt.attributes or {})[REASON] == "cancelled"
    assert "error.type" not in (attempt.attributes or {})
    assert (logical.attributes or {})[REASON] == "cancelled"


async def test_collected_in_another_thread(
    async_kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """An abandoned response is closed on its own loop: its connection is to be had again."""
    limits = async_kind.library.Limits(max_connections=1)
    async with async_kind.client(limits=limits, timeout=5.0) as client:
        instrument(client, tracing=tracing)
        request = client.build_request("GET", server.url("/drip"))
        kept = [await client.send(request, stream=True)]
        await asyncio.to_thread(kept.clear)
        await asyncio.to_thread(gc.collect)
        assert (await client.get(server.url("/200"))).status_code == 200
    abandoned, whole = ((span.attributes or {}).get(END) for span in recorder.spans)
    assert (abandoned, whole) == ("abandoned", None)


async def test_several_loops(tracing: Tracing, recorder: Recorder) -> None:
    """One client on two loops, each with a stream to close: each loop closes and awaits its own."""
    closed: list[asyncio.AbstractEventLoop] = []

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b""

        async def aclose(self) -> None:
            await asyncio.sleep(0)
            closed.append(asyncio.get_running_loop())

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Stream()))
    client = instrument(httpx.AsyncClient(transport=transport), tracing=tracing)

    async def abandon() -> asyncio.AbstractEventLoop:
        await client.send(client.build_request("GET", "http://host/"), stream=True)
        gc.collect()
        await asyncio.sleep(0)
        await client._transport.aclose()
        return asyncio.get_running_loop()

    loops = [await abandon(), await asyncio.to_thread(lambda: asyncio.run(abandon()))]
    assert closed == loops
    await client.aclose()
    assert [(span.attributes or {}).get(END) for span in recorder.spans] == ["abandoned"] * 2


@pytest.mark.parametrize("way", ["whole", "cancelled", "failing"])
async def test_an_upload_in_parts(
    async_kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, way: str
) -> None:
    """The caller's generator is read once, as without us; how it ends is what the span says."""
    reached = asyncio.Event()
    read: list[bytes] = []

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"abc", b"def"):
            read.append(part)
            yield part
            reached.set()
            if way == "cancelled":
                await asyncio.Event().wait()
            if way == "failing":
                raise ZeroDivisionError

    async with async_kind.client() as client:
        instrument(client, tracing=tracing)
        headers = {"content-length": "6"}
        body = parts()
        task = asyncio.create_task(client.post(server.url("/200"), content=body, headers=headers))
        await reached.wait()
        if way == "cancelled":
            task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        await body.aclose()
    attributes = recorder.one().attributes or {}
    if way == "whole":
        assert (read, outcome.content) == ([b"abc", b"def"], b"hello")
        assert attributes["http.response.body.size"] == 5
    else:
        assert read == [b"abc"]
        assert attributes.get(REASON) == ("cancelled" if way == "cancelled" else None)
        error = "ZeroDivisionError" if way == "failing" else None
        assert attributes.get("error.type") == error
        assert "http.response.status_code" not in attributes


def test_trio(without_loop: Tracing, recorder: Recorder) -> None:
    """On trio itself, over a real socket, where that is installed."""
    trio = pytest.importorskip("trio")

    async def serve(stream: Any) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await stream.receive_some(65536)
        await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
            async with instrument(httpx.AsyncClient(), tracing=without_loop) as client:
                assert (await client.get(url)).content == b"hello"
                with trio.move_on_after(0.05):
                    await client.get(url)
            nursery.cancel_scope.cancel()

    trio.run(main)
    whole, cancelled = recorder.spans
    assert (whole.attributes or {})["http.response.body.size"] == 5
    assert (cancelled.attributes or {})[REASON] == "cancelled"
