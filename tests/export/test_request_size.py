"""How large requests are when a receiver has a limit."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from asynctrace.export.request_size import GROW_AFTER, RequestSize


@given(st.integers(2, 10**7), st.integers(1, 10**7))
def test_it_finds_what_the_receiver_takes(size: int, limit: int) -> None:
    """A batch is halved a few times, and then fits: no less than half of what would be taken."""
    it = RequestSize()
    refusals = 0
    while (sent := min(size, it.limit)) > limit:
        it.refused(int(sent))
        refusals += 1
    assert refusals <= math.ceil(math.log2(max(size / limit, 1))) + 1
    assert it.limit >= limit / 2 - 1


def test_without_a_refusal_there_is_no_limit() -> None:
    """What is taken changes nothing."""
    it = RequestSize()
    for _ in range(3 * GROW_AFTER):
        it.taken()
    assert it.limit == math.inf


def test_it_grows_again_after_many_were_taken() -> None:
    """The receiver may be another one by now; a refusal begins the count anew."""
    it = RequestSize()
    it.refused(1000)
    for _ in range(GROW_AFTER - 1):
        it.taken()
    assert it.limit == 500
    it.taken()
    assert it.limit == 1000
    it.taken()
    it.refused(800)
    for _ in range(GROW_AFTER - 1):
        it.taken()
    assert it.limit == 400


def test_the_repr_tells_the_limit() -> None:
    """One glance in a debugger."""
    it = RequestSize()
    assert repr(it) == "<RequestSize limit=inf>"
    it.refused(1000)
    assert repr(it) == "<RequestSize limit=500>"
