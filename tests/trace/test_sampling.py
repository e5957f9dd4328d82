"""Sampling decided from a table is what the SDK's samplers decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind, TraceState, get_current_span, set_span_in_context

from asynctrace.trace.sampling import Rules, _delegates, decide
from asynctrace.trace.span import DroppedSpan, Span
from tests.trace.recording import CountingIds, Traced, remote

LEAVES = st.builds(StaticSampler, st.sampled_from(Decision)) | st.builds(
    TraceIdRatioBased, st.floats(0, 1)
)
SAMPLERS = st.recursive(
    LEAVES | st.builds(ParentBasedTraceIdRatio, st.floats(0, 1)),
    lambda inner: st.builds(ParentBased, inner, inner, inner, inner, inner),
    max_leaves=12,
)


class _Odd(Sampler):
    """Says whatever it is told to."""

    def __init__(self, answer: Any = None, **fields: Any) -> None:
        self.answer = answer
        self.fields = fields
        self.asked: list[dict[str, Any]] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Any] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        self.asked.append(
            {
                "parent": get_current_span(parent_context).get_span_context(),
                "trace_id": trace_id,
                "name": name,
                "kind": kind,
                "attributes": attributes,
                "links": links,
            }
        )
        if isinstance(self.answer, BaseException):
            raise self.answer
        if isinstance(self.answer, Decision):
            return SamplingResult(self.answer, **{"attributes": attributes} | self.fields)
        return self.answer  # type: ignore[no-any-return]

    def get_description(self) -> str:
        return "odd"


@given(
    SAMPLERS,
    st.integers(1, 2**128 - 1),
    st.none() | st.tuples(st.booleans(), st.sampled_from([0, 1, 2, 3])),
)
def test_the_table_decides_what_the_sampler_decides(
    sampler: Sampler, trace_id: int, parent: tuple[bool, int] | None
) -> None:
    """For any composition of the SDK's samplers, any trace id and any kind of parent."""
    state = TraceState([("k", "v")])
    span = None
    if parent is not None:
        span = remote(trace_id, 7, is_remote=parent[0], flags=parent[1], state=state)
    context = Context() if span is None else set_span_in_context(span, Context())
    expected = sampler.should_sample(context, trace_id, "name", attributes={"a": 1})

    class Fixed(CountingIds):
        def generate_trace_id(self) -> int:
            return trace_id

    traced = Traced(sampler=sampler, id_generator=Fixed())
    assert traced.provider._core.rules is not None
    started = traced.tracer.start_span("name", context, attributes={"a": 1})

    assert started.is_recording() is expected.decision.is_recording()
    started_context = started.get_span_context()
    assert started_context.trace_flags.sampled is expected.decision.is_sampled()
    assert started_context.trace_id == trace_id
    assert dict(started_context.trace_state) == dict(expected.trace_state or {})
    if isinstance(started, Span):
        assert dict(started.attributes) == dict(expected.attributes or {})


@pytest.mark.parametrize(
    "sampler",
    [
        ALWAYS_ON,
        ALWAYS_OFF,
        DEFAULT_ON,
        DEFAULT_OFF,
        TraceIdRatioBased(0.5),
        ParentBasedTraceIdRatio(0.5),
        ParentBased(ParentBased(ALWAYS_OFF), TraceIdRatioBased(0.1)),
        *(
            cls(None)  # the SDK's own subclasses, by whatever name
            for cls in vars(sampling).values()
            if isinstance(cls, type)
            and issubclass(cls, (StaticSampler, ParentBased))
            and cls not in (StaticSampler, ParentBased, ParentBasedTraceIdRatio)
        ),
    ],
    ids=lambda sampler: f"{type(sampler).__name__}-{sampler.get_description()}",
)
def test_every_sampler_of_the_sdk_has_a_table(sampler: Sampler) -> None:
    """Notices when the SDK moves the fields that the table is read from, or changes a sampler."""
    assert Rules.of(sampler) is not None


def test_the_delegates_of_a_parent_based_sampler_are_found() -> None:
    """Notices when the private names move: sampling would still be right, and slow."""
    delegates = [TraceIdRatioBased(n / 5) for n in range(5)]
    assert _delegates(ParentBased(*delegates)) == tuple(delegates)


class _UsersParentBased(ParentBased):
    pass


class _UsersStatic(StaticSampler):
    pass


