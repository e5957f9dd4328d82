"""The process-wide provider, through several lives of the one that it hands on to."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from asynctrace.trace import delegate as delegate_module
from asynctrace.trace.delegate import DelegateProvider
from tests.trace.recording import Traced, remote


class Noting(SpanProcessor):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.notes.append(f"start {span.name}")

    def _on_ending(self, span: Any) -> None:
        self.notes.append(f"ending {span.name}")

    def on_end(self, span: ReadableSpan) -> None:
        self.notes.append(f"end {span.name}")

    def shutdown(self) -> None:
        self.notes.append("shutdown")

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.notes.append("flush")
        return True

    def __repr__(self) -> str:
        return "Noting()"


class RaisingAtShutdown(SpanProcessor):
    def shutdown(self) -> None:
        raise RuntimeError("no")


def test_a_tracer_follows_the_active_provider() -> None:
    """Whoever kept a tracer of the first life traces in the second."""
    delegate = DelegateProvider()
    tracer = delegate.get_tracer("kept", "1", "schema", {"k": 1})
    lives = [Traced(), Traced()]
    for n, life in enumerate(lives):
        delegate.activate(life.provider)
        tracer.start_span(f"{n}").end()
        tracer.start_span(f"{n}").end()
    assert [[span.name for span in life.sink.spans] for life in lives] == [["0", "0"], ["1", "1"]]
    scope = lives[0].sink.spans[0].instrumentation_scope
    assert (scope.name, scope.version, scope.schema_url) == ("kept", "1", "schema")
    assert dict(scope.attributes or {}) == {"k": 1}


def test_without_an_active_provider_the_context_goes_on_unrecorded() -> None:
    """As with a no-op tracer: a span of the parent's context, so headers still name the trace."""
    delegate = DelegateProvider()
    tracer = delegate.get_tracer("n")
    parent = remote()
    span = tracer.start_span("n", trace.set_span_in_context(parent))
    assert not span.is_recording()
    assert span.get_span_context() == parent.get_span_context()
    assert tracer.start_span("n", Context()) is trace.INVALID_SPAN
    with tracer.start_as_current_span("n", trace.set_span_in_context(parent)) as current:
        assert trace.get_current_span() is current


def test_a_life_that_is_over_is_not_kept_in_memory() -> None:
    """A tracer forgets the provider as soon as it notices."""
    delegate = DelegateProvider()
    tracer = delegate.get_tracer("n")
    life = Traced()
    delegate.activate(life.provider)
    tracer.start_span("n")
    delegate.active = None
    tracer.start_span("n")
    assert life.provider not in vars(tracer)["_found"]


def test_a_decorated_function_is_traced_in_every_life() -> None:
    """Decorators run at import, before any `init`."""
    delegate = DelegateProvider()

    @delegate.get_tracer("n").start_as_current_span("call")
    def call() -> bool:
        return trace.get_current_span().is_recording()

    assert call() is False
    for life in (Traced(), Traced()):
        delegate.activate(life.provider)
        assert call() is True
        assert [span.name for span in life.sink.spans] == ["call"]


def test_added_processors_survive_the_lives() -> None:
    """The end of a life flushes them; they are shut down with the delegate."""
    delegate = DelegateProvider()
    noting = Noting()
    first, second = Traced(), Traced()
    delegate.add_span_processor(noting)
    delegate.activate(first.provider)
    delegate.get_tracer("n").start_span("1").end()
    first.provider.shutdown()
    delegate.activate(second.provider)
    delegate.get_tracer("n").start_span("2").end()
    assert noting.notes == ["start 1", "ending 1", "end 1", "flush", "start 2", "ending 2", "end 2"]
    del noting.notes[:]
    delegate.shutdown()
    delegate.get_tracer("n").start_span("late").end()
    assert noting.notes == ["flush", "shutdown"]
    assert "Noting()" in repr(second.provider._active_span_processor._span_processors)


def test_a_processor_added_in_the_middle_of_a_life_is_used_at_once() -> None:
    """And once only, also when the same provider is activated again."""
    delegate = DelegateProvider()
    life = Traced()
    delegate.activate(life.provider)
    noting = Noting()
    delegate.add_span_processor(noting)
    delegate.activate(life.provider)
    delegate.get_tracer("n").start_span("1")
    assert noting.notes == ["start 1"]
    delegate.shutdown()


def test_a_processor_that_fails_to_shut_down_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    """The others are shut down nevertheless."""
    delegate = DelegateProvider()
    noting = Noting()
    delegate.add_span_processor(RaisingAtShutdown())
    delegate.add_span_processor(noting)
    delegate.shutdown()
    assert noting.notes == ["shutdown"]
    assert len(caplog.records) == 1


