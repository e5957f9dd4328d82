"""The guards of conftest.py, seen from outside: a test that misbehaves fails, and says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


@pytest.fixture
def guarded(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with our guards and our settings, in which samples are run."""
    shutil.copy(_HERE / "conftest.py", pytester.path)
    shutil.copy(_HERE.parent / "pyproject.toml", pytester.path)
    monkeypatch.syspath_prepend(str(_HERE.parent))
    monkeypatch.setenv("PYTHONPATH", str(_HERE.parent))
    return pytester


def _run(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", ".")


def test_a_well_behaved_test_passes(guarded: pytest.Pytester) -> None:
    """Ended tasks, joined threads, work in threads, own variables: nothing is reported."""
    result = _run(
        guarded,
        """
        import asyncio, os, threading, time

        import pytest

        @pytest.fixture
        async def server():
            task = asyncio.create_task(asyncio.sleep(60))
            yield
            task.cancel()

        async def test_tasks(server):
            await asyncio.create_task(asyncio.sleep(0))
            await asyncio.to_thread(time.sleep, 0.001)

        def test_thread():
            thread = threading.Thread(target=time.sleep, args=(0.001,))
            thread.start()

        def test_variable(monkeypatch):
            assert not [name for name in os.environ if name.startswith("OTEL_")]
            monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")

        @pytest.mark.may_block("the sample is about that")
        async def test_block():
            time.sleep(0.001)
        """,
    )
    result.assert_outcomes(passed=4)


_MISBEHAVIOUR = {
    "task": ("asyncio.create_task(asyncio.sleep(60), name='lost')", "leaked tasks: *'lost'*"),
    "thread": (
        "threading.Thread(target=time.sleep, args=(3,), name='left').start()",
        "leaked thread: *left*",
    ),
    "daemon": (
        "threading.Thread(target=time.sleep, args=(3,), name='asynctrace-x', daemon=True).start()",
        "leaked thread: *asynctrace-x*",
    ),
    "block": ("time.sleep(0.001)", "blocked the event loop: time.sleep"),
    "contained_block": (
        "with contextlib.suppress(Exception): time.sleep(0.001)",
        "blocked the event loop: time.sleep",
    ),
    "variable": (
        "os.environ['OTEL_SERVICE_NAME'] = 'shop'",
        "left the variable OTEL_SERVICE_NAME behind",
    ),
    "warning": ("warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
    "coroutine": ("asyncio.sleep(0)", "coroutine 'sleep' was never awaited*"),
    "tracing": ("tracing.running = lambda: 'a tracing'", "left running: 'a tracing'"),
}


def test_a_guard_fails_each_test_that_misbehaves(guarded: pytest.Pytester) -> None:
    """What is left behind, blocks or warns makes its own test fail, and is named."""
    samples = "".join(
        f"async def test_{name}():\n    {body}\n" for name, (body, _) in _MISBEHAVIOUR.items()
    )
    header = """
import asyncio, contextlib, os, sys, threading, time, types, warnings
import pytest

tracing = sys.modules.setdefault("asynctrace.tracing", types.ModuleType("tracing"))

@pytest.fixture(autouse=True)
def no_tracing():
    tracing.running = lambda: None

"""
    result = _run(guarded, header + samples)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    report = result.stdout.str()
    for name, (_, complaint) in _MISBEHAVIOUR.items():
        section = report.split(f" test_{name} __", maxsplit=1)[1].split("\n__", maxsplit=1)[0]
        pytest.LineMatcher(section.splitlines()).fnmatch_lines([f"*{complaint}"])
