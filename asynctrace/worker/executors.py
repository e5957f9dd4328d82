"""``wrap_executor``: jobs in other threads and processes keep the context of who submitted them.

A context cannot be pickled. To a process goes what would go into a message, and how the tracing
here was started, so that one can be started there (see `child`).
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from asynctrace.context import attach_context, detach
from asynctrace.propagation import extract, inject
from asynctrace.tracing import running
from asynctrace.worker import child

P = ParamSpec("P")
R = TypeVar("R")

# Their jobs are pickled, which a context cannot be. (The interpreter pool comes with Python 3.14.)
_PICKLING: tuple[type[Executor], ...] = (
    ProcessPoolExecutor,
    *filter(None, [getattr(concurrent.futures, "InterpreterPoolExecutor", None)]),
)


class ContextExecutor(Executor):
    """What :func:`wrap_executor` returns; shutting it down shuts the wrapped executor down."""

    def __init__(self, wrapped: Executor) -> None:
        self._wrapped = wrapped

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Schedule ``fn(*args, **kwargs)`` to run in a copy of the present context."""
        if isinstance(self._wrapped, _PICKLING):
            return self._wrapped.submit(partial(_call_with, *self._luggage(), fn, *args, **kwargs))
        return self._wrapped.submit(partial(copy_context().run, fn, *args, **kwargs))

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[R]:
        """``Executor.map``; every call sees the present context, timeout in seconds."""
        if isinstance(self._wrapped, _PICKLING):
            fn = partial(_call_with, *self._luggage(), fn)
            return self._wrapped.map(fn, *iterables, timeout=timeout, chunksize=chunksize)
        # The base class submits each call through submit(), so each gets a context of its own.
        return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """``Executor.shutdown`` of the wrapped executor."""
        self._wrapped.shutdown(wait, cancel_futures=cancel_futures)

    def _luggage(self) -> tuple[dict[str, str], bytes | None]:
        """What a job in a process takes along: context, and the options of the tracing here."""
        carrier: dict[str, str] = {}
        inject(carrier)
        tracing = running()
        if tracing is None or not isinstance(self._wrapped, ProcessPoolExecutor):
            return carrier, None
        return carrier, child.pack(tracing)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self._wrapped!r}>"


def wrap_executor(executor: Executor) -> ContextExecutor:
    """An executor whose jobs run in a copy of the context in which they were submitted::

        pool = asynctrace.wrap_executor(ThreadPoolExecutor())
        await loop.run_in_executor(pool, work)

    All context variables go along to a thread; to a process the current span and the baggage do,
    as they would in a message. A process that runs no tracing starts one, by the options that
    ``init`` was given here, before its first job; its spans are flushed when it ends. Options that
    cannot be pickled are left behind, and a log line says so. A wrapped executor is returned as it
    is.
    """
    return executor if isinstance(executor, ContextExecutor) else ContextExecutor(executor)


def _call_with(
    carrier: dict[str, str],
    options: bytes | None,
    fn: Callable[P, R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    if options is not None:
        child.ensure_tracing(options)
    token = attach_context(extract(carrier))
    try:
        return fn(*args, **kwargs)
    finally:
        detach(token)
