"""Worker: tasks that are owned, traced, bounded and drained."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.context import span, stopping
from asynctrace.errors import ConfigError, LifecycleError
from asynctrace.worker import TracedPriorityQueue, TracedQueue, Worker, publish
from tests.context.recording import Recording

REASON = "asynctrace.cancellation.reason"


@dataclass(eq=False)
class Message:
    number: int
    headers: dict[str, str] = field(default_factory=dict)


def sent(number: int) -> Message:
    message = Message(number)
    with publish("orders", message.headers):
        return message


async def messages(count: int) -> AsyncIterator[Message]:
    for number in range(count):
        await asyncio.sleep(0)
        yield sent(number)


async def test_iterator(traced_spans: Recording) -> None:
    """Each message is handled in a task and a CONSUMER span of its own, child of its sender."""
    handled: list[tuple[int, asyncio.Task[Any] | None]] = []

    async def handle(message: Message) -> None:
        handled.append((message.number, asyncio.current_task()))
        with span("work"):
            await asyncio.sleep(0)

    async with Worker(concurrency=2) as worker:
        with span("main's own"):
            await worker.consume(messages(5), handle, name="orders", system="kafka")
        assert (worker.processed, worker.failed, worker.in_flight) == (5, 0, 0)
    assert sorted(number for number, _ in handled) == list(range(5))
    assert len({id(task) for _, task in handled}) == 5
    senders = {s.context.span_id for s in traced_spans.spans if s.name == "publish orders"}
    jobs = [made for made in traced_spans.spans if made.name == "process orders"]
    assert {made.parent.span_id for made in jobs} == senders
    assert {made.kind for made in jobs} == {SpanKind.CONSUMER}
    assert jobs[0].attributes == {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        "messaging.system": "kafka",
    }


async def test_relation_and_carrier(traced_spans: Recording) -> None:
    """The headers are where `carrier` says; relation="link" begins traces that are linked."""

    async def handle(message: tuple[Message, int]) -> None:
        pass

    async def source() -> AsyncIterator[tuple[Message, int]]:
        yield sent(0), 1

    async with Worker() as worker:
        await worker.consume(source(), handle, carrier=lambda m: m[0].headers, relation="link")
    made = traced_spans.one("process")
    assert made.parent is None
    assert made.links[0].context.span_id == traced_spans.one("publish orders").context.span_id


async def test_messages_without_headers(traced_spans: Recording) -> None:
    """They begin traces."""

    async def source() -> AsyncIterator[int]:
        yield 1

    async def handle(number: int) -> None:
        pass

    with span("main's own"):
        async with Worker() as worker:
            await worker.consume(source(), handle)
    assert traced_spans.one("process").parent is None


@pytest.mark.parametrize("make", [TracedQueue, TracedPriorityQueue])
async def test_queue(traced_spans: Recording, make: type[TracedQueue[int]]) -> None:
    """A TracedQueue's items are parented and marked as done."""
    queue = make()
    for number in range(3):
        with span(f"request {number}"):
            queue.put_nowait(number)

    async def handle(number: int) -> None:
        trace.get_current_span().update_name(f"job {number}")

    async with Worker(concurrency=8) as worker:
        consuming = asyncio.create_task(worker.consume(queue, handle))
        await queue.join()
        assert traced_spans.parents() == {
            **{f"request {number}": None for number in range(3)},
            **{f"job {number}": f"request {number}" for number in range(3)},
        }
        worker.stop()
        await consuming


@pytest.mark.skipif(not hasattr(asyncio, "QueueShutDown"), reason="came with Python 3.13")
async def test_queue_that_is_shut_down() -> None:
    """It ends the consuming, when what it holds is done."""
    queue: Any = TracedQueue()
    queue.put_nowait(1)
    queue.shutdown()

    async def handle(number: int) -> None:
        pass

    async with Worker() as worker:
        await worker.consume(queue, handle)
        assert worker.processed == 1


async def test_concurrency() -> None:
    """Up to so many at once, and no message is taken that nobody is free for."""
    at_once = most = taken = 0

    async def source() -> AsyncIterator[int]:
        nonlocal taken
        for taken in range(1, 21):
            yield taken

    async def handle(number: int) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        assert taken <= number + 3
        await asyncio.sleep(0)
        at_once -= 1

    async with Worker(concurrency=3) as worker:
        await worker.consume(source(), handle)
    assert (most, worker.processed) == (3, 20)


