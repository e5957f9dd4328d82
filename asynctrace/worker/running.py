"""``run()``: ``asyncio.run`` for a traced program, with signals and an orderly end.

::

    init -> main -> messages in flight end -> what is left is cancelled, cleans up -> flush -> exit

Each stage is one call of ``asyncio.Runner.run``, so `main` is the runner's own main task, as the
program expects, and a ``SystemExit`` that flies out of the loop leaves the later stages intact.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from opentelemetry.context import Context

from asynctrace.context import attach_context
from asynctrace.context.own import is_own
from asynctrace.context.stopping import CURRENT, DRAIN_TIMEOUT, Stop
from asynctrace.errors import ConfigError, LifecycleError
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from asynctrace.worker import arguments
from asynctrace.worker.signals import StopSignals

if TYPE_CHECKING:
    from asynctrace.config.options import Options

T = TypeVar("T")
R = TypeVar("R")
Main = Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]]

_logger = logging.getLogger("asynctrace")

_LAST_CALL = 1.0  # seconds to clean up, for tasks that are cancelled when their time is up


def run(
    main: Main[T],
    *,
    drain_timeout: float = DRAIN_TIMEOUT,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **options: Unpack[Options],
) -> T:
    """Run `main` with tracing, until it returns, fails, or the process is asked to stop::

        asynctrace.run(main(), service_name="worker")

    `main` is a coroutine, or a function that returns one and is called inside the loop. `debug` and
    `loop_factory` are those of ``asyncio.Runner``; all further options (`service_name`,
    `shutdown_timeout`, ...) are those of :func:`asynctrace.init`. The parent of main's first spans
    is taken from the environment (``TRACEPARENT``, ``TRACESTATE``) when it is there; ``run`` makes
    no span itself.

    On SIGINT or SIGTERM the program ends in this order:

    1. ``asynctrace.stopping()`` becomes true.
    2. The intake stops: every ``Worker`` takes no more messages, ``TracedQueue.process`` gives out
       no more items. Who waits in it is cancelled when no message is in flight any more.
    3. The messages in flight (``process``, ``TracedQueue.process``, a worker's) are finished, for
       which they have `drain_timeout` seconds (5.0 by default). A program in which a task that
       still runs has asked for ``stopping()``, or is inside of a ``Worker``'s block, has the same
       time to end by itself. Where there is nothing to wait for, this takes no time.
    4. What is left is cancelled, main first; its spans say ``"shutdown"`` as the reason. It may
       clean up in what remains of `drain_timeout`, at least a second (if that is not longer).
    5. The spans are flushed within `shutdown_timeout` (5.0 seconds unless configured).

    When `main` ends without a signal, what it left behind is treated alike from step 1 on. Then:

    =====================================  =======================================================
    `main` returned                        its result is returned
    `main` raised                          the exception is raised
    SIGINT or SIGTERM                      ``SystemExit`` of 128 + the signal's number
    ... and `main` returned a value        its result, unless None: it saw the request, and this is
                                           its answer
    ... and `main` raised something else   that is raised
    ... and main's clean-up hangs          it is cancelled again, then abandoned; ``SystemExit``
    a signal while flushing                the flush goes on; ``SystemExit``, unless main raised
    a second signal                        the process ends at once, killed by that signal
    =====================================  =======================================================

    A SIGINT therefore ends in ``SystemExit(130)``, where ``asyncio.run`` raises
    ``KeyboardInterrupt``. A signal that is ignored stays so; handlers of the program's own are
    suspended, unless `main` sets them.

    Raises ``ConfigError`` for what ``init`` refuses, before `main` is started; ``LifecycleError``
    when another tracing runs, or when called from a running loop.
    """
    if not (asyncio.iscoroutine(main) or callable(main)):
        raise ConfigError("main", main, "pass a coroutine, main(), or a function that returns one")
    try:
        patience = arguments.drain_timeout(drain_timeout)
        _refuse_running_loop()
        runner = asyncio.Runner(debug=debug, loop_factory=loop_factory)
        running = _Run(main, runner, patience, options)
    except BaseException:  # also of a loop factory: main is not left behind, never awaited
        _discard(main)
        raise
    return running.run()


class _Run(Generic[T]):
    """One call of :func:`run`."""

    def __init__(
        self, main: Main[T], runner: asyncio.Runner, drain_timeout: float, options: Options
    ) -> None:
        self._main: Main[T] | None = main
        self._runner = runner
        self._loop = runner.get_loop()
        self._drain_timeout = drain_timeout
        self._options = options
        self._signals = StopSignals(self._on_signal)
        self._stop = Stop(drain_timeout=drain_timeout)
        self._deadline: float | None = None  # of the drain, by the loop's clock
        self._stage: asyncio.Task[Any] | None = None  # what a signal cancels
        self._timers: list[asyncio.TimerHandle] = []
        self._ends_by_itself = False
        self._cancelled = False
        self._gave_up = False
        self._draining: asyncio.Task[Any] | None = None
        self._infrastructure: set[asyncio.Task[Any]] = set()
        self._abandoned: set[asyncio.Task[Any]] = set()

    def run(self) -> T:
        try:
            with self._signals:
                return self._run_stages()
        except asyncio.CancelledError:
            if self._signals.received is None:  # main cancelled itself
                raise
            raise SystemExit(128 + self._signals.received) from None
        finally:
            self._close()

    def _run_stages(self) -> T:
        tracing = self._run_cancellable(self._start())
        try:
            try:
                context = _context_from_environment(tracing)
                context.run(CURRENT.set, self._stop)
                result = self._run_cancellable(self._call_main(), context)
            finally:
                asked_to_stop = self._signals.received is not None
                self._run_drain()
        finally:
            self._runner.run(_shut_down(tracing))
        if self._signals.received is not None and (result is None or not asked_to_stop):
            raise asyncio.CancelledError  # main has nothing to say, or had its say before
        return result

    async def _start(self) -> Tracing:
        tracing = await init(**self._options)
        self._infrastructure = asyncio.all_tasks()
        return tracing

    async def _call_main(self) -> T:
        main, self._main = self._main, None
        assert main is not None
        return await (main() if callable(main) else main)

    # ---- a stage that a signal cancels

    def _run_cancellable(
        self, stage: Coroutine[Any, Any, R], context: contextvars.Context | None = None
    ) -> R:
        try:
            return self._runner.run(self._cancellable(stage), context=context)
        except RuntimeError:
            if not self._gave_up:
                raise
            raise asyncio.CancelledError from None  # _give_up stopped the loop
        finally:
            self._stage = None
            for timer in self._timers:
                timer.cancel()

    async def _cancellable(self, stage: Coroutine[Any, Any, R]) -> R:
        """`stage`, not begun at all when a signal came before."""
        if self._signals.received is not None:
            stage.close()
            raise asyncio.CancelledError
        self._stage = asyncio.current_task()
        return await stage

    def _on_signal(self) -> None:
        self._loop.call_soon_threadsafe(self._ask_to_stop)

    def _ask_to_stop(self) -> None:
        stop = self._stop
        self._deadline = self._loop.time() + self._drain_timeout
        self._ends_by_itself = stop.heeded
        self._stop_intake()
        if self._stage is not None:
            self._timers.append(self._loop.call_at(self._deadline, self._cancel_stage))
            self._look()

    def _stop_intake(self) -> None:
        self._stop.on_idle = self._on_idle
        self._stop.request()
        self._stop.close_intake()

    def _on_idle(self) -> None:
        # Any thread; and from within the task that processed the message, which may be the stage.
        with suppress(RuntimeError):  # the loop is closed by now
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        if self._stop.in_flight:  # another message was begun meanwhile
            return
        self._stop.look_again()
        if not self._ends_by_itself:
            self._cancel_stage()

    def _cancel_stage(self) -> None:
        if self._stage is None or self._cancelled:
            return
        self._cancelled = True
        self._stop.cut()
        self._stage.cancel()
        self._timers.append(self._loop.call_later(self._time_left(), self._give_up))

    def _time_left(self) -> float:
        """Seconds to clean up for what is cancelled now."""
        if self._deadline is None:
            return self._drain_timeout
        least = min(self._drain_timeout, _LAST_CALL)
        return max(self._deadline - self._loop.time(), least)

    def _give_up(self) -> None:
        if self._stage is not None and not self._stage.done():
            self._gave_up = True
            self._loop.stop()

    # ---- what main left behind

    def _run_drain(self) -> None:
        try:
            self._runner.run(self._drain())
        except BaseException:
            # The SystemExit of a task flew out of the loop past _drain, which waits still. Let it
            # not take the flush for something that main left behind.
            if self._draining is not None:
                self._draining.cancel()
            raise

    async def _drain(self) -> None:
        """Let messages in flight end, cancel what main left behind, and let it clean up.

        Main itself is left behind when it hangs.
        """
        self._draining = asyncio.current_task()
        if self._deadline is None:
            self._deadline = self._loop.time() + self._drain_timeout
        if not self._gave_up:
            await self._finish_messages(self._deadline)
        self._stop.cut()
        for seconds in (0.0 if self._gave_up else self._time_left(), _LAST_CALL):
            tasks = self._left_behind()
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=seconds)
        self._abandoned = self._left_behind()
        if self._abandoned:
            names = ", ".join(sorted(task.get_name() for task in self._abandoned))
            _logger.warning("run() abandons tasks that do not end when cancelled: %s", names)

    async def _finish_messages(self, deadline: float) -> None:
        self._stop_intake()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._stop.wait_idle()

    def _left_behind(self) -> set[asyncio.Task[Any]]:
        beside = {asyncio.current_task(), *self._infrastructure}
        return {task for task in asyncio.all_tasks() - beside if not is_own(task)}

    def _close(self) -> None:
        if self._main is not None:
            _discard(self._main)
        if self._abandoned:
            self._loop.close()  # the runner's close() would wait for them
        else:
            self._runner.close()


async def _shut_down(tracing: Tracing) -> None:
    await tracing.shutdown(timeout=tracing.config.shutdown_timeout)


def _context_from_environment(tracing: Tracing) -> contextvars.Context:
    """The context that the process was started in, by the parent's ``TRACEPARENT`` and the like.

    https://opentelemetry.io/docs/specs/otel/context/env-carriers/
    """
    propagator = tracing.propagator
    variables = {field: field.upper().replace("-", "_") for field in propagator.fields}
    carrier = {field: os.environ[name] for field, name in variables.items() if os.environ.get(name)}
    context = contextvars.copy_context()
    context.run(attach_context, propagator.extract(carrier, Context()))
    return context


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise LifecycleError(
        "asynctrace.run() cannot be called from a running event loop",
        hint="there, use `async with asynctrace.init(...)`",
    )


def _discard(main: object) -> None:
    """Close a coroutine that will not be run, so that it does not complain of it."""
    if isinstance(main, Coroutine):
        main.close()
