"""One process, several loops and several lives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.collector import ScriptedCollector
from tests.support.programs import PROJECT, run_program


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


LIVES = """
    import asyncio, sys, warnings
    import asynctrace
    from asynctrace import init
    from opentelemetry import trace

    warnings.simplefilter("always")
    TRACER = trace.get_tracer("module level")
    loop = asyncio.run if sys.argv[2] == "asyncio" else __import__("uvloop").run

    async def life(name, *, close=True):
        tracing = await init(endpoint=sys.argv[1], service_name=name)
        assert asynctrace.current() is tracing
        TRACER.start_span(name).end()
        if close:
            report = await tracing.shutdown()
            assert report.exported == 1, report
            assert not TRACER.start_span("between lives").is_recording()
        return tracing

    async def two_lives():
        await life("third")
        await life("fourth")

    loop(life("first"))
    loop(life("second"))
    loop(two_lives())
    forgotten = loop(life("forgotten", close=False))
    TRACER.start_span("after the loop").end()

    async def close():
        return await forgotten.shutdown()

    report = loop(close())
    assert report.exported == 2, report
    loop(life("last"))
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_init_follows_shutdown_in_the_same_loop_and_in_others(
    loop: str, collector: ScriptedCollector
) -> None:
    """`asyncio.run` again and again; a loop that was closed without a shutdown says so once."""
    ended = run_program(LIVES, collector.url, loop)
    assert ended.code == 0, ended.err
    names = ["first", "second", "third", "fourth", "forgotten", "after the loop", "last"]
    assert sorted(span.name for span in collector.spans) == sorted(names)
    services = {span.resource.attributes["service.name"] for span in collector.spans}
    assert services == set(names) - {"after the loop"}
    assert ended.err.count("was not shut down") == 1
    assert "Traceback" not in ended.err


MAIN_TESTS = ["tests/tracing/test_flush_shutdown.py", "tests/tracing/test_init.py"]
MAIN_TESTS += ["tests/export/test_pipeline.py", "tests/adversity/test_link.py"]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform == "win32", reason="no uvloop on this platform")
def test_uvloop_passes_the_same_tests() -> None:
    """Flush, shutdown, start, the pipeline, and every fault of the link."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"),
            *("-p", "tests.support.uvloop_everywhere", *MAIN_TESTS),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    loops = int(done.stdout.rpartition("uvloop loops: ")[2].split()[0])
    assert loops > 100