async def test_failures_are_told_and_others_go_on(traced_spans: Recording) -> None:
    """By the span, the counter and the loop's exception handler."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def handle(message: Message) -> None:
        if message.number == 1:
            raise KeyError("bad")

    async with Worker() as worker:
        await worker.consume(messages(3), handle, name="orders")
    asyncio.get_running_loop().set_exception_handler(None)
    assert (worker.processed, worker.failed) == (2, 1)
    [context] = told
    assert isinstance(context["exception"], KeyError)
    failed = [s for s in traced_spans.spans if s.status.status_code is StatusCode.ERROR]
    assert [made.attributes["error.type"] for made in failed] == ["KeyError"]


class Signal(BaseException):
    """Some library's control flow, that nobody catches."""


@pytest.mark.parametrize(
    "error", [Signal(), BaseExceptionGroup("both", [Signal(), ValueError("x")])], ids=repr
)
async def test_failure_that_is_no_exception(error: BaseException) -> None:
    """It is counted and told like any other, not left for the garbage collector to find."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def handle(message: Message) -> None:
        if message.number == 1:
            raise error

    async with Worker() as worker:
        await worker.consume(messages(3), handle)
    gc.collect()
    asyncio.get_running_loop().set_exception_handler(None)
    assert (worker.processed, worker.failed, worker.cancelled) == (2, 1, 0)
    assert [context["exception"] for context in told] == [error]
    assert "could not be processed" in told[0]["message"]


async def test_failure_is_told_in_its_span(traced_spans: Recording) -> None:
    """So that the log line of it has the ids of the message's trace."""
    told: list[int] = []

    def note(loop: object, context: object) -> None:
        told.append(trace.get_current_span().get_span_context().span_id)

    asyncio.get_running_loop().set_exception_handler(note)

    async def fail(message: Message) -> None:
        raise KeyError("bad")

    async with Worker() as worker:
        await worker.consume(messages(1), fail, name="orders")
    asyncio.get_running_loop().set_exception_handler(None)
    assert told == [traced_spans.one("process orders").context.span_id]


