"""Messages over Redis streams, with redis.asyncio: a producer, and a consumer group.

    pip install redis
    python examples/redis_streams.py redis://localhost:6379

An entry of a stream has no headers, so the context travels as fields of the entry. An entry that
was not acknowledged is delivered again, also to another consumer; Redis counts how often.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import ResponseError

import asynctrace
from asynctrace.worker import Worker

STREAM = "orders"
GROUP = "billing"


@dataclass(frozen=True)
class Order:
    """One entry of the stream."""

    id: str
    fields: dict[str, str]
    deliveries: int


async def place_order(redis: Redis, item: str) -> None:
    fields = {"item": item}
    with asynctrace.publish(STREAM, fields, system="redis"):
        await redis.xadd(STREAM, fields)


async def orders(redis: Redis, consumer: str, *, idle_ms: int = 60_000) -> AsyncIterator[Order]:
    """What others left behind for `idle_ms`, then what is new, for ever."""
    try:
        await redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):  # somebody else made it
            raise
    while True:
        _, entries, _ = await redis.xautoclaim(STREAM, GROUP, consumer, idle_ms, count=10)
        for entry_id, fields in entries:
            # None: somebody else has acknowledged it meanwhile.
            for pending in await redis.xpending_range(STREAM, GROUP, entry_id, entry_id, 1):
                yield Order(entry_id, fields, deliveries=pending["times_delivered"])
        new = await redis.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=10, block=1000)
        for _, entries in new:
            for entry_id, fields in entries:
                yield Order(entry_id, fields, deliveries=1)


async def bill(redis: Redis, order: Order) -> None:
    with asynctrace.span("bill", attributes={"order.item": order.fields["item"]}):
        await asyncio.sleep(0.01)
    await redis.xack(STREAM, GROUP, order.id)  # in the message's span: it tells when this fails


async def consume(redis: Redis, worker: Worker, consumer: str, *, idle_ms: int = 60_000) -> None:
    async def handle(order: Order) -> None:
        await bill(redis, order)

    await worker.consume(
        orders(redis, consumer, idle_ms=idle_ms),
        handle,
        span=lambda order: asynctrace.process(
            order.fields,
            STREAM,
            system="redis",
            message_id=order.id,
            delivery_count=order.deliveries,
        ),
    )


async def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "redis://localhost:6379"
    async with Redis.from_url(url, decode_responses=True) as redis:
        await place_order(redis, "book")
        async with Worker(concurrency=8) as worker:
            await consume(redis, worker, "consumer-1")  # until SIGINT or SIGTERM


if __name__ == "__main__":
    asynctrace.run(main, service_name="billing")
