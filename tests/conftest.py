"""What holds for every test, whatever it is about.

A test fails when it leaves behind an asyncio task, a thread, a running tracing or an OpenTelemetry
variable, or when our code blocks the event loop. Warnings are errors, and a test that hangs is
ended (pyproject.toml). The guards are tested from outside in test_guards.py.
"""

from __future__ import annotations

import _thread
import asyncio
import importlib.util
import os
import signal
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import blockbuster
import hypothesis
import pytest
import pytest_asyncio

_SETTLE = 1.0  # seconds granted to tasks and threads that are about to end
_FOREIGN_SETTINGS = ("OTEL_", "TRACEPARENT", "TRACESTATE")

hypothesis.settings.register_profile("default", max_examples=60, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
hypothesis.settings.register_profile("quick", max_examples=15, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=5000, deadline=None)
hypothesis.settings.load_profile("default")


def _remove_foreign_settings() -> list[str]:
    """Take the tracing variables out of the environment and name them."""
    found = [name for name in os.environ if name.startswith(_FOREIGN_SETTINGS)]
    for name in found:
        del os.environ[name]
    return found


# Some are read when OpenTelemetry is imported, so they have to go before any test module is.
_remove_foreign_settings()


def _obey_signals() -> None:
    """Undo what a parent may have us inherit (`nohup`, a job in the background): ignored signals.

    Nothing would stop the programs that tests stop, which would inherit it in their turn.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


_obey_signals()


def _trace_every_thread() -> None:
    """Have coverage see the threads that our code starts beside `threading`."""
    if (trace := threading.gettrace()) is None:
        return
    start = _thread.start_new_thread

    def start_traced(function: Callable[..., object], args: tuple[object, ...]) -> int:
        def run() -> None:
            sys.settrace(trace)
            function(*args)

        return start(run, ())

    # Our code passes no keyword arguments, which is all that the signatures differ in.
    _thread.start_new_thread = start_traced  # type: ignore[assignment]


_trace_every_thread()


# --- tasks ---------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def _no_leaked_tasks() -> AsyncIterator[None]:
    """Set up first of all and torn down last, see pytest_collection_modifyitems."""
    before = asyncio.all_tasks()
    yield
    leaked = await _tasks_beside(before)
    problem = f"leaked tasks: {', '.join(map(repr, leaked))}"
    for task in leaked:
        task.cancel()
    if leaked:
        await asyncio.wait(leaked, timeout=_SETTLE)  # not for ever: one may heed no cancellation
        pytest.fail(problem, pytrace=False)


async def _tasks_beside(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    deadline = time.monotonic() + _SETTLE
    pause = 0.0
    while True:
        tasks = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not tasks or time.monotonic() > deadline:
            return tasks
        await asyncio.sleep(pause)
        pause = 0.005


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the task guard around every async test: its first fixture is the last to be torn down.

    An autouse fixture would give every plain test an event loop, too.
    """
    for item in items:
        if not isinstance(item, pytest.Function) or not item.get_closest_marker("asyncio"):
            continue
        if _no_leaked_tasks.__name__ not in item.fixturenames:  # parametrized tests share the list
            item.fixturenames.insert(0, _no_leaked_tasks.__name__)


# --- threads, tracing, environment ---------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    item.stash[_THREADS] = set(threading.enumerate())
    return (yield)


_THREADS = pytest.StashKey[set[threading.Thread]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Look for what is left when the fixtures of the test are gone."""
    result = yield
    problems = [
        *_leaked_threads(item.stash[_THREADS]),
        *_running_tracing(),
        *(f"left the variable {name} behind" for name in _remove_foreign_settings()),
        *_blocking_calls(item),
    ]
    if problems:
        pytest.fail("; ".join(problems), pytrace=False)
    return result


def _leaked_threads(before: set[threading.Thread]) -> list[str]:
    leaked = [
        thread
        for thread in threading.enumerate()
        if thread not in before
        and (not thread.daemon or thread.name.startswith("asynctrace"))
        and thread is not threading.current_thread()
        # Threads that were not started by `threading` stay in its list for ever (3.11).
        and not isinstance(thread, threading._DummyThread)
    ]
    deadline = time.monotonic() + _SETTLE
    for thread in leaked:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [f"leaked thread: {thread!r}" for thread in leaked if thread.is_alive()]


def _running_tracing() -> list[str]:
    tracing = sys.modules.get("asynctrace.tracing")
    left = tracing.running() if tracing is not None else None
    return [] if left is None else [f"left running: {left!r}"]


# --- blocking calls on the event loop ------------------------------------------------------------

_blocked: list[str] = []


def _scanned(name: str, folder: Path) -> types.ModuleType:
    """What blockbuster asks of a module, without importing it."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder) + os.sep]
    return module


def _make_blockbuster() -> blockbuster.BlockBuster:
    """Watch calls that have a frame of ours below them.

    What blocks in a dependency alone is theirs to mend; reading a file in the body of a test harms
    nobody, but a sleep on the loop would hide a race there.
    """
    spec = importlib.util.find_spec("asynctrace")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = _scanned("asynctrace", Path(spec.submodule_search_locations[0]))
    tests = _scanned("tests", Path(__file__).parent)
    watch = blockbuster.BlockBuster(scanned_modules=[package])
    watch.functions["time.sleep"] = blockbuster.BlockBusterFunction(
        None, "time.sleep", scanned_modules=[package, tests]
    )
    for name, function in watch.functions.items():
        # The lock that coverage takes when it sees a new thread.
        function.can_block_in("coverage/collector.py", "lock_data")
        # Where a log record goes is the program's choice: its handlers may write to a file.
        if name.endswith((".write", "os.stat")):
            function.can_block_in("logging/__init__.py", {"emit", "handle"})
        # Tracebacks quote source lines, which the interpreter reads.
        if name.endswith((".read", "os.stat")):
            function.can_block_in("linecache.py", {"updatecache", "checkcache"})
    return watch


def _record(error: blockbuster.BlockingError, function: str) -> None:
    """Remember the call: our code contains exceptions, and would contain this one, too."""
    Exception.__init__(error, f"Blocking call to {function}")
    _blocked.append(function)


def _blocking_calls(item: pytest.Item) -> list[str]:
    calls, _blocked[:] = sorted(set(_blocked)), []
    if item.get_closest_marker("may_block"):
        return []
    return [f"blocked the event loop: {name}" for name in calls]


@pytest.fixture(scope="session", autouse=True)
def _blocking_watch() -> Iterator[blockbuster.BlockBuster]:
    watch = _make_blockbuster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockbuster.BlockingError, "__init__", _record)
        watch.activate()
        yield watch
        watch.deactivate()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let a test that is marked ``may_block`` really block."""
    if item.get_closest_marker("may_block") is None or not isinstance(item, pytest.Function):
        return (yield)
    watch = item.funcargs[_blocking_watch.__name__]
    assert isinstance(watch, blockbuster.BlockBuster)
    watch.deactivate()
    try:
        return (yield)
    finally:
        watch.activate()
