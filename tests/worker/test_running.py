"""run() inside of the test's process: what it takes, refuses, and leaves behind."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import os
import signal
from collections import Counter
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asynctrace import tracing
from asynctrace.context import span, stopping
from asynctrace.errors import ConfigError, LifecycleError
from asynctrace.worker import TracedQueue, Worker, run


async def answer() -> int:
    await asyncio.sleep(0)
    with span("answer"):
        return 42


def spans_of(main: Any, **options: Any) -> tuple[ReadableSpan, ...]:
    """What an exporter had after run(); an exception of main's passes through."""
    exporter = InMemorySpanExporter()
    run(main, exporter=exporter, **options)
    return exporter.get_finished_spans()


@pytest.mark.parametrize("main", [answer, functools.partial(answer)])
def test_callable(main: Any) -> None:
    """A function is called inside the loop, and its coroutine is run."""
    assert run(main, exporter="none") == 42


def test_coroutine() -> None:
    """A coroutine is run, with tracing current inside and none afterwards."""

    async def main() -> bool:
        return tracing.running() is not None

    assert run(main(), exporter="none") is True
    assert tracing.running() is None


def test_debug_and_loop_factory() -> None:
    """Both are asyncio.Runner's."""

    class Loop(asyncio.SelectorEventLoop):
        pass

    async def main() -> tuple[bool, type]:
        loop = asyncio.get_running_loop()
        return loop.get_debug(), type(loop)

    assert run(main(), exporter="none", debug=True, loop_factory=Loop) == (True, Loop)


