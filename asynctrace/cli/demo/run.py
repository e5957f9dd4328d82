"""The demo from start to end: services up, orders sent, services down, spans collected."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx

from asynctrace.cli.demo.processes import Ended, ServiceProcess, running
from asynctrace.cli.demo.shop import Order
from asynctrace.otlp.records import SpanRecord
from asynctrace.tree import Trace
from asynctrace.viewer import Collector

SERVICES: Mapping[str, str] = {
    "inventory": "asynctrace.cli.demo.inventory",
    "orders": "asynctrace.cli.demo.orders",
    "gateway": "asynctrace.cli.demo.gateway",
}
"""Name -> module. Each is given the address of the one before it; the last takes the orders."""

_AT_ONCE = 8  # orders that are under way together: their traces must not mix
_REQUEST_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of an order."""

    order: Order
    status: int | None
    """None when there was no answer, and then `error` says why."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a run of the demo showed."""

    replies: tuple[Reply, ...]
    services: tuple[Ended, ...]
    endpoint: str
    """Where the spans were sent."""
    traces: tuple[Trace[SpanRecord], ...] | None
    """None when they went to somebody else's collector, which we cannot ask."""


async def run_demo(
    orders: Sequence[Order],
    *,
    collector_url: str | None = None,
    services: Mapping[str, str] = SERVICES,
) -> Seen:
    """Run the services, send the orders, and report what was seen; judging is left to others.

    No process outlives the call, also when it fails or is cancelled.

    Raises:
        StartError: a service did not come up.
    """
    if collector_url is not None:
        environ = environment(os.environ, collector_url, own_collector=False)
        replies, ended = await _trade(orders, services, environ)
        return Seen(replies, ended, collector_url, None)
    async with Collector() as collector:
        environ = environment(os.environ, collector.url, own_collector=True)
        replies, ended = await _trade(orders, services, environ)
        # Whatever a service reports as exported was answered by the collector: all is here.
        return Seen(replies, ended, collector.url, tuple(collector.traces()))


def environment(
    environ: Mapping[str, str], endpoint: str, *, own_collector: bool
) -> dict[str, str]:
    """The environment of the services: without settings that would change what the demo shows.

    Somebody else's collector may need headers or certificates: settings of the exporter stay then.
    """

    def stays(name: str) -> bool:
        if not name.startswith("OTEL_"):
            return True
        exporter = name.startswith("OTEL_EXPORTER_OTLP_") and not name.endswith("_ENDPOINT")
        return exporter and not own_collector

    ours = {name: value for name, value in environ.items() if stays(name)}
    ours |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")
    return {**ours, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}


async def _trade(
    orders: Sequence[Order], services: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[tuple[Reply, ...], tuple[Ended, ...]]:
    async with AsyncExitStack() as stack:
        processes: list[ServiceProcess] = []
        for name, module in services.items():
            upstream = [processes[-1].url] if processes else []
            process = running(name, module, *upstream, environ=environ)
            processes.append(await stack.enter_async_context(process))
        replies = await _send(orders, processes[-1].url)
        ended = await asyncio.gather(*(process.stop() for process in reversed(processes)))
    return replies, tuple(ended)


async def _send(orders: Sequence[Order], url: str) -> tuple[Reply, ...]:
    gate = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=_REQUEST_TIMEOUT, trust_env=False) as client:

        async def send(order: Order) -> Reply:
            async with gate:
                try:
                    answer = await client.post(order.path, json={"item": order.item})
                except httpx.HTTPError as error:
                    return Reply(order, None, f"{type(error).__name__}: {error}")
                return Reply(order, answer.status_code)

        return tuple(await asyncio.gather(*map(send, orders)))
