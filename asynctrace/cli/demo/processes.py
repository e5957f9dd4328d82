"""A service's process: started, asked to stop, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

READY_TIMEOUT = 30.0  # seconds; imports take a few on a busy machine
STOP_TIMEOUT = 15.0  # seconds; more than tracing and aiohttp's server take for theirs together

_LAST_WORDS = 4000  # bytes of stderr that are worth showing


class StartError(Exception):
    """A service did not come up; the message says which, and what it wrote last."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a service said about its spans when it ended."""

    accepted: int
    exported: int
    failed: int
    dropped: Mapping[str, int]
    """By reason."""
    pending: int
    elapsed: float
    """Seconds that shutting down tracing took."""
    errors: Sequence[str]
    """The last error of each exporter that had one."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a service's process ended."""

    name: str
    pid: int
    exit_code: int
    """Negative: the number of the signal that ended it."""
    elapsed: float
    """Seconds from the request to stop to the end of the process."""
    delivery: Delivery | None
    """None when it ended without saying it."""
    last_words: str
    """The end of what it wrote to stderr."""


@asynccontextmanager
async def running(
    name: str, module: str, *arguments: str, environ: Mapping[str, str]
) -> AsyncIterator[ServiceProcess]:
    """Run a service as `python -m module arguments`; the body begins when it listens.

    Whatever happens in the body, the process is gone afterwards.

    Raises:
        StartError: it did not come up.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        env=dict(environ),
        stdin=asyncio.subprocess.PIPE,  # its end tells the service that we are gone
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us alone; we pass it on as SIGTERM
    )
    service = ServiceProcess(name, process)
    listening = asyncio.create_task(service.keep_last_words())
    try:
        await service.wait_ready()
        yield service
    finally:
        try:
            await service.stop()
        finally:
            await listening


class ServiceProcess:
    """A service that runs; made by `running`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._port = 0
        self._last_words = b""
        self._ended: Ended | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    async def wait_ready(self) -> None:
        """Wait until it listens.

        Raises:
            StartError: it ended instead, or did not say so in time.
        """
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                message = await self._hear("port")
        except TimeoutError:
            raise StartError(f"{self.name} was not ready after {READY_TIMEOUT} s") from None
        if message is None:
            ended = await self.stop()
            raise StartError(
                f"{self.name} ended before it was ready, exit code {ended.exit_code}:"
                f" {ended.last_words or 'without a word'}"
            )
        self._port = message["port"]

    async def stop(self) -> Ended:
        """Ask it to end, kill it when it does not in time; a second call returns the same.

        When the call is cancelled the process is killed at once.
        """
        if self._ended is not None:
            return self._ended
        started = time.monotonic()
        message = None
        self._ask_to_stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                message = await self._hear("accepted")
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            self._kill()
            exit_code = await self._process.wait()
        self._ended = Ended(
            name=self.name,
            pid=self._process.pid,
            exit_code=exit_code,
            elapsed=time.monotonic() - started,
            delivery=None if message is None else Delivery(**message),
            last_words=self._last_words.decode(errors="replace").strip(),
        )
        return self._ended

    async def keep_last_words(self) -> None:
        """Read its stderr to the end, so that it never waits for a reader."""
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(65536):
            self._last_words = (self._last_words + chunk)[-_LAST_WORDS:]

    def _ask_to_stop(self) -> None:
        if sys.platform != "win32":  # there is no SIGTERM, but the end of stdin says the same
            self._signal(signal.SIGTERM)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _kill(self) -> None:
        if sys.platform != "win32":
            self._signal(signal.SIGKILL)
        elif self._process.returncode is None:
            self._process.kill()

    def _signal(self, number: signal.Signals) -> None:
        # Process.send_signal() of asyncio first polls, and so takes the exit code of a process
        # that has just ended away from the watcher that waits for it: the code would be lost.
        if self._process.returncode is None:
            try:
                os.kill(self._process.pid, number)
            except ProcessLookupError:
                pass

    async def _hear(self, key: str) -> dict[str, Any] | None:
        """The next message that has `key`, or None when its stdout has ended.

        Other lines are passed over: libraries may print.
        """
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict) and key in message:
                return message
        return None

    def __repr__(self) -> str:
        state = self.url if self._ended is None else f"exit code {self._ended.exit_code}"
        return f"<ServiceProcess {self.name} pid={self._process.pid}: {state}>"
