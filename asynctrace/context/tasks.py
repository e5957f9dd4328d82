"""``create_task``: what a new task is to the trace that started it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar, get_args

from opentelemetry import trace as trace_api
from opentelemetry.context import Context

from asynctrace.context.current import attach_context, without_span
from asynctrace.context.scope import SpanScope, links_to
from asynctrace.errors import ConfigError

T = TypeVar("T")
Relation = Literal["child", "link"]
TaskRelation = Literal["child", "link", "detached"]


def require_relation(relation: object) -> None:
    """Raises ``ConfigError`` for what is no :data:`Relation`."""
    if relation not in get_args(Relation):
        raise ConfigError("relation", relation, f"give one of {get_args(Relation)}")


def create_task(
    coro: Coroutine[Any, Any, T],
    name: str | None = None,
    *,
    relation: TaskRelation = "child",
) -> asyncio.Task[T]:
    """``asyncio.create_task`` that says what the task is to the current trace.

    =============  ==============================================================================
    ``"child"``    part of the current trace; with a span of its own when `name` is given
    ``"link"``     a trace of its own, linked back to the current span: for work that outlives the
                   request. The span is named `name`, or after the coroutine
    ``"detached"`` nothing of the current trace, nor its baggage, and no span: for a worker that is
                   started by a request but does not work for it
    =============  ==============================================================================

    The span begins when the task begins to run and ends with it. As with asyncio, keep a reference
    to the task. Raises ``ConfigError`` for another `relation`.
    """
    if relation not in get_args(TaskRelation):
        coro.close()
        raise ConfigError("relation", relation, f"give one of {get_args(TaskRelation)}")
    if relation == "detached":
        return asyncio.create_task(coro, name=name, context=_copy_with(Context()))
    if relation == "link":
        links = links_to(trace_api.get_current_span())
        scope = SpanScope(name or _name_of(coro), links=links, base=without_span())
        return _create_task_in(scope, coro, name)
    if name is not None:
        return _create_task_in(SpanScope(name), coro, name)
    return asyncio.create_task(coro)


def _create_task_in(
    scope: SpanScope, coro: Coroutine[Any, Any, T], name: str | None
) -> asyncio.Task[T]:
    task = asyncio.create_task(_run_in(scope, coro), name=name)
    # A task that is cancelled before its first step never gets to await `coro`, which would then
    # complain that it was never awaited. Closing one that ran changes nothing.
    task.add_done_callback(lambda _: coro.close())
    return task


async def _run_in(scope: SpanScope, coro: Coroutine[Any, Any, T]) -> T:
    with scope:
        return await coro


def _copy_with(context: Context) -> contextvars.Context:
    copy = contextvars.copy_context()
    copy.run(attach_context, context)
    return copy


def _name_of(coro: object) -> str:
    return str(getattr(coro, "__qualname__", type(coro).__qualname__))
