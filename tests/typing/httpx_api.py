"""The types of `asynctrace.httpx`, for mypy and pyright. Checked, never run."""

from __future__ import annotations

from typing import assert_type

import httpx
import httpx2

import asynctrace
from asynctrace.httpx import AsyncTracingTransport, TracingTransport, uninstrument


async def clients(tracing: asynctrace.Tracing) -> None:
    assert_type(asynctrace.create_client(), httpx.AsyncClient)
    client = asynctrace.create_client(base_url="http://host", timeout=2.0, tracing=tracing)
    assert_type(client, httpx.AsyncClient)
    assert_type(await client.get("/"), httpx.Response)
    asynctrace.create_client(tiemout=2.0)  # type: ignore[call-arg]
    asynctrace.create_client(timeout=object())  # type: ignore[arg-type]


class MyClient(httpx.AsyncClient):
    mine: int


def instrumented(tracing: asynctrace.Tracing) -> None:
    assert_type(asynctrace.instrument(httpx.AsyncClient()), httpx.AsyncClient)
    assert_type(asynctrace.instrument(httpx.Client(), tracing=tracing), httpx.Client)
    assert_type(asynctrace.instrument(httpx2.AsyncClient()), httpx2.AsyncClient)
    assert_type(asynctrace.instrument(httpx2.Client()), httpx2.Client)
    assert_type(asynctrace.instrument(MyClient()), MyClient)
    assert_type(uninstrument(MyClient()), MyClient)
    asynctrace.instrument("client")  # type: ignore[type-var]


def transports() -> None:
    httpx.AsyncClient(transport=AsyncTracingTransport(httpx.AsyncHTTPTransport()))
    httpx.Client(transport=TracingTransport(httpx.HTTPTransport()))
    AsyncTracingTransport(httpx.HTTPTransport())  # type: ignore[arg-type]
