"""``Worker``: takes messages from a source and processes several at once, in tasks that it owns."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from asynctrace.context import Relation, SpanScope
from asynctrace.context.stopping import CURRENT, Stop
from asynctrace.errors import ConfigError, LifecycleError
from asynctrace.propagation import Carrier, extract
from asynctrace.semconv import (
    MESSAGING_DESTINATION_NAME,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
)
from asynctrace.worker.messages import consumer_scope
from asynctrace.worker.queue import TracedQueue, take

M = TypeVar("M")
Handler = Callable[[M], Awaitable[object]]

_DRAIN_TIMEOUT = 5.0  # seconds, where there is no run() to set it
_LAST_CALL = 1.0  # seconds to clean up, for handlers that are cancelled


class Worker:
    """Processes messages in tasks of its own, up to `concurrency` at once::

        async with asynctrace.worker.Worker(concurrency=8) as worker:
            await worker.consume(source, handler, name="orders")

    Leaving the block ends it in order: nothing more is taken in, handlers at work have
    `drain_timeout` seconds to finish, the rest is cancelled and its spans say ``"shutdown"``. The
    same happens when :meth:`stop` is called, and in a program run by :func:`asynctrace.run` when
    that is asked to stop. Left by a cancellation, it cancels at once. No task outlives the block.

    `drain_timeout` is by default that of ``run``, or 5 seconds without one. Raises ``ConfigError``
    for a `concurrency` below 1.
    """

    def __init__(self, *, concurrency: int = 1, drain_timeout: float | None = None) -> None:
        if concurrency < 1:
            raise ConfigError("concurrency", concurrency, "give a whole number, at least 1")
        if drain_timeout is not None and not drain_timeout >= 0:  # also when it is not a number
            raise ConfigError("drain_timeout", drain_timeout, "give seconds, 0 or more")
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._drain_timeout = drain_timeout
        self._program: Stop | None = None
        self._stop: Stop | None = None
        self._time_up: asyncio.TimerHandle | None = None
        self._intakes: set[asyncio.Task[None]] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self.processed = 0
        """Messages whose handler returned."""
        self.failed = 0
        """Messages whose handler raised."""

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
                A message is taken only when there is a free task for it.
            handler: Its exception is told by the span and handed to the loop's exception handler;
                the others go on.
            name: The queue, topic or stream, as for :func:`process`; `relation`, `system` too.
            carrier: Gives the headers of a message; by default its attribute ``headers``, if any.
            span: Makes the span of a message, instead of `name` and the like: a function that
                calls :func:`process`, with all that is known of the message.

        Returns when the source has ended (also by ``QueueShutDown``), or the worker was stopped,
        and the handlers have ended. Cancelled, it takes no more messages, and leaves those at work
        to the end of the worker. Raises what the source raised.
        """
        stop = self._require_entered()
        messages: _Messages[M]
        if isinstance(source, TracedQueue):
            messages = _OfQueue(source, name, relation)
        else:
            messages = _OfIterator(
                aiter(source), span or _SpanOf(name, relation, system, carrier or _headers)
            )
        started: set[asyncio.Task[None]] = set()
        intake = asyncio.create_task(self._take_in(messages, handler, started))
        self._intakes.add(intake)
        intake.add_done_callback(self._intakes.discard)
        try:
            if stop.requested:
                intake.cancel()
            await asyncio.wait({intake})
        finally:
            intake.cancel()
        if started:
            await asyncio.wait(started)
        if not intake.cancelled():
            intake.result()

    def stop(self) -> None:
        """Ask it to end: no more intake, and `drain_timeout` seconds for handlers at work."""
        self._require_entered().request()

    # ---- messages and their handlers

    async def _take_in(
        self, messages: _Messages[M], handler: Handler[M], started: set[asyncio.Task[None]]
    ) -> None:
        context = contextvars.copy_context()
        context.run(CURRENT.set, self._stop)
        while True:
            await self._slots.acquire()
            try:
                delivery = await messages.next()
            except BaseException:
                self._slots.release()
                raise
            if delivery is None:
                self._slots.release()
                return
            task = asyncio.create_task(
                self._handle(delivery, handler),
                name=getattr(handler, "__qualname__", None),
                context=context.copy(),
            )
            for tasks in (self._handlers, started):
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            task.add_done_callback(partial(self._handled, delivery))

    async def _handle(self, delivery: _Delivery[M], handler: Handler[M]) -> None:
        try:
            with delivery.scope():
                await handler(delivery.message)
        except Exception as error:
            self.failed += 1
            asyncio.get_running_loop().call_exception_handler(
                {
                    "message": f"A message could not be processed by {handler!r}",
                    "exception": error,
                    # Not the task: the handler would have to run in its context, where we are.
                }
            )
        else:
            self.processed += 1

    def _handled(self, delivery: _Delivery[M], task: asyncio.Task[None]) -> None:
        # A callback of the task, because one that is cancelled before its first step has no
        # `finally` to do it in.
        del task
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
            self._program.heeded = True
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
            await self._end(asyncio.wait)
        except asyncio.CancelledError:
            self._cut()
            await self._end(partial(asyncio.wait, timeout=_LAST_CALL))
            raise
        finally:
            if self._time_up is not None:
                self._time_up.cancel()
            if self._program is not None:
                self._program.end_part(self._require_entered())

    async def _end(self, wait: Callable[[set[asyncio.Task[None]]], Awaitable[object]]) -> None:
        if tasks := self._intakes | self._handlers:
            await wait(tasks)

    def _on_stop(self) -> None:
        for intake in self._intakes:
            intake.cancel()
        patience = self._drain_timeout
        if patience is None and self._program is None:
            patience = _DRAIN_TIMEOUT
        if patience is not None:
            self._time_up = asyncio.get_running_loop().call_later(patience, self._cut)

    def _cut(self) -> None:
        self._require_entered().cut()
        for handler in self._handlers:
            handler.cancel()

    def _require_entered(self) -> Stop:
        if self._stop is None:
            raise LifecycleError("the worker has not been entered", hint="async with Worker() as w")
        return self._stop

    def __repr__(self) -> str:
        stop = self._stop
        state = "not entered" if stop is None else "stopping" if stop.requested else "open"
        return (
            f"<Worker {state}, {self.in_flight} of {self._concurrency} at work, "
            f"processed={self.processed} failed={self.failed}>"
        )


