"""Streams: every way of reading and of leaving, and what ten thousand abandoned ones leave."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from asynctrace.httpx import instrument
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, until

WAYS = ["bytes", "raw", "text", "lines"]
PARTS = (b"one\n", b"two\n", b"three")


class Leave(Exception):
    """What the caller's own block ends with."""


async def _read(response: Any, way: str, is_async: bool, leave: str) -> None:
    """Iterate, and leave after the first part."""
    parts = getattr(response, f"aiter_{way}" if is_async else f"iter_{way}")()
    if is_async:
        async for _ in parts:
            if leave == "break":
                break
            if leave == "raise":
                raise Leave
        if leave == "break":
            await parts.aclose()
    else:
        for _ in parts:
            if leave == "break":
                break
            if leave == "raise":
                raise Leave


@pytest.mark.parametrize("leave", ["end", "break", "raise"])
@pytest.mark.parametrize("way", WAYS)
async def test_stream(
    kind: Kind, tracing: Tracing, recorder: Recorder, way: str, leave: str
) -> None:
    """The end, an early exit and an exception inside the `with`: told apart, and one span each."""
    stream = kind.stream(*PARTS)
    transport = kind.transport(lambda request: kind.library.Response(200, stream=stream))

    async def call(client: Any) -> None:
        async with client.stream("GET", "http://host/") as response:
            await _read(response, way, True, leave)

    def call_sync(client: Any) -> None:
        with client.stream("GET", "http://host/") as response:
            # Never suspended for a synchronous response: one step is all.
            with pytest.raises(StopIteration) if leave != "raise" else pytest.raises(Leave):
                _read(response, way, False, leave).send(None)
            if leave == "raise":
                raise Leave

    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        if leave == "raise":
            with pytest.raises(Leave):
                await kind.call(call if kind.is_async else call_sync, client)
        else:
            await kind.call(call if kind.is_async else call_sync, client)
    assert stream.closed
    attributes = recorder.one().attributes or {}
    end = attributes.get("asynctrace.http.response.body.end")
    # Decoders of text and lines hold a part back, and so may have read further.
    size = attributes["http.response.body.size"]
    if leave == "end":
        assert (size, end) == (sum(map(len, PARTS)), None)
    else:
        assert end in ({"closed"} if way in {"bytes", "raw"} else {"closed", None})
        assert isinstance(size, int)
        assert 4 <= size <= 13
    assert "error.type" not in attributes


# --- abandoned ------------------------------------------------------------------------------------


class _Open(httpx.AsyncByteStream):
    """A body that never comes; it counts those that are open."""

    open = 0

    def __init__(self) -> None:
        type(self).open += 1

    async def __aiter__(self) -> Any:
        await asyncio.Event().wait()
        yield b""

    async def aclose(self) -> None:
        type(self).open -= 1


async def _abandon(client: httpx.AsyncClient, times: int) -> None:
    for _ in range(times):
        request = client.build_request("GET", "http://host/")
        await client.send(request, stream=True)
        await asyncio.sleep(0)


async def _abandoning(tracing: Tracing, times: int) -> int:
    """How many bytes more there are after so many than after a tenth of them."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=_Open()))
    async with instrument(httpx.AsyncClient(transport=transport), tracing=tracing) as client:
        await _abandon(client, times // 10)
        measure: Callable[[], int] = lambda: tracemalloc.get_traced_memory()[0]  # noqa: E731
        tracemalloc.start()
        try:
            gc.collect()
            before = measure()
            await _abandon(client, times)
            gc.collect()
            await until(lambda: _Open.open == 0)
            gc.collect()
            return measure() - before
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    "times", [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(180)])]
)
async def test_abandoned(tracing: Tracing, recorder: Recorder, times: int) -> None:
    """Flat memory, no open span, every inner stream closed, and every span told as abandoned."""
    ends: dict[object, int] = {}

    def count(span: Any) -> None:
        end = (span.attributes or {})["asynctrace.http.response.body.end"]
        ends[end] = ends.get(end, 0) + 1

    recorder.on_end = count  # type: ignore[method-assign]
    recorder.on_start = lambda *_: None  # type: ignore[method-assign]
    grown = await _abandoning(tracing, times)
    assert grown < 100_000
    assert ends == {"abandoned": times + times // 10}
    assert tracing.open_spans() == ()
    assert len(asyncio.all_tasks()) == len(asyncio.all_tasks() & _own_tasks())


def _own_tasks() -> set[asyncio.Task[Any]]:
    """Tasks that are not of closing a stream."""
    return {
        task
        for task in asyncio.all_tasks()
        if "_close" not in getattr(task.get_coro(), "__qualname__", "")
    }
