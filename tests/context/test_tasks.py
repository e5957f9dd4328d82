"""create_task: what each relation does with span, trace, baggage and the coroutine."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context

from asynctrace.context import create_task, span
from asynctrace.errors import ConfigError
from tests.context.recording import Recording

pytestmark = pytest.mark.usefixtures("quiet")


async def job() -> object:
    """What a task sees of baggage, after a suspension, in a span of its own."""
    await asyncio.sleep(0)
    async with span("job"):
        return baggage.get_baggage("user")


async def start(relation: Any, name: str | None = None) -> tuple[asyncio.Task[object], object]:
    token = otel_context.attach(baggage.set_baggage("user", "ann"))
    try:
        with span("request"):
            task = create_task(job(), name, relation=relation)
        return task, await task
    finally:
        otel_context.detach(token)


async def test_child_without_a_name_makes_no_span(traced_spans: Recording) -> None:
    """The default: the current span goes along, as with asyncio."""
    _, user = await start("child")
    assert user == "ann"
    assert traced_spans.parents() == {"request": None, "job": "request"}


async def test_child_with_a_name(traced_spans: Recording) -> None:
    """A name makes a span over the task's run, and names the task."""
    task, user = await start("child", "fetch")
    assert (task.get_name(), user) == ("fetch", "ann")
    assert traced_spans.parents() == {"request": None, "job": "fetch", "fetch": "request"}


@pytest.mark.parametrize(("name", "expected"), [(None, "job"), ("later", "later")])
async def test_link(traced_spans: Recording, name: str | None, expected: str) -> None:
    """A trace of its own, linked back, always with a span; baggage goes along."""
    _, user = await start("link", name)
    root = next(s for s in traced_spans.spans if s.name == expected and s.parent is None)
    request = traced_spans.one("request")
    assert root.context.trace_id != request.context.trace_id
    assert [link.context for link in root.links] == [request.context]
    assert user == "ann"


async def test_link_without_anything_current(traced_spans: Recording) -> None:
    """Nothing to link to: a new trace."""
    await create_task(job(), "later", relation="link")
    assert traced_spans.one("later").links == ()


async def test_detached(traced_spans: Recording) -> None:
    """Nothing of the request goes along, and there is no span."""
    task, user = await start("detached", "worker")
    assert (task.get_name(), user) == ("worker", None)
    assert traced_spans.parents() == {"request": None, "job": None}


async def test_other_context_variables_go_along() -> None:
    """Only what belongs to tracing is taken out of a detached task's context."""
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)
    variable.set(5)

    async def read() -> int:
        return variable.get()

    assert await create_task(read(), relation="detached") == 5


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_eager_tasks(traced_spans: Recording) -> None:
    """A task that runs at once, inside of create_task, disturbs nothing that is current there."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    try:
        with span("request") as request:
            child = create_task(job(), "fetch")
            link = create_task(job(), "later", relation="link")
            assert trace.get_current_span() is request
            await asyncio.gather(child, link)
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert traced_spans.one("fetch").parent == request.get_span_context()
    assert traced_spans.one("later").parent is None


async def test_unknown_relation(recwarn: pytest.WarningsRecorder) -> None:
    """It is refused with the remedy, and the coroutine does not complain."""
    with pytest.raises(ConfigError, match="detached"):
        create_task(job(), relation="sibling")  # type: ignore[arg-type]
    gc.collect()
    assert not recwarn.list


@pytest.mark.parametrize("relation", ["child", "link", "detached"])
async def test_nothing_runs(relation: Any) -> None:
    """Without tracing it is asyncio.create_task."""
    task, _ = await start(relation, "fetch")
    assert task.get_name() == "fetch"
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize("relation", ["child", "link", "detached"])
async def test_cancelled_before_the_first_step(traced_spans: Recording, relation: Any) -> None:
    """No span, and no warning of a coroutine that was never awaited."""
    task = create_task(job(), "early", relation=relation)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()
    assert traced_spans.names() == []


async def test_exception_and_result_come_through(traced_spans: Recording) -> None:
    """The task is an ordinary task of that coroutine."""

    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await create_task(fail(), "failing")
    assert traced_spans.one("failing").attributes == {"error.type": "KeyError"}
