"""On an SDK that our tracers do not fit, the SDK's own serve, with our pipeline behind them."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor

import asynctrace
from asynctrace.testing import InMemoryExporter
from asynctrace.trace import fallback, tracer
from asynctrace.trace.span import Span


def broken(*args: object, **kwargs: object) -> None:
    raise AttributeError("the SDK has moved on")


def test_our_spans_fit_the_installed_sdk() -> None:
    """The check that every start makes finds nothing here."""
    assert fallback.self_check() is None


async def test_tracing_goes_on_with_the_tracers_of_the_sdk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; spans, children, processors, scrubbing and reports are as ever."""
    monkeypatch.setattr(tracer.Tracer, "_record", broken)
    seen: list[str] = []

    class Watcher(SpanProcessor):
        def on_end(self, span: object) -> None:
            seen.append(getattr(span, "name", ""))

    exporter = InMemoryExporter()
    with caplog.at_level(logging.WARNING, logger="asynctrace"):
        async with asynctrace.init(
            service_name="old",
            exporter=exporter,
            set_global=False,
            span_processors=[Watcher()],
            scrub=lambda key, value: "gone" if key == "secret" else value,
        ) as tracing:
            start = tracing.get_tracer("test").start_as_current_span
            with start("parent") as parent, start("child", attributes={"secret": "x"}):
                assert isinstance(parent, SdkSpan)
                assert not isinstance(parent, Span)
            report = await tracing.force_flush()
    assert report.exported == 2
    child, above = exporter.spans
    assert child.parent_span_id == above.span_id
    assert child.attributes == {"secret": "gone"}
    assert child.resource.attributes["service.name"] == "old"
    assert seen == ["child", "parent"]
    assert len([r for r in caplog.records if "do not fit" in r.getMessage()]) == 1
