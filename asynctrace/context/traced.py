"""``@traced``: a span around each call of a function, of whatever kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from opentelemetry import trace as trace_api
from opentelemetry.trace import SpanKind

from asynctrace.context.capture import Capture
from asynctrace.context.current import without_span
from asynctrace.context.generators import trace_async_generator, trace_generator
from asynctrace.context.scope import Attributes, SpanScope, active_tracer, links_to
from asynctrace.context.tasks import Relation, require_relation
from asynctrace.errors import ConfigError
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
    relation: Relation
    capture: Capture | None

    def scope(self) -> SpanScope:
        if self.relation == "child":
            return SpanScope(self.name, kind=self.kind, attributes=self.attributes)
        return SpanScope(
            self.name,
            kind=self.kind,
            attributes=self.attributes,
            links=links_to(trace_api.get_current_span()),
            base=without_span(),
        )

    def start(self, args: Sequence[object], kwargs: Mapping[str, object]) -> trace_api.Span | None:
        """A span that is not current; None when no tracing runs."""
        tracer = active_tracer()
        if tracer is None:
            return None
        if self.relation == "link":
            links = links_to(trace_api.get_current_span())
            base = without_span()
            span = tracer.start_span(self.name, base, self.kind, self.attributes, links)
        else:
            span = tracer.start_span(self.name, kind=self.kind, attributes=self.attributes)
        self.tell_arguments(span, args, kwargs)
        return span

    def tell_arguments(
        self, span: trace_api.Span, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        """Put the arguments on `span`, those that are to be captured."""
        if self.capture is not None:
            self.capture.tell_arguments(span, args, kwargs)

    def tell_result(self, span: trace_api.Span, result: object) -> None:
        """Put the return value on `span`, if it is to be captured."""
        if self.capture is not None:
            self.capture.tell_result(span, result)


@overload
def traced(function: Traceable, /) -> Traceable: ...


@overload
def traced(
    *,
    name: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    capture: Sequence[str] = (),
    relation: Relation = "child",
) -> Callable[[Traceable], Traceable]: ...


def traced(
    function: Traceable | None = None,
    /,
    *,
    name: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    capture: Sequence[str] = (),
    relation: Relation = "child",
) -> Traceable | Callable[[Traceable], Traceable]:
    """Make a span of each call. With or without arguments, on functions, methods and coroutines::

        @traced
        async def price(basket): ...

        @traced(name="export rows", attributes={"table": "orders"})
        async def rows(): yield ...

        @traced(capture=["order_id", "return"])
        def total(order_id, card): ...

    The span is named after the function (``__qualname__``) unless `name` is given. It is a child
    of the span that is current at the call, or with ``relation="link"`` a trace of its own, linked
    to that. It is current while the function's body runs, and tells an exception or a cancellation
    like :func:`asynctrace.span`.

    Of the arguments only those are recorded whose names are in `capture`, and the return value if
    ``"return"`` is: as ``asynctrace.argument.<name>`` and ``asynctrace.return``. Strings, numbers
    and booleans are recorded as they are, other things as their ``repr``, up to 256 characters.
    For a call that is not sampled nothing is made of them; so a sampler does not see them.

    A generator's span, sync or async, lasts from the first step to the end, and is current only
    while the body runs: never in the consumer's code, also when that breaks off. A plain function
    that returns an awaitable has a span until it returned. When no tracing runs, nothing happens.

    Raises ``TypeError``, at once, for a class, and for a name in `capture` that is no parameter;
    ``ConfigError`` for another `relation`.
    """
    require_relation(relation)
    if isinstance(capture, str):
        raise ConfigError("capture", capture, "give a list of names")

    def decorate(function: Traceable) -> Traceable:
        decorated: Traceable = _decorate(function, name, kind, attributes, capture, relation)
        return decorated

    return decorate if function is None else decorate(function)


def _decorate(
    function: Any,
    name: str | None,
    kind: SpanKind,
    attributes: Attributes | None,
    capture: Sequence[str],
    relation: Relation,
) -> Any:
    if isinstance(function, (staticmethod, classmethod)):
        inner = _decorate(function.__func__, name, kind, attributes, capture, relation)
        return type(function)(inner)
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"@traced goes on functions and methods, not on {function!r}")
    if name is None:
        name = getattr(function, "__qualname__", type(function).__qualname__)
    template = SpanTemplate(
        name,
        kind,
        dict(attributes) if attributes else None,
        relation,
        Capture(function, capture) if capture else None,
    )
    if inspect.isasyncgenfunction(function):
        return trace_async_generator(function, template.start)
    if inspect.isgeneratorfunction(function):
        return trace_generator(function, template.start, template.tell_result)
    if inspect.iscoroutinefunction(function):
        return _trace_coroutine(function, template)
    return _trace_function(function, template)


def _trace_function(function: Callable[P, R], template: SpanTemplate) -> Callable[P, R]:
    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        if delegate.active() is None:
            return function(*args, **kwargs)
        with template.scope() as span:
            template.tell_arguments(span, args, kwargs)
            result = function(*args, **kwargs)
            template.tell_result(span, result)
        return result

    return traced


def _trace_coroutine(
    function: Callable[P, Awaitable[R]], template: SpanTemplate
) -> Callable[P, Awaitable[R]]:
    @functools.wraps(function)
    async def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        if delegate.active() is None:
            return await function(*args, **kwargs)
        with template.scope() as span:
            template.tell_arguments(span, args, kwargs)
            result = await function(*args, **kwargs)
            template.tell_result(span, result)
        return result

    return traced
