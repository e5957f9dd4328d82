"""A service under load, a collector that is well, and a link between them that goes wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from asynctrace.export.contracts import Exporter
from asynctrace.export.grpc.exporter import OtlpGrpcExporter
from asynctrace.export.grpc.request import Endpoint as GrpcEndpoint
from asynctrace.export.otlp_http import Endpoint, OtlpHttpExporter
from asynctrace.initialization import init
from asynctrace.otlp.decode import decode_request
from asynctrace.tracing import ShutdownReport, Tracing
from tests.support.collector import ScriptedCollector
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.h2_server import H2Server, Peer
from tests.support.stopwatch import in_time
from tests.support.witness import Witness

PROTOCOLS = ("http/protobuf", "http/json", "grpc")


class Collector(Protocol):
    @property
    def port(self) -> int: ...

    @property
    def span_ids(self) -> list[str]: ...


TOO_LARGE = [("grpc-status", "8"), ("grpc-message", "received message larger than max")]


class GrpcCollector(H2Server):
    """Takes every call of at most `limit` bytes, and remembers the spans."""

    def __init__(self, limit: int = 2**22) -> None:
        super().__init__(then=self._take)
        self._limit = limit
        self._ids: list[str] = []
        self._lock = threading.Lock()

    @property
    def span_ids(self) -> list[str]:
        with self._lock:
            return list(self._ids)

    def _take(self, peer: Peer) -> None:
        peer.greet()
        while True:
            call = peer.read_call()
            if len(call.message) > self._limit:
                peer.answer(call, message=None, trailers=TOO_LARGE)
                continue
            with self._lock:
                self._ids += [span.span_id for span in decode_request(call.message[5:])]
            peer.answer(call)


@contextmanager
def collecting(protocol: str) -> Iterator[Collector]:
    with GrpcCollector() if protocol == "grpc" else ScriptedCollector() as collector:
        yield collector


async def exporter_to(url: str, protocol: str) -> Exporter:
    if protocol == "grpc":
        return await OtlpGrpcExporter.create(GrpcEndpoint(url=url, headers={}))
    return await OtlpHttpExporter.create(
        Endpoint(url=f"{url}/v1/traces", headers={}, json=protocol == "http/json")
    )


class Scene:
    """Ends spans all the time, and knows what was ended, said to be delivered, and received."""

    def __init__(
        self, tracing: Tracing, collector: Collector, proxy: FaultProxy, witness: Witness
    ) -> None:
        self.tracing = tracing
        self.proxy = proxy
        self.ended: list[str] = []
        self._collector = collector
        self._witness = witness
        self._working = True
        self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        tracer = self.tracing.get_tracer("service")
        while self._working:
            with tracer.start_as_current_span("request") as span:
                self.ended.append(f"{span.get_span_context().span_id:016x}")
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """No more load."""
        self._working = False
        await self._task

    @property
    def received(self) -> set[str]:
        return set(self._collector.span_ids)

    @property
    def delivered(self) -> set[str]:
        return set(self._witness.delivered)

    async def wait_until_delivered(self, spans: int) -> None:
        async with asyncio.timeout(10):
            while len(self.delivered) < spans:
                await asyncio.sleep(0.005)

    async def flush(self, timeout: float) -> bool:
        """In time; whether all was delivered."""
        with in_time(timeout):
            report = await self.tracing.force_flush(timeout)
        return bool(report)

    async def shutdown(self, timeout: float) -> ShutdownReport:
        """In time, with figures that are true."""
        await self.stop()
        with in_time(timeout):
            report = await self.tracing.shutdown(timeout)
        figures = report.exporters["otlp"]
        assert figures.pending == 0
        counted = figures.exported + figures.failed + sum(figures.dropped.values())
        assert counted == len(self.ended)
        # A batch is told to be delivered once, and what is told has been received.
        assert figures.exported == len(self._witness.delivered) == len(self.delivered)
        assert self.delivered <= self.received <= set(self.ended)
        return report


@asynccontextmanager
async def scene(
    protocol: str, fault: Fault = Fault.NONE, **options: object
) -> AsyncIterator[Scene]:
    settings: dict[str, object] = {
        "schedule_delay": 0.02,
        "max_export_batch_size": 16,
        "timeout": 0.4,
        **options,
    }
    with collecting(protocol) as collector, FaultProxy(collector.port, fault) as proxy:
        witness = Witness(await exporter_to(proxy.url, protocol))
        tracing = await init(
            exporter=witness,
            service_name="shop",
            set_global=False,
            **settings,  # type: ignore[arg-type]
        )
        running = Scene(tracing, collector, proxy, witness)
        try:
            yield running
        finally:
            await running.stop()
            await tracing.shutdown(0)
