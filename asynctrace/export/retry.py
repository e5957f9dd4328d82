"""When a failed export is tried again: a pure rule.

Exponential back-off with full jitter, as the OTLP specification asks for
(https://opentelemetry.io/docs/specs/otlp/#otlphttp-throttling); what the receiver asked for by
`Retry-After` takes precedence; nothing is ever planned past the deadline.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from .contracts import Undelivered


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Back-off between `initial` and `maximum` seconds, growing by `multiplier`."""

    initial: float = 1.0
    maximum: float = 5.0
    multiplier: float = 1.5

    def delay(
        self, failure: Undelivered, *, attempt: int, remaining: float, random: float
    ) -> float | None:
        """Seconds to wait before the next attempt, or None when there is to be none.

        Args:
            failure: What the attempt came to.
            attempt: How many attempts have been made, 1 after the first.
            remaining: Seconds until the deadline.
            random: A random number in [0, 1), the jitter.
        """
        if not failure.retryable:
            return None
        if failure.retry_after is not None:
            wait = failure.retry_after
        else:
            ceiling = self.initial * self.multiplier ** min(attempt - 1, 64)
            wait = min(ceiling, self.maximum) * random
        return wait if wait < remaining else None


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """`Retry-After` in both its forms, as seconds from `now` (seconds since the epoch).

    RFC 9110, section 10.2.3: delay-seconds or an HTTP-date. None when absent or unreadable; a date
    in the past is 0.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # More digits than any useful delay has: int() would be slow, float() infinite.
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)
