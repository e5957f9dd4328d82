"""Blocking work in daemon threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

from asynctrace import _threads

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


async def test_the_result_comes_back() -> None:
    """From another thread, with the arguments that were given."""
    main = threading.get_ident()
    total, thread = await _threads.call(lambda *x: (sum(x), threading.get_ident()), 1, 2)
    assert total == 3
    assert thread != main


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
async def test_whatever_it_raises_comes_back(error: BaseException) -> None:
    """The very exception, not a copy."""

    def fail() -> None:
        raise error

    future = asyncio.ensure_future(_catch(fail))
    assert await future is error


async def _catch(function: object) -> BaseException:
    try:
        await _threads.call(function)  # type: ignore[arg-type]
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


async def test_stop_iteration_comes_back_in_a_wrapping() -> None:
    """It would end the coroutine that waits."""

    def fail() -> None:
        raise StopIteration("value")

    with pytest.raises(RuntimeError, match="StopIteration"):
        await _threads.call(fail)


async def test_cancelling_stops_the_waiting_and_not_the_work() -> None:
    """The thread goes on, and its late result harms nobody."""
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(10)
        ended.set()

    task = asyncio.create_task(_threads.call(work))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    await asyncio.to_thread(ended.wait, 10)
    assert ended.is_set()


def test_a_result_for_a_loop_that_is_gone_is_thrown_away() -> None:
    """No exception in the thread, no warning."""
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        try:
            release.wait(10)
        finally:
            ended.set()

    async def leave() -> None:
        task = asyncio.create_task(_threads.call(work))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    release.set()
    assert ended.wait(10)


async def test_the_context_is_empty() -> None:
    """No current span and no variable of the caller's reaches the thread."""
    VARIABLE.set("mine")
    assert await _threads.call(VARIABLE.get) == "unset"


async def test_a_thread_is_started_without_being_waited_for() -> None:
    """`start` returns while the job still runs."""
    release, ended = threading.Event(), threading.Event()

    def job() -> None:
        release.wait(10)
        ended.set()

    begun = time.monotonic()
    _threads.start(job)
    assert time.monotonic() - begun < 5
    assert not ended.is_set()
    release.set()
    await asyncio.to_thread(ended.wait, 10)


async def test_no_thread_is_an_error_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the call raises, and nothing hangs."""

    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads._thread, "start_new_thread", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        await _threads.call(lambda: None)
