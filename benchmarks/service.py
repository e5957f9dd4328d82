"""A whole service under load: bare, with contrib, with asynctrace, each a process of its own.

    python -m benchmarks.service [--seconds 2] [--rounds 3] [--connections 16]

The services are interleaved in rounds, so that what else the machine does hits all of them. They
share one core, of which only the one that is asked wants anything, and the load is made on the
others: what is compared is what one core can do. The load comes from a closed loop of raw
connections here, which asks again when it was answered; from `wrk` where that is installed.
Throughput is that of the best round, latencies are of the same; the CPU time is what the service
itself used per request, which a busy machine changes least.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import statistics
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from time import perf_counter, process_time

from aiohttp import web

import asynctrace

from .pipelines import Discard, official
from .server import request_bytes

KINDS = ("bare", "contrib", "asynctrace")


@dataclass(frozen=True, slots=True)
class Load:
    per_second: float
    p50: float
    """Milliseconds, as the next."""
    p99: float
    cpu: float = 0.0
    """Microseconds of the service's processor per request."""


# --- the service ---------------------------------------------------------------------------------


async def handle(_request: web.Request) -> web.Response:
    return web.json_response({"id": 42, "name": "basket"})


async def tell_cpu(_request: web.Request) -> web.Response:
    return web.Response(text=str(process_time()))


def make_app(kind: str) -> web.Application:
    app = web.Application()
    app.router.add_get("/users/{id}", handle)
    app.router.add_get("/cpu", tell_cpu)
    if kind == "asynctrace":
        asynctrace.setup(app, service_name="benchmark", exporter=Discard())
    elif kind == "contrib":
        add_contrib(app)
    return app


def add_contrib(app: web.Application) -> None:
    """Contrib's instrumentation with its SDK and its encoder."""
    from opentelemetry.instrumentation.aiohttp_server import (
        AioHttpServerInstrumentor,
        create_aiohttp_middleware,
    )

    provider = official()
    instrumentor = AioHttpServerInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    instrumentor.uninstrument()
    app.middlewares.append(create_aiohttp_middleware(provider))


def share_cores() -> set[int]:
    """Keep this process, which makes the load, off one core; returns that one, for the services.

    Where cores cannot be chosen, or there is only one, everybody takes what there is.
    """
    if not hasattr(os, "sched_setaffinity"):
        return set()
    cores = os.sched_getaffinity(0)
    core = max(cores)
    if len(cores) > 1:
        os.sched_setaffinity(0, cores - {core})
    return {core}


async def serve(kind: str, cores: set[int]) -> None:
    """Serve on `cores` until standard input ends; the port is printed first."""
    if cores:
        os.sched_setaffinity(0, cores)
    runner = web.AppRunner(make_app(kind), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@contextlib.asynccontextmanager
async def service(kind: str, cores: set[int]) -> AsyncIterator[int]:
    """The port of a service in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.service", "--serve", kind, "--cores", *map(str, cores),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(await process.stdout.readline())
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# --- the load ------------------------------------------------------------------------------------


async def load(port: int, *, connections: int, seconds: float) -> Load:
    made_by = wrk if shutil.which("wrk") else closed_loop
    before = await cpu_of(port)
    measured = await made_by(port, connections=connections, seconds=seconds)
    used = await cpu_of(port) - before
    return replace(measured, cpu=used / (measured.per_second * seconds) * 1e6)


async def cpu_of(port: int) -> float:
    """Seconds of processor that the service has used."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /cpu HTTP/1.0\r\n\r\n")
    text = (await reader.read()).rpartition(b"\r\n")[2]
    writer.close()
    return float(text)


async def closed_loop(port: int, *, connections: int, seconds: float) -> Load:
    """Each connection asks again as soon as it was answered."""
    request = request_bytes(sampled=True)
    taken: list[float] = []
    end = perf_counter() + seconds

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (begun := perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length.group(1)))
            taken.append(perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(ask() for _ in range(connections)))
    centiles = statistics.quantiles(taken, n=100)
    return Load(len(taken) / seconds, centiles[49] * 1000, centiles[98] * 1000)


async def wrk(port: int, *, connections: int, seconds: float) -> Load:
    trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    process = await asyncio.create_subprocess_exec(
        "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-H", trace,
        f"http://127.0.0.1:{port}/users/42?page=3", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    text = output.decode()
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    centiles = dict(re.findall(r"(50|99)%\s+([\d.]+(?:us|ms|s))", text))
    assert rate is not None
    return Load(float(rate.group(1)), _milliseconds(centiles["50"]), _milliseconds(centiles["99"]))


def _milliseconds(text: str) -> float:
    number = float(text.rstrip("mus"))
    return number * {"us": 1e-3, "ms": 1.0}.get(text[-2:], 1e3)


async def compare(*, rounds: int, connections: int, seconds: float) -> dict[str, Load]:
    """The best round of each kind."""
    best: dict[str, Load] = {}
    cores = share_cores()
    async with contextlib.AsyncExitStack() as stack:
        ports = {kind: await stack.enter_async_context(service(kind, cores)) for kind in KINDS}
        for port in ports.values():  # caches fill, routes are learned
            await load(port, connections=connections, seconds=0.5)
        for _ in range(rounds):
            for kind, port in ports.items():
                measured = await load(port, connections=connections, seconds=seconds)
                if kind not in best or measured.per_second > best[kind].per_second:
                    best[kind] = measured
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.service")
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve, set(given.cores)))
        return
    best = asyncio.run(
        compare(rounds=given.rounds, connections=given.connections, seconds=given.seconds)
    )
    bare = best["bare"]
    for kind, measured in best.items():
        print(
            f"{kind:12} {measured.per_second:8.0f}/s {measured.per_second / bare.per_second:6.0%}"
            f"   p50 {measured.p50:6.2f} ms   p99 {measured.p99:6.2f} ms"
            f" {measured.p99 / bare.p99:5.2f} x bare   cpu {measured.cpu:5.1f} us"
            f" ({bare.cpu / measured.cpu:4.0%})"
        )


if __name__ == "__main__":
    main()
