"""TracedQueue: an asyncio.Queue to everybody, and right parents for its jobs."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import time
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.context import span
from asynctrace.errors import ConfigError
from asynctrace.worker import TracedLifoQueue, TracedPriorityQueue, TracedQueue
from tests.context.recording import Recording, recording

pytestmark = pytest.mark.usefixtures("quiet")

WAIT_TIME = "asynctrace.queue.wait_time"


async def test_consumer_is_child_of_producer(traced_spans: Recording) -> None:
    """The span of a job is a CONSUMER child of the span that put the item."""
    queue: TracedQueue[str] = TracedQueue()
    with span("request"):
        await queue.put("item")
    with span("worker"):
        async with queue.process("orders") as item:
            assert item == "item"
            with span("work"):
                pass
    made = traced_spans.one("process orders")
    assert made.kind is SpanKind.CONSUMER
    assert traced_spans.parents() == {
        "request": None,
        "process orders": "request",
        "work": "process orders",
        "worker": None,
    }
    waited = dict(made.attributes).pop(WAIT_TIME)
    assert 0 <= waited < 10
    assert made.attributes == {
        "messaging.system": "asyncio",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        WAIT_TIME: waited,
    }


async def test_wait_time(traced_spans: Recording) -> None:
    """Seconds from put to the consumer's entry; the work itself is no part of it."""
    queue: TracedQueue[int] = TracedQueue()
    before = time.monotonic()
    queue.put_nowait(1)
    after = time.monotonic()
    await asyncio.sleep(0.02)
    taking = time.monotonic()
    async with queue.process("jobs"):
        taken = time.monotonic()
        await asyncio.sleep(0.02)
    [made] = traced_spans.spans
    assert taking - after <= made.attributes[WAIT_TIME] <= taken - before


async def test_link_and_no_name(traced_spans: Recording) -> None:
    """relation="link" begins a trace linked to the producer; without a name it is "process"."""
    queue: TracedQueue[int] = TracedQueue()
    with span("request"):
        queue.put_nowait(1)
    async with queue.process(relation="link"):
        pass
    made, request = traced_spans.one("process"), traced_spans.one("request")
    assert made.parent is None
    assert [link.context for link in made.links] == [request.context]
    assert "messaging.destination.name" not in made.attributes


def test_unknown_relation() -> None:
    """It is refused at the call, before anything is waited for."""
    with pytest.raises(ConfigError, match="link"):
        TracedQueue().process(relation="links")  # type: ignore[arg-type]


async def test_worker_started_lazily_by_the_first_request(traced_spans: Recording) -> None:
    """The fault it is for: each job lands in its own request's trace, not in the first one's."""
    queue: TracedQueue[int] = TracedQueue()

    async def work() -> None:
        while True:
            async with queue.process("jobs") as number:
                with span(f"job {number}"):
                    await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    for number in range(3):
        with span(f"request {number}"):
            if not tasks:
                tasks.append(asyncio.create_task(work()))
            await queue.put(number)
        await queue.join()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    trace_of = {made.name: made.context.trace_id for made in traced_spans.spans}
    assert len({trace_of[f"request {number}"] for number in range(3)}) == 3
    for number in range(3):
        assert trace_of[f"job {number}"] == trace_of[f"request {number}"]


async def test_item_put_outside_of_any_span(traced_spans: Recording) -> None:
    """Its job is a trace of its own, also when a span is current in the worker."""
    queue: TracedQueue[int] = TracedQueue()
    queue.put_nowait(1)
    with span("worker"):
        async with queue.process("jobs"):
            assert baggage.get_all() == {}
    made = traced_spans.one("process jobs")
    assert (made.parent, made.links) == (None, ())
    assert made.attributes[WAIT_TIME] >= 0


async def test_baggage_comes_along(traced_spans: Recording) -> None:
    """The producer's baggage is what the job sees, and only there."""
    queue: TracedQueue[int] = TracedQueue()
    token = otel_context.attach(baggage.set_baggage("user", "ann"))
    with span("request"):
        queue.put_nowait(1)
    otel_context.detach(token)
    async with queue.process("jobs"):
        assert baggage.get_all() == {"user": "ann"}
    assert baggage.get_all() == {}