async def test_poison() -> None:
    """A message of which not even a span can be made fails alone, and is told."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: told.append(c["exception"]))
    handled: list[int] = []

    async def handle(message: Message) -> None:
        handled.append(message.number)

    def carrier(message: Message) -> dict[str, str]:
        if message.number == 1:
            raise UnicodeError("not a header")
        return message.headers

    async with Worker() as worker:
        await worker.consume(messages(3), handle, carrier=carrier)
    asyncio.get_running_loop().set_exception_handler(None)
    assert (handled, worker.processed, worker.failed) == ([0, 2], 2, 1)
    assert [str(error) for error in told] == ["not a header"]


async def test_error_of_the_source() -> None:
    """consume raises it, when the handlers at work are done."""
    done: list[int] = []

    async def source() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("gone")

    async def handle(number: int) -> None:
        await asyncio.sleep(0.01)
        done.append(number)

    async with Worker(concurrency=2) as worker:
        with pytest.raises(ConnectionError, match="gone"):
            await worker.consume(source(), handle)
        assert done == [1]


async def hang(number: int) -> None:
    await asyncio.Event().wait()


async def test_drain(traced_spans: Recording) -> None:
    """stop() ends the intake; who is late is cancelled after drain_timeout, and says why."""
    queue: TracedQueue[float] = TracedQueue()
    for seconds in (0.05, 60.0, 0.0):
        queue.put_nowait(seconds)

    async def handle(seconds: float) -> None:
        if queue.qsize() != 1:
            return
        assert not stopping()
        worker.stop()
        assert stopping()
        await asyncio.sleep(seconds)

    async with Worker(concurrency=1, drain_timeout=0.05) as worker:
        await worker.consume(queue, handle, name="jobs")
        told = "<Worker stopping, 0 of 1 at work, processed=1 failed=0 cancelled=1>"
        assert repr(worker) == told
    assert queue.qsize() == 1
    first, second = traced_spans.spans
    assert REASON not in first.attributes
    assert second.attributes[REASON] == "shutdown"
    queue.get_nowait()
    queue.task_done()
    await queue.join()  # the one that was cancelled was marked as done


async def test_leaving_drains() -> None:
    """Leaving the block ends the intake, and waits for the handlers."""
    queue: TracedQueue[int] = TracedQueue()
    done: list[int] = []

    async def handle(number: int) -> None:
        await asyncio.sleep(0.02)
        done.append(number)

    async with Worker(concurrency=2) as worker:
        consuming = asyncio.create_task(worker.consume(queue, handle))
        queue.put_nowait(1)
        while not worker.in_flight:
            await asyncio.sleep(0)
    assert done == [1]
    await consuming


async def test_cancelled(traced_spans: Recording) -> None:
    """Left by a cancellation, it cancels at once; no task outlives the block."""
    queue: TracedQueue[int] = TracedQueue()
    queue.put_nowait(1)

    async def main() -> None:
        async with Worker(drain_timeout=60) as worker:
            workers.append(worker)
            await worker.consume(queue, hang, name="jobs")

    workers: list[Worker] = []
    task = asyncio.create_task(main())
    while not (workers and workers[0].in_flight):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert traced_spans.one("process jobs").attributes[REASON] == "shutdown"


async def test_cancelled_while_draining() -> None:
    """A cancellation ends the patience."""
    queue: TracedQueue[int] = TracedQueue()
    queue.put_nowait(1)
    draining = asyncio.Event()

    async def main() -> None:
        async with Worker(drain_timeout=60) as worker:
            consuming.append(asyncio.create_task(worker.consume(queue, hang)))
            while not worker.in_flight:
                await asyncio.sleep(0)
            draining.set()

    consuming: list[asyncio.Task[None]] = []
    task = asyncio.create_task(main())
    await draining.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task, *consuming})
    assert task.cancelled()


async def test_consume_that_is_cancelled_leaves_handlers_alone() -> None:
    """A time-out around consume ends the intake, not the messages at work."""
    queue: TracedQueue[int] = TracedQueue()
    queue.put_nowait(1)
    done: list[int] = []

    async def handle(number: int) -> None:
        await asyncio.sleep(0.05)
        done.append(number)

    async with Worker() as worker:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await worker.consume(queue, handle)
        assert worker.in_flight == 1
    assert done == [1]


async def test_consume_after_stop() -> None:
    """Nothing is taken in any more."""
    queue: TracedQueue[int] = TracedQueue()
    queue.put_nowait(1)
    async with Worker() as worker:
        worker.stop()
        await worker.consume(queue, hang)
    assert queue.qsize() == 1


async def test_source_that_swallows_cancellations() -> None:
    """It is asked for no more, whether the worker is stopped or only the consuming cancelled."""
    taken = 0

    async def source() -> AsyncIterator[int]:
        nonlocal taken
        while True:
            taken += 1
            try:
                await asyncio.sleep(0 if taken < 3 else 60)
            except asyncio.CancelledError:
                pass
            yield taken

    async def handle(number: int) -> None:
        pass

    async with Worker() as worker:
        consuming = asyncio.create_task(worker.consume(source(), handle))
        while taken < 3:
            await asyncio.sleep(0)
        consuming.cancel()
        while worker._intakes or worker.in_flight:
            await asyncio.sleep(0)
        assert (taken, worker.processed) == (3, 3)
        taken = 0
        consuming = asyncio.create_task(worker.consume(source(), handle))
        while taken < 3:
            await asyncio.sleep(0)
        worker.stop()
        await consuming
    assert (taken, worker.processed) == (3, 6)


async def test_last_message_of_a_source_that_swallows_its_cancellation() -> None:
    """It is taken, so it is processed, and the block waits for that, too."""
    done: list[int] = []
    waiting = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        yield 2

    async def handle(number: int) -> None:
        await asyncio.sleep(0.02)
        done.append(number)

    async with Worker() as worker:
        consuming = asyncio.create_task(worker.consume(source(), handle))
        await waiting.wait()
    assert done == [1, 2]
    assert worker.in_flight == 0
    await consuming


async def test_message_that_comes_after_the_cut(traced_spans: Recording) -> None:
    """It is too late for it: it is counted as cancelled, and nothing outlives the block."""

    async def source() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        yield 1

    async def main() -> None:
        async with Worker(drain_timeout=60) as worker:
            workers.append(worker)
            await worker.consume(source(), hang)

    workers: list[Worker] = []
    task = asyncio.create_task(main())
    while not (workers and workers[0]._intakes):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (workers[0].cancelled, traced_spans.names()) == (1, [])


async def test_source_that_is_cancelled_by_others() -> None:
    """Its CancelledError is raised: it did not come to its end, whatever consume would say."""

    async def source() -> AsyncIterator[int]:
        yield 1
        connection = asyncio.get_running_loop().create_future()
        connection.cancel()
        await connection

    async def handle(number: int) -> None:
        pass

    async with Worker() as worker:
        with pytest.raises(asyncio.CancelledError):
            await worker.consume(source(), handle)
        assert worker.processed == 1


async def test_foreign_cancellation(traced_spans: Recording) -> None:
    """A handler that ends by one which is not the worker's is counted; the others go on."""
    other = asyncio.get_running_loop().create_future()
    other.cancel()

    async def handle(message: Message) -> None:
        if message.number == 1:
            await other

    async with Worker() as worker:
        await worker.consume(messages(3), handle, name="orders")
        assert (worker.processed, worker.failed, worker.cancelled) == (2, 0, 1)
    reasons = [s.attributes.get(REASON) for s in traced_spans.spans if s.kind is SpanKind.CONSUMER]
    assert sorted(reasons, key=str) == [None, None, "cancelled"]


