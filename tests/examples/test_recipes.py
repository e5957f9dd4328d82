"""The recipes for workers and logs, run as they stand, against real servers where there are any."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import asynctrace
from asynctrace.otlp.records import SpanRecord
from asynctrace.testing import InMemoryExporter
from asynctrace.worker import Worker
from tests.examples.servers import kafka_server, rabbitmq_server, redis_server
from tests.support.programs import LIBRARY, PROJECT
from tests.worker.programs import collector

pytestmark = pytest.mark.may_block("imports examples, starts processes")

PRODUCER, CONSUMER = 4, 5  # of OTLP

servers = [pytest.mark.servers, pytest.mark.timeout(120)]


class Spans:
    """What the running tracing has exported."""

    def __init__(self, exporter: InMemoryExporter, tracing: asynctrace.Tracing) -> None:
        self._exporter = exporter
        self._tracing = tracing

    async def named(self, name: str, count: int) -> list[SpanRecord]:
        """The spans of that name, when there are as many."""
        async with asyncio.timeout(20):
            while True:
                await self._tracing.force_flush()
                found = [made for made in self._exporter.spans if made.name == name]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def spans() -> AsyncIterator[Spans]:
    exporter = InMemoryExporter()
    async with asynctrace.init(exporter=exporter) as tracing:
        yield Spans(exporter, tracing)


async def run_example(name: str) -> tuple[int | None, str]:
    """Run examples/`name` as its users do; its exit code and what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROJECT / "examples" / name),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, out.decode()


async def test_queue_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job is in the trace of its request."""
    async with collector() as collecting:
        with monkeypatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collecting.url)
            patch.setenv("PYTHONPATH", str(LIBRARY))
            assert await run_example("queue_in_process.py") == (0, "")
    requests = {made.span_id for made in collecting.spans if made.name == "sign up"}
    jobs = {made.span_id: made for made in collecting.spans if made.name == "process mails"}
    work = [made for made in collecting.spans if made.name == "send mail"]
    assert {made.parent_span_id for made in jobs.values()} == requests
    assert {made.parent_span_id for made in work} == set(jobs)
    assert len(requests) == len(jobs) == len(work) == 3


class TestRedis:
    pytestmark = servers

    async def test_order(self, spans: Spans, tmp_path: Path) -> None:
        """One trace from the producer over the stream to the work; the entry is acknowledged."""
        pytest.importorskip("redis")
        from examples import redis_streams as recipe

        async with (
            redis_server(tmp_path) as url,
            recipe.Redis.from_url(url, decode_responses=True) as redis,
            Worker(concurrency=2) as worker,
        ):
            with asynctrace.span("request"):
                await recipe.place_order(redis, "book")
            consuming = asyncio.create_task(recipe.consume(redis, worker, "c1"))
            [done] = await spans.named("process orders", 1)
            assert (await redis.xpending(recipe.STREAM, recipe.GROUP))["pending"] == 0
            worker.stop()
            await consuming
        [sent] = await spans.named("publish orders", 1)
        [billed] = await spans.named("bill", 1)
        assert (sent.kind, done.kind) == (PRODUCER, CONSUMER)
        assert done.parent_span_id == sent.span_id
        assert billed.parent_span_id == done.span_id
        attributes = dict(done.attributes)
        assert attributes.pop("messaging.message.id").endswith("-0")
        assert attributes == {
            "messaging.system": "redis",
            "messaging.destination.name": "orders",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "asynctrace.message.delivery_count": 1,
        }

    async def test_entry_that_is_gone(self, spans: Spans) -> None:
        """One that somebody else acknowledges while it is claimed is passed over."""
        pytest.importorskip("redis")
        from examples import redis_streams as recipe

        class Redis:
            """Without a server: the race is between two of its commands."""

            async def xgroup_create(self, *args: object, **options: object) -> None:
                pass

            async def xautoclaim(self, *args: object, **options: object) -> object:
                return "0-0", [("1-0", {"item": "gone"}), ("2-0", {"item": "book"})], []

            async def xpending_range(self, *args: object) -> list[dict[str, int]]:
                return [] if args[2] == "1-0" else [{"times_delivered": 2}]

        async for order in recipe.orders(Redis(), "c1"):  # type: ignore[arg-type]
            assert order == recipe.Order("2-0", {"item": "book"}, deliveries=2)
            break

    async def test_redelivery(
        self, spans: Spans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What fails is told and stays pending; the next consumer is told of a redelivery."""
        pytest.importorskip("redis")
        from examples import redis_streams as recipe

        bill = recipe.bill

        async def fail_once(redis: recipe.Redis, order: recipe.Order) -> None:
            if order.deliveries == 1:
                raise ConnectionError("the bank is closed")
            await bill(redis, order)

        monkeypatch.setattr(recipe, "bill", fail_once)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with (
            redis_server(tmp_path) as url,
            recipe.Redis.from_url(url, decode_responses=True) as redis,
        ):
            await recipe.place_order(redis, "book")
            for number, idle_ms in enumerate((60_000, 0), start=1):
                async with Worker() as worker:
                    consuming = asyncio.create_task(
                        recipe.consume(redis, worker, f"consumer-{number}", idle_ms=idle_ms)
                    )
                    await spans.named("process orders", number)
                    worker.stop()
                    await consuming
        first, second, *_ = await spans.named("process orders", 2)
        [sent] = await spans.named("publish orders", 1)
        assert first.attributes["error.type"] == "ConnectionError"
        assert "asynctrace.message.redelivered" not in first.attributes
        assert second.attributes["asynctrace.message.redelivered"] is True
        assert second.attributes["asynctrace.message.delivery_count"] >= 2
        assert {first.parent_span_id, second.parent_span_id} == {sent.span_id}


