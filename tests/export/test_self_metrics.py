"""The metrics that an SDK tells of itself, by OpenTelemetry's conventions."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import asynctrace
from asynctrace.export.adapters import SyncExporterAdapter
from asynctrace.export.contracts import Delivered, Outcome, Undelivered
from asynctrace.export.otlp_http import Endpoint, OtlpHttpExporter
from asynctrace.export.self_metrics import SelfMetrics, component_type, failure_attributes
from asynctrace.testing import InMemoryExporter
from tests.support.exporters import REFUSED, UNREACHABLE, ScriptedExporter
from tests.support.programs import run_program_async

MEMORY = "asynctrace.testing.exporters.InMemoryExporter"
DURATION = "otel.sdk.exporter.operation.duration"
SCRIPTED = "tests.support.exporters.ScriptedExporter"
Collect = Callable[[], dict[str, list[tuple[dict[str, Any], int]]]]


@pytest.fixture
def metered() -> tuple[SelfMetrics, Collect]:
    """Instruments of a provider of this test's own, and how to read them."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)

    def collect() -> dict[str, list[tuple[dict[str, Any], int]]]:
        data = reader.get_metrics_data()
        return {
            metric.name: [
                (dict(point.attributes), point.value if hasattr(point, "value") else point.count)
                for point in metric.data.data_points
            ]
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    return SelfMetrics(provider.get_meter("test")), collect


def watch(metrics: SelfMetrics, tracing: asynctrace.Tracing) -> None:
    open_spans = tracing.tracer_provider.open_spans
    metrics.watch(tracing, tracing._delivery.pipelines, open_spans)


def component(kind: str, number: int = 0, **more: str) -> dict[str, str]:
    return {
        "otel.component.type": kind,
        "otel.component.name": f"{kind}/{number}",
        **{name.replace("_", "."): value for name, value in more.items()},
    }


async def test_each_figure_has_its_metric(metered: tuple[SelfMetrics, Collect]) -> None:
    """Queue, exports and open spans, per processor and exporter; failures have an error type."""
    metrics, collect = metered
    good, bad = InMemoryExporter(), ScriptedExporter(then=REFUSED)
    async with asynctrace.init(
        exporter=[good, bad], set_global=False, max_queue_size=100
    ) as tracing:
        watch(metrics, tracing)
        tracer = tracing.get_tracer("test")
        tracer.start_span("delivered").end()
        await tracing.force_flush()
        tracer.start_span("queued").end()
        open_span = tracer.start_span("open")
        told = collect()
        open_span.end()
        metrics.forget(tracing)
        assert set(collect()) == {DURATION}  # what was recorded stays; nothing is observed
    first = component("batching_span_processor", 0)
    second = component("batching_span_processor", 1)
    assert told == {
        "otel.sdk.span.live": [({"otel.span.sampling_result": "RECORD_AND_SAMPLE"}, 1)],
        "otel.sdk.processor.span.queue.size": [(first, 1), (second, 1)],
        "otel.sdk.processor.span.queue.capacity": [(first, 100), (second, 100)],
        "otel.sdk.processor.span.processed": [(first, 1), (second, 1)],
        "otel.sdk.exporter.span.inflight": [(component(MEMORY), 0), (component(SCRIPTED), 0)],
        "otel.sdk.exporter.span.exported": [
            (component(MEMORY), 1),
            (component(SCRIPTED), 0),
            (component(SCRIPTED, error_type="_OTHER"), 1),
        ],
        DURATION: [
            (component(MEMORY), 1),
            (component(SCRIPTED, error_type="400") | {"http.response.status_code": 400}, 1),
        ],
    }


async def test_dropped_spans_are_processed_with_their_reason(
    metered: tuple[SelfMetrics, Collect],
) -> None:
    """A full queue is an error of the processor."""
    metrics, collect = metered
    async with asynctrace.init(
        exporter=InMemoryExporter(), set_global=False, max_queue_size=1
    ) as tracing:
        watch(metrics, tracing)
        for _ in range(3):
            tracing.get_tracer("test").start_span("work").end()
        told = collect()["otel.sdk.processor.span.processed"]
    full = component("batching_span_processor", error_type="queue_full")
    assert told == [(component("batching_span_processor"), 0), (full, 2)]


async def test_an_export_is_timed_once_with_all_its_attempts(
    metered: tuple[SelfMetrics, Collect],
) -> None:
    """Back-off included; the error is that of the last attempt, so here there is none."""
    metrics, collect = metered
    exporter = ScriptedExporter([UNREACHABLE, UNREACHABLE])
    async with asynctrace.init(exporter=exporter, set_global=False) as tracing:
        watch(metrics, tracing)
        tracing.get_tracer("test").start_span("work").end()
        await tracing.force_flush()
        assert tracing.statistics().exporters["scripted"].retries == 2
        assert collect()[DURATION] == [(component(SCRIPTED), 1)]


@pytest.mark.parametrize(
    ("outcome", "error", "more"),
    [
        (Delivered(), None, {}),
        (Delivered(2), "rejected", {}),
        (Undelivered("http_503"), "503", {"http.response.status_code": 503}),
        (
            Undelivered("grpc_resource_exhausted"),
            "RESOURCE_EXHAUSTED",
            {"rpc.response.status_code": "RESOURCE_EXHAUSTED"},
        ),
        (Undelivered("timeout"), "timeout", {}),
        (Undelivered("http_error"), "http_error", {}),
    ],
)
def test_failures_have_the_attributes_of_their_protocol(
    outcome: Outcome, error: str | None, more: dict[str, object]
) -> None:
    """The status as the conventions name it; a success has none of them."""
    expected = {} if error is None else {"error.type": error}
    assert failure_attributes(outcome) == expected | more


async def test_a_span_that_comes_after_the_shutdown_has_the_word_of_the_conventions(
    metered: tuple[SelfMetrics, Collect],
) -> None:
    """`already_shutdown`, which they prescribe."""
    metrics, collect = metered
    tracing = await asynctrace.init(exporter=InMemoryExporter(), set_global=False)
    await tracing.shutdown()
    tracing.get_tracer("test").start_span("late").end()
    watch(metrics, tracing)
    told = collect()["otel.sdk.processor.span.processed"]
    late = component("batching_span_processor", error_type="already_shutdown")
    assert told == [(component("batching_span_processor"), 0), (late, 1)]


async def test_names_are_numbered_and_come_again(metered: tuple[SelfMetrics, Collect]) -> None:
    """Two tracings have names of their own; one that is gone leaves its name to the next."""
    metrics, collect = metered

    def names() -> list[str]:
        told = collect().get("otel.sdk.exporter.span.exported", [])
        return [attributes["otel.component.name"] for attributes, _ in told]

    async with asynctrace.init(exporter=InMemoryExporter(), set_global=False) as one:
        watch(metrics, one)
        async with asynctrace.init(exporter=InMemoryExporter(), set_global=False) as other:
            watch(metrics, other)
            assert names() == [f"{MEMORY}/0", f"{MEMORY}/1"]
            assert repr(metrics) == "<SelfMetrics of 2 tracings>"
            metrics.forget(one)
            watch(metrics, one)
            assert sorted(names()) == [f"{MEMORY}/0", f"{MEMORY}/1"]
    del one, other
    gc.collect()
    assert names() == []


def test_exporters_have_the_names_of_the_conventions() -> None:
    """Where there are any."""
    from opentelemetry.exporter.zipkin.json import ZipkinExporter

    def http(*, json: bool) -> str:
        endpoint = Endpoint(url="http://localhost", headers={}, json=json)
        return component_type(OtlpHttpExporter(endpoint, None))

    assert http(json=False) == "otlp_http_span_exporter"
    assert http(json=True) == "otlp_http_json_span_exporter"
    zipkin = SyncExporterAdapter(ZipkinExporter())
    assert component_type(zipkin) == "zipkin_http_span_exporter"
    zipkin.exporter.shutdown()


PROGRAM = """
    import asyncio, json, sys, asynctrace
    from asynctrace.testing import InMemoryExporter
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()

    def set_provider():
        metrics.set_meter_provider(MeterProvider([reader]))

    def value(point):
        return point.value if hasattr(point, "value") else point.count

    async def main():
        if sys.argv[1] == "before":
            set_provider()
        for _ in range(2):
            async with asynctrace.init(exporter=InMemoryExporter()) as tracing:
                with asynctrace.span("work"):
                    pass
                await tracing.force_flush()
                if sys.argv[1] == "after":
                    set_provider()
                    sys.argv[1] = ""
                (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
                told = {m.name: value(m.data.data_points[0]) for m in scope.metrics}
                print(json.dumps([scope.scope.name, told]))

    asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_the_process_tells_as_soon_as_it_has_a_meter_provider(moment: str) -> None:
    """Whether that is set before `init` or later; the next life is told of in the same way."""
    ended = await run_program_async(PROGRAM, moment)
    assert ended.code == 0, ended.err
    assert ended.err == ""
    for line in ended.out.splitlines():
        scope, told = json.loads(line)
        assert scope == "asynctrace"
        assert told["otel.sdk.exporter.span.exported"] == 1
        assert told["otel.sdk.processor.span.queue.capacity"] == 2048
    assert len(ended.out.splitlines()) == 2
