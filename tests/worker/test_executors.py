"""wrap_executor: jobs see the context of who submitted them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asynctrace.context import span
from asynctrace.initialization import init
from asynctrace.tracing import running
from asynctrace.worker import ContextExecutor, child, wrap_executor
from asynctrace.worker.executors import ContextThreadPoolExecutor
from tests.context.recording import Recording
from tests.support.programs import run_program
from tests.worker.programs import collector


def where_am_i(tag: object = None, *, more: object = None) -> tuple[int, object, object]:
    """The trace and baggage that a job sees."""
    context = trace.get_current_span().get_span_context()
    return context.trace_id, baggage.get_baggage("user"), (tag, more)


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "threads":
        executor: Executor = ThreadPoolExecutor(1, thread_name_prefix="pool")
    else:
        executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with executor:
        yield executor


def test_submit_and_map(pool: Executor, traced_spans: Recording) -> None:
    """Each job sees the span and the baggage current when it was submitted; then nothing stays."""
    executor = wrap_executor(pool)
    token = otel_context.attach(baggage.set_baggage("user", "ann"))
    with span("request") as request:
        trace_id = request.get_span_context().trace_id
        one = executor.submit(where_am_i, 1, more=2)
        many = executor.map(where_am_i, range(3), chunksize=2)
    otel_context.detach(token)
    assert one.result() == (trace_id, "ann", (1, 2))
    assert list(many) == [(trace_id, "ann", (number, None)) for number in range(3)]
    assert executor.submit(where_am_i).result()[:2] == (0, None)
    assert pool.submit(where_am_i).result()[:2] == (0, None)


async def test_run_in_executor(traced_spans: Recording) -> None:
    """The fault it is for: run_in_executor loses the context of a plain pool, and not of ours."""
    with ThreadPoolExecutor(1) as pool, span("request") as request:
        loop = asyncio.get_running_loop()
        trace_id = request.get_span_context().trace_id
        assert (await loop.run_in_executor(pool, where_am_i))[0] == 0
        assert (await loop.run_in_executor(wrap_executor(pool), where_am_i))[0] == trace_id


@pytest.mark.parametrize("uvloop", [False, True])
def test_default_executor(traced_spans: Recording, uvloop: bool) -> None:
    """It can be the loop's default one, which is shut down with the loop."""
    factory = pytest.importorskip("uvloop").new_event_loop if uvloop else None
    pool = ThreadPoolExecutor(1, thread_name_prefix="mine")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(wrap_executor(pool))
        with span("request") as request:
            trace_id = request.get_span_context().trace_id
            assert (await loop.run_in_executor(None, where_am_i))[0] == trace_id
            assert (await asyncio.to_thread(threading.current_thread)).name.startswith("mine")

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    with pytest.raises(RuntimeError):
        pool.submit(where_am_i)


def test_as_a_thread_pool() -> None:
    """What is asked of thread pools alone is asked of the wrapped one."""
    with wrap_executor(ThreadPoolExecutor(3)) as executor:
        assert executor._max_workers == 3
        with pytest.raises(AttributeError):
            executor.nonsense  # noqa: B018
    with pytest.raises(AttributeError):
        ContextThreadPoolExecutor.__new__(ContextThreadPoolExecutor)._threads  # noqa: B018


def test_multiprocessing_is_not_imported_for_nothing() -> None:
    """A coroutine that is the first to want a queue or a thread pool does not block for it."""
    ended = run_program(
        """
        import sys
        from concurrent.futures import ThreadPoolExecutor
        import asynctrace

        asynctrace.TracedQueue
        with asynctrace.wrap_executor(ThreadPoolExecutor(1)) as executor:
            executor.submit(print, "concurrent.futures.process" in sys.modules).result()
        """
    )
    assert (ended.out, ended.err) == ("False\n", "")


def test_exceptions_come_through() -> None:
    """A job's exception is its future's."""
    with wrap_executor(ThreadPoolExecutor(1)) as executor, pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result()


