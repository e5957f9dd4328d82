"""Makes a new span current for the length of a `with` block, or of each call of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from .exceptions import describe_exception

P = ParamSpec("P")
R = TypeVar("R")


class CurrentSpan:
    """What `start_as_current_span` returns: a context manager, and a decorator.

    The span starts when the block is entered. As a decorator, of plain and of async
    functions, it starts a new one for every call; an async function's covers all that it awaits.
    """

    __slots__ = (
        "_end_on_exit",
        "_record_exception",
        "_set_status_on_exception",
        "_span",
        "_start",
        "_token",
    )

    def __init__(
        self,
        start: Callable[[], Span],
        *,
        record_exception: bool,
        set_status_on_exception: bool,
        end_on_exit: bool,
    ) -> None:
        self._start = start
        self._record_exception = record_exception
        self._set_status_on_exception = set_status_on_exception
        self._end_on_exit = end_on_exit
        self._span: Span | None = None

    def __enter__(self) -> Span:
        if self._span is not None:
            raise RuntimeError("this span was entered before; call start_as_current_span again")
        self._span = span = self._start()
        self._token = context_api.attach(set_span_in_context(span))
        return span

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        span = self._span
        if span is None:
            return
        _detach(self._token)
        # A BaseException that is no Exception (cancellation, GeneratorExit) is not an error.
        if isinstance(exc_val, Exception) and span.is_recording():
            if self._record_exception:
                span.record_exception(exc_val)
            if self._set_status_on_exception:
                span.set_status(Status(StatusCode.ERROR, describe_exception(exc_val)))
        if self._end_on_exit:
            span.end()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", call_async)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return function(*args, **kwargs)

        return call

    def _again(self) -> CurrentSpan:
        return CurrentSpan(
            self._start,
            record_exception=self._record_exception,
            set_status_on_exception=self._set_status_on_exception,
            end_on_exit=self._end_on_exit,
        )

    def __repr__(self) -> str:
        return f"CurrentSpan({'not entered' if self._span is None else self._span!r})"


def _detach(token: Token[Context]) -> None:
    """Restores what was current, quietly when the block is left in another context.

    That happens to a generator that is closed elsewhere than it was advanced; there is nothing to
    restore then, and OpenTelemetry's own `detach` would log an error.
    """
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        pass
    except AttributeError:  # a runtime context of another make (OTEL_PYTHON_CONTEXT)
        context_api.detach(token)
