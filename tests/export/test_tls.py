"""OTLP over HTTPS with generated certificates: an own authority, mutual TLS, and refusals."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import asynctrace
from asynctrace.export.contracts import Delivered, Undelivered
from asynctrace.export.otlp_http import Endpoint, OtlpHttpExporter
from tests.support.batches import batch, span_ids
from tests.support.collector import ScriptedCollector
from tests.support.grpc_collector import Certificates
from tests.support.heartbeat import SteadyHeartbeat

Start = Callable[..., ScriptedCollector]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA of this test run, a certificate for localhost and one for a client."""
    return Certificates.issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start(certificates: Certificates) -> Iterator[Start]:
    """Starts a collector behind TLS, which may ask for the client's certificate."""
    with ExitStack() as running:

        def start(*, mutual: bool = False) -> ScriptedCollector:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(
                certificates.path("server.pem"), certificates.path("server.key")
            )
            if mutual:
                context.load_verify_locations(certificates.path("ca.pem"))
                context.verify_mode = ssl.CERT_REQUIRED
            return running.enter_context(ScriptedCollector(tls=context))

        yield start


async def made(collector: ScriptedCollector, **files: str | None) -> OtlpHttpExporter:
    return await OtlpHttpExporter.create(Endpoint(url=collector.url, headers={}, **files))


def soon() -> float:
    return time.monotonic() + 5


def client_files(certificates: Certificates) -> dict[str, Any]:
    return {
        "certificate": certificates.path("ca.pem"),
        "client_certificate": certificates.path("client.pem"),
        "client_key": certificates.path("client.key"),
    }


async def test_spans_arrive_behind_an_authority_of_ones_own(
    start: Start, certificates: Certificates
) -> None:
    """By the option, from `init` to the collector; the files are read without a loop gap."""
    collector = start()
    async with (
        SteadyHeartbeat(),
        asynctrace.init(
            endpoint=collector.url, certificate=certificates.path("ca.pem"), set_global=False
        ) as tracing,
    ):
        tracing.get_tracer("test").start_span("work").end()
        report = await tracing.force_flush()
    assert report
    assert [span.name for span in collector.spans] == ["work"]


@pytest.mark.parametrize("way", ["loop", "exit"])
async def test_mutual_tls(way: str, start: Start, certificates: Certificates) -> None:
    """The collector sees the client's certificate, also at the exit of the process."""
    collector = start(mutual=True)
    exporter = await made(collector, **client_files(certificates))
    sent = batch(2)
    if way == "loop":
        outcome = await exporter.export(sent, soon())
    else:
        outcome = await asyncio.to_thread(exporter.export_at_exit, sent, soon())
    await exporter.close()
    assert outcome == Delivered()
    assert collector.span_ids == span_ids(sent)


@pytest.mark.parametrize("way", ["loop", "exit"])
async def test_a_collector_that_cannot_be_trusted_gets_nothing(way: str, start: Start) -> None:
    """Without its authority its certificate is worth nothing; the failure says so."""
    collector = start()
    exporter = await made(collector)
    if way == "loop":
        outcome = await exporter.export(batch(), soon())
    else:
        outcome = await asyncio.to_thread(exporter.export_at_exit, batch(), soon())
    await exporter.close()
    assert isinstance(outcome, Undelivered)
    assert "certificate" in outcome.message.lower()
    assert collector.requests == []


async def test_a_client_without_a_certificate_does_not_get_in(
    start: Start, certificates: Certificates
) -> None:
    """A collector that asks for one refuses the connection."""
    collector = start(mutual=True)
    exporter = await made(collector, certificate=certificates.path("ca.pem"))
    outcome = await exporter.export(batch(), soon())
    await exporter.close()
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "unreachable"
    assert collector.requests == []
