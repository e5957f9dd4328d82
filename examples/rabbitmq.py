"""Messages over AMQP, with aio-pika: a producer, and a consumer that acknowledges.

    pip install aio-pika
    python examples/rabbitmq.py amqp://guest:guest@localhost:5672

The context travels in the headers of the message. A message whose handler fails goes back to the
queue once; the span of the second attempt says that it is one.
"""

from __future__ import annotations

import asyncio
import sys

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

import asynctrace
from asynctrace.worker import Worker

QUEUE = "orders"


async def place_order(channel: AbstractChannel, item: str) -> None:
    headers: dict[str, str] = {}
    with asynctrace.publish(QUEUE, headers, system="rabbitmq"):
        message = aio_pika.Message(item.encode(), headers={**headers})
        await channel.default_exchange.publish(message, routing_key=QUEUE)


async def bill(message: AbstractIncomingMessage) -> None:
    async with message.process(requeue=True, reject_on_redelivered=True):
        with asynctrace.span("bill", attributes={"order.item": message.body.decode()}):
            if message.body == b"unlucky" and not message.redelivered:
                raise ConnectionError("the bank is closed")
            await asyncio.sleep(0.01)


async def consume(queue: AbstractQueue, worker: Worker) -> None:
    async with queue.iterator() as messages:
        await worker.consume(
            messages,
            bill,
            span=lambda message: asynctrace.process(
                dict(message.headers),
                QUEUE,
                system="rabbitmq",
                message_id=message.message_id,
                redelivered=bool(message.redelivered),
            ),
        )


async def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "amqp://guest:guest@localhost:5672"
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=8)
        queue = await channel.declare_queue(QUEUE, durable=True)
        await place_order(channel, "book")
        async with Worker(concurrency=8) as worker:
            await consume(queue, worker)  # until SIGINT or SIGTERM


if __name__ == "__main__":
    asynctrace.run(main, service_name="billing")
