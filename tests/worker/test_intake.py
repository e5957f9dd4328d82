"""run() that is asked to stop: who gets no further message, who is waited for, and who is not."""

from __future__ import annotations

import signal
import time

import pytest

from tests.worker.programs import Program, collector, outcome, program

LONG = 60  # seconds of drain_timeout, of which nobody is to need any
SOON = 15.0  # seconds; processes start slowly on a machine that is busy


async def ends_soon(running: Program, *lines: str) -> None:
    """The program, asked to stop, ends long before its drain_timeout, after these lines."""
    asked = time.monotonic()
    running.send(signal.SIGTERM)
    assert await running.end() == (143, list(lines), "")
    assert time.monotonic() - asked < SOON


CONSUMERS = """
    async def consume(queue):
        while {condition}:
            async with queue.process("jobs") as number:
                say("begin", number)
                await {work}
                queue.put_nowait(number + 1)
                await asyncio.sleep(0.05)
                say("end", number)
    """


@pytest.mark.parametrize("condition", ["True", "not asynctrace.stopping()"])
@pytest.mark.parametrize("main_asks", [False, True])
async def test_waiting_consumer(condition: str, main_asks: bool) -> None:
    """Who waits for an item gets none that is put during the drain, and does not prolong it.

    Nor is a message at work cut off by the end of the consumer beside it.
    """
    source = (
        CONSUMERS.format(condition=condition, work="until_asked()")
        + f"""
    asked = asyncio.Event()

    async def until_asked():
        say("ready")
        await asked.wait()

    async def main():
        asyncio.get_running_loop().call_later(0.01, watch)
        queue = asynctrace.TracedQueue()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(consume(queue))
            await asyncio.sleep(0)
            queue.put_nowait(0)
            if {main_asks}:
                await asynctrace.stopping()
        say("main ends")

    def watch():  # asks nothing: only looks whether the handlers of signals have run
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            asked.set()
        else:
            asyncio.get_running_loop().call_later(0.01, watch)

    asynctrace.run(main, exporter="none", drain_timeout={LONG})
    """
    )
    async with program(source) as running:
        await running.line("ready")
        lines = ["begin 0", "ready", "end 0"]
        by_itself = main_asks or "stopping" in condition
        await ends_soon(running, *lines, *(["main ends"] if by_itself else []))


async def test_items_stay() -> None:
    """What is in the queue at the end can be taken by `get_nowait`, and worked on."""
    code, lines, err = await outcome(
        """
        async def main():
            queue = asynctrace.TracedQueue()
            for number in range(3):
                queue.put_nowait(number)
            async with queue.process() as number:
                say(number)
                kill_me(signal.SIGTERM)
                await asynctrace.stopping()
            try:
                async with queue.process() as number:
                    say("not", number)
            finally:
                say(queue.get_nowait(), queue.get_nowait())

        asynctrace.run(main, exporter="none")
        """
    )
    assert (code, lines, err) == (143, ["0", "1 2"], "")


async def test_message_that_begins_when_the_last_one_ends() -> None:
    """It is in flight like any other, and finished."""
    async with program(
        f"""
        async def main():
            with asynctrace.process(None, "orders"):
                say("ready")
                while signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
                    await asyncio.sleep(0.01)
            with asynctrace.process(None, "orders"):
                await asyncio.sleep(0.1)
                say("second")
            await asyncio.Event().wait()

        asynctrace.run(main, exporter="none", drain_timeout={LONG})
        """
    ) as running:
        await running.line("ready")
        await ends_soon(running, "ready", "second")


@pytest.mark.parametrize(
    "who",
    [
        """
        async with asynctrace.worker.Worker() as worker:
            worker.stop()
        """,
        """
        async def ask():
            assert not asynctrace.stopping()
        await asyncio.create_task(ask())
        """,
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                async with asyncio.TaskGroup() as group:
                    group.create_task(wait())
        """,
        """
        thread = threading.Thread(target=asynctrace.stopping)
        thread.start()
        thread.join()
        """,
    ],
    ids=["worker", "task that asked", "task that waited", "thread"],
)
async def test_nobody_heeds_any_more(who: str) -> None:
    """Who has gone by then is not waited for."""
    async with program(
        f"""
        import contextlib, threading

        async def wait():
            await asynctrace.stopping()

        async def main():
            {who.strip().replace(chr(10), chr(10) + "    ")}
            await forever()

        asynctrace.run(main, exporter="none", drain_timeout={LONG})
        """
    ) as running:
        await running.line("ready")
        await ends_soon(running, "ready")


async def test_watcher_that_passes_it_on() -> None:
    """A task that waited for it, told main and ended: main has its time all the same."""
    async with program(
        """
        async def watch(event):
            await asynctrace.stopping()
            event.set()

        async def main():
            event = asyncio.Event()
            task = asyncio.create_task(watch(event))
            await asyncio.sleep(0)
            say("ready")
            await event.wait()
            await asyncio.sleep(0.1)
            say("closed")

        asynctrace.run(main, exporter="none")
        """
    ) as running:
        await running.line("ready")
        await ends_soon(running, "ready", "closed")


async def test_span_of_who_waited() -> None:
    """The end of a consumer that has nothing to do is the shutdown's, and its span says so."""
    async with collector() as collecting:
        async with program(
            f"""
            async def main():
                queue = asynctrace.TracedQueue()
                with asynctrace.span("consumer"):
                    say("ready")
                    while not asynctrace.stopping():
                        async with queue.process():
                            pass

            asynctrace.run(main, drain_timeout={LONG})
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
        ) as running:
            await running.line("ready")
            await ends_soon(running, "ready")
        attributes = collecting.one("consumer").attributes
    assert attributes == {"asynctrace.cancellation.reason": "shutdown"}


@pytest.mark.parametrize("context", ["", "context=contextvars.Context(), "])
async def test_tasks_that_look_like_ours(context: str) -> None:
    """By its name, or by a context of its own: a task of the program is ended with the others."""
    async with collector() as collecting:
        code, lines, err = await outcome(
            f"""
            import contextvars

            async def background():
                with asynctrace.span("background"):
                    try:
                        await forever()
                    finally:
                        say("cleans up")

            async def main():
                global task
                loop = asyncio.get_running_loop()
                task = loop.create_task(background(), {context}name="asynctrace otlp")
                await asyncio.sleep(0)

            asynctrace.run(main)
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
        )
        assert (code, lines, err) == (0, ["ready", "cleans up"], "")
        assert "asynctrace.unfinished" not in collecting.one("background").attributes
