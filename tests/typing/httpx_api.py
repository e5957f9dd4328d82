"""The types of `asynctrace.httpx`, for mypy and pyright. Checked, never run."""

from __future__ import annotations

from typing import assert_type

import aiohttp
import httpx
import httpx2
from aiohttp import web
from opentelemetry.trace import Span

import asynctrace
from asynctrace.httpx import (
    AsyncTracingTransport,
    TracingTransport,
    instrument_all,
    uninstrument,
    uninstrument_all,
)


async def clients(tracing: asynctrace.Tracing) -> None:
    assert_type(asynctrace.create_client(), httpx.AsyncClient)
    client = asynctrace.create_client(base_url="http://host", timeout=2.0, tracing=tracing)
    assert_type(client, httpx.AsyncClient)
    assert_type(await client.get("/"), httpx.Response)
    asynctrace.create_client(tiemout=2.0)  # type: ignore[call-arg]
    asynctrace.create_client(timeout=object())  # type: ignore[arg-type]


def enrich(span: Span, request: httpx.Request) -> None: ...


async def enrich_async(span: Span, request: httpx.Request, response: httpx.Response) -> None: ...


def options(app: web.Application) -> None:
    client = asynctrace.create_client(
        base_url="http://host",
        transport="aiohttp",
        app=app,
        logical_span=True,
        propagate_to=["*.internal"],
        skip=lambda request: request.url.path == "/health",
        enrich_request=enrich,
        enrich_response=enrich_async,
        capture_query=["token"],
        end_span_at="headers",
        phases=True,
    )
    assert_type(client, httpx.AsyncClient)
    assert_type(asynctrace.instrument(httpx.Client(), skip=["host"]), httpx.Client)
    instrument_all(engine="contrib")
    uninstrument_all()
    asynctrace.create_client(transport="urllib3")  # type: ignore[arg-type]
    asynctrace.create_client(end_span_at="never")  # type: ignore[arg-type]
    asynctrace.create_client(enrich_response=enrich)  # type: ignore[arg-type]
    instrument_all(skipp=["host"])  # type: ignore[call-arg]


async def sessions(tracing: asynctrace.Tracing) -> None:
    async with asynctrace.aiohttp.client_session("http://host", tracing=tracing) as session:
        assert_type(session, aiohttp.ClientSession)
    assert_type(asynctrace.aiohttp.trace_config(skip=["host"]), aiohttp.TraceConfig)
    asynctrace.aiohttp.trace_config(skipp=["host"])  # type: ignore[call-arg]


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