class TestRabbitMQ:
    pytestmark = servers

    async def test_orders(self, spans: Spans, tmp_path: Path) -> None:
        """Each in its sender's trace; one that fails comes back, and its second span says so."""
        pytest.importorskip("aio_pika")
        from examples import rabbitmq as recipe

        told: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with rabbitmq_server(tmp_path) as url:
            connection = await recipe.aio_pika.connect(url)
            async with connection:
                channel = await connection.channel()
                queue = await channel.declare_queue(recipe.QUEUE)
                for item in ("book", "unlucky"):
                    await recipe.place_order(channel, item)
                async with Worker(concurrency=2) as worker:
                    consuming = asyncio.create_task(recipe.consume(queue, worker))
                    processed = await spans.named("process orders", 3)
                    worker.stop()
                    await consuming
        sent = {made.span_id for made in await spans.named("publish orders", 2)}
        assert {made.parent_span_id for made in processed} == sent
        [failed] = [made for made in processed if "error.type" in made.attributes]
        [again] = [s for s in processed if s.attributes.get("asynctrace.message.redelivered")]
        assert failed.attributes["error.type"] == "ConnectionError"
        assert again.parent_span_id == failed.parent_span_id
        assert "error.type" not in again.attributes
        assert [type(context["exception"]) for context in told] == [ConnectionError]


class TestKafka:
    pytestmark = servers

    async def test_batch(self, spans: Spans) -> None:
        """One span for a batch, linked to the sender of each record."""
        pytest.importorskip("aiokafka")
        from examples import kafka as recipe

        async with (
            kafka_server() as address,
            recipe.AIOKafkaProducer(bootstrap_servers=address) as producer,
            recipe.AIOKafkaConsumer(
                recipe.TOPIC,
                bootstrap_servers=address,
                group_id=recipe.GROUP,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
            ) as consumer,
        ):
            sent: set[str] = set()
            for number, item in enumerate(("book", "pen"), start=1):
                await recipe.place_order(producer, item)
                sent = {made.span_id for made in await spans.named("publish orders", number)}
            consuming = asyncio.create_task(recipe.consume(consumer))
            found: set[str] = set()
            async with asyncio.timeout(50):
                while not sent <= found:  # the two may be in different batches
                    batches = await spans.named("process orders", 1)
                    found = {link.span_id for made in batches for link in made.links}
                    await asyncio.sleep(0.05)
            consuming.cancel()
            await asyncio.wait({consuming})
            offsets = [await consumer.committed(at) or 0 for at in consumer.assignment()]
        assert sum(offsets) >= 2
        assert {made.kind for made in batches} == {CONSUMER}
        assert all(made.parent_span_id == "" for made in batches)

    async def test_batch_without_a_server(self, spans: Spans) -> None:
        """The recipe with the records of a consumer that is not there: links, commit, end."""
        pytest.importorskip("aiokafka")
        from examples import kafka as recipe

        headers: list[list[tuple[str, bytes]]] = []

        class Producer:
            async def send_and_wait(self, topic: str, value: bytes, headers: object) -> None:
                sent.append(headers)

        sent: list[object] = headers  # type: ignore[assignment]
        for item in ("book", "pen"):
            await recipe.place_order(Producer(), item)
        committed: list[object] = []

        class Record:
            def __init__(self, offset: int) -> None:
                self.offset, self.headers = offset, tuple(headers[offset])

        class Consumer:
            async def getmany(self, **options: int) -> dict[str, list[Record]]:
                return {"orders-0": [Record(0), Record(1)]}

            async def commit(self, offsets: object) -> None:
                committed.append(offsets)
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await recipe.consume(Consumer())
        assert committed == [{"orders-0": 2}]
        [batch] = await spans.named("process orders", 1)
        senders = [made.span_id for made in await spans.named("publish orders", 2)]
        assert [link.span_id for link in batch.links] == senders
        assert batch.attributes["messaging.batch.message_count"] == 2


async def test_structlog(spans: Spans, capsys: pytest.CaptureFixture[str]) -> None:
    """Every event has the fields of its span."""
    structlog = pytest.importorskip("structlog")
    from examples import log_with_structlog as recipe

    recipe.configure()
    try:
        with asynctrace.span("order") as order:
            structlog.get_logger().info("ordered", item="book")
    finally:
        structlog.reset_defaults()
    event = json.loads(capsys.readouterr().out)
    assert event["trace_id"] == f"{order.get_span_context().trace_id:032x}"
    assert event["item"] == "book"
    assert event["trace_sampled"] is True


async def test_loguru(spans: Spans, capsys: pytest.CaptureFixture[str]) -> None:
    """Every record has the fields of its span."""
    loguru = pytest.importorskip("loguru")
    from examples import log_with_loguru as recipe

    recipe.configure()
    try:
        with asynctrace.span("order") as order:
            loguru.logger.info("ordered")
    finally:
        loguru.logger.remove()
    assert f"trace_id={order.get_span_context().trace_id:032x} " in capsys.readouterr().out
