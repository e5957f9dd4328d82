"""``inject`` and ``extract`` with the propagator of the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict
from opentelemetry import baggage as baggage_api
from opentelemetry import context as context_api
from opentelemetry import propagate
from opentelemetry import trace as trace_api
from opentelemetry.propagators.composite import CompositePropagator

from asynctrace.propagation import (
    Propagator,
    RemoteSpan,
    RemoteTraceState,
    extract,
    identity,
    inject,
    set_default,
)
from tests.propagation.test_baggage import names, values
from tests.propagation.test_tracecontext import span_ids, trace_ids
from tests.propagation.test_tracestate import states

SPAN = RemoteSpan(1, 2, 1)
HEADER = "00-00000000000000000000000000000001-0000000000000002-01"
W3C = Propagator.from_names(["tracecontext", "baggage"])


@pytest.fixture
def default() -> Iterator[None]:
    set_default(W3C)
    yield
    set_default(None)


@pytest.fixture
def global_textmap() -> Iterator[None]:
    before = propagate.get_global_textmap()
    yield
    propagate.set_global_textmap(before)


@given(
    st.sampled_from([dict, list, CIMultiDict, MultiDict, httpx.Headers]),
    trace_ids,
    span_ids,
    st.integers(0, 3),
    st.none() | st.builds(RemoteTraceState, states),
    st.dictionaries(names, values, max_size=5),
)
def test_round_trip(
    form: Callable[[], Any],
    trace_id: int,
    span_id: int,
    flags: int,
    state: RemoteTraceState | None,
    baggage: dict[str, str],
) -> None:
    """What one side injects is what the other extracts, in every kind of carrier."""
    set_default(W3C)
    try:
        span = RemoteSpan(trace_id, span_id, flags, state)
        context = trace_api.set_span_in_context(span, context_api.Context())
        for name, value in baggage.items():
            context = baggage_api.set_baggage(name, value, context)
        carrier = form()
        inject(carrier, context)
        received = extract(carrier)
        assert identity(trace_api.get_current_span(received)) == identity(span)
        assert baggage_api.get_all(received) == baggage
    finally:
        set_default(None)


@pytest.mark.usefixtures("default")
def test_current_context() -> None:
    """Without a context the current one is sent."""
    token = context_api.attach(trace_api.set_span_in_context(SPAN))
    try:
        headers: list[tuple[bytes, bytes]] = [(b"a", b"b")]
        inject(headers)
    finally:
        context_api.detach(token)
    assert headers == [(b"a", b"b"), (b"traceparent", HEADER.encode())]


@pytest.mark.usefixtures("default")
def test_kafka() -> None:
    """The headers of Kafka messages: none at all, or (str, bytes)."""
    headers: list[tuple[str, bytes]] = []
    inject(headers, trace_api.set_span_in_context(SPAN))
    assert headers == [("traceparent", HEADER.encode())]
    assert identity(trace_api.get_current_span(extract(headers))) == identity(SPAN)
    assert extract(None) == {}


@pytest.mark.usefixtures("global_textmap")
def test_global_of_opentelemetry() -> None:
    """Unless a default is set, OpenTelemetry's global propagator is used, whichever it is now."""
    for name, header in [("b3", "b3"), ("tracecontext", "traceparent")]:
        propagate.set_global_textmap(CompositePropagator([Propagator.from_names([name])]))
        carrier: dict[str, str] = {}
        inject(carrier, trace_api.set_span_in_context(SPAN))
        assert set(carrier) == {header}
        assert identity(trace_api.get_current_span(extract(carrier))).trace_id == 1


@pytest.mark.usefixtures("default", "global_textmap")
def test_default_wins() -> None:
    """The default is used before the global one, and may be any propagator."""
    propagate.set_global_textmap(Propagator(()))
    carrier: dict[str, str] = {}
    inject(carrier, trace_api.set_span_in_context(SPAN))
    assert carrier == {"traceparent": HEADER}
    set_default(CompositePropagator([Propagator.from_names(["b3"])]))
    carrier.clear()
    inject(carrier, trace_api.set_span_in_context(SPAN))
    assert set(carrier) == {"b3"}


def test_global_of_opentelemetry_does_not_load() -> None:
    """An OTEL_PROPAGATORS that OpenTelemetry chokes on costs one warning and no exception."""
    program = """
import os
os.environ["OTEL_PROPAGATORS"] = "nonsense"
from asynctrace.propagation import extract, inject
carrier = {}
inject(carrier)
inject(carrier)
assert extract({"traceparent": "x"}) == {} == carrier
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("nonsense") == 1


def test_imports() -> None:
    """Carriers of other libraries are known by behaviour: nothing of theirs is imported."""
    program = """
import sys
import asynctrace.propagation
print(sorted({"aiohttp", "httpx", "multidict"} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stdout.strip() == "[]"
