"""Spans that have ended and are not bytes yet: bounded, handed on in bursts, by one thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from asynctrace.export.ended import Ended

SPAN = ReadableSpan("span", resource=Resource.get_empty())


def ended(
    queue: Callable[[ReadableSpan], None], *, room: int = 100, burst: int = 4
) -> tuple[Ended, list[None]]:
    refused: list[None] = []

    def queue_burst(spans: deque[ReadableSpan], number: int) -> None:
        for _ in range(number):
            queue(spans.popleft())

    return Ended(queue_burst, lambda: refused.append(None), room=room, burst=burst), refused


def test_a_burst_is_handed_on_in_order() -> None:
    """Nothing is queued before the burst is full, and then all of it."""
    queued: list[ReadableSpan] = []
    spans = [ReadableSpan(str(n), resource=Resource.get_empty()) for n in range(4)]
    buffer, _ = ended(queued.append)
    for span in spans[:3]:
        buffer.add(span)
    assert queued == []
    buffer.add(spans[3])
    assert queued == spans
    assert len(buffer) == 0


def test_no_more_waits_than_there_is_room_for() -> None:
    """What comes beyond it is refused, once each."""
    buffer, refused = ended(lambda _: None, room=3, burst=10)
    for _ in range(5):
        buffer.add(SPAN)
    assert len(buffer) == 3
    assert len(refused) == 2


def test_one_span_is_not_made_to_pay_for_all_others() -> None:
    """Spans that pile up while another thread is at it are shared among those that come."""
    queued: list[ReadableSpan] = []
    buffer, _ = ended(queued.append, burst=1000)
    for _ in range(50):
        buffer.add(SPAN)
    buffer.burst = 4
    buffer.add(SPAN)
    assert len(queued) == 8


def test_a_finalizer_in_the_middle_of_it_waits_for_nothing() -> None:
    """A span that ends while its own thread hands others on is taken along."""
    queued: list[ReadableSpan] = []

    def queue(span: ReadableSpan) -> None:
        queued.append(span)
        if len(queued) == 1:
            buffer.add(SPAN)

    buffer, _ = ended(queue, burst=1)
    buffer.add(SPAN)
    assert len(queued) + len(buffer) == 2
    assert buffer.hand_on()
    assert len(queued) == 2


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_span_in_the_hands_of_another_thread_is_waited_for(finishes: bool) -> None:
    """A flush does not overlook it; nor does it wait past its deadline."""
    entered, leave = threading.Event(), threading.Event()
    queued: list[ReadableSpan] = []

    def queue(span: ReadableSpan) -> None:
        entered.set()
        leave.wait(10)
        queued.append(span)

    buffer, _ = ended(queue, burst=1)
    thread = threading.Thread(target=buffer.add, args=(SPAN,))
    thread.start()
    assert entered.wait(10)
    if finishes:
        threading.Timer(0.05, leave.set).start()
    await buffer.wait_handed_on(time.monotonic() + (10 if finishes else 0.05))
    assert queued == ([SPAN] if finishes else [])
    leave.set()
    thread.join(10)
