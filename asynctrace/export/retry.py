"""What to do about a failed export: a pure rule.

Exponential back-off with full jitter, as the OTLP specification asks for
(https://opentelemetry.io/docs/specs/otlp/#otlphttp-throttling); what the receiver asked for by
`Retry-After` takes precedence; nothing is ever planned past the deadline.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

from .contracts import Undelivered


class Action(Enum):
    """What becomes of a batch after an attempt."""

    SETTLE = "settle"
    """It has arrived."""
    RETRY = "retry"
    """The same batch again, after the delay."""
    SPLIT = "split"
    """The same spans in smaller batches."""
    DROP = "drop"
    """A single span, and too large."""
    POSTPONE = "postpone"
    """Kept, until the circuit lets a batch through."""
    GIVE_UP = "give_up"
    """No answer for as long as could be waited; those behind it would fare no better."""
    REFUSE = "refuse"
    """The receiver will never take this batch; it may well take the next."""


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    delay: float = 0.0
    """Seconds, for RETRY."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Back-off between `initial` and `maximum` seconds, growing by `multiplier`."""

    initial: float = 1.0
    maximum: float = 5.0
    multiplier: float = 1.5

    def decide(
        self,
        failure: Undelivered,
        *,
        spans: int,
        attempt: int,
        remaining: float,
        random: float,
        probing: bool = False,
        closing: bool = False,
    ) -> Decision:
        """What to do about `failure`.

        Args:
            failure: What the attempt came to.
            spans: How many are in the batch.
            attempt: How many attempts have been made, 1 after the first.
            remaining: Seconds until the deadline.
            random: A random number in [0, 1), the jitter.
            probing: The attempt was the only one that the circuit allows.
            closing: There will be no other time: a delay that the receiver names is waited for.
        """
        if failure.too_large:
            return Decision(Action.SPLIT if spans > 1 else Action.DROP)
        if not failure.retryable:
            return Decision(Action.REFUSE)
        delay = self.delay(failure, attempt=attempt, remaining=remaining, random=random)
        named = failure.retry_after is not None
        if delay is not None and (not probing or (closing and named)):
            return Decision(Action.RETRY, delay)
        if closing and attempt == 1 and remaining > 0 and not (probing or named):
            # Too late for the back-off, yet a connection that went stale fails just once.
            return Decision(Action.RETRY, remaining / 2 * random)
        # A receiver that asks for more patience than there is time is alive: nothing is lost yet.
        if not closing and (probing or named):
            return Decision(Action.POSTPONE)
        return Decision(Action.GIVE_UP)

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