async def test_not_sampled() -> None:
    """The decision of the producer's trace holds for its jobs."""
    queue: TracedQueue[int] = TracedQueue()
    with recording(ALWAYS_OFF) as dropped, span("request") as request:
        queue.put_nowait(1)
        async with queue.process("jobs"):
            current = trace.get_current_span().get_span_context()
            assert current.trace_id == request.get_span_context().trace_id
    assert dropped.names() == []


async def test_failure(traced_spans: Recording) -> None:
    """An exception is the span's error, passes through, and the task is done, once."""
    queue: TracedQueue[int] = TracedQueue()
    queue.put_nowait(1)
    with pytest.raises(KeyError):
        async with queue.process("jobs"):
            raise KeyError("x")
    await queue.join()
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
    assert traced_spans.one("process jobs").status.status_code is StatusCode.ERROR


async def test_cancelled_while_waiting(traced_spans: Recording) -> None:
    """No item is taken, no span made, no task done."""
    queue: TracedQueue[int] = TracedQueue()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), queue.process("jobs"):
            pytest.fail("no item was put")
    queue.put_nowait(1)
    assert queue.qsize() == 1
    async with queue.process("jobs"):
        pass
    await queue.join()
    assert traced_spans.names() == ["process jobs"]


async def test_cancelled_at_work(traced_spans: Recording) -> None:
    """The span says so, and the task is done."""
    queue: TracedQueue[int] = TracedQueue()
    queue.put_nowait(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), queue.process("jobs"):
            await asyncio.Event().wait()
    await queue.join()
    await asyncio.sleep(0)
    attributes = traced_spans.one("process jobs").attributes
    assert attributes["asynctrace.cancellation.reason"] == "scope"


async def test_join_comes_after_the_span(traced_spans: Recording) -> None:
    """Whoever waited for the queue finds every span ended."""
    queue: TracedQueue[int] = TracedQueue()

    async def work() -> None:
        for _ in range(3):
            async with queue.process("jobs"):
                await asyncio.sleep(0)

    worker = asyncio.create_task(work())
    for number in range(3):
        await queue.put(number)
    await queue.join()
    assert traced_spans.names() == ["process jobs"] * 3
    await worker


async def test_nothing_runs() -> None:
    """Without tracing, process is get and task_done, and nothing is stored with an item."""
    queue: TracedQueue[int] = TracedQueue()
    queue.put_nowait(1)
    assert list(queue._queue) == [1]  # type: ignore[attr-defined]
    async with queue.process("jobs") as item:
        assert item == 1
        assert trace.get_current_span() is trace.INVALID_SPAN
    await queue.join()


async def test_spans_are_not_kept(traced_spans: Recording) -> None:
    """An item in the queue keeps neither its producer's span nor its context alive."""
    queue: TracedQueue[int] = TracedQueue()

    class Big:
        pass

    async def produce() -> weakref.ref[Big]:
        big = Big()
        token = otel_context.attach(otel_context.set_value("big", big))
        with span("request"):
            queue.put_nowait(1)
        otel_context.detach(token)
        return weakref.ref(big)

    big = await asyncio.create_task(produce())
    gc.collect()
    assert big() is None
    async with queue.process("jobs"):
        pass
    assert traced_spans.parents()["process jobs"] == "request"


async def test_items_are_not_kept(traced_spans: Recording) -> None:
    """The queue keeps nothing of an item that was taken from it, in whichever way."""

    class Item:
        pass

    queue: TracedQueue[Item] = TracedQueue()
    item = Item()
    reference = weakref.ref(item)
    with span("request"):
        queue.put_nowait(item)
        queue.put_nowait(item)
    del item
    async with queue.process() as taken:
        del taken
    queue.get_nowait()
    gc.collect()
    assert reference() is None


# --- the same as asyncio.Queue -----------------------------------------------------------------

operations = st.lists(
    st.sampled_from(["put", "get", "done", "size", "empty", "full", "repr"]), max_size=30
)


