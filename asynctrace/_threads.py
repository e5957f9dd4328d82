"""Blocking work in daemon threads that nobody waits for at the exit of the process.

The loop's default executor is the wrong place for a job that may hang: `asyncio.run` joins it, and
a `ThreadPoolExecutor` holds up the exit of the interpreter, whatever the caller's time-out was.
"""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def start(job: Callable[[], object]) -> None:
    """Run `job` in a daemon thread; return at once.

    Safe in a finalizer and on the event loop: `threading.Thread.start` waits for the new thread
    and takes a lock that the interrupted code may hold; this takes none and waits for nothing.

    Raises:
        RuntimeError: no thread can be started (the interpreter is shutting down, or a limit).
    """
    _thread.start_new_thread(job, ())


async def call(function: Callable[..., T], *args: object) -> T:
    """Await `function(*args)` run in a daemon thread.

    Cancelling the awaiting task stops the waiting, not the thread: its result is then thrown away.
    The thread starts with an empty context.

    Raises:
        RuntimeError: no thread can be started.
        BaseException: whatever `function` raises.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # T may itself be None

    def job() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = function(*args)
        except BaseException as caught:
            # StopIteration cannot be set on a future: it would end the awaiting coroutine.
            error = RuntimeError(repr(caught)) if isinstance(caught, StopIteration) else caught
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            # The loop closed meanwhile: nobody waits for the result any more.
            return

    start(job)
    return await future
