"""A shutdown that was forgotten: what the exit of the process delivers, and how long it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.support.collector import Answer, Request, ScriptedCollector, refusing_port
from tests.support.h2_server import Call, H2Server, Peer
from tests.support.programs import run_program


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


def by_name(url: str, host: str = "localhost") -> str:
    return url.replace("127.0.0.1", host)


FORGETS = """
    import asyncio, sys
    from asynctrace import init

    async def main():
        tracing = await init(endpoint=sys.argv[1], compression=sys.argv[2])
        tracing.get_tracer("t").start_span("work").end()
        return tracing

    tracing = asyncio.run(main())
"""

NO_MORE_THREADS = """
    import _thread, atexit

    def refuse(*args):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    # Registered last, so called first: from Python 3.12 on the exit is like this by itself.
    atexit.register(setattr, _thread, "start_new_thread", refuse)
"""

HOSTED_BY_A_THREAD = """
    tracing.get_tracer("t").start_span("after the loop").end()
"""


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("warnings", ["ignore", "default::ResourceWarning"])
def test_a_collector_that_is_named_gets_the_spans(
    collector: ScriptedCollector, warnings: str, compression: str
) -> None:
    """Also where the interpreter starts no thread for a look-up or for compressing any more."""
    program = FORGETS + NO_MORE_THREADS
    ended = run_program(program, by_name(collector.url), compression, PYTHONWARNINGS=warnings)
    assert ended.code == 0, ended.err
    assert [span.name for span in collector.spans] == ["work"]
    assert "cannot be delivered" not in ended.err


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_thread_that_delivers_needs_no_other(
    collector: ScriptedCollector, compression: str
) -> None:
    """Where spans ended after the loop, a thread of ours has them at the exit: once each."""
    program = FORGETS + HOSTED_BY_A_THREAD + NO_MORE_THREADS
    ended = run_program(program, by_name(collector.url), compression)
    assert ended.code == 0, ended.err
    assert sorted(span.name for span in collector.spans) == ["after the loop", "work"]
    assert ended.err == ""


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_grpc_does_the_same(compression: str) -> None:
    """Its look-ups and its compressing take threads, too."""
    program = FORGETS.replace("init(", "init(protocol='grpc', ") + HOSTED_BY_A_THREAD
    calls: list[Call] = []

    def take(peer: Peer) -> None:
        peer.greet()
        calls.append(peer.read_call())
        peer.answer(calls[-1])
        peer.wait_for_hang_up()

    with H2Server(then=take) as server:
        ended = run_program(program + NO_MORE_THREADS, by_name(server.url), compression)
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert len(calls) == 1


BESIDE_ONE_THAT_HANGS = """
    import asyncio, sys, time
    from asynctrace import init

    class Hangs:
        name, needs_spans = "hangs", False
        async def export(self, batch, deadline):
            await asyncio.Event().wait()
        async def close(self): ...
        async def shutdown(self): ...
        def after_fork(self): ...
        def export_at_exit(self, batch, deadline):
            raise AssertionError("it is being called already")

    async def main():
        return await init(
            exporter=[Hangs(), "otlp"], endpoint=sys.argv[1], shutdown_timeout=1.0, timeout=60,
            compression=sys.argv[2],
        )

    tracing = asyncio.run(main())
    tracing.get_tracer("t").start_span("after the loop").end()
    print(time.time())
"""


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("more", ["", NO_MORE_THREADS], ids=["threads", "no threads"])
def test_an_exporter_that_hangs_takes_no_time_of_the_others(
    collector: ScriptedCollector, more: str, compression: str
) -> None:
    """Also of one that needs a thread, cannot have it any more, and is called without."""
    ended = run_program(BESIDE_ONE_THAT_HANGS + more, by_name(collector.url), compression)
    assert ended.code == 0, ended.err
    assert [span.name for span in collector.spans] == ["after the loop"]
    assert ended.ended_at - float(ended.out) < 1.0 + 1.0
    (line,) = told(ended.err)
    assert line.startswith("Spans cannot be delivered by hangs: deadline"), line


IN_A_THREAD = """
    import asyncio, sys, threading, time
    from asynctrace import init

    ready = threading.Event()

    async def main():
        tracing = await init(
            endpoint=sys.argv[1], schedule_delay=0.01, max_export_batch_size=4, shutdown_timeout=2.0
        )
        for number in range(20):
            tracing.get_tracer("t").start_span(f"{number:02}").end()
        while not tracing.statistics().in_flight:
            await asyncio.sleep(0.001)
        ready.set()
        if sys.argv[2] == "blocked":
            time.sleep(60)
        await asyncio.Event().wait()

    threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
    ready.wait()