def test_main_is_the_main_task() -> None:
    """No task of ours stands between the runner and main."""

    async def main() -> list[str]:
        return [t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    assert run(main(), exporter="none") == []


def test_tasks_left_behind_are_cancelled_before_the_flush() -> None:
    """Their spans arrive, marked as cancelled; what they start while cleaning up ends, too."""

    async def clean_up() -> None:
        with span("clean up"):
            await asyncio.sleep(0)

    async def background() -> None:
        try:
            with span("background"):
                await asyncio.Event().wait()
        finally:
            await asyncio.create_task(clean_up())

    tasks = set()

    async def main() -> None:
        tasks.add(asyncio.create_task(background()))
        await asyncio.sleep(0)

    spans = {made.name: dict(made.attributes or {}) for made in spans_of(main())}
    assert spans == {
        "background": {"asynctrace.cancellation.reason": "shutdown"},
        "clean up": {},
    }
    assert all(task.cancelled() for task in tasks)


def test_error_of_a_task_left_behind() -> None:
    """An exit that a left task asks for comes through, and does not prevent the flush."""
    exporter = InMemorySpanExporter()
    tasks = set()

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit(7)

    async def main() -> int:
        tasks.add(asyncio.create_task(background()))
        return await answer()

    with pytest.raises(SystemExit) as caught:
        run(main(), exporter=exporter)
    assert caught.value.code == 7
    assert tasks.pop().exception() is caught.value
    assert [made.name for made in exporter.get_finished_spans()] == ["answer"]


def test_main_cancels_itself() -> None:
    """A cancellation that no signal asked for is raised as by asyncio.run."""

    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(main(), exporter="none")


def test_an_error_that_is_a_runtime_error() -> None:
    """main's RuntimeError is not mistaken for a loop that was stopped."""

    async def main() -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        run(main(), exporter="none")


def test_context_of_the_caller() -> None:
    """main sees the context variables of whoever called run()."""
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(5)

    async def main() -> int:
        return variable.get()

    assert run(main(), exporter="none") == 5


@pytest.mark.parametrize("parent", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_unusable_parent(monkeypatch: pytest.MonkeyPatch, parent: str) -> None:
    """A TRACEPARENT that is no such thing begins a trace."""
    monkeypatch.setenv("TRACEPARENT", parent)
    [made] = spans_of(answer())
    assert made.parent is None


@pytest.mark.parametrize(
    ("main", "options", "setting"),
    [
        (3, {}, "main"),
        (answer, {"service_nam": "x"}, "service_nam"),
        (answer, {"shutdown_timeout": -1.0}, "shutdown_timeout"),
        (answer, {"drain_timeout": float("nan")}, "drain_timeout"),
        (answer, {"drain_timeout": "5"}, "drain_timeout"),
    ],
)
def test_unusable_settings(main: Any, options: dict[str, Any], setting: str) -> None:
    """They are refused by name, main is not begun, and a coroutine does not complain."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError) as caught:
        run(main() if callable(main) else main, **options)
    assert caught.value.setting == setting
    gc.collect()
    assert tracing.running() is None
    assert signal.getsignal(signal.SIGTERM) is before


def test_loop_factory_that_fails() -> None:
    """Its exception is raised, and the coroutine does not complain."""

    def fail() -> asyncio.AbstractEventLoop:
        raise OSError("no more files")

    with pytest.raises(OSError, match="no more files"):
        run(answer(), exporter="none", loop_factory=fail)
    gc.collect()


def test_exit_of_a_task_beside_main() -> None:
    """It ends the program as by asyncio.run, but main cleans up and every span arrives."""
    exporter = InMemorySpanExporter()
    tasks = set()

    async def background() -> None:
        raise SystemExit(5)

    async def main() -> None:
        tasks.add(asyncio.create_task(background()))
        with span("main"):
            await asyncio.Event().wait()

    with pytest.raises(SystemExit) as caught:
        run(main(), exporter=exporter)
    assert caught.value.code == 5
    assert tasks.pop().exception() is caught.value
    [made] = exporter.get_finished_spans()
    assert made.attributes == {"asynctrace.cancellation.reason": "shutdown"}


class SignallingDetector(ResourceDetector):
    """Sends a signal while init waits for it."""

    def detect(self) -> Resource:
        os.kill(os.getpid(), signal.SIGINT)
        return Resource({})


class SignallingPropagator(TraceContextTextMapPropagator):
    """Sends a signal when init is over and main not begun: it is asked for main's parent then."""

    def extract(self, *args: Any, **kwargs: Any) -> Context:
        os.kill(os.getpid(), signal.SIGINT)
        return super().extract(*args, **kwargs)


@pytest.mark.parametrize(
    "options",
    [{"resource_detectors": [SignallingDetector()]}, {"propagators": SignallingPropagator()}],
    ids=["during init", "after init"],
)
def test_signal_before_main(options: dict[str, Any]) -> None:
    """A signal that comes before main is begun prevents that; nothing complains."""

    async def main() -> None:
        pytest.fail("begun")

    with pytest.raises(SystemExit) as caught:
        run(main(), exporter="none", **options)
    assert caught.value.code == 130
    gc.collect()


async def test_refuses_a_running_loop() -> None:
    """From a coroutine, the hint is at init()."""
    with pytest.raises(LifecycleError, match="init"):
        run(answer())
    gc.collect()


def test_ignored_signals_stay_ignored() -> None:
    """nohup's choice, or that of a shell for its background jobs, is respected."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def main() -> list[object]:
        return [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]

    try:
        sigint, sigterm = run(main(), exporter="none")
    finally:
        signal.signal(signal.SIGINT, before)
    assert sigint is signal.SIG_IGN
    assert callable(sigterm)


@pytest.mark.parametrize("uvloop", [False, True])
def test_hundreds_in_flight(uvloop: bool) -> None:
    """Asked to stop, those that can finish do, the others are marked, and each span arrives."""
    factory = pytest.importorskip("uvloop").new_event_loop if uvloop else None
    exporter = InMemorySpanExporter()
    queue: TracedQueue[int] = TracedQueue()
    workers: list[Worker] = []

    async def handle(number: int) -> None:
        await (asyncio.Event().wait() if number % 2 else stopping())

    async def main() -> None:
        for number in range(400):
            queue.put_nowait(number)
        async with Worker(concurrency=300) as worker:
            workers.append(worker)
            consuming = asyncio.create_task(worker.consume(queue, handle, name="jobs"))
            while worker.in_flight < 300:
                await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            await consuming

    with pytest.raises(SystemExit) as caught:
        run(main, exporter=exporter, drain_timeout=0.5, loop_factory=factory)
    assert caught.value.code == 143
    [worker] = workers
    assert (worker.processed, worker.failed, worker.cancelled) == (150, 0, 150)
    assert queue.qsize() == 100
    reasons = Counter(
        (made.attributes or {}).get("asynctrace.cancellation.reason")
        for made in exporter.get_finished_spans()
    )
    assert reasons == {None: 150, "shutdown": 150}


def test_worker_that_main_leaves() -> None:
    """Its handlers have the drain_timeout of run(), signal or not; then they are cancelled."""
    exporter = InMemorySpanExporter()
    queue: TracedQueue[int] = TracedQueue()

    async def hang(number: int) -> None:
        await asyncio.Event().wait()

    async def main() -> int:
        async with Worker() as worker:
            consuming = asyncio.create_task(worker.consume(queue, hang, name="jobs"))
            queue.put_nowait(1)
            while not worker.in_flight:
                await asyncio.sleep(0)
        await consuming
        return worker.cancelled

    assert run(main, exporter=exporter, drain_timeout=0.1) == 1
    [made] = exporter.get_finished_spans()
    assert made.attributes is not None
    assert made.attributes["asynctrace.cancellation.reason"] == "shutdown"
