"""``@traced``: a span around each call of a function, of whatever kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from opentelemetry import trace as trace_api
from opentelemetry.trace import SpanKind

from asynctrace.context.generators import trace_async_generator, trace_generator
from asynctrace.context.scope import Attributes, SpanScope, active_tracer
from asynctrace.trace import delegate

P = ParamSpec("P")
R = TypeVar("R")
# The decorated object keeps its type to the letter: overloads, type guards, descriptors and all.
Traceable = TypeVar(
    "Traceable", bound="Callable[..., object] | staticmethod[..., Any] | classmethod[Any, ..., Any]"
)


@dataclass(frozen=True, slots=True)
class SpanTemplate:
    """What the spans of one decorated function have in common."""

    name: str
    kind: SpanKind
    attributes: Attributes | None

    def scope(self) -> SpanScope:
        return SpanScope(self.name, kind=self.kind, attributes=self.attributes)

    def start(self) -> trace_api.Span | None:
        """A span that is not current; None when no tracing runs."""
        tracer = active_tracer()
        if tracer is None:
            return None
        return tracer.start_span(self.name, kind=self.kind, attributes=self.attributes)


@overload
def traced(function: Traceable, /) -> Traceable: ...


@overload
def traced(
    *,
    name: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
) -> Callable[[Traceable], Traceable]: ...


def traced(
    function: Traceable | None = None,
    /,
    *,
    name: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
) -> Traceable | Callable[[Traceable], Traceable]:
    """Make a span of each call. With or without arguments, on functions, methods and coroutines::

        @traced
        async def price(basket): ...

        @traced(name="export rows", attributes={"table": "orders"})
        async def rows(): yield ...

    The span is named after the function (``__qualname__``) unless `name` is given. It is a child
    of the span that is current at the call, is current while the function's body runs, and tells
    an exception or a cancellation like :func:`asynctrace.span`.

    A generator's span, sync or async, lasts from the first step to the end, and is current only
    while the body runs: never in the consumer's code, also when that breaks off. A plain function
    that returns an awaitable has a span until it returned. When no tracing runs, nothing happens.

    Raises ``TypeError``, at once, for a class.
    """

    def decorate(function: Traceable) -> Traceable:
        decorated: Traceable = _decorate(function, name, kind, attributes)
        return decorated

    return decorate if function is None else decorate(function)


def _decorate(
    function: Any, name: str | None, kind: SpanKind, attributes: Attributes | None
) -> Any:
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_decorate(function.__func__, name, kind, attributes))
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"@traced goes on functions and methods, not on {function!r}")
    if name is None:
        name = getattr(function, "__qualname__", type(function).__qualname__)
    template = SpanTemplate(name, kind, dict(attributes) if attributes else None)
    if inspect.isasyncgenfunction(function):
        return trace_async_generator(function, template.start)
    if inspect.isgeneratorfunction(function):
        return trace_generator(function, template.start)
    if inspect.iscoroutinefunction(function):
        return _trace_coroutine(function, template)
    return _trace_function(function, template)


def _trace_function(function: Callable[P, R], template: SpanTemplate) -> Callable[P, R]:
    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        if delegate.active() is None:
            return function(*args, **kwargs)
        with template.scope():
            return function(*args, **kwargs)

    return traced


def _trace_coroutine(
    function: Callable[P, Awaitable[R]], template: SpanTemplate
) -> Callable[P, Awaitable[R]]:
    @functools.wraps(function)
    async def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        if delegate.active() is None:
            return await function(*args, **kwargs)
        with template.scope():
            return await function(*args, **kwargs)

    return traced
