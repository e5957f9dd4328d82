"""Starting spans: parents, ids, flags, lazily built attributes, current spans."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, Decision
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    SpanKind,
    StatusCode,
    TraceState,
    set_span_in_context,
)

from asynctrace.propagation.tracecontext import RemoteSpan
from asynctrace.trace.span import DroppedSpan, Span
from tests.trace.recording import Clock, CountingIds, Traced, message, remote
from tests.trace.test_sampling import _Odd


def _attributes(subject: str) -> dict[str, Any]:
    return {"subject": subject}


class TestStartSpan:
    def test_a_child_has_the_trace_and_the_parent_of_the_current_span(self) -> None:
        """By the public context, so that other instrumentations' spans are parents and children."""
        traced = Traced()
        with trace.use_span(remote(state=TraceState([("k", "v")]))):
            span = traced.span()
        assert span.parent == remote(state=span.context.trace_state).get_span_context()
        assert span.context.trace_id == 0xA
        assert dict(span.context.trace_state) == {"k": "v"}

    def test_a_child_of_a_dropped_span_is_dropped_in_the_same_trace(self) -> None:
        """The context goes on: a service downstream sees one trace, not sampled."""
        traced = Traced(sampler=ALWAYS_OFF)
        parent = traced.tracer.start_span("parent")
        child = traced.tracer.start_span("child", set_span_in_context(parent))
        assert isinstance(child, DroppedSpan)
        assert child.get_span_context().trace_id == parent.get_span_context().trace_id
        assert child.get_span_context().span_id != parent.get_span_context().span_id
        assert not child.get_span_context().trace_flags.sampled
        assert "DroppedSpan(" in repr(child)

    @pytest.mark.parametrize("is_random", [True, False])
    def test_the_random_flag_is_the_generators_word_and_is_inherited(self, is_random: bool) -> None:
        """W3C level 2: a child says of the trace id what its parent said."""
        traced = Traced(id_generator=CountingIds(is_random=is_random))
        root = traced.span()
        child = traced.span("child", set_span_in_context(root))
        assert root.context.trace_flags.random_trace_id is is_random
        assert child.context.trace_flags.random_trace_id is is_random
        other = traced.span("other", set_span_in_context(remote(flags=3)))
        assert other.context.trace_flags == 3

    def test_a_generator_without_an_opinion_on_randomness_is_not_random(self) -> None:
        """Generators were written before the flag existed, and need not derive from the SDK's."""

        class Old:
            def generate_trace_id(self) -> int:
                return 5

            def generate_span_id(self) -> int:
                return 6

        span = Traced(id_generator=Old()).span()
        assert (span.context.trace_id, span.context.span_id, span.context.trace_flags) == (5, 6, 1)

    @pytest.mark.parametrize("bad", [RuntimeError("no"), 0, -1, 1 << 128, "12", None])
    def test_an_id_that_is_none_is_replaced(self, bad: Any) -> None:
        """A generator that raises or returns nonsense is counted; the span is valid."""

        class Bad(IdGenerator):
            def generate_trace_id(self) -> int:
                if isinstance(bad, Exception):
                    raise bad
                return bad  # type: ignore[no-any-return]

            generate_span_id = generate_trace_id

            def is_trace_id_random(self) -> bool:
                raise RuntimeError("no")

        traced = Traced(id_generator=Bad())
        assert traced.span().context.is_valid
        assert {where for where, _ in traced.sink.faults} == {
            "id_generator.generate_trace_id",
            "id_generator.generate_span_id",
            "id_generator.is_trace_id_random",
        }

    def test_ids_of_the_default_generator_are_valid_and_different(self) -> None:
        """Taken from the random module directly, as the generator itself does."""
        traced = Traced()
        spans = [traced.span() for _ in range(50)]
        assert all(span.context.is_valid for span in spans)
        assert len({span.context.trace_id for span in spans}) == 50
        assert len({span.context.span_id for span in spans}) == 50
        assert repr(traced.provider._core.ids) == "Ids(RandomIdGenerator)"

    @pytest.mark.parametrize("broken", [RuntimeError("no"), "no context"])
    def test_a_parent_that_cannot_tell_its_context_is_none(self, broken: Any) -> None:
        """Foreign span classes may do anything."""

        class Foreign(trace.NonRecordingSpan):
            def get_span_context(self) -> Any:
                if isinstance(broken, Exception):
                    raise broken
                return broken

        traced = Traced()
        span = traced.span("n", set_span_in_context(Foreign(remote().get_span_context())))
        assert span.parent is None
        assert [where for where, _ in traced.sink.faults] == ["parent span"]

    def test_a_parent_without_a_context_is_none(self) -> None:
        """As in the SDK, silently."""

        class Empty(trace.NonRecordingSpan):
            def get_span_context(self) -> Any:
                return None

        traced = Traced()
        assert (
            traced.span("n", set_span_in_context(Empty(INVALID_SPAN.get_span_context()))).parent
            is None
        )
        assert traced.sink.faults == []

    @pytest.mark.parametrize("given", [{"links": 5}, {"attributes": 5}, {"links": [5, None]}])
    def test_arguments_of_wrong_types_are_dropped_and_counted(self, given: dict[str, Any]) -> None:
        """Never an exception in user code."""
        traced = Traced()
        span = traced.span("n", **given)
        assert (dict(span.attributes), span.links) == ({}, ())
        assert len(traced.sink.faults) == 1

    def test_links_are_bounded_and_the_invalid_ones_skipped(self) -> None:
        """The last ones stay, as many as allowed; a link that says nothing is not counted."""
        traced = Traced(span_limits=SpanLimits(max_links=2))
        valid = [Link(remote(span_id=n).get_span_context(), {"n": n}) for n in (1, 2, 3)]
        invalid = Link(INVALID_SPAN.get_span_context())
        span = traced.span("n", links=[*valid, invalid, None])
        assert [dict(link.attributes) for link in span.links] == [{"n": 2}, {"n": 3}]
        assert span.dropped_links == 1
        assert "SpanLink(" in repr(span.links[0])


