"""Messages over Kafka, with aiokafka: a producer, and a consumer of whole batches.

    pip install aiokafka
    python examples/kafka.py localhost:9092

The context travels in the record's headers, a list of (name, bytes). A batch is one span, linked
to the sender of each record: it belongs to no single one of them.
"""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

import asynctrace

TOPIC = "orders"
GROUP = "billing"


async def place_order(producer: AIOKafkaProducer, item: str) -> None:
    headers: list[tuple[str, bytes]] = []
    with asynctrace.publish(TOPIC, headers, system="kafka"):
        await producer.send_and_wait(TOPIC, item.encode(), headers=headers)


async def bill(records: list[ConsumerRecord]) -> None:
    with asynctrace.span("bill", attributes={"orders": len(records)}):
        await asyncio.sleep(0.01)


async def consume(consumer: AIOKafkaConsumer) -> None:
    """Until the program is to stop: a batch that was begun is finished, and committed."""
    while not asynctrace.stopping():
        batches = await consumer.getmany(timeout_ms=500, max_records=100)
        for partition, records in batches.items():
            carriers = [list(record.headers) for record in records]
            with asynctrace.process_batch(carriers, TOPIC, system="kafka"):
                await bill(records)
                await consumer.commit({partition: records[-1].offset + 1})


async def main() -> None:
    server = sys.argv[1] if len(sys.argv) > 1 else "localhost:9092"
    producer = AIOKafkaProducer(bootstrap_servers=server)
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=server,
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    async with producer, consumer:
        await place_order(producer, "book")
        await consume(consumer)


if __name__ == "__main__":
    asynctrace.run(main, service_name="billing")
