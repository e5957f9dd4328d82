"""Through `init`: settings, retries, flush and shutdown, and reports that are true."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from asynctrace.errors import ConfigError
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.support.collector import refusing_port
from tests.support.grpc_collector import Certificates, GrpcCollector
from tests.support.h2_server import H2Server, Peer, go_on, silent
from tests.support.heartbeat import SteadyHeartbeat
from tests.support.stopwatch import in_time

GRPC = {"protocol": "grpc", "set_global": False}


def work(tracing: Tracing, spans: int = 1) -> set[str]:
    """Make spans and return their ids."""
    ids = set()
    for _ in range(spans):
        with tracing.get_tracer("test").start_as_current_span("work") as span:
            ids.add(format(span.get_span_context().span_id, "016x"))
    return ids


async def test_spans_arrive_and_the_report_says_so(collector: GrpcCollector) -> None:
    """Each once, in batches; flush and shutdown tell what the collector got."""
    async with init(endpoint=collector.url(), max_export_batch_size=50, **GRPC) as tracing:
        ids = work(tracing, 120)
        flushed = await tracing.force_flush(timeout=5)
        assert flushed
        ids |= work(tracing)
        report = await tracing.shutdown(timeout=5)
    assert report
    assert (report.exported, report.failed) == (121, 0)
    await asyncio.to_thread(collector.wait_for_spans, ids)


def test_uvloop_serves_as_well(collector: GrpcCollector, certificates: Certificates) -> None:
    """Plain and by TLS."""

    async def main() -> None:
        trusted = {"certificate": certificates.path("ca.pem")}
        for port, tls in (("plain", {}), ("tls", trusted)):
            async with init(endpoint=collector.url(port), **tls, **GRPC) as tracing:
                ids.update(work(tracing, 10))
                assert (await tracing.shutdown(timeout=5)).exported == 10

    ids: set[str] = set()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    collector.wait_for_spans(ids)


async def test_an_unavailable_server_is_tried_again() -> None:
    """Until it takes the spans; the attempts are counted."""

    def recover(peer: Peer) -> None:
        peer.greet()
        peer.answer(
            peer.read_call(),
            message=None,
            trailers=[("grpc-status", "14"), ("grpc-retry-pushback-ms", "20")],
        )
        go_on(peer)

    with H2Server(recover) as server:
        async with init(endpoint=server.url, **GRPC) as tracing:
            work(tracing)
            assert await tracing.force_flush(timeout=5)
            (figures,) = tracing.statistics().exporters.values()
            assert (figures.exported, figures.retries) == (1, 1)


async def test_a_refusal_is_counted_and_logged_with_the_servers_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is final: the spans are failed, and nobody has to guess why."""

    def refuse(peer: Peer) -> None:
        peer.greet()
        while True:
            peer.answer(
                peer.read_call(),
                message=None,
                trailers=[("grpc-status", "16"), ("grpc-message", "no%20token")],
            )

    with H2Server(refuse) as server, caplog.at_level(logging.WARNING, "asynctrace"):
        async with init(endpoint=server.url, **GRPC) as tracing:
            work(tracing)
            report = await tracing.shutdown(timeout=5)
    assert not report
    assert (report.exported, report.failed) == (0, 1)
    (record,) = caplog.records
    assert "grpc_unauthenticated (no token)" in record.getMessage()
    assert "OTEL_EXPORTER_OTLP_HEADERS" in record.getMessage()


def read_headers_only(peer: Peer) -> None:
    """The window is never opened."""
    peer.greet()
    peer.read_headers()
    peer.stopping.wait()


def accept_only(peer: Peer) -> None:
    peer.stopping.wait()


@pytest.mark.parametrize(
    ("behaviour", "scheme"),
    [(silent, "http"), (read_headers_only, "http"), (accept_only, "http"), (accept_only, "https")],
)
async def test_shutdown_keeps_its_deadline(
    behaviour: Callable[[Peer], None], scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the server does not do; every span is accounted for, and the loop goes on."""
    with H2Server(then=behaviour) as server:
        tracing = await init(endpoint=server.url.replace("http", scheme), **GRPC)
        work(tracing, 2000)
        async with SteadyHeartbeat():
            with in_time(0.3):
                report = await tracing.shutdown(timeout=0.3)
    assert report.timed_out
    assert report.exported + report.failed + sum(report.dropped.values()) == 2000
    assert (report.exported, report.pending) == (0, 0)


async def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """Shutdown tries until its deadline, and says that nothing arrived."""
    with refusing_port() as port:
        tracing = await init(endpoint=f"http://127.0.0.1:{port}", **GRPC)
        work(tracing)
        report = await tracing.shutdown(timeout=0.2)
    assert report.exported == 0
    assert "unreachable" in caplog.text


async def test_a_header_that_grpc_cannot_send_is_a_config_error() -> None:
    """At the start, with the reason and without the value."""
    with pytest.raises(ConfigError) as caught:
        await init(endpoint="http://localhost:4317", headers={"tenant": "gehéim"}, **GRPC)
    assert caught.value.setting == "headers"
    assert caught.value.value == {"tenant": "***"}
    assert "tenant-bin" in caught.value.remedy


async def test_a_certificate_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    """As over HTTP."""
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ConfigError) as caught:
        await init(endpoint="https://localhost:4317", certificate=str(path), **GRPC)
    assert caught.value.setting == "certificate"
    assert caught.value.value == str(path)
