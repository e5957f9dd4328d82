"""What a span says about the way its work ended: error, cancellation, or nothing at all.

========================================  =====================================================
the work ended by                         the span says
========================================  =====================================================
returning, or being closed                nothing
an ``Exception``                          an exception event, status ERROR, ``error.type``
a ``TimeoutError`` of asyncio's           the same, and cancellation reason "timeout"
``CancelledError``                        cancellation reason "cancelled", status unset
``KeyboardInterrupt``, ``SystemExit``     cancellation reason "shutdown", status unset
a group                                   as the gravest of its leaves, in the order above
========================================  =====================================================

Other kinds of ``BaseException`` are the control flow of some library, and nothing can be told.
Conventions: https://opentelemetry.io/docs/specs/semconv/general/recording-errors/
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator

from opentelemetry.trace import Span, Status, StatusCode

from asynctrace.semconv import CANCELLATION_REASON, ERROR_TYPE


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
        return "cancelled"
    return None


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
