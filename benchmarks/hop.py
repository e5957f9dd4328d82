"""One hop under load: a gateway that asks a service over real sockets, with each kind of client.

    python -m benchmarks.hop [--seconds 2] [--rounds 3] [--connections 8]

Each gateway is a process of its own, and all of them ask the same service. Only the client is
traced, so that the difference between the gateways is the hop. They are interleaved in rounds, as
in `benchmarks.service`, whose load it is; the CPU time is the gateway's own per request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable

import httpx
from aiohttp import web
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport

import asynctrace

from .pipelines import Discard, official
from .service import Load, handle, load, tell_cpu

SERVICE = "service"


def _bare(base_url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=base_url)


def _contrib(base_url: str) -> httpx.AsyncClient:
    transport = AsyncOpenTelemetryTransport(httpx.AsyncHTTPTransport(), tracer_provider=official())
    return httpx.AsyncClient(base_url=base_url, transport=transport)


def _ours(base_url: str) -> httpx.AsyncClient:
    return asynctrace.create_client(base_url=base_url)


def _ours_over_aiohttp(base_url: str) -> httpx.AsyncClient:
    return asynctrace.create_client(base_url=base_url, transport="aiohttp")


CLIENTS: dict[str, Callable[[str], httpx.AsyncClient]] = {
    "bare": _bare,
    "contrib": _contrib,
    "asynctrace": _ours,
    "asynctrace-aiohttp": _ours_over_aiohttp,
}


# --- the processes --------------------------------------------------------------------------------


async def serve(kind: str, service_port: int) -> None:
    """Serve until standard input ends; the port is printed first."""
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores) if kind == SERVICE else max(cores)})
    async with contextlib.AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_get("/cpu", tell_cpu)
        if kind == SERVICE:
            app.router.add_get("/users/{id}", handle)
        else:
            if kind.startswith("asynctrace"):
                await stack.enter_async_context(
                    asynctrace.init(service_name="gateway", exporter=Discard())
                )
            client = CLIENTS[kind](f"http://127.0.0.1:{service_port}")
            await stack.enter_async_context(client)

            async def ask(request: web.Request) -> web.Response:
                response = await client.get("/users/" + request.match_info["id"])
                return web.Response(body=response.content, content_type="application/json")

            app.router.add_get("/users/{id}", ask)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextlib.asynccontextmanager
async def process(kind: str, service_port: int = 0) -> AsyncIterator[int]:
    """The port of a process that serves `kind`."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.hop", "--serve", kind, "--service", str(service_port),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdin is not None
    try:
        yield int(await started.stdout.readline())
        started.stdin.close()
        await asyncio.wait_for(started.wait(), 10)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def compare(*, rounds: int, connections: int, seconds: float) -> dict[str, Load]:
    """The round of each kind in which it used the least CPU time."""
    best: dict[str, Load] = {}
    async with contextlib.AsyncExitStack() as stack:
        service_port = await stack.enter_async_context(process(SERVICE))
        ports = {
            kind: await stack.enter_async_context(process(kind, service_port)) for kind in CLIENTS
        }
        for port in ports.values():
            await load(port, connections=connections, seconds=0.5)
        for _ in range(rounds):
            for kind, port in ports.items():
                measured = await load(port, connections=connections, seconds=seconds)
                if kind not in best or measured.cpu < best[kind].cpu:
                    best[kind] = measured
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.hop")
    parser.add_argument("--serve", choices=[SERVICE, *CLIENTS], help=argparse.SUPPRESS)
    parser.add_argument("--service", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve, given.service))
        return
    best = asyncio.run(
        compare(rounds=given.rounds, connections=given.connections, seconds=given.seconds)
    )
    bare = best["bare"]
    for kind, measured in best.items():
        print(
            f"{kind:20} cpu {measured.cpu:7.1f} us {measured.cpu / bare.cpu:5.2f} x bare"
            f"   p50 {measured.p50:6.2f} ms   p99 {measured.p99:6.2f} ms"
            f" {measured.p99 / bare.p99:5.2f} x bare   {measured.per_second:7.0f}/s"
        )


if __name__ == "__main__":
    main()
