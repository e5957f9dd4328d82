"""The demo on real processes: a good run, a bad collector, a crash, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from asynctrace.cli.demo import processes
from asynctrace.cli.demo.judge import problems
from asynctrace.cli.demo.processes import StartError, running
from asynctrace.cli.demo.run import SERVICES, environment, run_demo
from asynctrace.cli.demo.shop import orders
from asynctrace.viewer import Collector

DEMO = (sys.executable, "-m", "asynctrace.cli", "demo")

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


async def run(*options: str) -> tuple[int | None, str, str]:
    """Run the demo as a user does."""
    process = await asyncio.create_subprocess_exec(
        *DEMO, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what other processes do; the test's time-out is the deadline."""
    while not condition():
        await asyncio.sleep(0.01)


def module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a module that child processes can run."""
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    path = os.pathsep.join([str(folder), str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    return name


@posix
async def test_the_demo_proves_that_tracing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees, marks, figures, a verdict, exit code 0, whatever stands in the environment."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with monkeypatch.context() as patch:
        patch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        code, out, _ = await run("--requests", "4")
    assert code == 0, out
    assert out.count("gateway POST /checkout/{order}") == 4
    assert out.count("inventory PUT /stock/{item}/{order}") == 4
    assert out.count("orders process parcels") == 3
    assert out.count("◷ slow") == 1
    assert out.count("✖ LookupError") == 1
    assert "4 traces, 23 spans: every trace is complete and every parent is right" in out


def test_the_users_tracing_settings_stay_out() -> None:
    """But for what another collector may need to let the spans in."""
    users = {
        "PATH": "/bin",
        "OTEL_SDK_DISABLED": "true",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://elsewhere",
        "OTEL_EXPORTER_OTLP_HEADERS": "key=secret",
    }
    for_us = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PATH": "/bin"}
    own = environment(users, "http://own", own_collector=True)
    assert own == {**for_us, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://own"}
    theirs = environment(users, "http://theirs", own_collector=False)
    assert theirs == {
        **for_us,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://theirs",
        "OTEL_EXPORTER_OTLP_HEADERS": "key=secret",
    }


@posix
@pytest.mark.slow
async def test_another_collector_gets_the_spans() -> None:
    """With --collector the spans go there, only their delivery is judged, and nobody is left."""
    async with Collector() as collector:
        code, out, _ = await run("--json", "--requests", "1", "--collector", collector.url)
        [trace] = collector.traces()
    told = json.loads(out)
    assert code == 0
    assert told["problems"] == []
    assert told["traces"] is None
    assert len(trace.nodes) == sum(service["spans"]["exported"] for service in told["services"])
    for service in told["services"]:
        assert service["exit_code"] == 0
        assert 0 < service["spans"]["shutdown_took"] < service["stopped_in"] < 10
        assert not psutil.pid_exists(service["pid"])


@posix
@pytest.mark.slow
async def test_a_collector_that_is_down_is_no_success() -> None:
    """The services answer as ever, end in time, and count what they could not deliver."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        seen = await run_demo(orders(1), collector_url=url)
    assert [reply.status for reply in seen.replies] == [201]
    told = problems(seen)
    assert [problem.partition(" (")[0] for problem in told] == [
        "gateway: 2 of 2 spans not delivered",
        "orders: 3 of 3 spans not delivered",
        "inventory: 1 of 1 span not delivered",
    ]
    assert all(service.exit_code == 0 and service.elapsed < 8 for service in seen.services)


@posix
@pytest.mark.slow
async def test_a_crash_of_one_service_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing, how the service ended, and the others still deliver what they have."""
    crashing = module(
        tmp_path,
        "crashing_inventory",
        """
        import os, sys
        from asynctrace.cli.demo import inventory
        from asynctrace.cli.demo.service import serve

        async def crash(request):
            print("out of stock", file=sys.stderr, flush=True)
            os._exit(3)

        inventory.reserve = crash
        serve(inventory.create_app())
        """,
        monkeypatch,
    )
    seen = await run_demo(orders(1), services={**SERVICES, "inventory": crashing})
    told = problems(seen)
    assert "order 1 (lamp): answered 500, expected 201" in told
    assert "inventory: ended with exit code 3, its last words: out of stock" in told
    assert any("missing: inventory SERVER" in problem for problem in told)
    assert not any(problem.startswith(("gateway", "orders")) for problem in told)


async def test_a_service_that_cannot_start_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its exit code and its last words."""
    broken = module(tmp_path, "broken_service", "raise SystemExit('no licence')", monkeypatch)
    with pytest.raises(StartError, match=r"inventory .* exit code 1: no licence"):
        await run_demo(orders(1), services={"inventory": broken})


SLEEPER = """
import signal, time
print("noise")
{first}
print('[1]')
print('{{"port": 1}}', flush=True)
time.sleep(600)
"""


@posix
async def test_a_service_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the deadline; what else it prints is passed over."""
    monkeypatch.setattr(processes, "STOP_TIMEOUT", 0.1)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    name = module(tmp_path, "deaf_service", SLEEPER.format(first=deaf), monkeypatch)
    async with running("deaf", name, environ=os.environ) as service:
        assert service.url in repr(service)
        ended = await service.stop()
        assert ended.exit_code == -signal.SIGKILL
        assert ended.delivery is None
        assert await service.stop() is ended
        assert repr(service).endswith(f"pid={ended.pid}: exit code -9>")


@posix
async def test_a_service_that_never_listens_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is gone when the error comes."""
    monkeypatch.setattr(processes, "READY_TIMEOUT", 0.1)
    name = module(tmp_path, "mute_service", "import time; time.sleep(600)", monkeypatch)
    before = set(psutil.Process().children())
    with pytest.raises(StartError, match=r"mute was not ready after 0\.1 s"):
        async with running("mute", name, environ=os.environ):
            pytest.fail("it never listens")
    assert set(psutil.Process().children()) <= before


@posix
async def test_cancelling_kills_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a stop that waits."""
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    name = module(tmp_path, "deaf_service", SLEEPER.format(first=deaf), monkeypatch)
    before = set(psutil.Process().children())
    started = asyncio.Event()

    async def use() -> None:
        async with running("deaf", name, environ=os.environ) as service:
            started.set()
            await service.stop()

    user = asyncio.create_task(use())
    await started.wait()
    user.cancel()
    begun = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await user
    assert time.monotonic() - begun < processes.STOP_TIMEOUT / 2
    assert set(psutil.Process().children()) <= before


@posix
@pytest.mark.slow
async def test_nothing_is_left_behind_by_an_interrupt() -> None:
    """Ctrl-C ends the demo in the middle, and its services with it."""
    demo = await asyncio.create_subprocess_exec(
        *DEMO, "--requests", "5000", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    children: set[psutil.Process] = set()

    def all_run() -> bool:
        children.update(psutil.Process(demo.pid).children())
        return len(children) >= len(SERVICES)

    await eventually(all_run)
    demo.send_signal(signal.SIGINT)
    _, err = await demo.communicate()
    assert not any(child.is_running() for child in children)
    assert demo.returncode == 130
    assert b"Traceback" not in err


async def test_a_service_ends_when_the_demo_is_gone() -> None:
    """However the demo was ended, its end of stdin is closed, and the service shuts down."""
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        SERVICES["inventory"],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert service.stdin is not None
    assert service.stdout is not None
    assert "port" in json.loads(await service.stdout.readline())
    service.stdin.close()
    assert json.loads(await service.stdout.read())["exported"] == 0
    assert await service.wait() == 0
