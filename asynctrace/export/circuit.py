"""Whether the receiver is worth a request: a pure state machine over times that are handed in.

    closed     batches go out, and each is retried as `RetryPolicy` says
    open       one was given up, or the receiver asked for quiet: nothing goes out until `due`
    half open  one batch probes, in one attempt: an answer closes the circuit, silence opens it
               again for longer

The spans meanwhile wait in the queue, which refuses newcomers when it is full.
"""

from __future__ import annotations

from enum import StrEnum

LONGEST_QUIET = 300.0
"""Seconds. A receiver that asks for more, perhaps by a date of a wrong clock, is probed then."""


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Circuit:
    """Opens for `first` seconds, and twice as long after each probe in vain, up to `longest`."""

    __slots__ = ("_first", "_longest", "_pause", "due", "state", "throttled")

    def __init__(self, *, first: float, longest: float) -> None:
        self._first = first
        self._longest = max(first, longest)
        self._pause = first
        self.state = CircuitState.CLOSED
        self.due = 0.0
        """When the next probe may go out, if the circuit is open."""
        self.throttled = False
        """Whether it is the receiver that asked for the quiet."""

    def wait(self, now: float) -> float:
        """Seconds until a request may go out; 0 when it may at once."""
        return max(0.0, self.due - now) if self.state is CircuitState.OPEN else 0.0

    def admits(self, now: float, *, hurried: bool, closing: bool) -> bool:
        """Whether a request may go out: an open circuit lets one probe through for each flush,
        unless the receiver itself asked for quiet, and one for the shutdown in any case.

        Args:
            now: The time.
            hurried: Whether a flush or the shutdown has begun since the last request.
            closing: Whether the shutdown has begun.
        """
        return not self.wait(now) or (hurried and (closing or not self.throttled))

    def probe(self) -> None:
        """A batch goes out."""
        if self.state is CircuitState.OPEN:
            self.state = CircuitState.HALF_OPEN

    def failed(self, now: float, *, random: float, quiet: float | None = None) -> None:
        """A batch was given up or a probe was in vain: open.

        Args:
            now: The time.
            random: A random number in [0, 1): half of the pause is jitter, so that the processes
                that lost a receiver together do not come back together.
            quiet: The seconds that the receiver asked for, if it did.
        """
        self.state = CircuitState.OPEN
        self.throttled = quiet is not None
        if quiet is not None:
            self.due = now + min(quiet, LONGEST_QUIET)
            return
        self.due = now + self._pause * (0.5 + random / 2)
        self._pause = min(2 * self._pause, self._longest)

    def answered(self) -> None:
        """The receiver took a batch, or refused it for its own sake: it is there. Closed."""
        self.state = CircuitState.CLOSED
        self.throttled = False
        self._pause = self._first

    def __repr__(self) -> str:
        return f"<Circuit {self.state} due={self.due:.3f} pause={self._pause:g}>"
