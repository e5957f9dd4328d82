"""Runs small worker programs as processes of their own, with a collector for what they send."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from asynctrace.otlp.decode import decode_request
from asynctrace.otlp.records import SpanRecord

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0  # seconds until a test gives up on a process

PRELUDE = """
import asyncio, os, signal, sys, time
import asynctrace

def say(*words):
    print(*words, flush=True)

def kill_me(number):
    os.kill(os.getpid(), number)

async def forever():
    say("ready")
    await asyncio.Event().wait()
"""


class Collector:
    """An OTLP endpoint on a real socket that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[SpanRecord] = []
        self.arrival = asyncio.Event()
        self.url = ""

    async def accept(self, request: web.Request) -> web.Response:
        self.spans += decode_request(await request.read())
        self.arrival.set()
        return web.Response(body=b"", content_type="application/x-protobuf")

    def one(self, name: str) -> SpanRecord:
        [span] = [span for span in self.spans if span.name == name]
        return span

    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """A collector on a free port of the loopback interface."""
    collecting = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collecting.accept)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        collecting.url = f"http://{host}:{port}"
        yield collecting
    finally:
        await runner.cleanup()


class Program:
    """A worker program that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def line(self, expected: str) -> None:
        """Wait until the program has printed that line."""
        assert self._process.stdout is not None
        while expected not in self.lines:
            async with asyncio.timeout(PATIENCE):
                line = await self._process.stdout.readline()
            assert line, f"the program ended without {expected!r}: {await self.end()}"
            self.lines.append(line.decode().strip())

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    async def end(self) -> tuple[int, list[str], str]:
        """Exit code, all lines printed, and what went to stderr."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self._process.communicate()
        assert self._process.returncode is not None
        lines = [*self.lines, *out.decode().split("\n")[:-1]]
        return self._process.returncode, lines, err.decode()


@asynccontextmanager
async def program(source: str, **environment: str) -> AsyncIterator[Program]:
    """Start `source` after the prelude; whatever is left of it at the end is killed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PRELUDE + textwrap.dedent(source),
        cwd=ROOT,
        env={**own, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def outcome(source: str, **environment: str) -> tuple[int, list[str], str]:
    """Run a program to its end."""
    async with program(source, **environment) as running:
        return await running.end()
