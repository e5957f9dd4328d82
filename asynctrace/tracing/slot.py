"""The one global `Tracing` of the process: who it is, and who is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opentelemetry.propagators.textmap import TextMapPropagator

from asynctrace import propagation
from asynctrace.errors import LifecycleError
from asynctrace.trace import delegate

if TYPE_CHECKING:
    from asynctrace.tracing.life import Tracing

logger = logging.getLogger("asynctrace")

_running: Tracing | None = None
_replaced: TextMapPropagator | None = None
_told_of_foreign_provider = False


def running() -> Tracing | None:
    """The global `Tracing` that is running now, if there is one. Any thread."""
    return _running


def current() -> Tracing:
    """The global `Tracing` that is running now. Any thread.

    Raises:
        LifecycleError: there is none.
    """
    if _running is None:
        raise LifecycleError(
            "no tracing is running in this process",
            hint="await asynctrace.init() at the start of the program, or enter it: "
            "async with asynctrace.init() as tracing",
        )
    return _running


def claim(tracing: Tracing) -> None:
    """Make `tracing` the global one; other instrumentations' spans come to it from here on.

    Raises:
        LifecycleError: there is one already.
    """
    global _running, _replaced, _told_of_foreign_provider
    if _running is not None:
        raise LifecycleError(
            f"tracing runs already in this process: {_running!r}",
            hint="shut it down first, use asynctrace.current(), or make an independent one "
            "by init(set_global=False)",
        )
    _running = tracing
    if not delegate.install() and not _told_of_foreign_provider:
        _told_of_foreign_provider = True
        logger.warning(
            "Another TracerProvider is OpenTelemetry's global one already; it stays so. "
            "asynctrace traces what it instruments itself; hand tracing.tracer_provider to "
            "other instrumentations."
        )
    delegate.activate(tracing.tracer_provider)
    propagation.set_default(tracing.propagator)
    _replaced = _swap_global_propagator(tracing.propagator)


def release(tracing: Tracing) -> None:
    """Make nobody the global one, if `tracing` is."""
    global _running, _replaced
    if _running is not tracing:
        return
    _running = None
    delegate.deactivate(tracing.tracer_provider)
    propagation.set_default(None)
    if _replaced is not None:
        _swap_global_propagator(_replaced, expected=tracing.propagator)
        _replaced = None


def _swap_global_propagator(
    new: TextMapPropagator, *, expected: TextMapPropagator | None = None
) -> TextMapPropagator | None:
    """Make `new` OpenTelemetry's global propagator, unless it is not the `expected` one."""
    # Here, because importing it raises where OTEL_PROPAGATORS names one that is not installed,
    # and that is for the configuration to say, with a remedy.
    from opentelemetry import propagate

    old = propagate.get_global_textmap()
    if expected is not None and old is not expected:
        return None
    propagate.set_global_textmap(new)
    return old
