"""A whole spool sent once, without a `Tracing`: what the command line does."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from asynctrace import _threads
from asynctrace.config import Config
from asynctrace.export.build import NO_LIMIT, build_exporters
from asynctrace.export.contracts import Batch, Exporter, Outcome, Undelivered

from .replay import send_segment
from .rules import sendable
from .segments import list_segments
from .spool import Tally
from .store import Store


@dataclass(slots=True)
class Sent:
    """What became of a spool."""

    tally: Tally = field(default_factory=Tally)
    failure: Undelivered | None = None
    """What put an end to it before everything was sent."""
    in_use: int = 0
    """Segments of processes that run; they send them themselves."""


async def send_directory(directory: Path, *, exporter: str, endpoint: str | None = None) -> Sent:
    """Send what waits in `directory` for the exporter of that name, by OTLP, oldest first.

    Where to and how the environment says, `endpoint` taking precedence. It ends at the first
    failure that may pass; a receiver that asks for time is given it.

    Raises:
        ConfigError: the environment or `endpoint` cannot be used.
        OSError: a segment cannot be read or deleted.
    """
    config = Config.resolve({"exporter": "otlp", "endpoint": endpoint}, os.environ)
    (sender,) = await build_exporters(config)
    store = Store(directory, exporter=exporter, max_bytes=config.spool_max_bytes)
    sent = Sent()

    async def send(batch: Batch) -> Outcome:
        return await _patiently(sender, batch, config)

    try:
        while (claim := await _threads.call(store.claim)) is not None:
            try:
                failure = await send_segment(claim, send, sent.tally)
            finally:
                claim.release()
            if failure is not None:
                sent.failure = failure
                break
        else:
            left = await _threads.call(list_segments, directory)
            sent.in_use = len(sendable(left, exporter))
    finally:
        await sender.close()
        await sender.shutdown()
    return sent


async def _patiently(sender: Exporter, batch: Batch, config: Config) -> Outcome:
    """One attempt, and more as long as the receiver itself says when."""
    end = time.monotonic() + (config.export_timeout or NO_LIMIT)
    while True:
        timeout = config.timeout or NO_LIMIT
        try:
            async with asyncio.timeout(timeout):
                outcome = await sender.export(batch, time.monotonic() + timeout)
        except TimeoutError:
            return Undelivered("timeout", f"no answer within {timeout:g} s", retryable=True)
        if not isinstance(outcome, Undelivered) or outcome.retry_after is None:
            return outcome
        if time.monotonic() + outcome.retry_after > end:
            return outcome
        await asyncio.sleep(outcome.retry_after)
