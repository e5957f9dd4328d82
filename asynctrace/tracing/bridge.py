"""The SDK's interface is synchronous, and delivery is not: what is between them."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from asynctrace._lifecycle import State
from asynctrace.context.own import own_context
from asynctrace.export.delivery import run_from_thread
from asynctrace.export.pipeline import CLOSE_GRACE

if TYPE_CHECKING:
    from asynctrace.tracing.life import Tracing

T = TypeVar("T")

logger = logging.getLogger("asynctrace")

LATEST: Final = 1.8 * CLOSE_GRACE
"""Seconds past a deadline after which nobody waits for a loop that is not their own: closing takes
up to one and a half graces, and two are promised."""


class SyncBridge:
    """The SDK's synchronous `force_flush` and `shutdown` of a provider, told truthfully.

    In other threads they wait; on the host's own thread waiting would stop the very loop that has
    to deliver: there they only set things going, and say False.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = weakref.ref(tracing)
        self._hinted = False
        self._under_way: set[asyncio.Task[object]] = set()

    def force_flush(self, timeout: float) -> bool:
        """Whether every span that had ended before the call has arrived."""
        tracing = self._tracing()
        if tracing is None or tracing.state is State.CLOSED:
            return True
        work = tracing._flush(time.monotonic() + timeout)
        done = self._run(tracing, work, timeout, "force_flush")
        return done is not None and all(done[0].values()) and not done[1]

    def shutdown(self) -> None:
        """Shut the whole tracing down, within its configured time-out."""
        tracing = self._tracing()
        if tracing is not None and tracing.state is State.RUNNING:
            self._run(tracing, tracing.shutdown(), tracing.config.shutdown_timeout, "shutdown")

    def _run(
        self, tracing: Tracing, work: Coroutine[Any, Any, T], timeout: float, method: str
    ) -> T | None:
        host = tracing._delivery.ensure_host()
        if host is None:
            work.close()
            return None
        if not host.is_here():
            return run_from_thread(host, work, timeout + LATEST)
        task = asyncio.get_running_loop().create_task(
            work, name=f"asynctrace {method}", context=own_context()
        )
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        if not self._hinted:
            self._hinted = True
            logger.warning(
                "%s() of the tracer provider was called on the event loop that delivers its "
                "spans; it is under way and cannot be waited for there. Hint: "
                "await tracing.%s().",
                method,
                method,
            )
        return None
