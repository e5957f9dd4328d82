"""run() as processes: results, exit codes, signals, the order of events, and what arrives."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.worker.programs import Collector, collector, outcome, program

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest_asyncio.fixture
async def collecting() -> AsyncIterator[Collector]:
    async with collector() as found:
        yield found


async def test_result_and_delivery(collecting: Collector) -> None:
    """main's result is returned, and every span has arrived by then."""
    code, lines, err = await outcome(
        """
        async def main():
            for number in range(3):
                with asynctrace.span(f"job {number}"):
                    await asyncio.sleep(0)
            return 42

        say(asynctrace.run(main(), service_name="worker"))
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    )
    assert (code, lines, err) == (0, ["42"], "")
    assert collecting.names() == ["job 0", "job 1", "job 2"]
    assert collecting.one("job 0").resource.attributes["service.name"] == "worker"


async def test_exception(collecting: Collector) -> None:
    """main's exception is raised, with its traceback, after the spans have gone out."""
    code, _, err = await outcome(
        """
        async def main():
            with asynctrace.span("job"):
                raise KeyError("broken")

        asynctrace.run(main())
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    )
    assert code == 1
    assert err.endswith("KeyError: 'broken'\n")
    assert collecting.one("job").attributes["error.type"] == "KeyError"


async def test_exit_in_main(collecting: Collector) -> None:
    """sys.exit() in main flies out of the loop; the flush comes first all the same."""
    code, lines, err = await outcome(
        """
        async def main():
            with asynctrace.span("job"):
                sys.exit(3)

        asynctrace.run(main)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    )
    assert (code, lines, err) == (3, [], "")
    assert collecting.names() == ["job"]


@pytest.mark.parametrize("loop_factory", ["None", "uvloop.new_event_loop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal(collecting: Collector, number: signal.Signals, loop_factory: str) -> None:
    """The first signal cancels main; its clean-up ends, spans arrive, then 128+n."""
    if loop_factory != "None":
        pytest.importorskip("uvloop")
    async with program(
        f"""
        if {loop_factory!r} != "None":
            import uvloop

        async def background():
            with asynctrace.span("background"):
                try:
                    await forever()
                finally:
                    say("background cleans up")

        async def main():
            task = asyncio.create_task(background())
            try:
                with asynctrace.span("job"):
                    await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                with asynctrace.span("clean up"):
                    say("main cleans up")

        try:
            asynctrace.run(main(), loop_factory={loop_factory})
        finally:
            say("after run")
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    ) as running:
        await running.line("ready")
        running.send(number)
        code, lines, err = await running.end()
    assert (code, err) == (128 + number, "")
    assert lines == ["ready", "main cleans up", "background cleans up", "after run"]
    assert collecting.names() == ["background", "clean up", "job"]
    for name in ("job", "background"):
        attributes = collecting.one(name).attributes
        assert attributes == {"asynctrace.cancellation.reason": "shutdown"}


async def test_second_signal() -> None:
    """The second signal ends the process at once, also when its clean-up blocks the loop."""
    async with program(
        """
        async def main():
            try:
                await forever()
            finally:
                say("stubborn")
                while True:
                    time.sleep(1)

        asynctrace.run(main(), exporter="none")
        """
    ) as running:
        await running.line("ready")
        running.send(signal.SIGINT)
        await running.line("stubborn")
        running.send(signal.SIGTERM)
        code, _, err = await running.end()
    assert (code, err) == (-signal.SIGTERM, "")


async def test_clean_up_that_hangs(collecting: Collector) -> None:
    """It is cancelled again after drain_timeout; the spans arrive."""
    async with program(
        """
        async def main():
            try:
                with asynctrace.span("job"):
                    await forever()
            finally:
                try:
                    await asyncio.sleep(3600)
                finally:
                    say("cancelled again")

        asynctrace.run(main(), drain_timeout=0.1)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    ) as running:
        await running.line("ready")
        running.send(signal.SIGTERM)
        code, lines, err = await running.end()
    assert (code, lines, err) == (143, ["ready", "cancelled again"], "")
    assert collecting.names() == ["job"]


@pytest.mark.parametrize("loop_factory", ["None", "uvloop.new_event_loop"])
async def test_clean_up_that_never_ends(collecting: Collector, loop_factory: str) -> None:
    """Whoever resists every cancellation is named and abandoned; the spans arrive."""
    if loop_factory != "None":
        pytest.importorskip("uvloop")
    async with program(
        f"""
        if {loop_factory!r} != "None":
            import uvloop

        async def main():
            with asynctrace.span("job"):
                pass
            with asynctrace.span("never ends"):
                asyncio.current_task().set_name("stubborn")
                say("ready")
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        say("no")

        asynctrace.run(main(), drain_timeout=0.1, loop_factory={loop_factory})
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    ) as running:
        await running.line("ready")
        running.send(signal.SIGTERM)
        code, lines, err = await running.end()
    assert code == 143
    assert lines[:3] == ["ready", "no", "no"]
    assert "run() abandons tasks that do not end when cancelled: stubborn" in err
    assert collecting.names() == ["job", "never ends"]
    assert collecting.one("never ends").attributes == {"asynctrace.unfinished": True}


async def test_main_answers_the_signal() -> None:
    """A main that returns, or fails, after it was cancelled has the last word."""
    source = """
        async def main():
            try:
                say("ready")
                kill_me(signal.SIGTERM)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                {answer}

        say(asynctrace.run(main(), exporter="none"))
        """
    returned = await outcome(source.format(answer="return 'in peace'"))
    assert returned == (0, ["ready", "in peace"], "")
    code, _, err = await outcome(source.format(answer="raise OSError('in anger')"))
    assert (code, err.splitlines()[-1]) == (1, "OSError: in anger")


async def test_signals_work_as_before_afterwards() -> None:
    """After run() the signals have their defaults again, whether one came or not."""
    code, lines, err = await outcome(
        """
        async def main(number):
            if number:
                kill_me(number)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        for number in (None, signal.SIGTERM):
            try:
                asynctrace.run(main(number), exporter="none")
            except SystemExit as exit:
                say(exit.code)
            assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        say("done")
        """
    )
    assert (code, lines, err) == (0, ["143", "done"], "")


async def test_handlers_of_the_program() -> None:
    """Those set in main do their work; those set before are back after run()."""
    code, lines, err = await outcome(
        """
        signal.signal(signal.SIGTERM, lambda *_: say("mine"))

        async def main():
            stopped = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
            kill_me(signal.SIGINT)
            await stopped.wait()
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
            say("stopped")
            kill_me(signal.SIGTERM)
            await asyncio.Event().wait()

        try:
            asynctrace.run(main(), exporter="none")
        finally:
            kill_me(signal.SIGTERM)
        """
    )
    assert (code, lines, err) == (143, ["stopped", "mine"], "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("before", ["signal.SIG_DFL", "lambda *_: (say('mine'), os._exit(5))"])
async def test_signal_to_a_forked_child(before: str) -> None:
    """It does to the child what it did before run(), at once, and concerns the parent in no way."""
    code, lines, err = await outcome(
        f"""
        import multiprocessing, threading

        def work(ready):
            ready.set()
            while True:
                time.sleep(1)

        async def main():
            context = multiprocessing.get_context("fork")
            ready = context.Event()
            child = context.Process(target=work, args=(ready,), daemon=True)
            child.start()
            await asyncio.to_thread(ready.wait)
            child.terminate()
            await asyncio.to_thread(child.join, 10)
            say(child.exitcode, bool(asynctrace.stopping()))

        signal.signal(signal.SIGTERM, {before})
        asynctrace.run(main, exporter="none")
        """,
        PYTHONWARNINGS="ignore",
    )
    ends = ["-15 False"] if before == "signal.SIG_DFL" else ["mine", "5 False"]
    assert (code, lines, err) == (0, ends, "")


async def test_signal_while_flushing(collecting: Collector) -> None:
    """The flush goes on to its end; the result is not returned, because nobody answered."""
    code, lines, err = await outcome(
        """
        async def linger():
            try:
                await asyncio.Event().wait()
            finally:
                say("drained")
                kill_me(signal.SIGTERM)

        async def main():
            task = asyncio.create_task(linger())
            await asyncio.sleep(0)
            with asynctrace.span("job"):
                return "result"

        say(asynctrace.run(main()))
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    )
    assert (code, lines, err) == (143, ["drained"], "")
    assert collecting.names() == ["job"]


async def test_collector_is_dead() -> None:
    """The end comes inside the deadline, with main's result."""
    code, lines, _ = await outcome(
        """
        async def main():
            with asynctrace.span("job"):
                return "result"

        begun = time.monotonic()
        say(asynctrace.run(main(), shutdown_timeout=0.5))
        say(time.monotonic() - begun < 5)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert (code, lines) == (0, ["result", "True"])


async def test_parent_from_the_environment(collecting: Collector) -> None:
    """TRACEPARENT and TRACESTATE give main's spans their parent; run() makes no span itself."""
    code, _, err = await outcome(
        """
        async def main():
            with asynctrace.span("job"):
                pass

        asynctrace.run(main())
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
        TRACEPARENT=TRACEPARENT,
        TRACESTATE="vendor=1",
    )
    assert (code, err) == (0, "")
    [span] = collecting.spans
    assert span.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent_span_id == "b7ad6b7169203331"
    assert span.trace_state == "vendor=1"


async def test_other_thread() -> None:
    """Without signals, which a thread cannot have, run() works in any thread."""
    code, lines, err = await outcome(
        """
        import threading

        async def main():
            say("ran")

        thread = threading.Thread(target=asynctrace.run, args=(main,), kwargs={"exporter": "none"})
        thread.start()
        thread.join()
        """
    )
    assert (code, lines, err) == (0, ["ran"], "")


async def test_tasks_cancelled_by_main_itself(collecting: Collector) -> None:
    """A main that cancels all other tasks of the loop, as many do, loses no span."""
    code, _, err = await outcome(
        """
        async def main():
            with asynctrace.span("job"):
                pass
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            with asynctrace.span("last"):
                pass

        asynctrace.run(main())
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    )
    assert code == 0, err
    assert collecting.names() == ["job", "last"]


async def test_collected_before_the_end(collecting: Collector) -> None:
    """While main runs, spans are sent in the background."""
    async with program(
        """
        async def main():
            with asynctrace.span("job"):
                pass
            await forever()

        asynctrace.run(main(), schedule_delay=0.05)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=collecting.url,
    ) as running:
        async with asyncio.timeout(10):
            await collecting.arrival.wait()
        assert collecting.names() == ["job"]
        await running.line("ready")
        running.send(signal.SIGTERM)
        assert (await running.end())[0] == 143
