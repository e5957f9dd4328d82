"""One ended span with ten attributes to OTLP bytes, in batches."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, TracerProvider

import asynctrace.trace.provider
from asynctrace.export.contracts import Batch
from asynctrace.trace.encoding import encode

from .measure import Subject
from .pipelines import BATCH


def span_of(provider: TracerProvider, number: int) -> ReadableSpan:
    span = provider.get_tracer("benchmark", "1.0").start_span(
        "GET /users/{id}",
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": "GET",
            "http.route": "/users/{id}",
            "url.scheme": "https",
            "url.path": f"/users/{number}",
            "server.address": "shop.example",
            "server.port": 8080,
            "client.address": "10.0.0.7",
            "network.protocol.version": "1.1",
            "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
            "http.response.status_code": 200,
        },
    )
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


class Official:
    name = "opentelemetry-exporter-otlp"

    async def start(self) -> None:
        provider = SdkTracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        self._spans = [span_of(provider, number) for number in range(BATCH)]

    async def run(self, operations: int) -> None:
        for _ in range(operations // BATCH):
            encode_spans(self._spans).SerializeToString()

    async def stop(self) -> None: ...


class Ours:
    name = "asynctrace"

    async def start(self) -> None:
        provider = asynctrace.trace.provider.TracerProvider(
            sampler=ALWAYS_ON, resource=Resource({"service.name": "benchmark"})
        )
        self._spans = [span_of(provider, number) for number in range(BATCH)]
        self._resource = provider.resource

    async def run(self, operations: int) -> None:
        scope = self._spans[0].instrumentation_scope
        for _ in range(operations // BATCH):
            items = [(scope, encode(span), None) for span in self._spans]
            Batch(items, self._resource).to_otlp()

    async def stop(self) -> None: ...


def subjects() -> list[Subject]:
    return [Official(), Ours()]
