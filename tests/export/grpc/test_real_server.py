"""Against grpcio's own server with the generated service: what we say it understands, and back."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from asynctrace.export.contracts import Delivered, Undelivered
from tests.support.batches import batch, span_ids
from tests.support.grpc_collector import Certificates, GrpcCollector
from tests.support.grpc_exporter import grpc_exporter, send_once


def answer(**how: object) -> dict[str, str]:
    return {"x-answer": json.dumps(how)}


async def test_spans_arrive_over_one_connection(collector: GrpcCollector) -> None:
    """Calls follow one another on the same connection."""
    batches = [batch(2), batch(3), batch(1)]
    async with grpc_exporter(collector.url()) as made:
        assert repr(made) == f"<OtlpGrpcExporter {collector.url()} idle>"
        for sent in batches:
            assert await made.export(sent, time.monotonic() + 10) == Delivered()
        assert repr(made).endswith(" connected>")
    requests = await asyncio.to_thread(collector.wait_for_requests, 3)
    assert [request["span_ids"] for request in requests] == [span_ids(sent) for sent in batches]
    assert len({request["peer"] for request in requests}) == 1


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
async def test_large_requests_pass_the_flow_control(
    collector: GrpcCollector, compression: str
) -> None:
    """Two mebibytes, which is many windows; compressed or not, they are the same spans."""
    sent = batch(64, size=2**15)
    assert await send_once(collector.url(), sent, compression=compression) == Delivered()
    (request,) = await asyncio.to_thread(collector.wait_for_requests, 1)
    assert request["span_ids"] == span_ids(sent)
    assert request["size"] == len(sent.to_otlp()) > 2**21


async def test_headers_are_metadata(collector: GrpcCollector) -> None:
    """Names ending in -bin carry any text; the others arrive as they are."""
    headers = {"Authorization": "Bearer a b", "tenant-bin": "bücher"}
    await send_once(collector.url(), headers=headers)
    (request,) = await asyncio.to_thread(collector.wait_for_requests, 1)
    metadata = request["metadata"]
    assert metadata["authorization"] == "Bearer a b"
    assert metadata["tenant-bin"].encode("latin-1").decode() == "bücher"
    assert metadata["user-agent"] == "asynctrace"


async def test_the_server_knows_the_deadline(collector: GrpcCollector) -> None:
    """It is told how long we wait."""
    await send_once(collector.url())
    (request,) = await asyncio.to_thread(collector.wait_for_requests, 1)
    assert 5 < request["time_remaining"] <= 10


async def test_the_server_ends_a_call_at_the_deadline(collector: GrpcCollector) -> None:
    """A server that works too long says so itself, and the spans may be sent again."""
    async with (
        grpc_exporter(collector.url(), headers=answer(delay=30)) as made,
        asyncio.timeout(10),
    ):
        outcome = await made.export(batch(), time.monotonic() + 0.3)
    assert isinstance(outcome, Undelivered)
    assert outcome.reason in {"grpc_deadline_exceeded", "grpc_cancelled"}
    assert outcome.retryable


@pytest.mark.parametrize("compress", [False, True])
async def test_partial_success_is_read(collector: GrpcCollector, compress: bool) -> None:
    """The count and the words of the receiver, also when its answer is compressed."""
    headers = answer(rejected=2, message="two of them are too old", compress=compress)
    outcome = await send_once(collector.url(), batch(3), headers=headers, compression="gzip")
    assert outcome == Delivered(2, "two of them are too old")


async def test_a_refusal_carries_the_servers_words(collector: GrpcCollector) -> None:
    """Whatever language they are in; it is final."""
    message = "Größe 100 %: nö\n🙂"
    outcome = await send_once(collector.url(), headers=answer(code=3, message=message))
    assert outcome == Undelivered("grpc_invalid_argument", message)


@pytest.mark.parametrize(
    ("how", "retryable", "retry_after"),
    [
        ({"code": 14}, True, None),
        ({"code": 14, "retry": 0.25}, True, 0.25),
        ({"code": 14, "pushback": "1500"}, True, 1.5),
        ({"code": 14, "pushback": "-1"}, False, None),
        ({"code": 8}, False, None),
        ({"code": 8, "retry": 0.5}, True, 0.5),
        ({"code": 16, "retry": 0.5}, False, None),
    ],
    ids=str,
)
async def test_the_server_says_whether_to_try_again(
    collector: GrpcCollector, how: dict[str, object], retryable: bool, retry_after: float | None
) -> None:
    """By its code, by RetryInfo in the details, and by gRPC's own pushback."""
    outcome = await send_once(collector.url(), headers=answer(**how))
    assert isinstance(outcome, Undelivered)
    assert (outcome.retryable, outcome.retry_after) == (retryable, retry_after)


async def test_tls_with_a_ca_of_our_own(
    collector: GrpcCollector, certificates: Certificates
) -> None:
    """The server is trusted by the given authority, and by no other."""
    url = collector.url("tls")
    sent = batch()
    assert await send_once(url, sent, certificate=certificates.path("ca.pem")) == Delivered()
    (request,) = await asyncio.to_thread(collector.wait_for_requests, 1)
    assert request["span_ids"] == span_ids(sent)
    refused = await send_once(url)
    assert isinstance(refused, Undelivered)
    assert refused.reason == "unreachable"
    assert "CERTIFICATE_VERIFY_FAILED" in refused.message


async def test_mutual_tls(collector: GrpcCollector, certificates: Certificates) -> None:
    """The server sees who we are; without a certificate it does not talk to us."""
    url, ca = collector.url("mutual"), certificates.path("ca.pem")
    pair = {
        "client_certificate": certificates.path("client.pem"),
        "client_key": certificates.path("client.key"),
    }
    assert await send_once(url, certificate=ca, **pair) == Delivered()
    (request,) = await asyncio.to_thread(collector.wait_for_requests, 1)
    assert request["identities"] == ["shop@example.org"]
    refused = await send_once(url, certificate=ca)
    assert isinstance(refused, Undelivered)
    assert (refused.reason, refused.retryable) == ("unreachable", True)


async def test_a_certificate_for_another_name_is_refused(
    collector: GrpcCollector, certificates: Certificates
) -> None:
    """It is for localhost and not for the address."""
    url = collector.url("tls").replace("localhost", "127.0.0.1")
    refused = await send_once(url, certificate=certificates.path("ca.pem"))
    assert isinstance(refused, Undelivered)
    assert "CERTIFICATE_VERIFY_FAILED" in refused.message
