"""One log line when delivery begins to fail, one when it works again; silence in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .contracts import Undelivered

logger = logging.getLogger("asynctrace")

_HINTS = {
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


class OutageLog:
    """The memory of one exporter's outage, so that it is logged once and not once per batch."""

    __slots__ = (
        "_attempts",
        "_began",
        "_clock",
        "_complained",
        "_failing",
        "_lost",
        "_name",
        "_oversize_told",
    )

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failing = False
        self._began = 0.0
        self._attempts = 0
        self._lost = 0
        self._complained = False
        self._oversize_told = False

    def began(self, failure: Undelivered) -> None:
        """An attempt failed; only the first of an outage is logged."""
        self._attempts += 1
        if self._failing:
            return
        self._failing = True
        self._began = self._clock()
        hint = _HINTS.get(failure.reason, "the service itself is not affected")
        logger.warning(
            "Spans cannot be delivered by %s: %s (%s). Hint: %s. Further failures are counted in "
            "statistics() and not logged until delivery works again.",
            self._name,
            failure.reason,
            failure.message,
            hint,
        )

    def lost(self, spans: int) -> None:
        self._lost += spans

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

        What the receiver complains of is logged once, until it takes a batch without complaint.
        """
        if self._failing:
            logger.warning(
                "%s delivers again after %.1f s and %d failed attempts; %d spans were lost.",
                self._name,
                self._clock() - self._began,
                self._attempts,
                self._lost,
            )
        self._failing = False
        self._attempts = 0
        self._lost = 0
        complaint = bool(rejected or message)
        if complaint and not self._complained:
            logger.warning(
                "The receiver of %s rejected %d spans: %s", self._name, rejected, message
            )
        self._complained = complaint

    def __repr__(self) -> str:
        return f"<OutageLog {self._name!r} failing={self._failing} lost={self._lost}>"
