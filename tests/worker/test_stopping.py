"""run() that is asked to stop: the order of events, exit codes, and the spans that arrive."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from asynctrace.context import span, stopping
from asynctrace.context.stopping import Stop
from asynctrace.worker import process, run
from tests.worker.programs import Collector, collector, outcome, program

REASON = "asynctrace.cancellation.reason"


@pytest_asyncio.fixture
async def collecting() -> AsyncIterator[Collector]:
    async with collector() as found:
        yield found


@pytest.mark.parametrize("loop_factory", ["None", "uvloop.new_event_loop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stopping(collecting: Collector, number: int, loop_factory: str) -> None:
    """A program that awaits stopping() ends by itself: nothing of it is cancelled."""
    if loop_factory != "None":
        pytest.importorskip("uvloop")
    async with program(
        f"""
        if {loop_factory!r} != "None":
            import uvloop

        async def main():
            assert not asynctrace.stopping()
            with asynctrace.span("job"):
                say("ready")
                await asynctrace.stopping()
                assert asynctrace.stopping()
                assert await asyncio.to_thread(lambda: bool(asynctrace.stopping()))
                await asyncio.sleep(0.05)
                say("done")

        asynctrace.run(main(), loop_factory={loop_factory})
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    ) as running:
        await running.line("ready")
        running.send(number)
        assert await running.end() == (128 + number, ["ready", "done"], "")
    assert collecting.one("job").attributes == {}


async def test_answer() -> None:
    """A value that main returns after the signal is its answer; an exception is raised."""
    source = """
        async def main():
            kill_me(signal.SIGTERM)
            await asynctrace.stopping()
            {answer}

        raise SystemExit(asynctrace.run(main, exporter="none"))
        """
    assert await outcome(source.format(answer="return 0")) == (0, [], "")
    code, _, err = await outcome(source.format(answer="raise OSError('x')"))
    assert (code, err.splitlines()[-1]) == (1, "OSError: x")


