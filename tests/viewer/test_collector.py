"""The local collector over a real socket, with real exporters."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import aiohttp
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from asynctrace.otlp import decode, json
from asynctrace.otlp.records import SpanRecord
from asynctrace.viewer import Collector
from asynctrace.viewer.otlp_http import JSON, PROTOBUF


def spans(number: int) -> list[SpanRecord]:
    return [SpanRecord(trace_id="1" * 32, span_id=f"{n + 1:016x}") for n in range(number)]


async def post(
    collector: Collector,
    body: bytes,
    *,
    content_type: str = JSON,
    encoding: str = "",
    path: str = "/v1/traces",
) -> tuple[int, str, bytes]:
    headers = {"Content-Type": content_type}
    if encoding:
        headers["Content-Encoding"] = encoding
    async with (
        aiohttp.ClientSession() as session,
        session.post(collector.url + path, data=body, headers=headers) as answer,
    ):
        return answer.status, answer.content_type, await answer.read()


@pytest.mark.parametrize("compression", list(Compression))
async def test_the_official_exporter_is_understood(compression: Compression) -> None:
    """What OpenTelemetry's own exporter sends arrives as it was, compressed or not."""
    async with Collector() as collector:

        def export() -> None:
            exporter = OTLPSpanExporter(f"{collector.url}/v1/traces", compression=compression)
            provider = TracerProvider(
                resource=Resource({"service.name": "shop"}), shutdown_on_exit=False
            )
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            tracer = provider.get_tracer("test")
            with tracer.start_as_current_span("parent", attributes={"n": 7}):
                tracer.start_span("child").end()
            provider.shutdown()

        await asyncio.to_thread(export)
        child, parent = collector.spans
        [trace] = collector.traces()
    assert (parent.name, parent.attributes, parent.parent_span_id) == ("parent", {"n": 7}, "")
    assert child.parent_span_id == parent.span_id
    assert parent.resource.attributes["service.name"] == "shop"
    assert [node.span for node in trace.nodes] == [parent, child]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_json_is_taken_in_every_encoding(encoding: str, pack: type[bytes]) -> None:
    """And answered in JSON, also when the content type has parameters."""
    async with Collector() as collector:
        answer = await post(
            collector,
            pack(json.encode_json(spans(2))),
            content_type="application/json; charset=utf-8",
            encoding=encoding,
        )
        assert answer == (200, JSON, b"{}")
        assert collector.spans == tuple(spans(2))


@pytest.mark.parametrize("content_type", [JSON, PROTOBUF])
async def test_garbage_is_answered_with_a_status(content_type: str) -> None:
    """400 in the sender's encoding, and nothing is kept."""
    async with Collector() as collector:
        status, answered_type, body = await post(collector, b"\xffspam", content_type=content_type)
        assert collector.statistics().received == 0
    assert (status, answered_type) == (400, content_type)
    read = json.decode_status if content_type == JSON else decode.decode_status
    assert read(body).message


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_a_request_that_is_too_large_is_refused(encoding: str) -> None:
    """The limit holds for what was sent, and for what it unfolds to."""
    body = b" " * 5000
    async with Collector(max_request_bytes=1000) as collector:
        status, _, answer = await post(
            collector, gzip.compress(body) if encoding else body, encoding=encoding
        )
    assert status == 413
    assert "1000 bytes" in json.decode_status(answer).message


async def test_unknown_types_and_paths_are_refused() -> None:
    """415 for what is not OTLP, 404 for signals that are not taken."""
    async with Collector() as collector:
        assert (await post(collector, b"", content_type="text/plain"))[0] == 415
        assert (await post(collector, b"", path="/v1/metrics"))[0] == 404


async def test_spans_without_valid_ids_are_rejected_and_the_others_kept() -> None:
    """Partial success says how many."""
    bad = [
        SpanRecord(trace_id="0" * 32, span_id="1" * 16),
        SpanRecord(trace_id="1" * 32, span_id="0" * 16),
        SpanRecord(trace_id="1" * 30, span_id="1" * 16),
    ]
    async with Collector() as collector:
        _, _, answer = await post(collector, json.encode_json([*bad, *spans(1)]))
        statistics = collector.statistics()
    assert json.decode_response(answer).rejected == 3
    assert (statistics.received, statistics.rejected, statistics.kept) == (4, 3, 1)


async def test_memory_is_bounded() -> None:
    """The newest spans are kept, and the figures add up."""
    async with Collector(max_spans=3) as collector:
        await post(collector, json.encode_json(spans(5)))
        kept, statistics = collector.spans, collector.statistics()
    assert kept == tuple(spans(5)[2:])
    assert (statistics.received, statistics.kept, statistics.evicted) == (5, 3, 2)


async def test_one_waits_for_spans_and_not_for_time() -> None:
    """wait_for returns as soon as the condition holds."""
    async with Collector() as collector:
        waiting = asyncio.create_task(collector.wait_for(lambda got: len(got) >= 3, timeout=30))
        await post(collector, json.encode_json(spans(1)))
        assert not waiting.done()
        await post(collector, json.encode_json(spans(2)))
        await waiting
        await collector.wait_for(lambda got: len(got) == 3, timeout=30)


async def test_waiting_ends_at_its_deadline_with_what_is_there() -> None:
    """A test that fails says what had come."""
    async with Collector() as collector:
        await post(collector, json.encode_json(spans(1)))
        with pytest.raises(TimeoutError, match="kept=1"):
            await collector.wait_for(lambda got: len(got) > 1, timeout=0.01)


async def test_two_collectors_have_ports_of_their_own() -> None:
    """Port 0 is a free one, and the repr says which."""
    async with Collector() as one, Collector() as other:
        assert one.url != other.url
        assert one.url in repr(one)
    assert repr(one) == "<Collector closed: <SpanStore 0/100000 spans>>"


async def test_a_port_in_use_leaves_nothing_open() -> None:
    """The error is the system's own, and the collector can be entered again elsewhere."""
    async with Collector() as first:
        port = int(first.url.rpartition(":")[2])
        second = Collector(port=port)
        with pytest.raises(OSError, match=str(port)):
            await second.__aenter__()
        assert "closed" in repr(second)


async def test_it_closes_while_senders_are_connected() -> None:
    """A sender that never finishes its request does not hold it up."""
    async with Collector() as collector:
        host, port = collector.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
        await writer.drain()
        await post(collector, json.encode_json(spans(1)))
    writer.close()
