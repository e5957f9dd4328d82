"""Processes with a spool: they exit, are killed, fork, share; what they left arrives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynctrace.cli.main import main
from tests.support.collector import ScriptedCollector, refusing_port
from tests.support.programs import LIBRARY, Ended, run_program

PREAMBLE = """
    import asyncio, json, os, sys, time, warnings
    from asynctrace.initialization import init

    def service(export_timeout=0.05, **more):
        return init(
            endpoint=sys.argv[1], spool=sys.argv[2], service_name="shop", set_global=False,
            schedule_delay=0.01, export_timeout=export_timeout, max_export_batch_size=8, **more,
        )

    def work(tracing, number):
        tracer = tracing.get_tracer("t")
        for _ in range(number):
            span = tracer.start_span("work")
            span.end()
            # In one piece: a forked child writes to the same pipe at the same time.
            os.write(1, f"{span.get_span_context().span_id:016x}\\n".encode())

    async def until(condition):
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)
"""


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a collector that is down."""
    with refusing_port() as port:
        yield f"http://127.0.0.1:{port}"


def program(source: str) -> str:
    return textwrap.dedent(PREAMBLE) + textwrap.dedent(source)


def run(source: str, url: str, directory: Path, **environment: str) -> Ended:
    return run_program(program(source), url, str(directory), **environment)


def ids(ended: Ended) -> list[str]:
    assert ended.code == 0, ended.err
    return [line for line in ended.out.split() if len(line) == 16]


def start(source: str, url: str, directory: Path) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    return subprocess.Popen(
        [sys.executable, "-c", program(source), url, str(directory)],
        env={**env, "PYTHONPATH": str(LIBRARY)},
        stdout=subprocess.PIPE,
        text=True,
    )


def waiting(directory: Path) -> list[Path]:
    return list(directory.glob("*.spool"))


SENDS = """
    async def sends():
        async with service(export_timeout=60.0) as tracing:
            await until(lambda: not [n for n in os.listdir(sys.argv[2]) if n.endswith(".spool")])
            print(json.dumps(tracing.statistics().replayed))

    asyncio.run(sends())
"""

FORGETS = """
    async def forgets():
        global tracing
        tracing = await service(shutdown_timeout=0.3)
        work(tracing, 30)

    warnings.simplefilter("ignore")
    asyncio.run(forgets())
"""

OVERLOADED = """
    async def overloaded():
        async with service() as tracing:
            while True:
                work(tracing, 8)
                await asyncio.sleep(0.001)

    asyncio.run(overloaded())
"""


def test_an_exit_without_shutdown_loses_nothing(
    tmp_path: Path, nobody: str, collector: ScriptedCollector
) -> None:
    """What cannot be sent while the interpreter exits goes to disk; the next start sends it."""
    ended = ids(run(FORGETS, nobody, tmp_path))
    assert waiting(tmp_path)
    assert run(SENDS, collector.url, tmp_path).out == "30\n"
    assert sorted(collector.span_ids) == sorted(ended)


def test_an_exit_from_a_thread_of_ours_loses_nothing(
    tmp_path: Path, nobody: str, collector: ScriptedCollector
) -> None:
    """The loop of `init` is gone, a thread delivers, and no other can be started at the exit."""
    ended = ids(
        run(
            FORGETS + "    work(tracing, 20)\n    time.sleep(0.2)\n    work(tracing, 20)\n",
            nobody,
            tmp_path,
        )
    )
    assert len(ended) == 70
    assert main(["spool", "send", str(tmp_path), "--endpoint", collector.url]) == 0
    assert set(collector.span_ids) == set(ended)


def test_a_killed_process_loses_only_what_was_not_written(
    tmp_path: Path, nobody: str, collector: ScriptedCollector
) -> None:
    """SIGKILL in the middle of writing: what was on disk is sent, whole, and nothing is fatal."""
    with start(OVERLOADED, nobody, tmp_path) as process:
        assert process.stdout is not None
        printed = []
        while sum(path.stat().st_size for path in waiting(tmp_path)) < 50_000:
            printed.append(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.readlines()
    assert waiting(tmp_path)
    replayed = int(run(SENDS, collector.url, tmp_path).out)
    arrived = Counter(collector.span_ids)
    assert replayed == arrived.total()
    assert set(arrived) <= {line.strip() for line in printed}
    assert replayed > 100


def test_two_processes_share_the_directory(
    tmp_path: Path, nobody: str, collector: ScriptedCollector
) -> None:
    """Both write; when both are gone a third sends everything."""
    first, second = (start(FORGETS, nobody, tmp_path) for _ in range(2))
    printed = first.communicate(timeout=30)[0].split() + second.communicate(timeout=30)[0].split()
    assert len(printed) == 60
    assert run(SENDS, collector.url, tmp_path).out == "60\n"
    assert sorted(collector.span_ids) == sorted(printed)


def test_two_processes_send_side_by_side(
    tmp_path: Path, nobody: str, collector: ScriptedCollector
) -> None:
    """A segment is sent by one of them only."""
    ended = [span for _ in range(4) for span in ids(run(FORGETS, nobody, tmp_path))]
    first, second = (start(SENDS, collector.url, tmp_path) for _ in range(2))
    told = [int(sender.communicate(timeout=30)[0]) for sender in (first, second)]
    assert sum(told) == 120
    assert sorted(collector.span_ids) == sorted(ended)


def test_a_full_disk_drops_with_a_reason(tmp_path: Path, nobody: str) -> None:
    """The service runs on, the reason is counted, and the figures add up."""
    ended = run(
        """
        import resource

        async def full():
            async with service() as tracing:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
                for number in range(1, 21):
                    work(tracing, 8)
                    await until(lambda: tracing.statistics().queued == 0)
                await tracing.force_flush()
                figures, = tracing.statistics().exporters.values()
                print(json.dumps([dict(figures.dropped), figures.spooled, figures.accepted]))
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

        asyncio.run(full())
        """,
        nobody,
        tmp_path,
    )
    ids(ended)
    dropped, spooled, accepted = json.loads(ended.out.splitlines()[-1])
    assert set(dropped) == {"spool_full"}
    assert spooled > 0
    assert dropped["spool_full"] + spooled == accepted == 160
    assert ended.err.count("cannot be written to the spool") == 1


def test_a_forked_child_has_a_spool_of_its_own(
    tmp_path: Path, nobody: str, collector: ScriptedCollector
) -> None:
    """Neither sends or deletes what is the other's; both arrive, none twice."""
    ended = ids(
        run(
            """
            async def parent():
                global tracing
                tracing = await service(shutdown_timeout=0.3)
                work(tracing, 16)
                await until(lambda: tracing.statistics().spooled == 16)
                child = os.fork()
                if not child:
                    assert tracing.statistics().spooled == 0
                    work(tracing, 10)
                    assert not tracing.tracer_provider.force_flush(5000)
                    assert tracing.statistics().spooled == 10
                    os._exit(0)
                work(tracing, 8)
                assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
                assert (await tracing.shutdown()).spooled == 24

            asyncio.run(parent())
            """,
            nobody,
            tmp_path,
        )
    )
    assert len(ended) == 34
    assert main(["spool", "send", str(tmp_path), "--endpoint", collector.url]) == 0
    assert sorted(collector.span_ids) == sorted(ended)
    resources = {
        (span.resource.attributes["process.pid"], span.resource.attributes["service.instance.id"])
        for span in collector.spans
    }
    assert len(resources) == 2
