"""``TracedQueue``: an ``asyncio.Queue`` whose items remember the trace that they were put in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext
from opentelemetry.util.types import AttributeValue

from asynctrace.context import Relation, SpanScope, without_span
from asynctrace.context.stopping import CURRENT, Stop
from asynctrace.context.tasks import require_relation
from asynctrace.semconv import (
    MESSAGING_DESTINATION_NAME,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    QUEUE_WAIT_TIME,
)
from asynctrace.trace import delegate
from asynctrace.worker.messages import consumer_scope

T = TypeVar("T")

_SYSTEM = "asyncio"


class TracedQueue(asyncio.Queue[T]):
    """``asyncio.Queue`` that carries the context of the producer along with each item::

        async with queue.process() as item:
            ...

    ``put`` and ``get`` are asyncio's, and ``get`` gives the plain items; what belongs to the trace
    stays inside. An item that was put while no tracing ran is stored as it is.

    Kept per item are the span's ids, the baggage and the time: never the span, nor anything else of
    the task that put it.
    """

    def process(self, name: str | None = None, *, relation: Relation = "child") -> Processing[T]:
        """Take one item, and work on it in a CONSUMER span; ``async with`` gives the item.

        Entering waits for an item like ``get``; a cancellation there takes no item. The span is a
        child of the span that was current when the item was put (``relation="child"``) or begins a
        trace linked to it (``"link"``); the task that processes has no part in it. It is called
        "process `name`" and tells how long the item waited. Leaving ends the span and then calls
        ``task_done``, once, also on an error or a cancellation, which the span tells.

        When :func:`asynctrace.run` was asked to stop, no item is given out any more, whether one is
        there, waited for already, or put later: entering waits until no message is in flight, and
        then raises ``CancelledError``. What is in the queue stays there; a program that wants to
        empty it in its last seconds takes the rest by ``get_nowait``, which goes on to work.

        Raises what ``get`` raises (``QueueShutDown`` from Python 3.13 on); ``ConfigError``, at the
        call, for another `relation`.
        """
        require_relation(relation)
        return Processing(self, name, relation)

    # _init, _put and _get are the methods that asyncio.Queue leaves to its subclasses; its own
    # priority and LIFO queues are made of them.

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._taken: _Parcel[T] | None = None

    def _put(self, item: T) -> None:
        super()._put(self._packed(item))  # type: ignore[arg-type]

    def _packed(self, item: T) -> T | _Parcel[T]:
        producer = trace_api.get_current_span().get_span_context()
        if not producer.is_valid and delegate.active() is None:
            return item
        return _Parcel(item, producer)

    def _get(self) -> T:
        stored: T | _Parcel[T] = super()._get()
        if isinstance(stored, _Parcel):
            self._taken = stored
            return stored.unpack()
        self._taken = None
        return stored

    async def _take(self) -> tuple[T, _Parcel[T] | None]:
        item = await self.get()
        # get() takes the item and returns in one go, so what _get() noted is about this item.
        taken, self._taken = self._taken, None
        return item, taken


class TracedLifoQueue(TracedQueue[T], asyncio.LifoQueue[T]):
    """``asyncio.LifoQueue`` that carries the context of the producer along with each item."""


class TracedPriorityQueue(TracedQueue[T], asyncio.PriorityQueue[T]):  # type: ignore[type-var]
    """``asyncio.PriorityQueue`` that carries the context of the producer along with each item.

    The items alone decide the order, as there.
    """

    def _packed(self, item: T) -> _Parcel[T]:
        # Always, because parcels can be compared with their like only.
        return _Parcel(item, trace_api.get_current_span().get_span_context())


class _Parcel(Generic[T]):
    """An item on its way, with what its consumer's span needs to know."""

    __slots__ = ("_baggage", "_producer", "_put_at", "item")

    def __init__(self, item: T, producer: SpanContext) -> None:
        self.item = item
        self._producer = producer
        self._baggage = without_span()
        self._put_at = time.monotonic()

    def unpack(self) -> T:
        """The item, which is not kept here any longer."""
        item = self.item
        del self.item
        return item

    def sender(self) -> Context:
        """A context with the producer's span and baggage."""
        return trace_api.set_span_in_context(NonRecordingSpan(self._producer), self._baggage)

    def waited(self) -> float:
        """Seconds since the item was put."""
        return time.monotonic() - self._put_at

    def __lt__(self, other: _Parcel[T]) -> bool:
        return bool(self.item < other.item)  # type: ignore[operator]

    def __repr__(self) -> str:
        # The queue's own repr lists what it holds.
        return repr(self.item)


class Processing(Generic[T]):
    """What :meth:`TracedQueue.process` returns; enter it once."""

    __slots__ = ("_name", "_queue", "_relation", "_scope")

    def __init__(self, queue: TracedQueue[T], name: str | None, relation: Relation) -> None:
        self._queue = queue
        self._name = name
        self._relation = relation
        self._scope: SpanScope | None = None

    async def __aenter__(self) -> T:
        stop = CURRENT.get()
        if stop is None:
            item, parcel = await self._queue._take()
        else:
            item, parcel = await _take_while_open(self._queue, stop)
        self._scope = _scope_of(parcel, self._name, self._relation)
        self._scope.__enter__()
        return item

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope, self._scope = self._scope, None
        if scope is None:
            return
        try:
            scope.__exit__(exc_type, error, traceback)
        finally:
            self._queue.task_done()


async def _take_while_open(queue: TracedQueue[T], stop: Stop) -> tuple[T, _Parcel[T] | None]:
    if not stop.intake_closed:
        if not queue.empty():
            return await queue._take()
        try:
            return await stop.take_in(queue._take())
        except TimeoutError:
            pass  # closed meanwhile
    await stop.wait_nothing_at_work()
    raise asyncio.CancelledError


async def take(
    queue: TracedQueue[T], name: str | None, relation: Relation
) -> tuple[T, Callable[[], SpanScope]]:
    """One item, and what makes the scope to process it in. The caller owes a ``task_done``."""
    item, parcel = await queue._take()
    return item, partial(_scope_of, parcel, name, relation)


def _scope_of(parcel: _Parcel[T] | None, name: str | None, relation: Relation) -> SpanScope:
    attributes: dict[str, AttributeValue] = {
        MESSAGING_SYSTEM: _SYSTEM,
        MESSAGING_OPERATION_NAME: "process",
        MESSAGING_OPERATION_TYPE: "process",
    }
    if name is not None:
        attributes[MESSAGING_DESTINATION_NAME] = name
    if parcel is not None:
        attributes[QUEUE_WAIT_TIME] = parcel.waited()
    sender = Context() if parcel is None else parcel.sender()
    return consumer_scope(sender, name, relation=relation, attributes=attributes)
