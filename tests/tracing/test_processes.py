"""Programs that forget, exit, fork or hang: what arrives, and how long the process lives on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from asynctrace.otlp.records import SpanRecord
from tests.support.collector import ScriptedCollector, refusing_port
from tests.support.programs import Ended, run_program

PROMPT = 1.0
"""Seconds after its last statement within which a process has ended; generous, as it may be busy
with collecting its modules, and far from every time-out that is used here."""


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


def names(collector: ScriptedCollector) -> list[str]:
    return sorted(span.name for span in collector.spans)


def succeeded(ended: Ended) -> Ended:
    assert ended.code == 0, ended.err
    return ended


def ended_promptly(ended: Ended) -> None:
    """The program printed the time when it had nothing left to do, last of all."""
    succeeded(ended)
    assert ended.ended_at - float(ended.out.split()[-1]) < PROMPT


# ---- exit


FORGETS = """
    import asyncio, sys
    from asynctrace import init

    async def main():
        tracing = await init(endpoint=sys.argv[1], service_name="forgetful")
        tracing.get_tracer("t").start_span("ended").end()
        global open_span
        open_span = tracing.get_tracer("t").start_span("open")

    asyncio.run(main())
"""


def test_a_forgotten_shutdown_is_told_and_nothing_is_lost(collector: ScriptedCollector) -> None:
    """`asyncio.run` ended without it: ResourceWarning, and the spans are sent at the exit."""
    ended = succeeded(
        run_program(FORGETS, collector.url, PYTHONWARNINGS="default::ResourceWarning")
    )
    assert names(collector) == ["ended", "open"]
    (unfinished,) = [span for span in collector.spans if span.name == "open"]
    assert unfinished.attributes == {"asynctrace.unfinished": True}
    assert ended.err.count("was not shut down") == 1
    assert "Traceback" not in ended.err


def test_it_is_told_also_where_warnings_are_errors(collector: ScriptedCollector) -> None:
    """The warning cannot keep the spans from being sent."""
    ended = run_program(FORGETS, collector.url, PYTHONWARNINGS="error::ResourceWarning")
    assert names(collector) == ["ended", "open"]
    assert "was not shut down" in ended.err


def test_by_default_python_is_silent_about_it(collector: ScriptedCollector) -> None:
    """No noise in production, and no traceback."""
    assert succeeded(run_program(FORGETS, collector.url)).err == ""
    assert len(collector.spans) == 2


def test_a_forgotten_shutdown_with_nobody_there_ends_at_once() -> None:
    """The attempt at the exit is bounded; where connections are refused it is short."""
    with refusing_port() as port:
        program = FORGETS + "    import time; print(time.time())"
        ended_promptly(run_program(program, f"http://127.0.0.1:{port}"))


def test_spans_without_a_loop_are_sent_at_the_exit(collector: ScriptedCollector) -> None:
    """After the loop a daemon thread delivers; the exit waits for it, not longer than needed."""
    program = """
        import asyncio, sys, time
        from asynctrace import init

        async def main():
            return await init(endpoint=sys.argv[1])

        tracing = asyncio.run(main())
        tracing.get_tracer("t").start_span("after the loop").end()
        print(time.time())
    """
    ended_promptly(run_program(program, collector.url))
    assert names(collector) == ["after the loop"]


def test_a_loop_closed_without_cancelling_leaves_no_noise_of_ours(
    collector: ScriptedCollector,
) -> None:
    """asyncio itself complains of the tasks; we send what there is."""
    program = """
        import asyncio, sys
        from asynctrace import init

        loop = asyncio.new_event_loop()
        tracing = loop.run_until_complete(init(endpoint=sys.argv[1]).__aenter__())
        tracing.get_tracer("t").start_span("work").end()
        loop.close()
    """
    ended = succeeded(run_program(program, collector.url))
    assert names(collector) == ["work"]
    assert "GeneratorExit" not in ended.err


HANGING_RESOLVER = """
    import asyncio, socket, sys, threading, time
    from asynctrace import init
    from tests.support.stopwatch import in_time

    socket.getaddrinfo = lambda *args, **kwargs: threading.Event().wait()

    async def main():
        tracing = await init(endpoint="http://collector.example:4318")
        tracing.get_tracer("t").start_span("work").end()
        if sys.argv[1] == "shutdown":
            with in_time(0.3):
                report = await tracing.shutdown(0.3)
            assert report.dropped == {"deadline": 1}, report
        else:
            await tracing.force_flush(0.3)

    asyncio.run(main())
    print(time.time())
