"""The configured propagators as one."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from opentelemetry import baggage as baggage_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from asynctrace.errors import ConfigError
from asynctrace.propagation import (
    BaggagePropagator,
    Propagator,
    RemoteSpan,
    TraceContextPropagator,
    remote_span,
)
from tests.propagation.w3c_cases import VALID

W3C = Propagator.from_names(["tracecontext", "baggage"])


def context_of(traceparent: str = VALID, **baggage: str) -> Context:
    span = remote_span([traceparent], [])
    assert span is not None
    context = trace_api.set_span_in_context(span, Context())
    for name, value in baggage.items():
        context = baggage_api.set_baggage(name, value, context)
    return context


class Broken(TextMapPropagator):
    """Raises in every method, or returns nonsense."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        if self.error is not None:
            raise self.error
        return "nonsense"

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        if self.error is not None:
            raise self.error

    @property
    def fields(self) -> set[str]:
        return {"broken"}


class Answers(Getter[Any]):
    """A getter that gives (or raises) what it is told, for every header."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def get(self, carrier: Any, key: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def keys(self, carrier: Any) -> list[str]:
        return []


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (["tracecontext"], {"traceparent", "tracestate"}),
        (["baggage"], {"baggage"}),
        ([" TraceContext ", "BAGGAGE"], {"traceparent", "tracestate", "baggage"}),
        (["b3"], {"b3"}),
        (["b3multi"], {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}),
        (["none"], set()),
        (["tracecontext", "none"], set()),
        ([], set()),
    ],
)
def test_names(names: list[str], fields: set[str]) -> None:
    """The names of OTEL_PROPAGATORS, in any case, give the headers of their formats."""
    assert Propagator.from_names(names).fields == fields


@pytest.mark.parametrize(
    ("names", "w3c", "baggage"),
    [
        (["tracecontext"], True, False),
        (["tracecontext", "baggage"], True, True),
        (["baggage", "tracecontext"], True, True),
        (["tracecontext", "tracecontext"], True, False),
        (["baggage"], False, True),
        (["tracecontext", "b3"], False, False),
        (["none"], False, False),
    ],
)
def test_direct_path(names: list[str], w3c: bool, baggage: bool) -> None:
    """Integrations may go round the propagator only when it is nothing but W3C."""
    propagator = Propagator.from_names(names)
    assert propagator.w3c is w3c
    assert propagator.baggage is baggage


def test_unknown_name() -> None:
    """The error names the setting and what there is."""
    with pytest.raises(ConfigError, match=r"OTEL_PROPAGATORS='b4' .*b3, b3multi") as caught:
        Propagator.from_names(["tracecontext", "b4"])
    assert caught.value.value == "b4"


@pytest.mark.parametrize("target", ["no_such_module:X", "builtins:int", "builtins:None"])
def test_unusable_name(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that fails to load, or provides something else, is a configuration error, too."""
    group = "opentelemetry_propagator"
    entry = EntryPoint(name="odd", value=target, group=group)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry])
    with pytest.raises(ConfigError, match=r"'odd'.*its package"):
        Propagator.from_names(["odd"])


def test_repr() -> None:
    """It says what it is made of."""
    assert repr(W3C) == "<Propagator TraceContextPropagator, BaggagePropagator>"
    assert repr(Propagator(())) == "<Propagator none>"


# --- in and out ----------------------------------------------------------------------------------


def test_both_ways() -> None:
    """Span and baggage go out and come in."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier, context_of(user="ä b"))
    assert carrier == {"traceparent": VALID, "baggage": "user=%C3%A4%20b"}
    context = W3C.extract(carrier)
    assert trace_api.get_current_span(context).get_span_context().is_remote
    assert baggage_api.get_all(context) == {"user": "ä b"}
    again: dict[str, str] = {}
    W3C.inject(again, context)
    assert again == carrier


def test_extract_adds_to_a_context() -> None:
    """What a given context has already stays, unless the carrier brings the same."""
    context = W3C.extract({"baggage": "b=2,c=3"}, context_of(a="1", b="1"))
    assert baggage_api.get_all(context) == {"a": "1", "b": "2", "c": "3"}
    assert trace_api.get_current_span(context).get_span_context().is_valid


def test_extract_starts_empty() -> None:
    """Without a given context, what is current here does not get mixed in."""
    assert W3C.extract({}) == Context()


@pytest.mark.parametrize("part", [TraceContextPropagator(), BaggagePropagator()])
def test_parts_alone(part: TextMapPropagator) -> None:
    """Each format is a propagator for OpenTelemetry by itself."""
    carrier: dict[str, str] = {}
    CompositePropagator([part]).inject(carrier, context_of(a="1"))
    assert set(carrier) <= part.fields
    again: dict[str, str] = {}
    part.inject(again, CompositePropagator([part]).extract(carrier))
    assert again == carrier != {}
    assert part.extract({}) == Context()


def test_nothing_to_inject() -> None:
    """No span and no baggage, no headers."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier, Context())
    assert carrier == {}


