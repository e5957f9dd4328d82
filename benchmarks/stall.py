"""How long export makes the event loop stand still: the longest gaps at full load.

    python -m benchmarks.stall [--quick]

One process ends spans at a steady rate, as requests would, and beats. The collector is another
process. A gap on the clock is also the machine's: it stops everybody now and then. So each gap is
measured in CPU time of the loop's thread as well, which is what is due to the program itself; and
the same load with an exporter that does nothing shows the share of the load and of the garbage
collector. The steps of export that run on the loop are timed by themselves, too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource

from asynctrace.config import Options
from asynctrace.export.contracts import Batch, Delivered, Outcome
from asynctrace.export.queue import SpanQueue
from asynctrace.initialization import init
from asynctrace.tracing import Tracing

RATE = 20_000
"""Spans per second."""
BATCH = 2048
TICK = 0.001
"""Seconds between two portions of the load; each is as long as a request or less."""
LIMIT = 0.002
"""Seconds that a gap due to export may last."""
ATTRIBUTES = {
    "http.request.method": "GET",
    "url.path": "/orders/42",
    "url.scheme": "http",
    "http.route": "/orders/{id}",
    "http.response.status_code": 200,
    "server.address": "shop.example",
    "server.port": 443,
}


@dataclass(frozen=True, slots=True)
class Gap:
    """One round of the loop, in seconds."""

    clock: float
    """How much later than due it came round."""
    work: float
    """How long it worked meanwhile: CPU time of its thread."""


@dataclass(frozen=True, slots=True)
class Run:
    """The gaps of one run."""

    name: str
    spans: int
    exported: int
    gaps: list[Gap]

    @property
    def longest(self) -> float:
        """Seconds of the loop's own work."""
        return max(gap.work for gap in self.gaps)

    def __str__(self) -> str:
        quantile = statistics.quantiles((gap.work for gap in self.gaps), n=1000)
        figures = {
            "median": quantile[499],
            "99.9 %": quantile[998],
            "longest": self.longest,
            "on the clock": max(gap.clock for gap in self.gaps),
        }
        shown = "  ".join(f"{name} {1000 * gap:5.2f} ms" for name, gap in figures.items())
        return f"{self.name:<16} {self.spans:>7} spans, {self.exported:>7} exported   {shown}"


class Nowhere:
    """Takes everything and does nothing: the floor."""

    name = "nowhere"
    needs_spans = False

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        return Delivered()

    async def close(self) -> None: ...

    async def shutdown(self) -> None: ...

    def after_fork(self) -> None: ...

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        return Delivered()


async def measure(name: str, seconds: float, **options: object) -> Run:
    """Load a `Tracing` of these options for so long."""
    settings: Options = {  # type: ignore[assignment]
        "set_global": False,
        "max_queue_size": 20 * BATCH,
        "max_export_batch_size": BATCH,
        **options,
    }
    async with init(**settings) as tracing:
        await load(tracing, 0.3)  # connections, code and caches are warm from here on
        gc.collect()
        gaps, spans = await load(tracing, seconds)
        exported = (await tracing.shutdown(10)).exported
    return Run(name, spans, exported, gaps)


async def load(tracing: Tracing, seconds: float) -> tuple[list[Gap], int]:
    """End spans at the rate, a portion per tick; the gaps, without the portions themselves."""
    tracer = tracing.get_tracer("benchmark")
    gaps = []
    begun = last = time.perf_counter()
    spans = 0
    while last < begun + seconds:
        # Behind by a long gap, the load does not catch up at once: that would be a gap of its own.
        due = min(int((last - begun) * RATE) - spans, int(4 * RATE * TICK))
        for _ in range(due):
            tracer.start_span("GET /orders/{id}", attributes=ATTRIBUTES).end()
        spans += due
        before, worked = time.perf_counter(), time.thread_time()
        await asyncio.sleep(TICK)
        last = time.perf_counter()
        gaps.append(Gap(max(0.0, last - before - TICK), time.thread_time() - worked))
    return gaps, spans


def collect(listener: socket.socket) -> None:
    """A collector that reads and says yes, as fast as it can."""
    yes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            while stream.readline():
                length = 0
                while (line := stream.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                stream.read(length)
                connection.sendall(yes)


def steps(rounds: int) -> dict[str, float]:
    """The longest of each step that a batch costs on the loop, in seconds of CPU time."""
    span = b"x" * 420
    queue = SpanQueue(max_spans=20 * BATCH, max_bytes=2**30)
    batch = Batch([], Resource.get_empty())

    def take() -> None:
        nonlocal batch
        batch = Batch(queue.take(BATCH), Resource.get_empty())

    def join() -> None:
        batch.to_otlp()

    worst = {"take": 0.0, "join": 0.0}
    for _ in range(rounds):
        for _ in range(2 * BATCH):
            queue.append((None, span, None))
        for name, step in (("take", take), ("join", join)):
            worst[name] = max(worst[name], _timed(step))
        queue.take(len(queue))
    return worst


def _timed(step: Callable[[], None]) -> float:
    begun = time.thread_time()
    step()
    return time.thread_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stall", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seconds per run")
    seconds = 2.0 if parser.parse_args().quick else 10.0
    for name, worst in steps(200).items():
        print(f"{name} of {BATCH} spans: {1000 * worst:.2f} ms at most")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        fork = multiprocessing.get_context("fork")
        collector = fork.Process(target=collect, args=(listener,), daemon=True)
        collector.start()
        try:
            print(asyncio.run(measure("nothing is sent", seconds, exporter=Nowhere())))
            print(asyncio.run(measure("OTLP/HTTP", seconds, endpoint=url)))
            gzip = measure("OTLP/HTTP, gzip", seconds, endpoint=url, compression="gzip")
            print(asyncio.run(gzip))
        finally:
            collector.kill()
            collector.join()


if __name__ == "__main__":
    main()
