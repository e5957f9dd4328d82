"""One log line when delivery fails, one when it works again; silence in between.

An attempt that fails and succeeds when it is repeated is no news.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .contracts import Undelivered

logger = logging.getLogger("asynctrace")

PATIENCE = 2.0
"""Seconds for which delivery may fail before it is told, as long as no batch is given up."""
INTERVAL = 60.0
"""Seconds between two outages that are told: a receiver that comes and goes fills no log."""

_HINTS = {
    "exit": "await tracing.shutdown() before the loop ends, or use `async with asynctrace.init()`",
    "unwritable": "somebody else may own the place, or the disk is full",
    "credentials": "the function in credentials= failed; nothing is sent without",
    "unreachable": "is a collector listening there? OTEL_EXPORTER_OTLP_ENDPOINT says where to send",
    "timeout": "the collector does not answer in time; see OTEL_EXPORTER_OTLP_TIMEOUT",
    "deadline": "the collector did not take them before the shutdown's time-out",
    "http_401": "credentials go into OTEL_EXPORTER_OTLP_HEADERS",
    "http_403": "credentials go into OTEL_EXPORTER_OTLP_HEADERS",
    "http_404": "the endpoint is a base URL; /v1/traces is appended to it",
    "grpc_unauthenticated": "credentials go into OTEL_EXPORTER_OTLP_HEADERS",
    "grpc_permission_denied": "credentials go into OTEL_EXPORTER_OTLP_HEADERS",
    "grpc_unimplemented": "does the collector take traces by OTLP over gRPC at this endpoint?",
}


def is_news(*, lasted: float, given_up: bool, since_told: float | None) -> bool:
    """Whether to tell of an outage: a pure rule.

    Args:
        lasted: Seconds since the first attempt of the outage failed.
        given_up: Whether the attempts for a batch have ended, so that its spans are lost.
        since_told: Seconds since an outage was told last; None when that never happened.
    """
    if since_told is not None and since_told < INTERVAL:
        return False
    return given_up or lasted >= PATIENCE


class OutageLog:
    """The memory of one exporter's outage, so that it is logged once and not once per batch."""

    __slots__ = (
        "_attempts",
        "_began",
        "_clock",
        "_complained",
        "_failure",
        "_last_told",
        "_lost",
        "_name",
        "_oversize_told",
        "_told",
    )

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failure: Undelivered | None = None
        self._told = False
        self._last_told: float | None = None
        self._began = 0.0
        self._attempts = 0
        self._lost = 0
        self._complained = False
        self._oversize_told = False

    def failed(self, failure: Undelivered) -> None:
        """An attempt failed; the first failure of an outage is the one that is told."""
        self._attempts += 1
        self._begin(failure)
        self._tell_if_news(given_up=False)

    def given_up(self) -> None:
        """There will be no more attempts for a batch."""
        self._tell_if_news(given_up=True)

    def lost(self, spans: int, failure: Undelivered | None = None) -> None:
        """Spans will never be delivered; `failure` says why where no attempt has failed."""
        self._lost += spans
        if failure is not None:
            self._begin(failure)
        self.given_up()

    def _begin(self, failure: Undelivered) -> None:
        if self._failure is None:
            self._failure = failure
            self._began = self._clock()

    def _tell_if_news(self, *, given_up: bool) -> None:
        failure, now = self._failure, self._clock()
        if failure is None or self._told:
            return
        since_told = None if self._last_told is None else now - self._last_told
        if not is_news(lasted=now - self._began, given_up=given_up, since_told=since_told):
            return
        self._told = True
        self._last_told = now
        hint = _HINTS.get(failure.reason, "the service itself is not affected")
        logger.warning(
            "Spans cannot be delivered by %s: %s (%s). Hint: %s. Further failures are counted in "
            "statistics() and not logged until delivery works again.",
            self._name,
            failure.reason,
            failure.message,
            hint,
        )

    def too_large(self, size: int, failure: Undelivered) -> None:
        """A single span of `size` bytes was more than the receiver takes; told once."""
        if self._oversize_told:
            return
        self._oversize_told = True
        logger.warning(
            "A span of %d bytes is too large for the receiver of %s and was dropped: %s (%s). "
            "Hint: OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT bounds attributes. Further ones are "
            "counted in statistics().",
            size,
            self._name,
            failure.reason,
            failure.message,
        )

    def delivered(self, rejected: int = 0, message: str = "") -> None:
        """A batch was delivered, but for the `rejected` spans: the end of an outage.

        The spans that were lost are told with it, also those of outages that were not told. What
        the receiver complains of is logged once, until it takes a batch without complaint.
        """
        if self._told:
            logger.warning(
                "%s delivers again after %.1f s and %d failed attempts; %d spans were lost.",
                self._name,
                self._clock() - self._began,
                self._attempts,
                self._lost,
            )
            self._lost = 0
        self._failure = None
        self._told = False
        self._attempts = 0
        complaint = bool(rejected or message)
        if complaint and not self._complained:
            logger.warning(
                "The receiver of %s rejected %d spans: %s", self._name, rejected, message
            )
        self._complained = complaint

    def __repr__(self) -> str:
        return f"<OutageLog {self._name!r} failing={self._failure is not None} lost={self._lost}>"