async def test_program_that_asks_but_does_not_end(collecting: Collector) -> None:
    """After drain_timeout, and not before, it is cancelled, which its spans say; it cleans up."""
    async with program(
        """
        async def main():
            assert not asynctrace.stopping()
            with asynctrace.span("job"):
                try:
                    await forever()
                finally:
                    await asyncio.sleep(0.05)
                    say("cleaned up")

        asynctrace.run(main, drain_timeout=0.3)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    ) as running:
        await running.line("ready")
        asked = time.monotonic()
        running.send(signal.SIGTERM)
        assert await running.end() == (143, ["ready", "cleaned up"], "")
        assert time.monotonic() - asked >= 0.35
    assert collecting.one("job").attributes == {REASON: "shutdown"}


QUEUE = """
    async def consume(queue):
        while True:
            async with queue.process("jobs") as (number, seconds):
                say("begin", number)
                await asyncio.sleep(seconds)
                say("end", number)

    async def main():
        queue = asynctrace.TracedQueue()
        for number, seconds in enumerate({seconds}):
            with asynctrace.span(f"request {{number}}"):
                queue.put_nowait((number, seconds))
        async with asyncio.TaskGroup() as group:
            group.create_task(consume(queue))
            group.create_task(consume(queue))

    asynctrace.run(main, drain_timeout={drain_timeout})
    """


async def test_messages_in_flight_end(collecting: Collector) -> None:
    """Intake stops, the messages at work are finished, then all is cancelled: at once, not late."""
    source = QUEUE.format(seconds=[0.3, 0.4, 0.1, 0.1], drain_timeout=30)
    async with program(source, OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url) as running:
        await running.line("begin 1")
        running.send(signal.SIGTERM)
        assert await running.end() == (143, ["begin 0", "begin 1", "end 0", "end 1"], "")
    jobs = [made for made in collecting.spans if made.name == "process jobs"]
    assert len(jobs) == 2
    assert all(REASON not in made.attributes for made in jobs)
    requests = {collecting.one(f"request {number}").span_id for number in (0, 1)}
    assert {made.parent_span_id for made in jobs} == requests


async def test_messages_that_take_too_long(collecting: Collector) -> None:
    """What is not finished after drain_timeout is cancelled, and marked so."""
    source = QUEUE.format(seconds=[0.1, 60], drain_timeout=0.5)
    async with program(source, OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url) as running:
        await running.line("begin 1")
        running.send(signal.SIGTERM)
        assert await running.end() == (143, ["begin 0", "begin 1", "end 0"], "")
    jobs = [made for made in collecting.spans if made.name == "process jobs"]
    assert sorted(made.attributes.get(REASON, "") for made in jobs) == ["", "shutdown"]


async def test_messages_of_tasks_beside_main() -> None:
    """They may end, too, when main is over, signal or not."""
    code, lines, err = await outcome(
        """
        async def consume():
            with asynctrace.process({}, "orders"):
                say("begin")
                await asyncio.sleep(0.2)
                say("end")

        async def main():
            global task
            task = asyncio.create_task(consume())
            await asyncio.sleep(0)

        asynctrace.run(main, exporter="none")
        """
    )
    assert (code, lines, err) == (0, ["begin", "end"], "")


async def test_second_signal_during_the_drain() -> None:
    """It is obeyed at once, whatever is in flight."""
    async with program(
        """
        async def main():
            with asynctrace.process({}, "orders"):
                await forever()

        async def watch():
            await asynctrace.stopping()
            say("stopping")

        async def both():
            await asyncio.gather(main(), watch())

        asynctrace.run(both, exporter="none", drain_timeout=60)
        """
    ) as running:
        await running.line("ready")
        running.send(signal.SIGTERM)
        await running.line("stopping")
        running.send(signal.SIGINT)
        assert await running.end() == (-signal.SIGINT, ["ready", "stopping"], "")


async def test_worker(collecting: Collector) -> None:
    """A Worker's intake stops, its handlers finish, the late ones are cancelled; then main ends."""
    async with program(
        """
        async def source():
            number = 0
            while True:
                yield number
                number += 1

        async def handle(number):
            say("begin", number)
            await asyncio.sleep(60 if number == 1 else 0.2)
            say("end", number)

        async def main():
            async with asynctrace.worker.Worker(concurrency=2) as worker:
                try:
                    await worker.consume(source(), handle, name="orders")
                finally:
                    say("consumed")
            say("not said: main is cancelled, too")

        asynctrace.run(main, drain_timeout=0.6)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    ) as running:
        await running.line("begin 1")
        running.send(signal.SIGTERM)
        lines = ["begin 0", "begin 1", "end 0", "consumed"]
        assert await running.end() == (143, lines, "")
    reasons = [made.attributes.get(REASON) for made in collecting.spans]
    assert sorted(reasons, key=str) == [None, "shutdown"]
    assert collecting.names() == ["process orders"] * 2


def test_parts() -> None:
    """A request for the whole is one for each part; that for a part concerns no other."""
    whole = Stop()
    part, other = whole.part(), whole.part()
    part.begin(message := object())
    part.request()
    part.cut()
    assert (part.requested, part.cancels) == (True, True)
    assert (other.requested, whole.requested, whole.cancels) == (False, False, False)
    assert whole.in_flight == 1
    assert repr(whole) == "<Stop not requested, 1 in flight>"
    whole.request()
    whole.request()
    whole.close_intake()
    assert other.requested
    assert other.intake_closed
    assert repr(other) == "<Stop requested, 0 in flight>"
    assert repr(part) == "<Stop cancels, 1 in flight>"
    idle: list[int] = []
    whole.on_idle = lambda: idle.append(whole.in_flight)
    part.end(message)
    part.end(message)  # again: nothing happens
    assert set(idle) == {0}
    whole.end_part(other)
    assert whole.part().requested


async def test_nobody_can_ask() -> None:
    """Outside of run() it is false, and waits for ever."""
    assert not stopping()
    assert repr(stopping()) == "<not stopping>"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stopping()


def test_in_process() -> None:
    """The same as the programs above, where its state can be looked at."""
    seen: list[object] = []

    async def main() -> None:
        seen.append(repr(stopping()))
        with process(None, "orders"), span("work"):
            os.kill(os.getpid(), signal.SIGTERM)
            await stopping()
            seen.append(repr(stopping()))
            await asyncio.sleep(0)

    with pytest.raises(SystemExit) as caught:
        run(main, exporter="none")
    assert caught.value.code == 143
    assert seen == ["<not stopping>", "<stopping>"]
