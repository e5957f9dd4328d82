"""The provider: tracers by scope, disabled, shut down, and errors of the sink."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import INVALID_SPAN, NoOpTracer

from asynctrace.trace.provider import TracerProvider
from asynctrace.trace.sink import Faults
from tests.trace.recording import Sink, Traced


def test_a_scope_has_one_tracer() -> None:
    """Name, version, schema and attributes together tell scopes apart."""
    provider = Traced().provider
    scopes: list[tuple[Any, ...]] = [
        ("a",),
        ("b",),
        ("a", "1"),
        ("a", "1", "schema"),
        ("a", "1", "schema", {"k": 1}),
        ("a", "1", "schema", {"k": 2}),
    ]
    tracers = [provider.get_tracer(*scope) for scope in scopes]
    assert len(set(map(id, tracers))) == len(scopes)
    assert [provider.get_tracer(*scope) for scope in scopes] == tracers


def test_a_span_tells_its_scope() -> None:
    """As the SDK does, with an empty version where none was given."""
    provider = Traced().provider
    span = provider.get_tracer("name", None, "schema", {"k": 1}).start_span("n")
    scope = span.instrumentation_scope  # type: ignore[attr-defined]
    assert (scope.name, scope.version, scope.schema_url) == ("name", "", "schema")
    assert dict(scope.attributes) == {"k": 1}


def test_a_scope_without_a_name_has_the_empty_one() -> None:
    """None and "" are the same mistake, and no error."""
    provider = Traced().provider
    assert provider.get_tracer("") is provider.get_tracer(None)  # type: ignore[arg-type]


def test_threads_that_ask_at_once_get_the_same_tracer() -> None:
    """There is no lock."""
    provider = Traced().provider
    barrier = threading.Barrier(8)
    found: list[object] = []

    def ask() -> None:
        barrier.wait()
        found.append(provider.get_tracer("contended"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_a_disabled_provider_traces_nothing() -> None:
    """OTEL_SDK_DISABLED: tracers of the API that do nothing."""
    sink = Sink()
    provider = TracerProvider(
        sampler=ALWAYS_ON, resource=Resource.get_empty(), sink=sink, disabled=True
    )
    tracer = provider.get_tracer("n")
    assert isinstance(tracer, NoOpTracer)
    assert tracer.start_span("n") is INVALID_SPAN
    assert "disabled" in repr(provider)


def test_the_provider_has_the_attributes_of_the_sdks() -> None:
    """Sampler, id generator, resource; the private ones that tools in the wild use."""
    limits = SpanLimits(max_events=3)
    provider = Traced(sampler=ALWAYS_ON, span_limits=limits).provider
    assert provider.sampler is ALWAYS_ON
    assert isinstance(provider.id_generator, RandomIdGenerator)
    assert provider.resource.attributes == {"service.name": "test"}
    assert provider._span_limits is limits
    provider._resource = provider._resource.merge(Resource({"more": 1}))
    assert provider.resource.attributes == {"service.name": "test", "more": 1}


def test_shutdown_happens_once_and_tracers_go_on() -> None:
    """Code that still runs must not be hurt; the sink decides what becomes of late spans."""
    traced = Traced()
    traced.provider.shutdown()
    traced.provider.shutdown()
    assert traced.sink.shutdowns == 1
    traced.span().end()
    assert len(traced.sink.spans) == 1
    assert "shut down" in repr(traced.provider)


def test_flush_gives_the_sink_what_is_left_of_the_time() -> None:
    """In seconds."""
    traced = Traced()
    assert traced.provider.force_flush(2_000) is True
    [timeout] = traced.sink.flushes
    assert 1.5 < timeout <= 2.0


def test_a_provider_without_a_sink_serves_its_processors_alone() -> None:
    """Nothing to flush, nothing to shut down, nowhere to go."""
    provider = Traced(sink=None).provider
    provider.get_tracer("n").start_span("n").end()
    assert provider.force_flush() is True
    provider.shutdown()


def test_an_integration_may_report_what_it_contained(caplog: pytest.LogCaptureFixture) -> None:
    """Counted each time, logged once."""
    traced = Traced()
    for _ in range(2):
        traced.provider.fault("httpx response", ValueError("odd"))
    assert traced.sink.faults == [("httpx response", "ValueError")] * 2
    assert len(caplog.records) == 1


class BrokenSink:
    """A sink that breaks its promises."""

    def must_not_wait(self) -> bool:
        return False

    def _raise(self, *args: object) -> Any:
        raise OSError("broken")

    on_end = force_flush = shutdown = fault = _raise


def test_a_sink_that_raises_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    """It promised not to; user code is not the one to pay."""
    traced = Traced(sink=BrokenSink())
    traced.span().end()
    assert traced.provider.force_flush() is False
    traced.provider.shutdown()
    assert sorted(r.getMessage().split(" failed")[0] for r in caplog.records) == [
        "sink.force_flush",
        "sink.on_end",
        "sink.shutdown",
    ]


def test_faults_are_logged_once_for_each_kind_and_not_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A log is not flooded, neither by one fault again and again nor by ever new ones."""

    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    faults = Faults(None)
    for _ in range(3):
        faults("hook", SilentError())
    assert len(caplog.records) == 1
    assert "SilentError" in caplog.records[0].getMessage()
    for n in range(1_000):
        faults(f"hook {n}", ValueError("v"))
    assert len(caplog.records) == 64
    assert caplog.records[0].levelno == logging.WARNING
    assert repr(faults) == "Faults(kinds=64)"
