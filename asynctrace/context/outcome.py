"""What a span says about the way its work ended: error, cancellation, or nothing at all.

========================================  =====================================================
the work ended by                         the span says
========================================  =====================================================
returning, or being closed                nothing
an ``Exception``                          an exception event, status ERROR, ``error.type``
a ``TimeoutError`` of asyncio's           the same, and cancellation reason "timeout"
``CancelledError``                        a cancellation reason, status unset:
                                          "scope" when an enclosing timeout or task group took
                                          the cancellation back; "shutdown" while a shutdown
                                          cancels what is left; else "cancelled"
``KeyboardInterrupt``, ``SystemExit``     cancellation reason "shutdown", status unset
a group                                   as the gravest of its leaves, in the order above
========================================  =====================================================

Other kinds of ``BaseException`` are the control flow of some library, and nothing can be told.

Whether a cancellation is taken back shows when the exception has arrived where it is caught, which
is after the span was left. So a span that is cancelled in a task has its time noted at once, and
is ended when the task is, or has taken the cancellation back, at most a few steps of the loop
later. One step is what a time-out takes; Python 3.13's task group first waits for its tasks. What
takes it back later still (3.11's ``wait_for`` never does) cannot be told from a cancellation that
stands.

Conventions: https://opentelemetry.io/docs/specs/semconv/general/recording-errors/
"""

from __future__ import annotations

import asyncio
import time
from asyncio import CancelledError
from collections.abc import Iterable, Iterator
from weakref import WeakValueDictionary

from opentelemetry.trace import Span, Status, StatusCode

from asynctrace.context.stopping import CURRENT
from asynctrace.semconv import CANCELLATION_REASON, ERROR_TYPE
from asynctrace.trace.span import Span as OurSpan

_STEPS = 6  # of the loop: as many as a task group needs whose tasks end at once


def end_span(span: Span, error: BaseException | None) -> None:
    """End `span`, whose work was ended by `error`, with what that means by the table above.

    Now, unless it is cancelled: then its time is noted now, and it ends soon.
    """
    tell_outcome(span, error)
    if error is None or not span.is_recording() or not _is_cancellation(error):
        span.end()
        return
    task = _current_task()
    if task is None:
        span.end()
        return
    _endings[span.get_span_context().span_id] = ending = _Ending(span, task)
    ending.wait(_STEPS)


class _Ending:
    """The end of a span whose work was cancelled in `task`, until it is known by whom."""

    __slots__ = ("__weakref__", "_cancelling", "_end_time", "_span", "_task")

    def __init__(self, span: Span, task: asyncio.Task[object]) -> None:
        self._span = span
        self._end_time = span._tracer._core.clock() if isinstance(span, OurSpan) else time.time_ns()
        self._task = task
        self._cancelling = task.cancelling()

    def wait(self, steps: int) -> None:
        """Look again one step of the loop later, and so on, `steps` times at most."""
        self._task.get_loop().call_soon(self._look, steps)

    def _look(self, steps: int) -> None:
        if self._stands() and steps > 1 and not self._task.done():
            self.wait(steps - 1)
        else:
            self.end()

    def _stands(self) -> bool:
        return self._task.cancelling() >= self._cancelling

    def end(self) -> None:
        """End the span, by what is known now."""
        if self._span.is_recording():
            if not self._stands():
                self._span.set_attribute(CANCELLATION_REASON, "scope")
            self._span.end(self._end_time)


# By the span's id. Only the loop keeps them: when that is closed, nobody will look again.
_endings: WeakValueDictionary[int, _Ending] = WeakValueDictionary()


def end_cancelled(spans: Iterable[Span]) -> None:
    """End those of `spans` whose work is over: cancelled just now, they only wait for the reason.

    For a shutdown, to which they must not look like work that was left open.
    """
    for span in spans:
        ending = _endings.get(span.get_span_context().span_id)
        if ending is not None:
            ending.end()


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def tell_outcome(span: Span, error: BaseException | None) -> None:
    """Put on `span` what `error`, which ended its work, means by the table above."""
    if error is None or not span.is_recording():
        return
    leaves = list(_leaves(error))
    errors = [leaf for leaf in leaves if isinstance(leaf, Exception)]
    if errors:
        _tell_error(span, error, errors)
    reason = _cancellation_reason(leaves, failed=bool(errors))
    if reason is not None:
        span.set_attribute(CANCELLATION_REASON, reason)


def _tell_error(span: Span, error: BaseException, errors: list[Exception]) -> None:
    span.record_exception(error)
    # A group whose errors are all of one type failed with that type: "ExceptionGroup" would say
    # nothing, and the event has it anyway.
    kinds = {type(leaf) for leaf in errors}
    span.set_attribute(ERROR_TYPE, error_type(kinds.pop() if len(kinds) == 1 else type(error)))
    span.set_status(Status(StatusCode.ERROR, _message(error)))


def _cancellation_reason(leaves: list[BaseException], *, failed: bool) -> str | None:
    if failed:
        return "timeout" if all(map(_is_asyncio_timeout, leaves)) else None
    if any(isinstance(leaf, (KeyboardInterrupt, SystemExit)) for leaf in leaves):
        return "shutdown"
    if any(isinstance(leaf, CancelledError) for leaf in leaves):
        stop = CURRENT.get()
        return "shutdown" if stop is not None and stop.cancels else "cancelled"
    return None


def _is_cancellation(error: BaseException) -> bool:
    return all(isinstance(leaf, CancelledError) for leaf in _leaves(error))


def error_type(kind: type[BaseException]) -> str:
    """The value of ``error.type``: the full name of the class, without ``builtins.``."""
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _is_asyncio_timeout(error: BaseException) -> bool:
    # asyncio.timeout and wait_for raise theirs from the cancellation that they took back; a
    # TimeoutError without one comes from elsewhere (ETIMEDOUT is one, too).
    return isinstance(error, TimeoutError) and isinstance(error.__cause__, CancelledError)


def _message(error: BaseException) -> str | None:
    try:
        return str(error) or None
    except Exception:  # a __str__ of theirs that fails must not replace their exception
        return None