def test_left_over_tracestate() -> None:
    """A tracestate of another trace does not go out beside a new traceparent."""
    carrier = {"TraceState": "old=1", "TraceParent": "old", "host": "x"}
    W3C.inject(carrier, context_of())
    assert carrier == {"host": "x", "traceparent": VALID}


def test_defaults_of_opentelemetry() -> None:
    """Its default getter and setter, which know dicts only, are no limit."""
    headers = CIMultiDict({"TraceParent": "x"})
    W3C.inject(headers, context_of(), default_setter)
    assert headers.getall("traceparent") == [VALID]
    headers.add("traceparent", VALID)
    assert W3C.extract(headers, getter=default_getter) == Context()


def test_own_getter_and_setter() -> None:
    """A carrier that nobody knows is read and written by the caller's getter and setter."""
    written = []

    class Writes(Setter[int]):
        def set(self, carrier: int, key: str, value: str) -> None:
            written.append((carrier, key, value))

    context = W3C.extract(1, getter=Answers([VALID]))
    span = trace_api.get_current_span(context)
    assert isinstance(span, RemoteSpan)
    state = remote_span([VALID], ["foo=1"])
    assert state is not None
    W3C.inject(7, trace_api.set_span_in_context(state), Writes())
    assert written == [(7, "traceparent", VALID), (7, "tracestate", "foo=1")]


def test_b3_with_w3c() -> None:
    """Foreign formats work beside ours, on every carrier."""
    both = Propagator.from_names(["b3", "tracecontext"])
    headers: CIMultiDict[str] = CIMultiDict()
    both.inject(headers, context_of())
    assert headers["b3"] == f"{VALID[3:35]}-{VALID[36:52]}-1"
    assert headers["traceparent"] == VALID
    b3_only = [(b"B3", headers["b3"].encode())]
    span = trace_api.get_current_span(both.extract(b3_only))
    assert f"{span.get_span_context().trace_id:032x}" == VALID[3:35]


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("broken"), RecursionError(), None])
def test_contained(error: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody else's failure stops neither the caller nor the other formats; it is logged once."""
    propagator = Propagator([Broken(error), TraceContextPropagator()])
    for _ in range(3):
        carrier: dict[str, str] = {}
        propagator.inject(carrier, context_of())
        assert carrier == {"traceparent": VALID}
        assert trace_api.get_current_span(propagator.extract(carrier)).get_span_context().is_valid
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (1 if error is None else 2)
    assert all(message.startswith("Broken failed to ") for message in messages)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_what_passes(error: BaseException) -> None:
    """What is no Exception is nobody's to contain."""
    propagator = Propagator([Broken(error)])
    with pytest.raises(type(error)):
        propagator.extract({})
    with pytest.raises(type(error)):
        propagator.inject({})


@pytest.mark.parametrize("carrier", [1, "text", (), None, object(), [1], [("a",)], ["traceparent"]])
def test_odd_carriers(carrier: Any) -> None:
    """Whatever is given as a carrier, nothing is raised and nothing is found."""
    W3C.inject(carrier, context_of(a="1"))
    if not isinstance(carrier, list):
        assert W3C.extract(carrier) == Context()


odd_values = st.recursive(
    st.none() | st.text() | st.binary() | st.integers() | st.just(VALID) | st.just(VALID.encode()),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
odd_names = st.sampled_from(["traceparent", b"tracestate", "Baggage", None, 7]) | st.text()


@given(st.lists(st.tuples(odd_names, odd_values)) | st.dictionaries(odd_names, odd_values))
def test_any_carrier(carrier: Any) -> None:
    """Headers of any kind and type give a context, and a span in it only if it is a valid one."""
    span = W3C.extract(carrier).values()
    assert all(isinstance(value, RemoteSpan | dict) for value in span)


@given(odd_values | st.builds(ValueError))
def test_any_answer(answer: object) -> None:
    """A getter may answer what it likes, or raise."""
    span = trace_api.get_current_span(W3C.extract({}, getter=Answers(answer)))
    if span is not trace_api.INVALID_SPAN:
        assert answer in (VALID, VALID.encode(), [VALID], [VALID.encode()])