def play(queue: asyncio.Queue[Any], todo: list[str]) -> list[object]:
    """What a user of the queue sees."""
    count = iter(range(1000))
    doings: dict[str, Any] = {
        "put": lambda: queue.put_nowait([next(count)]),
        "get": queue.get_nowait,
        "done": queue.task_done,
        "size": queue.qsize,
        "empty": queue.empty,
        "full": queue.full,
        "repr": lambda: str(queue).replace("Traced", ""),
    }
    seen: list[object] = []
    for number, action in enumerate(todo):
        try:
            if number % 3:
                seen.append(doings[action]())
            else:
                with span("request"):
                    seen.append(doings[action]())
        except Exception as error:
            seen.append(repr(error))
    return seen


@pytest.mark.parametrize(
    ("traced", "plain"),
    [
        (TracedQueue, asyncio.Queue),
        (TracedLifoQueue, asyncio.LifoQueue),
        (TracedPriorityQueue, asyncio.PriorityQueue),
    ],
    ids=["fifo", "lifo", "priority"],
)
@given(maxsize=st.integers(0, 3), todo=operations)
def test_like_asyncio(
    traced: type[asyncio.Queue[Any]], plain: type[asyncio.Queue[Any]], maxsize: int, todo: list[str]
) -> None:
    """Items, order, sizes, errors and repr are those of asyncio's queue, traced or not."""
    expected = play(plain(maxsize), todo)
    assert play(traced(maxsize), todo) == expected
    with recording():
        assert play(traced(maxsize), todo) == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_priorities(puts: list[tuple[int, bool]]) -> None:
    """The smallest item comes first, in the trace that it was put in, if in any."""
    queue: TracedPriorityQueue[int] = TracedPriorityQueue()

    async def take_all() -> list[int]:
        taken = []
        while not queue.empty():
            async with queue.process("jobs") as number:
                taken.append(number)
        return taken

    with recording() as record:
        for number, in_span in puts:
            if in_span:
                with span(f"request {number}"):
                    queue.put_nowait(number)
            else:
                queue.put_nowait(number)
        assert asyncio.run(take_all()) == sorted(number for number, _ in puts)
    jobs = [made for made in record.spans if made.name == "process jobs"]
    assert sum(made.parent is not None for made in jobs) == sum(in_span for _, in_span in puts)
    traces = {s.context.span_id: s.name for s in record.spans}
    for made, number in zip(jobs, sorted(number for number, _ in puts), strict=True):
        assert made.parent is None or traces[made.parent.span_id] == f"request {number}"
        assert made.attributes[WAIT_TIME] >= 0


async def test_waiting_put_and_get(traced_spans: Recording) -> None:
    """A put that waits for room carries the context of its own task."""
    queue: TracedQueue[str] = TracedQueue(1)

    async def produce(name: str) -> None:
        with span(name):
            await queue.put(name)

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(produce(name))
        for _ in range(3):
            async with queue.process("jobs") as item:
                with span(f"job {item}"):
                    pass
    trace_of = {made.name: made.context.trace_id for made in traced_spans.spans}
    assert all(trace_of[name] == trace_of[f"job {name}"] for name in "abc")


def test_genuine_subclass() -> None:
    """isinstance, the constructor and generic aliases are those of asyncio.Queue."""
    queue = TracedQueue[int](maxsize=2)
    assert isinstance(queue, asyncio.Queue)
    assert queue.maxsize == 2
    assert str(inspect.signature(TracedQueue)) == str(inspect.signature(asyncio.Queue))


def test_the_hooks_are_there() -> None:
    """Notices an asyncio whose queues no longer leave storage to their subclasses."""
    for queue in (asyncio.PriorityQueue, asyncio.LifoQueue):
        assert {"_init", "_put", "_get"} <= vars(queue).keys()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Queue.shutdown came with Python 3.13")
async def test_shutdown(traced_spans: Recording) -> None:
    """A queue that is shut down ends its consumers, and immediate shutdown lets join return."""
    queue: Any = TracedQueue()
    with span("request"):
        queue.put_nowait(1)
        queue.put_nowait(2)
    queue.shutdown()
    async with queue.process("jobs") as item:
        assert item == 1
    queue.shutdown(immediate=True)
    await queue.join()
    with pytest.raises(asyncio.QueueShutDown):  # type: ignore[attr-defined]
        async with queue.process("jobs"):
            pass
