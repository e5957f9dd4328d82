"""Jobs in the background of one process: each in the trace of the request that caused it.

    python examples/queue_in_process.py

SIGTERM ends it in order: the intake stops, jobs at work are finished, spans are delivered.
"""

from __future__ import annotations

import asyncio

import asynctrace
from asynctrace.worker import TracedQueue, Worker


async def send_mail(address: str) -> None:
    with asynctrace.span("send mail"):
        await asyncio.sleep(0.01)


async def sign_up(mails: TracedQueue[str], address: str) -> None:
    """A request: answers at once, and leaves work behind."""
    with asynctrace.span("sign up"):
        await mails.put(address)


async def main() -> None:
    mails: TracedQueue[str] = TracedQueue(maxsize=100)
    async with Worker(concurrency=4) as worker:
        consuming = asyncio.create_task(worker.consume(mails, send_mail, name="mails"))
        for number in range(3):
            await sign_up(mails, f"user{number}@example.com")
        await mails.join()
        worker.stop()
        await consuming


if __name__ == "__main__":
    asynctrace.run(main, service_name="accounts")
