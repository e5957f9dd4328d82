"""One log line when delivery begins to fail, one when it works again; silence in between."""

from __future__ import annotations

import logging

from .contracts import Undelivered

logger = logging.getLogger("asynctrace")

_HINTS = {
    "unreachable": "is a collector listening there? OTEL_EXPORTER_OTLP_ENDPOINT says where to send",
    "timeout": "the collector does not answer in time; see OTEL_EXPORTER_OTLP_TIMEOUT",
    "http_401": "credentials go into OTEL_EXPORTER_OTLP_HEADERS",
    "http_403": "credentials go into OTEL_EXPORTER_OTLP_HEADERS",
    "http_404": "the endpoint is a base URL; /v1/traces is appended to it",
}


class OutageLog:
    """The memory of one exporter's outage, so that it is logged once and not once per batch."""

    __slots__ = ("_failing", "_lost", "_name", "_partial")

    def __init__(self, name: str) -> None:
        self._name = name
        self._failing = False
        self._lost = 0
        self._partial = False

    def began(self, failure: Undelivered) -> None:
        """An attempt failed; only the first of an outage is logged."""
        if self._failing:
            return
        self._failing = True
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

    def partial(self, rejected: int, message: str) -> None:
        """The receiver rejected part of a batch; logged once until a batch is taken whole."""
        if not self._partial:
            self._partial = True
            logger.warning("%s rejected %d spans: %s", self._name, rejected, message)

    def over(self) -> None:
        """A batch was delivered."""
        if self._failing:
            logger.warning("%s delivers again; %d spans were lost.", self._name, self._lost)
        self._failing = False
        self._lost = 0

    def __repr__(self) -> str:
        return f"<OutageLog {self._name!r} failing={self._failing} lost={self._lost}>"
