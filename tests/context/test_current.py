"""attach and detach: what is current, and that nothing is said when it cannot be restored."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from asynctrace.context import attach, attach_context, current, detach

SPAN = NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(1)))
OTHER = NonRecordingSpan(SpanContext(3, 4, False, TraceFlags(1)))

pytestmark = pytest.mark.usefixtures("quiet")


def test_attach_makes_current_and_detach_restores() -> None:
    """Every reader of OpenTelemetry's context sees the span between the two, and not after."""
    outer = attach(OTHER)
    token = attach(SPAN)
    assert trace.get_current_span() is SPAN
    detach(token)
    assert trace.get_current_span() is OTHER
    detach(outer)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_attach_keeps_the_rest() -> None:
    """Baggage that is current stays so; baggage of a given context takes its place."""
    token = otel_context.attach(baggage.set_baggage("user", "ann"))
    inner = attach(SPAN)
    assert baggage.get_baggage("user") == "ann"
    detach(inner)
    inner = attach(SPAN, baggage.set_baggage("user", "bob", Context()))
    assert (baggage.get_baggage("user"), trace.get_current_span()) == ("bob", SPAN)
    detach(inner)
    detach(token)


def test_attach_changes_no_context_in_place() -> None:
    """A context that somebody holds is not altered by what is attached later."""
    held = otel_context.get_current()
    given = Context({"key": "value"})
    detach(attach(SPAN))
    detach(attach(SPAN, given))
    assert (held, given) == ({}, {"key": "value"})


def test_detach_in_another_context_is_quiet_and_changes_nothing() -> None:
    """OpenTelemetry's own detach logs an ERROR here; there is nothing to restore."""
    token = contextvars.copy_context().run(attach, SPAN)
    outer = attach(OTHER)
    detach(token)
    assert trace.get_current_span() is OTHER
    detach(outer)


def test_detach_twice_is_quiet() -> None:
    """A token that was used does nothing the second time."""
    outer = attach(OTHER)
    token = attach(SPAN)
    detach(token)
    detach(token)
    assert trace.get_current_span() is OTHER
    detach(outer)


async def test_detach_in_another_task_leaves_both_alone() -> None:
    """A token carried to another task takes nothing away there, nor from the task it is of."""
    token = attach(SPAN)

    async def elsewhere() -> trace.Span:
        detach(token)
        return trace.get_current_span()

    assert await asyncio.create_task(elsewhere()) is SPAN
    assert trace.get_current_span() is SPAN
    detach(token)


def test_whole_context() -> None:
    """attach_context replaces everything that was current."""
    outer = attach(OTHER)
    token = attach_context(Context())
    assert trace.get_current_span() is trace.INVALID_SPAN
    detach(token)
    assert trace.get_current_span() is OTHER
    detach(outer)


def test_the_fast_way_is_in_use() -> None:
    """Notices an OpenTelemetry whose token no longer leads to its context variable."""
    token = attach(SPAN)
    assert current.VARIABLE is not None
    assert current.VARIABLE.get(None) is otel_context.get_current()
    detach(token)


def test_another_runtime_context() -> None:
    """With OTEL_PYTHON_CONTEXT set to one without a variable, the public functions do the work."""
    program = """
import opentelemetry.context as c
class Stack:
    def __init__(self): self.stack = [c.Context()]
    def attach(self, context): self.stack.append(context); return len(self.stack) - 1
    def detach(self, token): del self.stack[token:]
    def get_current(self): return self.stack[-1]
c._RUNTIME_CONTEXT = Stack()
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, INVALID_SPAN
from asynctrace.context import attach, current, detach
assert current.VARIABLE is None
span = NonRecordingSpan(SpanContext(1, 2, False))
token = attach(span)
assert get_current_span() is span
current.leave(token, span)
assert get_current_span() is INVALID_SPAN
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
