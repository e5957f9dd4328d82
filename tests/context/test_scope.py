"""span(): a span around a block, whatever way the block is left."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from asynctrace.context import SpanScope, span
from tests.context.recording import Recording, recording

pytestmark = pytest.mark.usefixtures("quiet")

REMOTE = SpanContext(0xA, 0xB, True, TraceFlags(1))


async def test_with_and_async_with(traced_spans: Recording) -> None:
    """Both give the span, make it current inside, and end it."""
    with span("outer") as outer:
        assert trace.get_current_span() is outer
        async with span("inner") as inner:
            assert trace.get_current_span() is inner
        assert trace.get_current_span() is outer
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert traced_spans.names() == ["inner", "outer"]
    assert traced_spans.parents() == {"inner": "outer", "outer": None}


def test_what_it_is_made_of(traced_spans: Recording) -> None:
    """Kind, attributes and links arrive; the scope name says who made the span."""
    with span("work", kind=SpanKind.CLIENT, attributes={"a": 1}, links=[Link(REMOTE)]) as work:
        work.set_attribute("b", 2)
    made = traced_spans.one("work")
    assert (made.kind, made.attributes) == (SpanKind.CLIENT, {"a": 1, "b": 2})
    assert [link.context for link in made.links] == [REMOTE]
    assert made.instrumentation_scope.name == "asynctrace"


def test_attributes_of_the_caller_are_not_touched(traced_spans: Recording) -> None:
    """The same mapping can serve many spans."""
    attributes = {"a": 1}
    with span("one", attributes=attributes) as one:
        one.set_attribute("b", 2)
    with span("two", attributes=attributes):
        pass
    assert attributes == {"a": 1}
    assert traced_spans.one("two").attributes == {"a": 1}


def test_nothing_runs() -> None:
    """Without tracing the block gets a span that records nothing, and nothing becomes current."""
    with span("work", attributes={"a": 1}) as work:
        work.set_attribute("b", 2)
        assert not work.is_recording()
        assert trace.get_current_span() is trace.INVALID_SPAN


def test_tracing_looked_up_at_entry() -> None:
    """A scope made before tracing runs is recorded by the one that runs when it is entered."""
    scope = span("work")
    with recording() as record, scope:
        pass
    assert record.names() == ["work"]


def test_given_tracing(traced_spans: Recording) -> None:
    """A given tracing is used, and not the one that runs."""
    mine = Recording()
    with span("work", tracing=mine):
        pass
    assert (mine.names(), traced_spans.names()) == (["work"], [])


def test_tracing_is_not_kept() -> None:
    """A tracing that is over is not held by the spans that it made."""
    with recording() as record, span("work"):
        pass
    provider = weakref.ref(record.tracer_provider)
    del record
    gc.collect()
    assert provider() is None


def test_not_sampled() -> None:
    """A dropped span is current all the same, so that what is below it is dropped, too."""
    with recording(ALWAYS_OFF) as record, span("outer") as outer, span("inner") as inner:
        assert trace.get_current_span() is inner
        assert inner.get_span_context().trace_id == outer.get_span_context().trace_id
    assert record.names() == []


def test_base_context(traced_spans: Recording) -> None:
    """Parent and baggage come from a base context when the scope is given one."""
    base = trace.set_span_in_context(NonRecordingSpan(REMOTE), Context())
    base = baggage.set_baggage("user", "ann", base)
    with span("elsewhere"), SpanScope("work", base=base):
        assert baggage.get_baggage("user") == "ann"
    assert traced_spans.one("work").parent == REMOTE


async def test_left_in_another_task(traced_spans: Recording) -> None:
    """Entered in one task and left in another: the span ends, nothing is logged or disturbed."""
    stack = AsyncExitStack()

    async def enter() -> None:
        await stack.enter_async_context(span("work"))

    await asyncio.create_task(enter())
    with span("other") as other:
        await stack.aclose()
        assert trace.get_current_span() is other
    assert traced_spans.parents() == {"work": None, "other": None}


async def test_left_in_a_copied_context(traced_spans: Recording) -> None:
    """Where the span was carried to while it was current, it is current no more after the end."""
    with span("outer") as outer:
        scope = span("work")
        scope.__enter__()

        async def leave() -> trace.Span:
            scope.__exit__(None, None, None)
            return trace.get_current_span()

        assert await asyncio.create_task(leave()) is outer
    assert traced_spans.names() == ["work", "outer"]


def test_left_in_a_copied_context_of_a_root(traced_spans: Recording) -> None:
    """The same when nothing at all was current before."""
    scope = span("work")

    def leave() -> trace.Span:
        scope.__exit__(None, None, None)
        return trace.get_current_span()

    def enter_and_carry() -> trace.Span:
        scope.__enter__()
        return contextvars.copy_context().run(leave)

    assert contextvars.copy_context().run(enter_and_carry) is trace.INVALID_SPAN
    assert traced_spans.names() == ["work"]


async def test_abandoned_async_generator(traced_spans: Recording) -> None:
    """A bare span() in an async generator that is broken off logs nothing and is ended."""

    async def numbers() -> AsyncIterator[int]:
        with span("numbers"):
            yield 1
            yield 2

    async def consume() -> None:
        async for _ in numbers():
            break

    before = asyncio.all_tasks()
    await asyncio.create_task(consume())
    gc.collect()
    await asyncio.sleep(0)  # the finalizer has asked the loop for a task that closes it
    while closing := asyncio.all_tasks() - before:
        await asyncio.wait(closing)
    assert traced_spans.names() == ["numbers"]


def test_left_twice(traced_spans: Recording) -> None:
    """Leaving again does nothing."""
    scope = span("work")
    with scope:
        pass
    scope.__exit__(None, None, None)
    assert traced_spans.names() == ["work"]


def test_repr(traced_spans: Recording) -> None:
    """The state can be seen."""
    scope = span("work")
    assert repr(scope) == "<span scope 'work', not entered>"
    with scope:
        assert repr(scope) == "<span scope 'work', entered>"


async def test_tree_of_tasks(traced_spans: Recording) -> None:
    """Plain tasks, gather and TaskGroup: a span's parent is the one its task was started under."""

    async def leaf(name: str) -> None:
        async with span(name):
            await asyncio.sleep(0)

    async with span("root"):
        with span("plain"):
            task = asyncio.create_task(leaf("in plain"))
        with span("gather"):
            await asyncio.gather(leaf("first"), leaf("second"))
        with span("group"):
            async with asyncio.TaskGroup() as group:
                group.create_task(leaf("in group"))
                with span("nested"):
                    group.create_task(leaf("in nested"))
        with span("shield"):
            await asyncio.shield(leaf("shielded"))
        with span("thread"):
            await asyncio.to_thread(lambda: span("in thread").__enter__().end())
        await task
    assert traced_spans.parents() == {
        "root": None,
        **dict.fromkeys(["plain", "gather", "group", "shield", "thread"], "root"),
        "in plain": "plain",
        "first": "gather",
        "second": "gather",
        "nested": "group",
        "in group": "group",
        "in nested": "nested",
        "shielded": "shield",
        "in thread": "thread",
    }
