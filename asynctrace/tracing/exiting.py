"""The user's span processors at the exit of the process: they block, and no loop is left."""

from __future__ import annotations

import logging
import threading
import time

from asynctrace import _threads
from asynctrace.trace.processors import Processors

logger = logging.getLogger("asynctrace")


def end_processors(processors: Processors, *, within: float) -> None:
    """Flush them and shut them down, and wait for that as many seconds as `within`.

    They are called in a daemon thread, which is left behind when it is late. Where none can be
    started, which is the rule at the exit from Python 3.12 on, they are flushed directly: a flush
    is told how much time it has, and is believed to keep to it. They are not shut down then, as
    nothing limits a shutdown; what they held back has been flushed.
    """
    if not processors.added:
        return
    deadline = time.monotonic() + within
    ended = threading.Event()

    def end() -> None:
        processors.force_flush(_milliseconds_until(deadline))
        processors.shutdown()
        ended.set()

    try:
        _threads.start(end)
    except RuntimeError:
        in_time = processors.force_flush(_milliseconds_until(deadline))
    else:
        in_time = ended.wait(within)
    if not in_time:
        logger.warning("Span processors failed or were late at the exit; what they hold is lost.")


def _milliseconds_until(deadline: float) -> int:
    return max(0, int((deadline - time.monotonic()) * 1000))
