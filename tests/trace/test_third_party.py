"""An instrumentation that was not written for us works through our tracer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.trace.delegate import DelegateProvider
from asynctrace.trace.provider import TracerProvider
from tests.trace.recording import Traced, message


@pytest.fixture(params=["provider", "delegate"])
def traced(request: pytest.FixtureRequest) -> Iterator[Traced]:
    """SQLite traced through a provider of its own, or through the process-wide one."""
    traced = Traced()
    provider: TracerProvider | DelegateProvider = traced.provider
    if request.param == "delegate":
        provider = DelegateProvider()
        provider.activate(traced.provider)
    SQLite3Instrumentor().instrument(tracer_provider=provider)
    yield traced
    SQLite3Instrumentor().uninstrument()


def test_queries_become_children_of_the_current_span(traced: Traced) -> None:
    """With the attributes, kind and scope that the instrumentation gives them."""
    connection = sqlite3.connect(":memory:")
    with traced.tracer.start_as_current_span("request") as request:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE shop (item TEXT)")
        cursor.execute("INSERT INTO shop VALUES (?)", ("tea",))
        with pytest.raises(sqlite3.OperationalError):
            cursor.execute("SELECT * FROM nowhere")
    connection.close()
    create, insert, select, _ = traced.sink.spans
    assert [span.name for span in (create, insert, select)] == ["CREATE", "INSERT", "SELECT"]
    for span in (create, insert, select):
        assert span.parent == request.get_span_context()
        assert span.kind is SpanKind.CLIENT
        assert span.instrumentation_scope.name == "opentelemetry.instrumentation.sqlite3"
        assert "db.statement" in span.attributes or "db.query.text" in span.attributes
        assert message(span).span_id
    assert create.status.status_code is not StatusCode.ERROR
    assert select.status.status_code is StatusCode.ERROR
    assert [event.name for event in select.events] == ["exception"]
    assert traced.sink.faults == []