def test_shutdown_and_wrapping_twice() -> None:
    """Shutting down shuts the wrapped one down; a wrapped one is not wrapped again."""
    pool = ThreadPoolExecutor(1)
    executor = wrap_executor(pool)
    assert isinstance(executor, ContextExecutor)
    assert wrap_executor(executor) is executor
    assert "ThreadPoolExecutor" in repr(executor)
    with executor:
        pass
    with pytest.raises(RuntimeError):
        pool.submit(where_am_i)


# --- spans of the processes of a pool -----------------------------------------------------------


def work(number: int) -> int:
    """A job with a span of its own; run in another process."""
    with span(f"job {number}"):
        return os.getpid()


def start_method_pool(method: str) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method))


# Python 3.12 and newer warn of any fork in a process with threads, and this one has some.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.may_block("the pool starts its processes when a job is submitted")
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
async def test_spans_of_pool_processes_arrive(method: str) -> None:
    """The configuration is shipped: they are exported from there, as children of the submitter."""
    async with collector() as collecting:
        async with init(endpoint=collecting.url, service_name="pool"):
            pool = start_method_pool(method)
            executor = wrap_executor(pool)
            loop = asyncio.get_running_loop()
            with span("request"):
                jobs = [loop.run_in_executor(executor, work, number) for number in range(3)]
            pids = set(await asyncio.gather(*jobs))
            await asyncio.to_thread(pool.shutdown)  # the processes end, and flush before
        assert os.getpid() not in pids
        assert collecting.names() == ["job 0", "job 1", "job 2", "request"]
        request = collecting.one("request")
        for number in range(3):
            job = collecting.one(f"job {number}")
            assert (job.trace_id, job.parent_span_id) == (request.trace_id, request.span_id)
            assert job.resource.attributes["service.name"] == "pool"
            assert job.resource.attributes["process.pid"] in pids


async def test_options_that_cannot_be_pickled(caplog: pytest.LogCaptureFixture) -> None:
    """They stay behind, which is said; without its exporter a process sends nothing, said too."""
    async with init(exporter="none", scrub=lambda name, value: value) as tracing:
        packed = child.pack(tracing)
        assert packed is not None
        assert pickle.loads(packed) == {"exporter": "none"}
        assert child.pack(tracing) is packed
    assert "pool: scrub" in caplog.text
    caplog.clear()

    class Local(InMemorySpanExporter):
        pass

    async with init(exporter=Local()) as tracing:
        assert child.pack(tracing) is None
    assert "exporter cannot be pickled" in caplog.text


async def test_tracing_that_cannot_be_started(caplog: pytest.LogCaptureFixture) -> None:
    """A job is done all the same, and the log says why there are no spans."""
    own = child._OwnTracing(pickle.dumps({"shutdown_timeout": -1.0}))
    await asyncio.to_thread(own.start)
    own.finish()
    assert "No tracing in this process of a pool" in caplog.text


async def test_no_thread_for_the_tracing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that can start no thread does its jobs without spans."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(child, "_own", None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        child.ensure_tracing(pickle.dumps({"exporter": "none"}))
    assert child._own is not None
    child._own.finish()
    assert "can't start new thread" in caplog.text


def test_options_that_are_not_there_in_the_process() -> None:
    """What was pickled by name and cannot be imported costs spans, never the job."""
    ended = run_program(
        """
        import asyncio, multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        import asynctrace

        def scrub(name, value):  # of a program that is in no file: a new process has no such name
            return value

        async def main():
            async with asynctrace.init(exporter="none", scrub=scrub):
                context = multiprocessing.get_context("spawn")
                with asynctrace.wrap_executor(ProcessPoolExecutor(1, mp_context=context)) as pool:
                    print(await asyncio.get_running_loop().run_in_executor(pool, abs, -7))

        asyncio.run(main())
        """
    )
    assert ended.out == "7\n", ended.err
    assert "No tracing in this process of a pool" in ended.err


def test_tracing_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started once, runs from the first job on, and is shut down with the process."""
    monkeypatch.setattr(child, "_own", None)
    options = pickle.dumps({"exporter": "none"})
    child.ensure_tracing(options)
    own = child._own
    assert own is not None
    assert running() is not None
    child.ensure_tracing(options)
    assert child._own is own
    own.finish()
    assert running() is None
