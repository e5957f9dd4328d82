"""Generators with a span that covers their whole life and is current only while their body runs.

Between two steps of a generator its consumer's code runs, often after a ``break`` for good. So the
body has an OpenTelemetry context of its own, which is attached for each step and taken away before
the item is handed over; scopes that the body holds open across a ``yield`` stay in it.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import ParamSpec, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace as trace_api
from opentelemetry.context import Context

from asynctrace.context.current import ContextToken, attach_context, detach
from asynctrace.context.outcome import end_span

P = ParamSpec("P")
Item = TypeVar("Item")
Sent = TypeVar("Sent")
Result = TypeVar("Result")

StartSpan = Callable[[Sequence[object], Mapping[str, object]], "trace_api.Span | None"]
TellResult = Callable[["trace_api.Span", object], None]


class _Step:
    """The body's context, current while entered. Enter it once per step."""

    __slots__ = ("_context", "_token")

    def __init__(self, span: trace_api.Span | None) -> None:
        self._context: Context | None = None
        if span is not None:
            self._context = trace_api.set_span_in_context(span)
        self._token: ContextToken | None = None

    def __enter__(self) -> None:
        if self._context is not None:
            self._token = attach_context(self._context)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            self._context = otel_context.get_current()
            detach(self._token)
            self._token = None


class _Life:
    """Ends the span of one generator with that; gives the :class:`_Step`."""

    __slots__ = ("_span",)

    def __init__(self, span: trace_api.Span | None) -> None:
        self._span = span

    def __enter__(self) -> _Step:
        return _Step(self._span)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._span is not None:
            end_span(self._span, error)


def trace_generator(
    function: Callable[P, Generator[Item, Sent, Result]], start: StartSpan, tell: TellResult
) -> Callable[P, Generator[Item, Sent, Result]]:
    """`function` with a span over the life of each generator that it makes."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> Generator[Item, Sent, Result]:
        generator = function(*args, **kwargs)
        thrown: BaseException | None = None
        span = start(args, kwargs)
        with _Life(span) as step:
            try:
                with step:
                    item = next(generator)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        with step:
                            generator.close()
                        raise
                    except BaseException as error:
                        # Thrown below, outside of this handler: in here the body would see it as
                        # the exception that is being handled, even in code that handles nothing.
                        thrown = error
                    with step:
                        item = generator.send(sent) if thrown is None else generator.throw(thrown)
                    thrown = None
            except StopIteration as stop:
                result: Result = stop.value
                if span is not None:
                    tell(span, result)
                return result
            finally:
                thrown = None  # it refers to this frame by its traceback

    return traced


def trace_async_generator(
    function: Callable[P, AsyncGenerator[Item, Sent]], start: StartSpan
) -> Callable[P, AsyncGenerator[Item, Sent]]:
    """`function` with a span over the life of each async generator that it makes."""

    @functools.wraps(function)
    async def traced(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Item, Sent]:
        generator = function(*args, **kwargs)
        thrown: BaseException | None = None
        with _Life(start(args, kwargs)) as step:
            try:
                with step:
                    item = await anext(generator)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        with step:
                            await generator.aclose()
                        raise
                    except BaseException as error:
                        thrown = error  # thrown below, for the reason given above
                    with step:
                        if thrown is None:
                            item = await generator.asend(sent)
                        else:
                            item = await generator.athrow(thrown)
                    thrown = None
            except StopAsyncIteration:
                return
            finally:
                thrown = None

    return traced
