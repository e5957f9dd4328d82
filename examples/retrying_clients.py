"""Retries that tell themselves: each attempt is a span, and says which attempt it is.

    pip install httpx-retries tenacity
    python examples/retrying_clients.py http://127.0.0.1:8080/hello/you

Two ways: a transport that retries inside of one call of the client, and a loop around the call.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
import tenacity
from httpx_retries import Retry, RetryTransport

import asynctrace
from asynctrace.httpx import AsyncTracingTransport


def retrying_client() -> httpx.AsyncClient:
    """Ours goes inside of what retries, and sees every attempt."""
    inner = AsyncTracingTransport(httpx.AsyncHTTPTransport())
    return httpx.AsyncClient(
        transport=RetryTransport(transport=inner, retry=Retry(total=3, backoff_factor=0.1))
    )


async def get(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """The loop is around the call, so the call says which attempt it is."""
    async for attempt in tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential(multiplier=0.1),
        retry=tenacity.retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    ):
        with attempt:
            count = attempt.retry_state.attempt_number - 1
            response = await client.get(url, extensions={"asynctrace": {"resend_count": count}})
            return response.raise_for_status()
    raise AssertionError("the last attempt returns or raises")


async def main(url: str) -> None:
    async with asynctrace.init(service_name="retrying"):
        with asynctrace.span("a transport that retries"):
            async with retrying_client() as client:
                print((await client.get(url)).status_code)
        with asynctrace.span("a loop around the call"):
            async with asynctrace.create_client() as client:
                print((await get(client, url)).status_code)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