"""


@pytest.mark.parametrize("way", ["shutdown", "forgotten"])
def test_a_resolver_that_hangs_does_not_hold_up_the_exit(way: str) -> None:
    """Neither `asyncio.run` nor the interpreter waits for the look-up."""
    ended_promptly(run_program(HANGING_RESOLVER, way))


def test_an_exporter_that_hangs_does_not_hold_up_the_exit() -> None:
    """An SDK exporter that never returns is left behind, by the shutdown and by the exit."""
    program = """
        import asyncio, threading, time
        from opentelemetry.sdk.trace.export import SpanExporter
        from asynctrace import init
        from tests.support.stopwatch import in_time

        class Hangs(SpanExporter):
            def export(self, spans):
                threading.Event().wait()

            def shutdown(self):
                threading.Event().wait()

        async def main():
            tracing = await init(exporter=Hangs())
            tracing.get_tracer("t").start_span("work").end()
            with in_time(0.3):
                report = await tracing.shutdown(0.3)
            assert report.dropped == {"deadline": 1}, report

        asyncio.run(main())
        print(time.time())
    """
    ended_promptly(run_program(program))


def test_after_a_shutdown_the_process_exits_at_once(collector: ScriptedCollector) -> None:
    """Nothing of ours is left to wait for."""
    program = """
        import asyncio, sys, time
        from asynctrace import init

        async def main():
            async with init(endpoint=sys.argv[1]) as tracing:
                tracing.get_tracer("t").start_span("work").end()

        asyncio.run(main())
        print(time.time())
    """
    ended = run_program(program, collector.url)
    ended_promptly(ended)
    assert ended.err == ""
    assert names(collector) == ["work"]


def test_a_blocked_terminal_is_the_consoles_own_trouble(collector: ScriptedCollector) -> None:
    """`console` and `otlp` together by the variable: each gets every span."""
    program = """
        import asyncio, sys
        from asynctrace import init

        async def main():
            async with init(endpoint=sys.argv[1]) as tracing:
                tracing.get_tracer("t").start_span("work").end()

        asyncio.run(main())
    """
    ended = succeeded(run_program(program, collector.url, OTEL_TRACES_EXPORTER="console,otlp"))
    assert '"name": "work"' in ended.out
    assert names(collector) == ["work"]


# ---- a provider that was there before


def test_a_foreign_global_provider_stays() -> None:
    """Ours is local then, says so once, and still delivers what goes through it."""
    program = """
        import asyncio, logging
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from asynctrace import init
        from asynctrace.testing import InMemoryExporter

        logging.basicConfig(format="%(message)s")
        foreign = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(foreign)

        async def main():
            for life in range(2):
                exporter = InMemoryExporter()
                async with init(exporter=exporter) as tracing:
                    assert trace.get_tracer_provider() is foreign
                    trace.get_tracer("t").start_span("theirs").end()
                    tracing.get_tracer("t").start_span("ours").end()
                assert [span.name for span in exporter.spans] == ["ours"]

        asyncio.run(main())
    """
    ended = succeeded(run_program(program))
    assert ended.err.count("Another TracerProvider is OpenTelemetry's global one") == 1


# ---- forks


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def identity(span: SpanRecord) -> tuple[object, object]:
    attributes = span.resource.attributes
    return attributes["process.pid"], attributes["service.instance.id"]


@needs_fork
def test_a_forked_child_starts_empty_and_is_itself(collector: ScriptedCollector) -> None:
    """The parent's queued spans are sent once, by the parent; the child's own by the child."""
    program = """
        import asyncio, os, sys
        from asynctrace import init

        async def main():
            tracing = await init(endpoint=sys.argv[1], service_name="shop")
            tracer = tracing.get_tracer("t")
            tracer.start_span("warm").end()
            assert await tracing.force_flush(5)  # a connection is open when it forks
            tracer.start_span("queued before the fork").end()
            pid = os.fork()
            if not pid:
                assert tracing.statistics().accepted == 0
                assert tracing.open_spans() == ()
                tracer.start_span("of the child").end()
                assert tracing.tracer_provider.force_flush(5000)
                os._exit(0)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert status == 0
            tracer.start_span("of the parent").end()
            report = await tracing.shutdown(5)
            assert report.exported == 3, report
            print(os.getpid(), pid)

        asyncio.run(main())
    """
    ended = succeeded(run_program(program, collector.url))
    parent, child = map(int, ended.out.split())
    assert names(collector) == ["of the child", "of the parent", "queued before the fork", "warm"]
    by_name = {span.name: identity(span) for span in collector.spans}
    assert by_name["of the child"][0] == child
    assert by_name["of the parent"] == by_name["warm"] == by_name["queued before the fork"]
    assert by_name["warm"][0] == parent
    assert by_name["warm"][1] != by_name["of the child"][1]


@needs_fork
def test_a_forked_child_that_just_exits_sends_its_spans(collector: ScriptedCollector) -> None:
    """With `sys.exit` as its end; the parent is not disturbed, and nobody is warned."""
    program = """
        import asyncio, os, sys
        from asynctrace import init

        async def main():
            own_id = {"service.instance.id": "i"}
            return await init(endpoint=sys.argv[1], resource_attributes=own_id)

        loop = asyncio.new_event_loop()
        tracing = loop.run_until_complete(main())
        pid = os.fork()
        tracing.get_tracer("t").start_span("child" if not pid else "parent").end()
        if not pid:
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        loop.run_until_complete(tracing.shutdown(5))
        loop.close()
    """
    ended = succeeded(
        run_program(program, collector.url, PYTHONWARNINGS="default::ResourceWarning")
    )
    assert names(collector) == ["child", "parent"]
    assert {identity(span)[1] for span in collector.spans} == {"i"}
    assert len({identity(span)[0] for span in collector.spans}) == 2
    assert "was not shut down" not in ended.err


CHILDREN = """
    import asyncio, multiprocessing, sys
    from asynctrace import init, tracing

    def work(url, method, number):
        if method == "fork":
            running = tracing.current()
            running.get_tracer("t").start_span(f"child {number}").end()
        else:
            asyncio.run(spawned(url, number))

    async def spawned(url, number):
        running = await init(endpoint=url)
        running.get_tracer("t").start_span(f"child {number}").end()

    async def main(url, method):
        async with init(endpoint=url) as running:
            running.get_tracer("t").start_span("parent").end()
            context = multiprocessing.get_context(method)
            children = [context.Process(target=work, args=(url, method, n)) for n in range(2)]
            for child in children:
                child.start()
            for child in children:
                await asyncio.to_thread(child.join)
                assert child.exitcode == 0

    if __name__ == "__main__":
        asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_deliver_their_spans(
    method: str, collector: ScriptedCollector, tmp_path: object
) -> None:
    """Without a hook for the user to call, although `atexit` does not run in a forked child."""
    if method not in __import__("multiprocessing").get_all_start_methods():
        pytest.skip(f"no {method} on this platform")
    script = f"{tmp_path}/children.py"
    import textwrap

    with open(script, "w") as file:
        file.write(textwrap.dedent(CHILDREN))
    runner = f"import runpy, sys; sys.argv[0] = {script!r}\n"
    runner += f"runpy.run_path({script!r}, run_name='__main__')"
    if method == "spawn":
        runner = (
            f"import os, sys; os.execv(sys.executable, [sys.executable, {script!r}, *sys.argv[1:]])"
        )
    succeeded(run_program(runner, collector.url, method))
    assert names(collector) == ["child 0", "child 1", "parent"]
    assert len({identity(span) for span in collector.spans}) == 3


# ---- uvloop


@pytest.mark.skipif(sys.platform == "win32", reason="no uvloop on this platform")
def test_uvloop_passes_the_main_path(collector: ScriptedCollector) -> None:
    """Start, load, flush, a cut shutdown and a clean one on another event loop."""
    program = """
        import asyncio, sys, time
        import uvloop
        from asynctrace import init
        from tests.support.stopwatch import in_time

        async def main():
            async with init(endpoint=sys.argv[1]) as tracing:
                for number in range(3):
                    tracing.get_tracer("t").start_span(str(number)).end()
                report = await tracing.force_flush(float("inf"))
                assert report.exported == 3, report
            silent = await init(endpoint=sys.argv[2])
            silent.get_tracer("t").start_span("lost").end()
            with in_time(0.3):
                report = await silent.shutdown(0.3)
            assert report.dropped == {"deadline": 1}, report

        uvloop.run(main())
        print(time.time())
    """
    from tests.support.collector import Answer

    with ScriptedCollector(then=Answer(silent=True)) as silent:
        ended = run_program(program, collector.url, silent.url)
    ended_promptly(ended)
    assert names(collector) == ["0", "1", "2"]
    assert "Traceback" not in ended.err
