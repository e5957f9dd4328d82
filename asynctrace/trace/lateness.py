"""Work that begins in a trace whose part of it is long over: noted once, with a hint."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from .span import Span
    from .tracer import Tracer

_logger = logging.getLogger("asynctrace")

_LONG = 1_000_000_000  # nanoseconds; work that is put off to just after a response is no mistake

_noted: WeakSet[Tracer] = WeakSet()


def note_late_child(child: Span, parent: Span) -> None:
    """Log it, once per tracer, when `parent`, which has ended, did so long before `child` began."""
    assert parent._end_time is not None
    late = child._start_time - parent._end_time
    if late < _LONG or child._tracer in _noted:
        return
    _noted.add(child._tracer)
    _logger.warning(
        "The span %r was started %.1f s after its parent %r had ended. Hint: start work that "
        "outlives its request by asynctrace.create_task(..., relation='link'), and a worker that "
        "serves others too by relation='detached'. (This is said once.)",
        child._name,
        late / 1e9,
        parent._name,
    )
