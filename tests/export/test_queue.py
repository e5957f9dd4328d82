"""The queue between `Span.end` and the drain task."""

from __future__ import annotations

import math
import threading
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asynctrace.export.contracts import Item, SpanDropReason
from asynctrace.export.queue import AtomicCounter, SpanQueue


def item(data: bytes = b"span") -> Item:
    return None, data, None


class QueueMachine(RuleBasedStateMachine):
    """The queue against a plain deque: order, bounds, sequence numbers, bytes, counts."""

    MAX_SPANS = 5
    MAX_BYTES = 60

    def __init__(self) -> None:
        super().__init__()
        self.queue = SpanQueue(max_spans=self.MAX_SPANS, max_bytes=self.MAX_BYTES)
        self.model: deque[Item] = deque()
        self.taken: list[Item] = []
        self.arrived = 0
        self.refused: dict[str, int] = {}

    @rule(size=st.integers(0, 40))
    def arrive(self, size: int) -> None:
        size_now = sum(len(data) for _, data, _ in self.model)
        if self.queue.closed:
            reason = SpanDropReason.CLOSED
        elif len(self.model) >= self.MAX_SPANS:
            reason = SpanDropReason.QUEUE_FULL
        elif size_now >= self.MAX_BYTES:
            reason = SpanDropReason.QUEUE_BYTES
        else:
            assert self.queue.admits()
            new = item(bytes(size))
            self.model.append(new)
            self.arrived += 1
            assert self.queue.append(new) == len(self.model)
            return
        assert not self.queue.admits()
        self.refused[reason] = self.refused.get(reason, 0) + 1

    @rule(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8))
    def arrive_together(self, sizes: list[int]) -> None:
        """A burst: as many as there is room for, of those what the bytes allow."""
        room = self.queue.room(len(sizes))
        size_now = sum(len(data) for _, data, _ in self.model)
        if self.queue.closed or size_now >= self.MAX_BYTES:
            assert room == 0
        else:
            assert room == min(len(sizes), self.MAX_SPANS - len(self.model))
        burst = [item(bytes(size)) for size in sizes[:room]]
        for new in burst:
            if size_now >= self.MAX_BYTES:
                reason = SpanDropReason.QUEUE_BYTES
                self.refused[reason] = self.refused.get(reason, 0) + 1
            else:
                self.model.append(new)
                self.arrived += 1
                size_now += len(new[1])
        assert self.queue.extend(burst) == len(self.model)

    @rule()
    def refuse_after_all(self) -> None:
        self.queue.refuse(SpanDropReason.ENCODING)
        self.refused["encoding"] = self.refused.get("encoding", 0) + 1

    @precondition(lambda self: not self.taken)
    @rule(limit=st.integers(0, 7), max_bytes=st.just(math.inf) | st.integers(0, 100))
    def take(self, limit: int, max_bytes: float) -> None:
        self.taken = self.queue.take(limit, max_bytes)
        expected: list[Item] = []
        size = 0
        while self.model and len(expected) < limit:
            size += len(self.model[0][1])
            if expected and size > max_bytes:
                break
            expected.append(self.model.popleft())
        assert [id(x) for x in self.taken] == [id(x) for x in expected]

    @precondition(lambda self: self.taken)
    @rule(back=st.booleans())
    def settle(self, back: bool) -> None:
        if back:
            self.queue.put_back(self.taken)
            self.model.extendleft(reversed(self.taken))
        self.taken = []

    @rule()
    def close(self) -> None:
        self.queue.closed = True

    @invariant()
    def figures_agree(self) -> None:
        queue = self.queue
        assert len(queue) == len(self.model)
        assert queue.bytes == sum(len(data) for _, data, _ in self.model)
        assert queue.sequence == queue.taken + len(queue) == self.arrived
        assert queue.refused == self.refused


TestQueueAgainstModel = QueueMachine.TestCase
TestQueueAgainstModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_threads_append_without_losing_a_span() -> None:
    """Four threads append while one takes: every span comes out once, in its thread's order."""
    queue = SpanQueue(max_spans=10**6, max_bytes=10**9)
    each = 3000
    items = [[item(b"%d" % number) for number in range(each)] for _ in range(4)]
    homes = {id(one): number for number, own in enumerate(items) for one in own}
    started = threading.Barrier(5)

    def append(own: list[Item]) -> None:
        started.wait()
        for one in own:
            assert queue.admits()
            queue.append(one)

    threads = [threading.Thread(target=append, args=(own,)) for own in items]
    for thread in threads:
        thread.start()
    started.wait()
    out: list[Item] = []
    while any(thread.is_alive() for thread in threads) or len(queue):
        out += queue.take(100)
    for thread in threads:
        thread.join()
    assert len(out) == queue.sequence == queue.taken == 4 * each
    for number, own in enumerate(items):
        assert [id(x) for x in out if homes[id(x)] == number] == [id(x) for x in own]
    assert queue.bytes == 0


def test_threads_that_append_at_once_overshoot_by_one_each_at_most() -> None:
    """The bound holds up to one span per thread, and what was refused is counted."""
    queue = SpanQueue(max_spans=100, max_bytes=10**9)
    started = threading.Barrier(4)
    kept = AtomicCounter()

    def append() -> None:
        started.wait()
        for _ in range(1000):
            if queue.admits():
                queue.append(item())
                kept.increment()

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 100 <= len(queue) <= 103
    assert kept.read() == len(queue)
    assert queue.refused == {SpanDropReason.QUEUE_FULL: 4000 - len(queue)}


@given(st.lists(st.sampled_from(["up", "read"]), max_size=50))
def test_reading_a_counter_does_not_count(steps: list[str]) -> None:
    """However often it is read, it says how often it was counted up."""
    counter = AtomicCounter()
    expected = 0
    for step in steps:
        if step == "up":
            counter.increment()
            expected += 1
        else:
            assert counter.read() == expected
    assert repr(counter) == f"<AtomicCounter {expected}>"


def test_the_repr_tells_how_full_it_is() -> None:
    """One glance in a debugger."""
    queue = SpanQueue(max_spans=10, max_bytes=100)
    queue.append(item(b"12345"))
    assert repr(queue) == "<SpanQueue 1/10 spans, 5 bytes>"
