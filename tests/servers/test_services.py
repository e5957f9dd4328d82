"""Real servers and workers in processes of their own, ended by SIGTERM while they are at work."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.collector import ScriptedCollector
from tests.support.programs import LIBRARY

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM on this platform"),
]

SERVICE = """
    import os, sys
    from aiohttp import web
    from asynctrace.aiohttp import setup

    async def hello(request):
        return web.json_response({"pid": os.getpid()})

    app = web.Application()
    app.router.add_get("/", hello)
    setup(app, endpoint=os.environ["COLLECTOR"], service_name="shop")
    if __name__ == "__main__":
        import socket
        web.run_app(app, sock=socket.socket(fileno=int(sys.argv[1])), print=None)
"""
RUN_APP = ["service.py", "{fd}"]
GUNICORN = ["-m", "gunicorn", "service:app", "--bind", "fd://{fd}", "--workers", "2"]
GUNICORN += ["--worker-class", "aiohttp.GunicornWebWorker"]


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """The socket that the service serves: there are no requests that come too early."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as it:
        yield it


class Load:
    """Makes requests in two threads until nobody answers."""

    def __init__(self, port: int) -> None:
        self.answers: list[int] = []
        """The process of each answer that was complete."""
        self._url = f"http://127.0.0.1:{port}/"
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with urllib.request.urlopen(self._url, timeout=2) as response:
                    self.answers.append(json.load(response)["pid"])
            except OSError:
                self._stopping.wait(0.01)

    def wait_for(self, answers: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.answers) < answers:
            assert time.monotonic() < deadline, f"{len(self.answers)} answers"
            time.sleep(0.01)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)


@contextmanager
def serving(
    command: Sequence[str], folder: Path, collector: ScriptedCollector, *descriptors: int
) -> Iterator[subprocess.Popen[str]]:
    """The command, which is ended in any case."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment |= {"PYTHONPATH": f"{LIBRARY}{os.pathsep}{folder}", "COLLECTOR": collector.url}
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        pass_fds=descriptors,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    "command",
    [RUN_APP, GUNICORN, [*GUNICORN, "--preload"]],
    ids=["run_app", "gunicorn prefork", "gunicorn preload_app"],
)
def test_a_service_under_load_loses_no_span_when_it_is_ended(
    command: list[str], tmp_path: Path, collector: ScriptedCollector, listener: socket.socket
) -> None:
    """Every answer that a client got has its span, once, of the process that gave it."""
    (tmp_path / "service.py").write_text(textwrap.dedent(SERVICE))
    number = listener.fileno()
    line = [word.format(fd=number) for word in command]
    with serving(line, tmp_path, collector, number) as process:
        load = Load(listener.getsockname()[1])
        try:
            load.wait_for(100)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
        finally:
            listener.close()  # whoever still waits is refused
            load.stop()
    spans = collector.spans
    assert "Traceback" not in errors, errors
    assert "was not shut down" not in errors
    assert len({span.span_id for span in spans}) == len(spans)
    by_process = Counter(span.resource.attributes["process.pid"] for span in spans)
    answers = Counter(load.answers)
    assert by_process.keys() >= answers.keys()
    assert all(by_process[pid] >= count for pid, count in answers.items())
    # What a client gave up, or was cut off from, has a span as well; that is at most one each.
    assert len(spans) <= len(load.answers) + 4
    identities = {span.resource.attributes["service.instance.id"] for span in spans}
    assert len(identities) == len(by_process)


WORKER = """
    import asyncio, os, sys
    import asynctrace

    async def main():
        tracer = asynctrace.current().get_tracer("worker")
        number = 0
        try:
            while True:
                for _ in range(20):
                    tracer.start_span("work").end()
                    number += 1
                print(number, flush=True)
                await asyncio.sleep(0.001)
        finally:
            print(number, flush=True)

    asynctrace.run(main(), endpoint=os.environ["COLLECTOR"], max_queue_size=100_000)
"""


def test_a_worker_under_load_loses_no_span_when_it_is_ended(
    tmp_path: Path, collector: ScriptedCollector
) -> None:
    """Whatever had ended arrives, queued or in flight."""
    with serving(["-c", textwrap.dedent(WORKER)], tmp_path, collector) as process:
        collector.wait_for_spans(1000, timeout=20)
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM, errors
    work = [span.span_id for span in collector.spans if span.name == "work"]
    assert len(work) == len(set(work)) == int(printed.split()[-1])
