"""``Worker``: takes messages from a source and processes several at once, in tasks that it owns."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from asynctrace.context import Relation, SpanScope
from asynctrace.context.stopping import CURRENT, Stop
from asynctrace.context.tasks import require_relation
from asynctrace.errors import LifecycleError
from asynctrace.propagation import Carrier
from asynctrace.worker import arguments
from asynctrace.worker.queue import TracedQueue
from asynctrace.worker.sources import Delivery, IteratorSource, QueueSource, Source, SpanOf

M = TypeVar("M")
Handler = Callable[[M], Awaitable[object]]

_LAST_CALL = 1.0  # seconds to clean up, for handlers that are cancelled


class Worker:
    """Processes messages in tasks of its own, up to `concurrency` at once::

        async with asynctrace.worker.Worker(concurrency=8) as worker:
            await worker.consume(source, handler, name="orders")

    Leaving the block ends it in order: nothing more is taken in, handlers at work have
    `drain_timeout` seconds to finish, the rest is cancelled and its spans say ``"shutdown"``. The
    same happens when :meth:`stop` is called, and in a program run by :func:`asynctrace.run` when
    that is asked to stop. Left by a cancellation, it cancels at once. No task outlives the block.

    Every message that was taken is counted when its handler has ended: `processed`, `failed` or
    `cancelled`. A handler that goes on when it is cancelled is waited for, as by a task group,
    until the block itself is cancelled (by ``run``, when `drain_timeout` is over).

    `drain_timeout` is by default that of ``run``, or 5 seconds without one. Raises ``ConfigError``
    for a `concurrency` below 1, and for a `drain_timeout` that is not 0 or more.
    """

    def __init__(self, *, concurrency: int = 1, drain_timeout: float | None = None) -> None:
        self._concurrency = arguments.concurrency(concurrency)
        self._slots = asyncio.Semaphore(concurrency)
        self._drain_timeout = None
        if drain_timeout is not None:
            self._drain_timeout = arguments.drain_timeout(drain_timeout)
        self._program: Stop | None = None
        self._stop: Stop | None = None
        self._time_up: asyncio.TimerHandle | None = None
        self._intakes: set[asyncio.Task[None]] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self.processed = 0
        """Messages whose handler returned."""
        self.failed = 0
        """Messages whose handler raised."""
        self.cancelled = 0
        """Messages whose handler was cancelled, by the worker's end or by somebody else."""

    @property
    def in_flight(self) -> int:
        """Messages whose handler is at work."""
        return len(self._handlers)

    async def consume(
        self,
        source: AsyncIterable[M] | TracedQueue[M],
        handler: Handler[M],
        *,
        name: str | None = None,
        carrier: Callable[[M], Carrier | None] | None = None,
        relation: Relation = "child",
        system: str | None = None,
        span: Callable[[M], SpanScope] | None = None,
    ) -> None:
        """Call `handler` with each message of `source`, in a task and a CONSUMER span of its own.

        Args:
            source: An async iterator, or a :class:`TracedQueue` (whose ``task_done`` is called).
                A message is taken only when there is a free task for it. An async generator is
                closed (``aclose``) when no more is taken from it.
            handler: Its exception is told by the span and handed to the loop's exception handler,
                while the span is current; the other messages go on.
            name: The queue, topic or stream, as for :func:`process`; `relation`, `system` too.
            carrier: Gives the headers of a message; by default its attribute ``headers``, if any.
            span: Makes the span of a message, instead of `name` and the like: a function that
                calls :func:`process`, with all that is known of the message.

        Returns when the source has ended (also by ``QueueShutDown``), or the worker was stopped,
        and the handlers have ended. Cancelled, it takes no more messages, and leaves those at work
        to the end of the worker. Raises what the source raised, a ``CancelledError`` too, when
        nobody has cancelled the source; ``ConfigError`` for an unknown `relation`.
        """
        stop = self._require_entered()
        require_relation(relation)
        messages: Source[M]
        if isinstance(source, TracedQueue):
            messages = QueueSource(source, name, relation)
        else:
            messages = IteratorSource(source, span or SpanOf(name, relation, system, carrier))
        started: set[asyncio.Task[None]] = set()
        intake = asyncio.create_task(self._take_in(messages, handler, started))
        self._intakes.add(intake)
        intake.add_done_callback(self._intakes.discard)
        try:
            await asyncio.wait({intake})
        finally:
            intake.cancel()
        if started:
            await asyncio.wait(started)
        if not (intake.cancelled() and stop.requested):
            intake.result()

    def stop(self) -> None:
        """Ask it to end: no more intake, and `drain_timeout` seconds for handlers at work."""
        self._require_entered().request()

    # ---- messages and their handlers

    async def _take_in(
        self, messages: Source[M], handler: Handler[M], started: set[asyncio.Task[None]]
    ) -> None:
        context = contextvars.copy_context()
        context.run(CURRENT.set, self._stop)
        try:
            while not self._is_to_end():
                await self._slots.acquire()
                delivery = None
                try:
                    delivery = await messages.next()
                finally:
                    if delivery is None:
                        self._slots.release()
                if delivery is None:
                    return
                task = self._start(delivery, handler, context.copy())
                started.add(task)
                task.add_done_callback(started.discard)
        finally:
            await messages.aclose()

    def _is_to_end(self) -> bool:
        """Asked by an intake before each message: a source may swallow its cancellation."""
        intake = asyncio.current_task()
        assert intake is not None
        return self._require_entered().requested or intake.cancelling() > 0

    def _start(
        self, delivery: Delivery[M], handler: Handler[M], context: contextvars.Context
    ) -> asyncio.Task[None]:
        name = getattr(handler, "__qualname__", None)
        task = asyncio.create_task(self._handle(delivery, handler), name=name, context=context)
        self._handlers.add(task)
        task.add_done_callback(partial(self._handled, delivery))
        if self._require_entered().cancels:  # of a source that went on when it was cancelled
            task.cancel()
        return task

    async def _handle(self, delivery: Delivery[M], handler: Handler[M]) -> None:
        with _telling_failures(handler):
            scope = delivery.scope()
        # Told within the scope, so that a log record has the ids of the message's span.
        with scope, _telling_failures(handler):
            await handler(delivery.message)

    def _handled(self, delivery: Delivery[M], task: asyncio.Task[None]) -> None:
        # A callback of the task, because one that is cancelled before its first step has no
        # `finally` to do it in.
        self._handlers.discard(task)
        if task.cancelled():
            self.cancelled += 1
        elif task.exception() is None:
            self.processed += 1
        else:
            self.failed += 1
        self._slots.release()
        delivery.done()

    # ---- its end

    async def __aenter__(self) -> Self:
        if self._stop is not None:
            raise LifecycleError(
                f"{self!r} has been entered before", hint="make a new Worker for each `async with`"
            )
        self._program = CURRENT.get()
        if self._program is None:
            self._stop = Stop()
        else:
            self._stop = self._program.part()
        self._stop.on_request = self._on_stop
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._require_entered().request()
        if isinstance(error, asyncio.CancelledError):
            self._cut()
        try:
            await self._wait_for_all()
        except asyncio.CancelledError:
            self._cut()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_CALL):
                    await self._wait_for_all()
            raise
        finally:
            if self._time_up is not None:
                self._time_up.cancel()
            if self._program is not None:
                self._program.end_part(self._require_entered())

    async def _wait_for_all(self) -> None:
        # Again, because a source that swallows its cancellation may give one more message.
        while tasks := self._intakes | self._handlers:
            await asyncio.wait(tasks)

    def _on_stop(self) -> None:
        for intake in self._intakes:
            intake.cancel()
        patience = self._drain_timeout
        if patience is None:
            patience = self._require_entered().drain_timeout
        self._time_up = asyncio.get_running_loop().call_later(patience, self._cut)

    def _cut(self) -> None:
        self._require_entered().cut()
        for task in self._intakes | self._handlers:
            task.cancel()

    def _require_entered(self) -> Stop:
        if self._stop is None:
            raise LifecycleError("the worker has not been entered", hint="async with Worker() as w")
        return self._stop

    def __repr__(self) -> str:
        stop = self._stop
        state = "not entered" if stop is None else "stopping" if stop.requested else "open"
        return (
            f"<Worker {state}, {self.in_flight} of {self._concurrency} at work, "
            f"processed={self.processed} failed={self.failed} cancelled={self.cancelled}>"
        )


@contextmanager
def _telling_failures(handler: object) -> Iterator[None]:
    """Have the loop's exception handler told of what fails; it passes through.

    A cancellation is none, and an exit is told by the loop, which it leaves.
    """
    try:
        yield
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        asyncio.get_running_loop().call_exception_handler(
            {
                "message": f"A message could not be processed by {handler!r}",
                "exception": error,
                # Not the task: the handler would have to run in its context, where we are.
            }
        )
        raise
