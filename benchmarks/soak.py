"""A service under load for minutes, while its collector is killed and started again at random.

    python -m benchmarks.soak [--quick] [--minutes 3] [--rate 2000] [--spool]

Prints what was sent, received and lost, and the memory at the start and at the end. Exits with 1
when a span was lost and not counted, or was lost at all with a spool.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from asynctrace.cli.main import main as command
from asynctrace.initialization import init
from asynctrace.otlp.decode import decode_request
from asynctrace.tracing import ShutdownReport, Tracing

TICK = 0.005
SHUTDOWN = 10.0
"""Seconds for the last spans."""


def collect(listener: socket.socket, book: Path) -> None:
    """Write the ids of the spans of each request down, then say yes. Killed at any moment."""
    yes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with book.open("ab", buffering=0) as ids:
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                while body := _request(stream):
                    spans = decode_request(body)
                    ids.write(b"".join(bytes.fromhex(span.span_id) for span in spans))
                    connection.sendall(yes)


def _request(stream: object) -> bytes:
    length = 0
    while (line := stream.readline().strip().lower()) != b"":  # type: ignore[attr-defined]
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    body: bytes = stream.read(length)  # type: ignore[attr-defined]
    return body if len(body) == length else b""


class Collector:
    """A process that listens on one port whenever it lives."""

    def __init__(self, book: Path) -> None:
        self._book = book
        self._process: BaseProcess | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.deaths = 0

    @property
    def alive(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(16)
        # Spawned, not forked: it must inherit none of the sockets of the service.
        context = multiprocessing.get_context("spawn")
        with listener:
            self._process = context.Process(target=collect, args=(listener, self._book))
            self._process.start()

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            self.deaths += 1

    def received(self) -> Iterator[bytes]:
        """Span ids, also twice."""
        data = self._book.read_bytes()
        return (data[start : start + 8] for start in range(0, len(data), 8))


@dataclass(slots=True)
class Soak:
    """What came of it."""

    sent: set[bytes]
    report: ShutdownReport
    deaths: int
    memory: tuple[int, int]
    """Bytes at the start, when warm, and at the end."""


async def soak(collector: Collector, seconds: float, rate: int, spool: Path | None) -> Soak:
    """Load, and a collector that comes and goes."""
    sent: set[bytes] = set()
    async with init(
        endpoint=f"http://127.0.0.1:{collector.port}",
        service_name="soak",
        set_global=False,
        timeout=1.0,
        export_timeout=3.0,
        schedule_delay=0.2,
        spool=spool,
    ) as tracing:
        trouble = asyncio.create_task(_come_and_go(collector, seconds))
        await _load(tracing, sent, min(2.0, seconds / 4), rate)
        start = psutil.Process().memory_info().rss
        await _load(tracing, sent, seconds * 3 / 4, rate)
        await trouble
        end = psutil.Process().memory_info().rss
        report = await tracing.shutdown(SHUTDOWN)
    return Soak(sent, report, collector.deaths, (start, end))


async def _load(tracing: Tracing, sent: set[bytes], seconds: float, rate: int) -> None:
    tracer = tracing.get_tracer("soak")
    begun = time.monotonic()
    number = 0
    while (elapsed := time.monotonic() - begun) < seconds:
        while number < elapsed * rate:
            with tracer.start_as_current_span("work", attributes={"number": number}) as span:
                sent.add(span.get_span_context().span_id.to_bytes(8, "big"))
            number += 1
        await asyncio.sleep(TICK)


async def _come_and_go(collector: Collector, seconds: float) -> None:
    """Up and down for random times; up at the end."""
    end = time.monotonic() + seconds
    unit = min(10.0, seconds / 6)
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, random.uniform(0.1, 1.0) * unit))
        await asyncio.to_thread(collector.kill if collector.alive else collector.start)
    if not collector.alive:
        await asyncio.to_thread(collector.start)


@contextmanager
def _folder(wanted: bool) -> Iterator[Path | None]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) if wanted else None


def told(result: Soak, received: list[bytes], *, spooled: bool) -> bool:
    """Print the figures; whether they are as promised."""
    report, arrived = result.report, set(received)
    lost = result.sent - arrived
    counted = report.failed + sum(report.dropped.values())
    start, end = (size / 2**20 for size in result.memory)
    print(f"collector killed     {result.deaths:>9} times")
    print(f"spans sent           {len(result.sent):>9}")
    print(f"spans received       {len(arrived):>9}  and {len(received) - len(arrived)} twice")
    print(f"spans lost           {len(lost):>9}  counted as failed or dropped: {counted}")
    print(f"shutdown             {report}")
    print(f"memory               {start:>9.1f} MiB at the start, {end:.1f} MiB at the end")
    strange = arrived - result.sent
    # What was taken in the moment of a kill, and never confirmed, is counted and not lost.
    return not strange and len(lost) <= counted and not (spooled and lost)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="twelve seconds")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rate", type=int, default=2000, help="spans per second")
    parser.add_argument("--spool", action="store_true", help="with a spool nothing may be lost")
    options = parser.parse_args()
    seconds = 12.0 if options.quick else options.minutes * 60
    with tempfile.TemporaryDirectory() as books, _folder(options.spool) as spool:
        collector = Collector(Path(books) / "ids")
        collector.start()
        try:
            result = asyncio.run(soak(collector, seconds, options.rate, spool))
            if spool is not None:  # what the shutdown left on disk
                url = f"http://127.0.0.1:{collector.port}"
                command(["spool", "send", str(spool), "--endpoint", url])
        finally:
            collector.kill()
        good = told(result, list(collector.received()), spooled=options.spool)
    sys.exit(not good)


if __name__ == "__main__":
    main()
