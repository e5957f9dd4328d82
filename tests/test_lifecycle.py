"""The table of states: what is allowed moves, what is not changes nothing."""

from __future__ import annotations

import itertools

import pytest

from asynctrace._lifecycle import MOVES, Lifecycle, State
from asynctrace.errors import LifecycleError

_ROADS = {
    State.NEW: (),
    State.STARTING: (State.STARTING,),
    State.RUNNING: (State.STARTING, State.RUNNING),
    State.DRAINING: (State.STARTING, State.RUNNING, State.DRAINING),
    State.CLOSED: (State.STARTING, State.RUNNING, State.DRAINING, State.CLOSED),
    State.FAILED: (State.STARTING, State.FAILED),
}


def _lifecycle_in(state: State) -> Lifecycle:
    lifecycle = Lifecycle("worker's tracing")
    for step in _ROADS[state]:
        lifecycle.move(step)
    return lifecycle


def test_every_state_has_a_row() -> None:
    """No state is forgotten in the table, and each can be reached."""
    assert set(MOVES) == set(State) == set(_ROADS)
    assert all(_lifecycle_in(state).state is state for state in State)


@pytest.mark.parametrize(("start", "to"), list(itertools.product(State, State)))
def test_moves_follow_the_table(start: State, to: State) -> None:
    """A listed move is made; any other raises, names both states, and changes nothing."""
    lifecycle = _lifecycle_in(start)
    if to in MOVES[start]:
        lifecycle.move(to)
        assert lifecycle.state is to
    else:
        with pytest.raises(
            LifecycleError, match=f"worker's .* {start.value} .* {to.value}"
        ) as info:
            lifecycle.move(to)
        assert lifecycle.state is start
        assert info.value.hint


def test_closed_is_final_and_a_failed_start_is_not() -> None:
    """After the end there is nothing; after a failed start there is another try."""
    assert not MOVES[State.CLOSED]
    assert MOVES[State.FAILED] == {State.STARTING}


def test_require_lets_only_the_named_states_pass() -> None:
    """A call that needs a running tracing says what to do when there is none."""
    lifecycle = _lifecycle_in(State.RUNNING)
    lifecycle.require(State.RUNNING, State.DRAINING)
    with pytest.raises(LifecycleError, match="is running"):
        lifecycle.require(State.NEW)


def test_repr_tells_the_state() -> None:
    """One look at the object says where it is."""
    assert repr(_lifecycle_in(State.DRAINING)) == "<Lifecycle worker's tracing draining>"
