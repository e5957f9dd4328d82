"""Where the drain tasks run."""

from __future__ import annotations

import asyncio
import threading

import pytest

from asynctrace import _threads
from asynctrace.export.host import Host


async def test_the_loop_of_init_is_a_host() -> None:
    """It is here, it serves, and work runs in it directly."""
    host = Host(asyncio.get_running_loop())
    assert host.is_here()
    assert host.serving
    assert repr(host) == "<Host loop of init>"
    assert await host.run(asyncio.sleep(0, "done")) == "done"


def test_a_loop_that_stands_still_does_not_serve() -> None:
    """It takes what is posted and may never do it; once closed it takes nothing."""
    loop = asyncio.new_event_loop()
    host = Host(loop)
    assert host.alive
    assert not host.serving
    assert not host.is_here()
    assert host.post(lambda: None)
    loop.close()
    assert not host.post(lambda: None)
    assert repr(host) == "<Host loop of init, gone>"


def test_a_host_in_a_thread_ends_with_its_work() -> None:
    """Whoever waits for an answer of it still gets one; what hangs is cancelled."""
    entered, cancelled = threading.Event(), threading.Event()
    stop: list[asyncio.Event] = []

    async def serve() -> None:
        stop.append(asyncio.Event())
        entered.set()
        await stop[0].wait()

    async def answer_late() -> str:
        await stop[0].wait()
        await asyncio.sleep(0.01)
        return "late"

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    host = Host.in_thread(serve)
    assert entered.wait(5)
    assert host.serving
    assert "daemon thread" in repr(host)
    late = asyncio.run_coroutine_threadsafe(answer_late(), host.loop)
    asyncio.run_coroutine_threadsafe(hang(), host.loop)
    assert host.post(stop[0].set)
    assert late.result(5) == "late"
    assert cancelled.wait(5)


async def test_work_is_done_on_the_host_from_any_loop() -> None:
    """The answer comes to the loop that asks; its cancellation reaches the work."""
    stop = threading.Event()

    async def serve() -> None:
        while not stop.is_set():
            await asyncio.sleep(0.001)

    host = Host.in_thread(serve)

    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert await host.run(where()) is host.loop
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.create_task(host.run(hang()))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(cancelled.wait, 5)
    stop.set()


def test_without_a_thread_there_is_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller hears of it, and the loop that was made for it is closed."""

    def refuse(job: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        Host.in_thread(lambda: asyncio.sleep(0))
