"""Where spans go when they end, and how trouble met on the way is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_logger = logging.getLogger("asynctrace")

_MOST_LOGGED = 64
"""Kinds of fault logged in one life: enough to see every cause, too few to flood a log."""


class SpanSink(Protocol):
    """What a `TracerProvider` hands its spans to, after every user processor has seen them."""

    def on_end(self, span: ReadableSpan) -> None:
        """Takes a sampled span that has ended. Any thread, any finalizer; never raises or waits."""

    def force_flush(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds; True when everything taken before the call has arrived."""

    def shutdown(self) -> None:
        """Refuses spans from now on. Called once."""

    def must_not_wait(self) -> bool:
        """Whether the caller is on the loop that delivers: waiting would stop it.

        Then `force_flush` and `shutdown` see to the processors as well, later and elsewhere.
        """

    def fault(self, where: str, error: BaseException) -> None:
        """Counts an error that was kept from user code. The log line is written by `Faults`.

        `where` names the hook that failed.
        """


class Faults:
    """Errors that were contained: counted by the sink, each kind logged once."""

    __slots__ = ("_logged", "_sink")

    def __init__(self, sink: SpanSink | None) -> None:
        self._sink = sink
        self._logged: set[tuple[str, type[BaseException]]] = set()

    def __call__(self, where: str, error: BaseException) -> None:
        if self._sink is not None:
            try:
                self._sink.fault(where, error)
            except Exception:  # the counter itself failed: the log line below is all that is left
                pass
        kind = (where, type(error))
        if kind not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(kind)
            _logger.warning(
                "%s failed with %s; tracing goes on without it", where, _describe(error)
            )

    def __repr__(self) -> str:
        return f"Faults(kinds={len(self._logged)})"


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
