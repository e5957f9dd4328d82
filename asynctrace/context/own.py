"""Which tasks are the tracing's own: those of the pipeline, and all that they start.

A program that ends cancels its tasks, and needs ours until the flush is over. They are known by a
variable in their context, because a context is inherited and a name is anybody's to give.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from typing import Any

_OWN: contextvars.ContextVar[bool] = contextvars.ContextVar("asynctrace.own", default=False)


def own_context(context: contextvars.Context | None = None) -> contextvars.Context:
    """`context`, by default a copy of the current one, marked: what is run in it is our own."""
    context = contextvars.copy_context() if context is None else context
    context.run(_OWN.set, True)
    return context


def is_own(task: asyncio.Task[Any]) -> bool:
    """Whether `task` works for the tracing, not for the program. Any thread."""
    context = context_of(task)
    return context is not None and context.get(_OWN, False)


def context_of(task: asyncio.Task[Any]) -> contextvars.Context | None:
    """The context of `task`, which another thread may run; None when it cannot be known."""
    if sys.version_info >= (3, 12):
        return task.get_context()
    # 3.11's tasks do not tell their context; the collector of garbage knows it.
    for referent in gc.get_referents(task):
        if isinstance(referent, contextvars.Context):
            return referent
    return None