class TestStartLazily:
    def test_attributes_are_built_for_a_recorded_span(self) -> None:
        """From the subject; the dict becomes the span's."""
        traced = Traced()
        span = traced.tracer.start_lazily("n", SpanKind.SERVER, None, _attributes, "request")
        assert isinstance(span, Span)
        assert dict(span.attributes) == {"subject": "request"}
        assert (span.name, span.kind, span.start_time) == ("n", SpanKind.SERVER, 1_000)

    def test_nothing_is_built_for_a_dropped_one(self) -> None:
        """This is what makes an unsampled request cheap."""
        traced = Traced(sampler=ALWAYS_OFF)
        span = traced.tracer.start_lazily("n", SpanKind.SERVER, None, pytest.fail, "called")
        assert isinstance(span, DroppedSpan)

    @pytest.mark.parametrize("decision", [Decision.DROP, Decision.RECORD_AND_SAMPLE])
    def test_a_foreign_sampler_sees_the_built_attributes(self, decision: Decision) -> None:
        """It may decide by them, as it could with any other instrumentation."""
        sampler = _Odd(decision)
        parent = remote()
        span = Traced(sampler=sampler).tracer.start_lazily(
            "n", SpanKind.SERVER, parent, _attributes, "request"
        )
        [asked] = sampler.asked
        assert asked["attributes"] == {"subject": "request"}
        assert asked["parent"] == parent.get_span_context()
        assert span.is_recording() is decision.is_recording()
        if isinstance(span, Span):
            assert dict(span.attributes) == {"subject": "request"}

    @pytest.mark.parametrize("given", [{"odd": object(), "good": 1}, 5])
    def test_what_a_foreign_sampler_adds_is_not_trusted(self, given: Any) -> None:
        """It is cleaned like everything that comes from outside."""
        sampler = _Odd(
            SimpleNamespace(decision=Decision.RECORD_AND_SAMPLE, attributes=given, trace_state=None)
        )
        tracer = Traced(sampler=sampler).tracer
        for span in (
            tracer.start_lazily("n", SpanKind.SERVER, None, _attributes, "x"),
            tracer.start_span("n"),
        ):
            assert isinstance(span, Span)
            assert dict(span.attributes) in ({"odd": None, "good": 1}, {})

    def test_without_a_parent_a_trace_begins_whatever_is_current(self) -> None:
        """Also in the eyes of a sampler that looks the parent up itself."""
        sampler = _Odd(Decision.RECORD_AND_SAMPLE)
        for tracer in (Traced().tracer, Traced(sampler=sampler).tracer):
            with trace.use_span(remote()):
                span = tracer.start_lazily("n", SpanKind.SERVER, None, _attributes, "x")
            assert isinstance(span, Span)
            assert span.parent is None
        assert not sampler.asked[0]["parent"].is_valid

    @pytest.mark.parametrize(
        "parent",
        [
            remote(),
            RemoteSpan(0xA, 0xB, 1, None),
            remote(is_remote=False),
            Traced(id_generator=CountingIds()).tracer.start_span("local"),
            Traced(sampler=ALWAYS_OFF).tracer.start_span("dropped"),
        ],
        ids=["foreign", "remote", "foreign local", "local", "dropped"],
    )
    def test_any_span_may_be_the_parent(self, parent: trace.Span) -> None:
        """Ours by their fields, any other by its context: the same to a reader."""
        traced = Traced()
        span = traced.tracer.start_lazily("n", SpanKind.SERVER, parent, _attributes, "x")
        assert isinstance(span, Span)
        assert span.parent == parent.get_span_context()
        assert bool(message(span).flags & 0x200) is parent.get_span_context().is_remote

    def test_processors_get_a_context_with_the_parent_and_the_current_baggage(self) -> None:
        """A processor that copies baggage into spans works as with the SDK."""
        seen: list[Any] = []

        class Look(SpanProcessor):
            def on_start(self, span: Any, parent_context: Context | None = None) -> None:
                seen.append(
                    (
                        trace.get_current_span(parent_context),
                        baggage.get_baggage("user", parent_context),
                    )
                )

        traced = Traced()
        traced.provider.add_span_processor(Look())
        parent = remote()
        given = baggage.set_baggage("user", "given", Context())
        traced.tracer.start_lazily("n", SpanKind.SERVER, parent, _attributes, "x", context=given)

        def with_baggage() -> None:
            attach(baggage.set_baggage("user", "current"))
            traced.tracer.start_lazily("n", SpanKind.SERVER, parent, _attributes, "x")

        contextvars.copy_context().run(with_baggage)
        assert seen == [(INVALID_SPAN, "given"), (parent, "current")]

    def test_limits_hold_for_trusted_attributes_too(self) -> None:
        """A limit that the user set is never skipped for the sake of speed."""
        limits = SpanLimits(max_span_attributes=1, max_span_attribute_length=3)
        traced = Traced(span_limits=limits)
        span = traced.tracer.start_lazily(
            "n", SpanKind.SERVER, None, lambda _: {"a": "12345", "b": "12345"}, None
        )
        assert isinstance(span, Span)
        assert (dict(span.attributes), span.dropped_attributes) == ({"b": "123"}, 1)

    def test_links_and_a_start_time_may_be_given(self) -> None:
        """As to `start_span`."""
        link = Link(remote().get_span_context())
        span = Traced().tracer.start_lazily(
            "n", SpanKind.CONSUMER, None, _attributes, "x", links=[link], start_time=5
        )
        assert isinstance(span, Span)
        assert [given.context for given in span.links] == [link.context]
        assert span.start_time == 5

    def test_a_builder_that_raises_costs_the_attributes_and_not_the_span(self) -> None:
        """Counted as a fault."""

        def broken(_: object) -> dict[str, Any]:
            raise RecursionError

        traced = Traced()
        span = traced.tracer.start_lazily("n", SpanKind.SERVER, None, broken, None)
        assert isinstance(span, Span)
        assert dict(span.attributes) == {}
        assert traced.sink.faults == [("attributes", "RecursionError")]