"""


@pytest.mark.parametrize("loop", ["serving", "blocked"])
def test_a_loop_that_still_runs_in_a_daemon_thread(loop: str) -> None:
    """It has a batch in flight when the main thread ends: no span is lost, and none comes twice.

    Where that loop is blocked, nobody can know what became of the batch in flight.
    """
    with ScriptedCollector(then=Answer(delay=0.05)) as collector:
        ended = run_program(IN_A_THREAD, collector.url, loop)
    assert ended.code == 0, ended.err
    names = sorted(span.name for span in collector.spans)
    if loop == "serving":
        assert names == [f"{number:02}" for number in range(20)]
        assert ended.err == ""
    else:
        assert set(names) == {f"{number:02}" for number in range(20)}


LOOKS_UP = """
    import asyncio, socket, sys
    from asynctrace import init

    looked_up = []
    getaddrinfo = socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        looked_up.append(host)
        return getaddrinfo("127.0.0.1" if host == "collector.test" else host, *args, **kwargs)

    socket.getaddrinfo = resolve

    async def main():
        tracing = await init(endpoint=sys.argv[1])
        tracing.get_tracer("t").start_span("work").end()
        async with asyncio.timeout(5):
            while "collector.test" not in looked_up:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)

    asyncio.run(main())
"""


def test_a_name_is_looked_up_at_the_start(collector: ScriptedCollector) -> None:
    """So the exit knows the address of a collector to which nothing was sent before."""
    ended = run_program(LOOKS_UP + NO_MORE_THREADS, by_name(collector.url, "collector.test"))
    assert ended.code == 0, ended.err
    assert [span.name for span in collector.spans] == ["work"]


def told(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("Spans cannot be delivered")]


def test_spans_that_are_lost_at_the_exit_are_told() -> None:
    """Nobody listens: one line says so, with the cause; also where warnings are not shown."""
    with refusing_port() as port:
        ended = run_program(FORGETS, f"http://127.0.0.1:{port}", "none")
    assert ended.code == 0
    (line,) = told(ended.err)
    assert "unreachable" in line
    assert "refused" in line


def test_the_figures_tell_it_as_well() -> None:
    """`last_error` and the count, for whoever still looks."""
    program = """
        import asyncio, atexit, sys

        def look():
            figures = tracing.statistics().exporters["ConsoleSpanExporter"]
            print(figures.failed, figures.last_error)

        atexit.register(look)  # before ours, so it is called after it

        from opentelemetry.sdk.trace.export import ConsoleSpanExporter
        from asynctrace import init

        async def main():
            tracing = await init(exporter=ConsoleSpanExporter())
            tracing.get_tracer("t").start_span("work").end()
            return tracing

        tracing = asyncio.run(main())
    """
    ended = run_program(program)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("1 exit: ConsoleSpanExporter cannot be trusted"), ended.out
    (line,) = told(ended.err)
    assert "await tracing.shutdown()" in line


REFUSES_EVERY_OTHER = """
    import asyncio, sys
    from asynctrace import init

    async def main():
        async with init(endpoint=sys.argv[1]) as tracing:
            for _ in range(4):
                tracing.get_tracer("t").start_span("work").end()
                assert await tracing.force_flush(5)

    asyncio.run(main())
"""


def test_a_collector_that_throttles_now_and_then_is_not_in_the_log() -> None:
    """429 and 200 in turns: every span arrives, and nobody is told of an outage."""
    throttle = Answer(status=429, headers={"Retry-After": "0"})
    with ScriptedCollector(*[throttle, Answer()] * 4) as collector:
        ended = run_program(REFUSES_EVERY_OTHER, collector.url)
        assert ended.code == 0, ended.err
        assert len(collector.spans) == 4
        assert len(collector.requests) == 8
    assert ended.err == ""


PROCESSOR_OF_THE_SDK = """
    import asyncio, sys
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    from asynctrace import init

    async def main():
        processor = BatchSpanProcessor(
            ConsoleSpanExporter(formatter=lambda span: f"theirs: {span.name}\\n"),
            schedule_delay_millis=60_000,
        )
        tracing = await init(endpoint=sys.argv[1], span_processors=[processor])
        tracing.get_tracer("t").start_span("work").end()
        return tracing

    tracing = asyncio.run(main())
"""


@pytest.mark.parametrize("more", ["", NO_MORE_THREADS], ids=["threads", "no threads"])
def test_the_users_processors_are_flushed_too(collector: ScriptedCollector, more: str) -> None:
    """A `BatchSpanProcessor` holds spans back; at the exit they reach its exporter."""
    ended = run_program(PROCESSOR_OF_THE_SDK + more, collector.url)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["theirs: work"]
    assert [span.name for span in collector.spans] == ["work"]
    assert ended.err == ""


HANGING_PROCESSOR = """
    import asyncio, sys, threading, time
    from opentelemetry.sdk.trace import SpanProcessor
    from asynctrace import init

    class Hangs(SpanProcessor):
        def force_flush(self, timeout_millis=30000):
            return threading.Event().wait(timeout_millis / 1000)

        def shutdown(self):
            threading.Event().wait()

    async def main():
        tracing = await init(
            endpoint=sys.argv[1], span_processors=[Hangs()], shutdown_timeout=0.6
        )
        tracing.get_tracer("t").start_span("work").end()
        return tracing

    tracing = asyncio.run(main())
    print(time.time())
