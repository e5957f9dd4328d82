"""The exporter under test, closed at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asynctrace.export.contracts import Batch, Outcome
from asynctrace.export.grpc.exporter import OtlpGrpcExporter
from asynctrace.export.grpc.request import Endpoint

from .batches import batch


@asynccontextmanager
async def grpc_exporter(url: str, **settings: object) -> AsyncIterator[OtlpGrpcExporter]:
    settings.setdefault("headers", {})
    made = await OtlpGrpcExporter.create(Endpoint(url=url, **settings))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()
        await made.shutdown()


async def send(made: OtlpGrpcExporter, sent: Batch | None = None, timeout: float = 10) -> Outcome:
    """One attempt as the pipeline makes it: cancelled at the deadline."""
    async with asyncio.timeout(timeout):
        return await made.export(sent or batch(), time.monotonic() + timeout)


async def send_once(url: str, sent: Batch | None = None, **settings: object) -> Outcome:
    """One attempt of a new exporter."""
    async with grpc_exporter(url, **settings) as made:
        return await send(made, sent)