@pytest.mark.parametrize(
    "sampler",
    [
        _Odd(Decision.DROP),
        _UsersParentBased(ALWAYS_ON),
        _UsersStatic(Decision.DROP),
        ParentBased(_Odd(Decision.DROP)),
        ParentBased(ALWAYS_ON, local_parent_sampled=_UsersStatic(Decision.DROP)),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_any_other_sampler_is_asked(sampler: Sampler) -> None:
    """Also a subclass that overrides nothing, also inside one of the SDK's."""
    assert Rules.of(sampler) is None


def test_a_sampler_of_the_sdk_that_learned_something_new_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A future SDK may add to the tracestate or the attributes; a table cannot."""
    plain = TraceIdRatioBased.should_sample

    def with_state(self: Any, *args: Any, **kwargs: Any) -> SamplingResult:
        result = plain(self, *args, **kwargs)
        result.trace_state = TraceState([("ot", "th:8")])
        return result

    monkeypatch.setattr(TraceIdRatioBased, "should_sample", with_state)
    assert Rules.of(TraceIdRatioBased(0.5)) is None

    def with_attributes(self: Any, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(plain(self, *args, **kwargs).decision, {"sampler": "ratio"})

    monkeypatch.setattr(TraceIdRatioBased, "should_sample", with_attributes)
    assert Rules.of(TraceIdRatioBased(0.5)) is None

    monkeypatch.setattr(TraceIdRatioBased, "should_sample", plain)
    assert Rules.of(TraceIdRatioBased(0.5)) is not None


def test_a_sampler_of_the_sdk_that_decides_otherwise_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A future SDK may compare other bits of the trace id."""

    def never(self: Any, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.DROP)

    monkeypatch.setattr(TraceIdRatioBased, "should_sample", never)
    assert Rules.of(TraceIdRatioBased(0.5)) is None


def test_a_sampler_of_the_sdk_whose_fields_moved_is_asked() -> None:
    """The table is an optimisation, not a condition."""
    sampler = ParentBased(ALWAYS_ON)
    del sampler._root
    assert Rules.of(sampler) is None


def test_a_ratio_takes_the_low_64_bits_into_account() -> None:
    """As the SDK does, whatever the upper half is."""
    rule = TraceIdRatioBased(0.5).bound
    assert decide(rule, (1 << 127) + 1) is Decision.RECORD_AND_SAMPLE
    assert decide(rule, (1 << 64) - 1) is Decision.DROP


def test_a_foreign_sampler_gets_what_the_sdk_gives_it() -> None:
    """Context, trace id, name, kind, attributes, links; what it returns makes the span."""
    sampler = _Odd(
        Decision.RECORD_AND_SAMPLE, attributes={"s": 1}, trace_state=TraceState([("x", "y")])
    )
    traced = Traced(sampler=sampler)
    parent = remote()
    span = traced.span(
        "named", set_span_in_context(parent), SpanKind.CLIENT, {"given": True}, links=None
    )
    assert sampler.asked == [
        {
            "parent": parent.get_span_context(),
            "trace_id": 0xA,
            "name": "named",
            "kind": SpanKind.CLIENT,
            "attributes": {"given": True},
            "links": (),
        }
    ]
    assert dict(span.attributes) == {"s": 1}
    assert dict(span.context.trace_state) == {"x": "y"}


def test_a_recorded_span_that_is_not_sampled_reaches_processors_and_not_the_sink() -> None:
    """RECORD_ONLY: nothing is exported, and the flag is not set."""
    traced = Traced(sampler=_Odd(Decision.RECORD_ONLY))
    span = traced.span()
    span.end()
    assert span.context.trace_flags == 2
    assert traced.sink.spans == []


@pytest.mark.parametrize("answer", [RuntimeError("broken"), None, SamplingResult("odd")])  # type: ignore[arg-type]
@pytest.mark.parametrize("flags", [0, 1, None])
def test_when_a_sampler_fails_the_decision_of_the_parent_holds(
    answer: Any, flags: int | None
) -> None:
    """A trace that begins here is dropped then: no torn traces, no flood, no exception."""
    traced = Traced(sampler=_Odd(answer))
    context = Context() if flags is None else set_span_in_context(remote(flags=flags), Context())
    span = traced.tracer.start_span("n", context, attributes={"a": 1})
    assert span.is_recording() is (flags == 1)
    if isinstance(span, Span):
        assert dict(span.attributes) == {"a": 1}
    else:
        assert isinstance(span, DroppedSpan)
    [(where, _)] = traced.sink.faults
    assert where == "_Odd.should_sample"


def test_an_exit_of_a_sampler_passes() -> None:
    """KeyboardInterrupt and its like are none of our business."""
    traced = Traced(sampler=_Odd(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        traced.tracer.start_span("n")