"""


@pytest.mark.parametrize("flushes", ["in time", "never"])
@pytest.mark.parametrize("more", ["", NO_MORE_THREADS], ids=["threads", "no threads"])
def test_a_processor_that_hangs_takes_half_the_time(
    collector: ScriptedCollector, more: str, flushes: str
) -> None:
    """The rest is for our own exporters; a shutdown that could hang is called in a thread only."""
    program = HANGING_PROCESSOR + more
    if flushes == "in time":
        program = program.replace("return threading", "return True or threading")
    ended = run_program(program, collector.url)
    assert ended.code == 0, ended.err
    assert [span.name for span in collector.spans] == ["work"]
    assert ended.ended_at - float(ended.out) < 0.6 + 1.0
    told = "Span processors failed or were late" in ended.err
    assert told or flushes == "in time"  # without a thread no shutdown is called


# ---- one that nobody can shut down any more


COLLECTED = """
    import asyncio, gc, os, sys, warnings
    from asynctrace import init

    warnings.simplefilter("always")

    async def main():
        tracing = await init(endpoint=sys.argv[1], set_global=False, schedule_delay=60)
        tracer = tracing.get_tracer("t")
        provider = tracing.tracer_provider
        tracer.start_span("before").end()
        del tracing
        gc.collect()
        return provider, tracer

    provider, tracer = asyncio.run(main())
    gc.collect()
"""

GOES_ON = """
    tracer.start_span("after").end()
"""

FLUSHES = """
    assert provider.force_flush(5_000)
    os._exit(0)
"""

FORKS = """
    if os.fork() == 0:
        tracer.start_span("child").end()
        assert provider.force_flush(5_000)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize(
    ("then", "names"),
    [
        ("", ["before"]),
        ("\n    del tracer, provider; gc.collect()", ["before"]),
        (GOES_ON, ["after", "before"]),
        (GOES_ON + FLUSHES, ["after", "before"]),
        pytest.param(
            FORKS,
            ["before", "child"],
            marks=pytest.mark.skipif(sys.platform == "win32", reason="no fork"),
        ),
    ],
    ids=["exits", "nothing is left of it", "goes on", "flushes", "forks"],
)
def test_a_tracing_that_was_collected_delivers_all_the_same(
    collector: ScriptedCollector, then: str, names: list[str]
) -> None:
    """Dropped without a shutdown, it is told once; its spans arrive, once each."""
    ended = run_program(COLLECTED + then, collector.url)
    assert ended.code == 0, ended.err
    assert sorted(span.name for span in collector.spans) == names
    assert ended.err.count("was not shut down") == 1
    assert "Traceback" not in ended.err


SEVERAL = """
    import asyncio, gc, sys, time
    from asynctrace import init

    async def main():
        for endpoint in sys.argv[1:]:
            for _ in range(3):
                tracing = await init(
                    endpoint=endpoint, set_global=False, schedule_delay=60, shutdown_timeout=1.0
                )
                tracing.get_tracer("t").start_span("work").end()
        del tracing
        gc.collect()

    asyncio.run(main())
    print(time.time())
"""


def test_several_share_the_time_of_one(collector: ScriptedCollector) -> None:
    """However many were forgotten: those with a collector that hangs leave time for the others."""
    with ScriptedCollector(then=Answer(silent=True)) as deaf:
        ended = run_program(SEVERAL, deaf.url, collector.url, deaf.url)
    assert ended.code == 0, ended.err
    assert [span.name for span in collector.spans] == ["work"] * 3
    assert ended.ended_at - float(ended.out) < 1.0 + 1.0


# ---- Ctrl-C at the exit


INTERRUPTED = """
    import os, signal, threading, urllib.request

    def interrupt():
        urllib.request.urlopen(sys.argv[3], data=b"").read()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
"""


class Interrupting(ScriptedCollector):
    """Never answers a request with spans; answers any other when one of those has come."""

    def judged(self, request: Request) -> Answer:
        if request.body:
            return Answer(silent=True)
        self.wait_for_requests(1)
        return Answer()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT ends a process at once there")
def test_ctrl_c_cuts_the_exit_short_without_a_traceback() -> None:
    """What had to be left is counted and told; and nobody waits any longer."""
    with Interrupting() as collector:
        ended = run_program(FORGETS + INTERRUPTED, collector.url, "none", collector.url)
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert "1 spans were not delivered" in ended.err
    (request,) = [request for request in collector.requests if request.body]
    assert [span.name for span in request.spans] == ["work"]