class _Delivery(Generic[M]):
    """One message, how to make the scope that it is processed in, and whom to tell of its end."""

    __slots__ = ("done", "message", "scope")

    def __init__(
        self, message: M, scope: Callable[[], SpanScope], done: Callable[[], object]
    ) -> None:
        self.message = message
        self.scope = scope
        self.done = done


class _Messages(Protocol[M]):
    """Where messages come from."""

    async def next(self) -> _Delivery[M] | None:
        """The next one; None when there are no more."""


class _OfQueue(Generic[M]):
    def __init__(self, queue: TracedQueue[M], name: str | None, relation: Relation) -> None:
        self._queue = queue
        self._name = name
        self._relation = relation

    async def next(self) -> _Delivery[M] | None:
        try:
            item, scope = await take(self._queue, self._name, self._relation)
        except _QUEUE_SHUT_DOWN:
            return None
        return _Delivery(item, scope, self._queue.task_done)


class _OfIterator(Generic[M]):
    def __init__(self, iterator: AsyncIterator[M], span: Callable[[M], SpanScope]) -> None:
        self._iterator = iterator
        self._span = span

    async def next(self) -> _Delivery[M] | None:
        try:
            message = await anext(self._iterator)
        except StopAsyncIteration:
            return None
        return _Delivery(message, partial(self._span, message), _nothing)


@dataclass(frozen=True, slots=True)
class _SpanOf(Generic[M]):
    """What ``process`` does, for messages of one place."""

    name: str | None
    relation: Relation
    system: str | None
    carrier: Callable[[M], Carrier | None]

    def __call__(self, message: M) -> SpanScope:
        attributes: dict[str, AttributeValue] = {
            MESSAGING_OPERATION_NAME: "process",
            MESSAGING_OPERATION_TYPE: "process",
        }
        if self.name is not None:
            attributes[MESSAGING_DESTINATION_NAME] = self.name
        if self.system is not None:
            attributes[MESSAGING_SYSTEM] = self.system
        sender = extract(self.carrier(message), Context())
        return consumer_scope(sender, self.name, relation=self.relation, attributes=attributes)


# Python 3.13 and newer.
_QUEUE_SHUT_DOWN: tuple[type[Exception], ...] = tuple(
    filter(None, [getattr(asyncio, "QueueShutDown", None)])
)


def _headers(message: object) -> Any:
    return getattr(message, "headers", None)


def _nothing() -> None:
    pass
