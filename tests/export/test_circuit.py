"""The circuit: when requests go out during an outage."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asynctrace.export.circuit import LONGEST_QUIET, Circuit, CircuitState

FIRST, LONGEST = 4.0, 60.0


def circuit() -> Circuit:
    return Circuit(first=FIRST, longest=LONGEST)


def test_it_begins_closed() -> None:
    """Requests go out at once."""
    assert circuit().state is CircuitState.CLOSED
    assert circuit().wait(0.0) == 0.0


def test_a_failure_opens_it_for_a_pause_with_jitter() -> None:
    """Between half of the pause and all of it."""
    for random, wait in ((0.0, 2.0), (0.5, 3.0)):
        it = circuit()
        it.failed(100.0, random=random)
        assert it.state is CircuitState.OPEN
        assert it.wait(100.0) == wait
        assert it.wait(100.0 + wait) == 0.0


def test_pauses_double_up_to_the_longest() -> None:
    """Each probe in vain makes the next one rarer."""
    it = circuit()
    waits = []
    for _ in range(6):
        it.probe()
        it.failed(0.0, random=0.0)
        waits.append(it.wait(0.0) * 2)
    assert waits == [4, 8, 16, 32, 60, 60]


def test_an_answer_closes_it_and_the_next_outage_begins_anew() -> None:
    """The first success ends it; the pauses start from the first again."""
    it = circuit()
    for _ in range(4):
        it.failed(0.0, random=0.0)
    it.probe()
    assert it.state is CircuitState.HALF_OPEN
    it.answered()
    assert it.state is CircuitState.CLOSED
    it.failed(0.0, random=0.0)
    assert it.wait(0.0) == FIRST / 2


def test_the_receivers_own_wish_is_kept_to_the_second() -> None:
    """Without jitter, also when it is shorter than a pause; and it does not lengthen the pauses."""
    it = circuit()
    it.failed(10.0, random=0.9, quiet=0.25)
    assert it.throttled
    assert it.wait(10.0) == 0.25
    it.failed(11.0, random=0.0)
    assert not it.throttled
    assert it.wait(11.0) == FIRST / 2


def test_a_wish_without_end_has_one() -> None:
    """A date of a wrong clock cannot silence a service for ever."""
    it = circuit()
    it.failed(0.0, random=0.0, quiet=1e9)
    assert it.wait(0.0) == LONGEST_QUIET


def test_the_repr_tells_the_state() -> None:
    """One glance in a debugger."""
    it = circuit()
    it.failed(0.0, random=0.0)
    assert repr(it) == "<Circuit open due=2.000 pause=8>"


class CircuitMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: it waits only while open, and never too long."""

    def __init__(self) -> None:
        super().__init__()
        self.it = circuit()
        self.now = 0.0
        self.failures = 0

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.it.wait(self.now) == 0)
    @rule(random=st.floats(0, 1, exclude_max=True), quiet=st.none() | st.floats(0, 1e6))
    def fail(self, random: float, quiet: float | None) -> None:
        self.it.probe()
        self.it.failed(self.now, random=random, quiet=quiet)
        self.failures += 1
        assert self.it.state is CircuitState.OPEN
        assert self.it.throttled is (quiet is not None)

    @rule()
    def answer(self) -> None:
        self.it.answered()
        self.failures = 0

    @rule()
    def send(self) -> None:
        """A flush may send at any time."""
        before = self.it.state
        self.it.probe()
        closed = before is CircuitState.CLOSED
        assert self.it.state is (CircuitState.CLOSED if closed else CircuitState.HALF_OPEN)

    @invariant()
    def waits_are_bounded(self) -> None:
        wait = self.it.wait(self.now)
        assert 0 <= wait <= (LONGEST_QUIET if self.it.throttled else LONGEST) + 1e-6
        if not self.failures:
            assert self.it.state is CircuitState.CLOSED
        if self.it.state is not CircuitState.OPEN:
            assert wait == 0


TestCircuit = CircuitMachine.TestCase
