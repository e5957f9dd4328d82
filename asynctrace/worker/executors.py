"""``wrap_executor``: jobs in other threads and processes keep the context of who submitted them.

A context cannot be pickled. To a process goes what would go into a message, and how the tracing
here was started, so that one can be started there (see `child`, imported when it is needed).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

from asynctrace.context import attach_context, detach
from asynctrace.propagation import extract, inject
from asynctrace.tracing import running

P = ParamSpec("P")
R = TypeVar("R")


class ContextExecutor(Executor):
    """What :func:`wrap_executor` returns; shutting it down shuts the wrapped executor down."""

    def __init__(self, wrapped: Executor) -> None:
        self._wrapped = wrapped
        self._in_processes = _is_a(wrapped, "process", "ProcessPoolExecutor")
        # Of jobs that are pickled, which a context cannot be. (The latter is Python 3.14's.)
        self._pickles = self._in_processes or _is_a(
            wrapped, "interpreter", "InterpreterPoolExecutor"
        )

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Schedule ``fn(*args, **kwargs)`` to run in a copy of the present context."""
        if self._pickles:
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
        if self._pickles:
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
        if tracing is None or not self._in_processes:
            return carrier, None
        from asynctrace.worker.child import pack

        return carrier, pack(tracing)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self._wrapped!r}>"


class ContextThreadPoolExecutor(ContextExecutor, ThreadPoolExecutor):
    """The same around a pool of threads: asyncio takes no other for its default executor.

    It has no threads of its own. What is not asked of every executor is asked of the wrapped one.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "_wrapped":  # not there yet, or no more
            raise AttributeError(name)
        return getattr(self._wrapped, name)


@overload
def wrap_executor(executor: ThreadPoolExecutor) -> ContextThreadPoolExecutor: ...


@overload
def wrap_executor(executor: Executor) -> ContextExecutor: ...


def wrap_executor(executor: Executor) -> ContextExecutor:
    """An executor whose jobs run in a copy of the context in which they were submitted::

        pool = asynctrace.wrap_executor(ThreadPoolExecutor())
        await loop.run_in_executor(pool, work)

    ``loop.set_default_executor(pool)`` makes it the one of every ``run_in_executor(None, ...)``.

    All context variables go along to a thread; to a process the current span and the baggage do,
    as they would in a message. A process that runs no tracing starts one, by the options that
    ``init`` was given here, before its first job; its spans are flushed when it ends. Options that
    cannot be pickled are left behind, and a log line says so. A wrapped executor is returned as it
    is.
    """
    if isinstance(executor, ContextExecutor):
        return executor
    if isinstance(executor, ThreadPoolExecutor):
        return ContextThreadPoolExecutor(executor)
    return ContextExecutor(executor)


def _is_a(executor: Executor, module: str, name: str) -> bool:
    """Whether it is one of this kind. Nobody has one whose module is not imported, and to import
    `multiprocessing` takes too long to do it for everybody who wants a queue."""
    kind = getattr(sys.modules.get(f"concurrent.futures.{module}"), name, None)
    return kind is not None and isinstance(executor, kind)


def _call_with(
    carrier: dict[str, str],
    options: bytes | None,
    fn: Callable[P, R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    if options is not None:
        from asynctrace.worker.child import ensure_tracing

        ensure_tracing(options)
    token = attach_context(extract(carrier))
    try:
        return fn(*args, **kwargs)
    finally:
        detach(token)