async def test_generator_is_closed() -> None:
    """A source that is a generator cleans up when the worker stops, not some time later."""
    events: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(9):
                yield number
        finally:
            await asyncio.sleep(0)
            events.append("closed")

    async def handle(number: int) -> None:
        worker.stop()
        await asyncio.sleep(0.01)
        events.append(f"handled {number}")

    generator = source()  # referred to, so that nobody else closes it
    async with Worker() as worker:
        await worker.consume(generator, handle)
        events.append("consumed")
    assert events == ["closed", "handled 0", "consumed"]


async def test_every_message_is_counted() -> None:
    """Those that were taken are processed, failed or cancelled; also those that never began."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
    queue: TracedQueue[int] = TracedQueue()
    for number in range(12):
        queue.put_nowait(number)

    async def handle(number: int) -> None:
        if number % 3 == 1:
            raise KeyError(number)
        await asyncio.sleep(0 if number % 3 else 60)

    async with Worker(concurrency=8, drain_timeout=0) as worker:
        consuming = asyncio.create_task(worker.consume(queue, handle))
        while queue.qsize() > 2:
            await asyncio.sleep(0)
    await consuming
    asyncio.get_running_loop().set_exception_handler(None)
    counted = worker.processed + worker.failed + worker.cancelled
    assert counted == 12 - queue.qsize()
    assert worker.cancelled >= 3


async def test_misuse() -> None:
    """Settings are refused by name; it is entered once, before it is used."""
    for name, values in (
        ("concurrency", (0, 1.5, "2", None)),
        ("drain_timeout", (-1.0, float("nan"), float("inf"), "5")),
    ):
        for value in values:
            with pytest.raises(ConfigError) as caught:
                Worker(**{name: value})  # type: ignore[arg-type]
            assert caught.value.setting == name
    worker = Worker()
    assert "not entered" in repr(worker)
    with pytest.raises(LifecycleError):
        worker.stop()
    async with worker:
        assert "open" in repr(worker)
        with pytest.raises(ConfigError, match="link"):
            await worker.consume(messages(1), hang, relation="sibling")  # type: ignore[arg-type]
    with pytest.raises(LifecycleError):
        await worker.__aenter__()


async def test_nothing_is_kept(traced_spans: Recording) -> None:
    """Messages, spans and tasks of 1,000 jobs are gone with them."""
    alive: weakref.WeakSet[Message] = weakref.WeakSet()
    most = 0

    async def handle(message: Message) -> None:
        nonlocal most
        alive.add(message)
        most = max(most, len(alive))

    async with Worker(concurrency=4) as worker:
        await worker.consume(messages(1000), handle)
        gc.collect()
        assert len(alive) == 0
    assert most < 50
    assert traced_spans.tracer_provider.open_spans() == ()