def test_flush_and_shutdown_reach_the_active_provider() -> None:
    """Users call them on what OpenTelemetry calls the provider."""
    delegate = DelegateProvider()
    assert delegate.force_flush() is True
    life = Traced()
    delegate.activate(life.provider)
    assert delegate.force_flush(1_000) is True
    assert len(life.sink.flushes) == 1
    delegate.shutdown()
    assert life.sink.shutdowns == 1


def test_the_attributes_are_those_of_the_active_provider() -> None:
    """And those of a provider that traces nothing while there is none."""
    delegate = DelegateProvider()
    tracer: Any = delegate.get_tracer("n", "1")
    assert isinstance(delegate, SdkTracerProvider)
    assert isinstance(tracer, SdkTracer)
    assert delegate._disabled is True
    assert (delegate.sampler, tracer.sampler) == (ALWAYS_OFF, ALWAYS_OFF)
    assert delegate.resource.attributes == {"service.name": "unknown_service"}
    assert tracer.resource.attributes == {"service.name": "unknown_service"}
    assert delegate.id_generator.generate_span_id()
    assert delegate._active_span_processor._span_processors == ()
    assert delegate._span_limits.max_events == 128
    delegate._resource = Resource({"nowhere": 1})
    life = Traced()
    delegate.activate(life.provider)
    assert delegate._disabled is False
    assert (delegate.sampler, tracer.sampler) == (ALWAYS_ON, ALWAYS_ON)
    assert tracer.id_generator is life.provider.id_generator
    assert tracer.span_processor is life.provider._active_span_processor
    assert delegate._span_limits is life.provider._span_limits
    delegate._resource = Resource({"new": 1})
    assert life.provider.resource is delegate.resource is tracer.resource
    assert tracer.instrumentation_info.version == "1"
    assert repr(tracer) == "DelegateTracer('n')"
    assert repr(delegate).startswith("DelegateProvider(active=TracerProvider(")


def test_only_the_active_provider_can_be_deactivated() -> None:
    """A life that ends late must not end its successor."""
    first, second = Traced().provider, Traced().provider
    delegate_module.activate(first)
    try:
        delegate_module.activate(second)
        delegate_module.deactivate(first)
        assert delegate_module.active() is second
    finally:
        delegate_module.deactivate(second)
    assert delegate_module.active() is None


def test_a_scope_has_one_tracer() -> None:
    """Some instrumentations ask for one at every call."""
    delegate = DelegateProvider()
    assert delegate.get_tracer("a", "1") is delegate.get_tracer("a", "1")
    assert delegate.get_tracer("a", "1") is not delegate.get_tracer("a", "2")


# ---- in a process of its own: OpenTelemetry's global provider can be set once


def _run(script: str, **environ: str) -> str:
    """What a script prints; whatever it writes to stderr fails the test."""
    preamble = """
        import logging, warnings
        logging.basicConfig(level=logging.WARNING)
        warnings.simplefilter("error")
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from asynctrace.trace import delegate
        from tests.trace.recording import Traced
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(preamble) + textwrap.dedent(script)],
        env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_the_delegate_becomes_the_global_provider() -> None:
    """Proxy tracers that were made before find it, nothing is logged, again is no error."""
    printed = _run("""
        early = trace.get_tracer("early")
        assert not early.start_span("n").is_recording()
        assert delegate.install() and delegate.install()
        assert isinstance(trace.get_tracer_provider(), TracerProvider)
        for life in (Traced(), Traced()):
            delegate.activate(life.provider)
            early.start_span("early").end()
            trace.get_tracer("late").start_span("late").end()
            print([span.name for span in life.sink.spans])
            delegate.deactivate(life.provider)
        print(early.start_span("n").is_recording())
    """)
    assert printed.splitlines() == ["['early', 'late']"] * 2 + ["False"]


def test_a_foreign_global_provider_stays() -> None:
    """It was set first; nothing is overridden and nothing is logged."""
    printed = _run("""
        foreign = TracerProvider()
        trace.set_tracer_provider(foreign)
        print(delegate.install(), trace.get_tracer_provider() is foreign)
    """)
    assert printed == "False True\n"


def test_a_provider_named_by_the_environment_stays() -> None:
    """OpenTelemetry loads it when it is asked for its provider."""
    printed = _run(
        "print(delegate.install(), type(trace.get_tracer_provider()).__module__)",
        OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider",
    )
    assert printed == "False opentelemetry.sdk.trace\n"


def test_surviving_processors_are_shut_down_when_the_process_ends() -> None:
    """A batch processor of the user's sends what it still holds."""
    printed = _run("""
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        exporter = ConsoleSpanExporter(formatter=lambda span: f"exported {span.name}\\n")
        assert delegate.install()
        trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(exporter))
        life = Traced()
        delegate.activate(life.provider)
        trace.get_tracer("n").start_span("last").end()
        print("end of main", flush=True)
    """)
    assert printed.splitlines() == ["end of main", "exported last"]