class TestStartAsCurrentSpan:
    def test_a_span_is_current_inside_and_ended_after(self) -> None:
        """And what was current before is so again."""
        traced = Traced()
        before = trace.get_current_span()
        with traced.tracer.start_as_current_span("n", attributes={"a": 1}) as span:
            assert trace.get_current_span() is span
            assert span.is_recording()
        assert trace.get_current_span() is before
        assert traced.sink.spans == [span]

    def test_it_may_be_left_open(self) -> None:
        """`end_on_exit=False`, as with the SDK."""
        traced = Traced()
        with traced.tracer.start_as_current_span("n", end_on_exit=False) as span:
            pass
        assert span.is_recording()

    @pytest.mark.parametrize("record", [True, False])
    @pytest.mark.parametrize("set_status", [True, False])
    def test_an_exception_is_recorded_as_wished(self, record: bool, set_status: bool) -> None:
        """And always goes on to the caller."""
        traced = Traced()
        manager = traced.tracer.start_as_current_span(
            "n", record_exception=record, set_status_on_exception=set_status
        )
        with pytest.raises(ValueError, match="bad"), manager:
            raise ValueError("bad")
        [span] = traced.sink.spans
        assert [event.name for event in span.events] == ["exception"] * record
        assert span.status.status_code is (StatusCode.ERROR if set_status else StatusCode.UNSET)
        assert span.status.description == ("ValueError: bad" if set_status else None)

    def test_a_cancellation_is_not_an_error(self) -> None:
        """Only what derives from Exception is, as with the SDK."""
        traced = Traced()
        with pytest.raises(asyncio.CancelledError), traced.tracer.start_as_current_span("n"):
            raise asyncio.CancelledError
        assert traced.sink.spans[0].events == ()
        assert traced.sink.spans[0].status.is_unset

    def test_a_plain_function_can_be_decorated(self) -> None:
        """Each call is a span of its own, and recursion works."""
        traced = Traced()

        @traced.tracer.start_as_current_span("call")
        def count(n: int) -> int:
            """Counts."""
            return n if n == 0 else count(n - 1)

        assert count(2) == 0
        assert count.__doc__ == "Counts."
        assert [span.name for span in traced.sink.spans] == ["call"] * 3
        inner, middle, outer = traced.sink.spans
        assert (inner.parent, middle.parent) == (middle.context, outer.context)

    async def test_an_async_function_can_be_decorated(self) -> None:
        """The span covers what it awaits, and calls side by side do not mix."""
        traced = Traced(clock=Clock())

        @traced.tracer.start_as_current_span("call")
        async def call(n: int) -> trace.Span:
            span = trace.get_current_span()
            await asyncio.sleep(0)
            assert trace.get_current_span() is span
            assert span.is_recording()
            return span

        first, second = await asyncio.gather(call(1), call(2))
        assert first is not second
        assert {id(span) for span in traced.sink.spans} == {id(first), id(second)}

    def test_the_span_starts_when_the_block_is_entered(self) -> None:
        """Not when the manager is made, as with the SDK."""
        traced = Traced()
        manager = traced.tracer.start_as_current_span("n")
        assert "not entered" in repr(manager)
        traced.clock.now = 5_000
        with manager:
            assert "recording" in repr(manager)
        assert traced.sink.spans[0].start_time == 5_000

    def test_a_manager_serves_once(self) -> None:
        """Entered a second time it says what to do instead; the same as the SDK's, more clearly."""
        traced = Traced()
        manager = traced.tracer.start_as_current_span("n")
        with manager:
            pass
        with pytest.raises(RuntimeError, match="start_as_current_span again"), manager:
            pytest.fail("entered twice")

    def test_an_exit_without_an_entry_does_nothing(self) -> None:
        """An ExitStack may be handed the method of a manager that was never entered."""
        traced = Traced()
        traced.tracer.start_as_current_span("n").__exit__(None, None, None)
        assert traced.sink.spans == []

    def test_a_block_left_in_another_context_is_left_quietly(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A generator closed elsewhere than it was advanced: no error in the log, the span ends."""
        traced = Traced()

        def items() -> Generator[int]:
            with traced.tracer.start_as_current_span("n"):
                yield 1

        generator = items()
        contextvars.copy_context().run(next, generator)
        with caplog.at_level(logging.DEBUG):
            generator.close()
        assert caplog.records == []
        assert len(traced.sink.spans) == 1

    def test_a_runtime_context_of_another_make_is_detached_by_opentelemetry(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """OTEL_PYTHON_CONTEXT may replace the context variables, and their tokens with them."""
        detached: list[object] = []
        monkeypatch.setattr("opentelemetry.context.attach", lambda context: "token")
        monkeypatch.setattr("opentelemetry.context.detach", detached.append)
        with Traced().tracer.start_as_current_span("n"):
            pass
        assert detached == ["token"]


def test_the_tracer_has_the_attributes_of_the_sdks() -> None:
    """As they are now, also after the resource was replaced."""
    traced = Traced(sampler=DEFAULT_ON)
    tracer = traced.tracer
    traced.provider.set_resource(Resource({"final": True}))
    assert tracer.sampler is DEFAULT_ON
    assert tracer.resource.attributes == {"final": True}
    assert tracer.id_generator is traced.provider.id_generator
    assert tracer.span_processor is traced.provider._active_span_processor
    assert (tracer.instrumentation_info.name, tracer.instrumentation_info.version) == (
        "tests",
        "1.0",
    )
    assert repr(tracer) == "Tracer('tests')"
