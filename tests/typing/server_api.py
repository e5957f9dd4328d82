"""The types of setup() and its options. Checked, never run."""

from __future__ import annotations

import re

from aiohttp import web
from opentelemetry.trace import Span

import asynctrace
from asynctrace.tracing import Tracing


def is_probe(request: web.Request) -> bool:
    return request.path == "/health"


def tell_tenant(span: Span, request: web.Request) -> None:
    span.set_attribute("tenant", request.headers.get("x-tenant", ""))


async def tell_size(span: Span, request: web.Request, response: web.StreamResponse) -> None:
    span.set_attribute("size", response.content_length or 0)


def shaped(app: web.Application, tracing: Tracing) -> None:
    asynctrace.setup(app)
    asynctrace.setup(app, tracing)
    asynctrace.setup(app, tracing, skip=["/health", re.compile("^/static")])
    asynctrace.setup(app, service_name="shop", skip=is_probe, skipped_children="keep")
    asynctrace.setup(app, enrich_request=tell_tenant, enrich_response=tell_size)
    asynctrace.setup(app, capture_request_headers=["x-.*"], deny_headers=["x-token"])
    asynctrace.setup(app, capture_query=False, trusted_proxies=1, forwarded_header="forwarded")
    asynctrace.setup(app, capture_query=["token"], span_name=lambda request: request.method)
    asynctrace.setup(app, incoming="link", response_headers=["traceresponse", "server-timing"])
    asynctrace.setup(app, message_spans=0.1, protocol_errors=True, engine="asynctrace")


def refused(app: web.Application) -> None:
    asynctrace.setup(app, incoming="child")  # type: ignore[arg-type]
    asynctrace.setup(app, response_headers=["x-trace"])  # type: ignore[list-item]
    asynctrace.setup(app, skips=["/health"])  # type: ignore[call-arg]
