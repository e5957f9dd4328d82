"""The states of a ``Tracing`` and the moves between them, as one table.

::

    NEW ──▶ STARTING ──▶ RUNNING ──▶ DRAINING ──▶ CLOSED
              │   ▲                     ▲
              ▼   │                     │
             FAILED        STARTING ────┘   closed while it was starting

Two rules say what belongs here: a state is listed only if some call behaves differently in it, and
whatever must be done on a move is done by whoever moves. CLOSED is final because a ``Tracing`` has
one report; the next life is another object.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from asynctrace.errors import LifecycleError

__all__ = ["MOVES", "Lifecycle", "State"]


class State(enum.Enum):
    """Where a ``Tracing`` is in its life."""

    NEW = "new"  # described, nothing created
    STARTING = "starting"  # spans are recorded, nothing is sent before the resource is known
    RUNNING = "running"
    DRAINING = "draining"  # no new spans are accepted, what is queued is being sent
    CLOSED = "closed"
    FAILED = "failed"  # the start did not succeed and left nothing open; it may be tried again


MOVES: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.NEW: frozenset({State.STARTING}),
        State.STARTING: frozenset({State.RUNNING, State.FAILED, State.DRAINING}),
        State.RUNNING: frozenset({State.DRAINING}),
        State.DRAINING: frozenset({State.CLOSED}),
        State.CLOSED: frozenset(),
        State.FAILED: frozenset({State.STARTING}),
    }
)

_HINTS: Final[Mapping[State, str]] = MappingProxyType(
    {
        State.NEW: "start it first, with `await` or `async with`",
        State.STARTING: "await the start that is under way",
        State.RUNNING: "it runs already; use it, or shut it down first",
        State.DRAINING: "await the shutdown that is under way",
        State.CLOSED: "a closed one stays closed; call asynctrace.init() for a new one",
        State.FAILED: "its start failed and may be tried again",
    }
)


class Lifecycle:
    """The present state of one object, changed only along ``MOVES``.

    It takes no lock: one owner moves it, any thread may read it.
    """

    __slots__ = ("_state", "_subject")

    def __init__(self, subject: str = "tracing") -> None:
        self._subject = subject
        self._state = State.NEW

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    def move(self, to: State) -> None:
        """Go to the state ``to``.

        Raises LifecycleError, and changes nothing, when ``MOVES`` does not allow it.
        """
        if to not in MOVES[self._state]:
            raise LifecycleError(
                f"{self._subject} is {self._state.value} and cannot become {to.value}",
                hint=_HINTS[self._state],
            )
        self._state = to

    def require(self, *allowed: State) -> None:
        """Raise LifecycleError unless the present state is one of ``allowed``."""
        if self._state not in allowed:
            raise LifecycleError(
                f"{self._subject} is {self._state.value}",
                hint=_HINTS[self._state],
            )

    def __repr__(self) -> str:
        return f"<Lifecycle {self._subject} {self._state.value}>"
