"""Where a worker's messages come from: a ``TracedQueue``, or whatever can be iterated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from asynctrace.context import Relation, SpanScope
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

# Python 3.13 and newer.
_QUEUE_SHUT_DOWN: tuple[type[Exception], ...] = tuple(
    filter(None, [getattr(asyncio, "QueueShutDown", None)])
)


class Delivery(Generic[M]):
    """One message, how to make the scope that it is processed in, and whom to tell of its end."""

    __slots__ = ("done", "message", "scope")

    def __init__(
        self, message: M, scope: Callable[[], SpanScope], done: Callable[[], object]
    ) -> None:
        self.message = message
        self.scope = scope
        self.done = done


class Source(Protocol[M]):
    """Where messages come from."""

    async def next(self) -> Delivery[M] | None:
        """The next one; None when there are no more."""

    async def aclose(self) -> None:
        """No more will be asked for."""


class QueueSource(Generic[M]):
    """The items of a queue, which is told when they are done."""

    def __init__(self, queue: TracedQueue[M], name: str | None, relation: Relation) -> None:
        self._queue = queue
        self._name = name
        self._relation = relation

    async def next(self) -> Delivery[M] | None:
        try:
            item, scope = await take(self._queue, self._name, self._relation)
        except _QUEUE_SHUT_DOWN:
            return None
        return Delivery(item, scope, self._queue.task_done)

    async def aclose(self) -> None:
        pass


class IteratorSource(Generic[M]):
    """What an async iterator gives. A generator is closed at the end, for nobody else would."""

    def __init__(self, messages: AsyncIterable[M], span: Callable[[M], SpanScope]) -> None:
        self._iterator: AsyncIterator[M] = aiter(messages)
        self._span = span

    async def next(self) -> Delivery[M] | None:
        try:
            message = await anext(self._iterator)
        except StopAsyncIteration:
            return None
        return Delivery(message, partial(self._span, message), _nothing)

    async def aclose(self) -> None:
        if isinstance(self._iterator, AsyncGenerator):
            await self._iterator.aclose()


@dataclass(frozen=True, slots=True)
class SpanOf(Generic[M]):
    """Makes the scope that ``process`` makes, for messages of one place.

    `carrier` gives a message's headers; by default its attribute ``headers``, if any.
    """

    name: str | None
    relation: Relation
    system: str | None
    carrier: Callable[[M], Carrier | None] | None

    def __call__(self, message: M) -> SpanScope:
        attributes: dict[str, AttributeValue] = {
            MESSAGING_OPERATION_NAME: "process",
            MESSAGING_OPERATION_TYPE: "process",
        }
        if self.name is not None:
            attributes[MESSAGING_DESTINATION_NAME] = self.name
        if self.system is not None:
            attributes[MESSAGING_SYSTEM] = self.system
        headers = (self.carrier or _headers)(message)
        sender = extract(headers, Context())
        return consumer_scope(sender, self.name, relation=self.relation, attributes=attributes)


def _headers(message: object) -> Any:
    return getattr(message, "headers", None)


def _nothing() -> None:
    pass
