"""A child that starts long after its parent ended is noted once, with a hint."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from asynctrace.context import create_task, span, traced
from asynctrace.httpx import create_client
from asynctrace.initialization import init
from asynctrace.worker import publish
from tests.context.recording import Recording, recording


class Clock:
    """Nanoseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(traced_spans: Recording) -> Clock:
    clock = Clock()
    traced_spans.tracer_provider._core.clock = clock
    return clock


@traced(name="late")
async def late() -> None:
    pass


async def start_late(clock: Clock, seconds: float, relation: str = "child") -> None:
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        await late()

    with span("request"):
        task = create_task(work(), relation=relation)  # type: ignore[arg-type]
        await asyncio.sleep(0)
    clock.now += int(seconds * 1e9)
    go.set()
    await task


async def test_noted_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """With both names, the time between, and what to do; a second time nothing is said."""
    await start_late(clock, 2.5)
    await start_late(clock, 2.5)
    [record] = caplog.records
    message = record.getMessage()
    assert "'late' was started 2.5 s after its parent 'request' had ended" in message
    assert "relation='link'" in message


async def test_once_per_tracing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Another life of tracing notes its own."""
    await start_late(clock, 2)
    with recording() as record:
        record.tracer_provider._core.clock = clock
        await start_late(clock, 2)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(("seconds", "relation"), [(0.5, "child"), (60, "detached"), (0, "link")])
async def test_nothing_to_note(
    clock: Clock, caplog: pytest.LogCaptureFixture, seconds: float, relation: str
) -> None:
    """Soon after, or not a child at all."""
    await start_late(clock, seconds, relation)
    assert caplog.records == []


async def test_generator(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The span of a generator is noted like any other."""

    @traced(name="rows")
    def rows() -> object:
        yield 1

    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        list(rows())  # type: ignore[call-overload]

    with span("request"):
        task = create_task(work())
        await asyncio.sleep(0)
    clock.now += 5_000_000_000
    go.set()
    await task
    assert "'rows'" in caplog.text


@pytest.mark.parametrize("how", ["named task", "publish", "tracer"])
async def test_every_kind_of_child(
    clock: Clock, caplog: pytest.LogCaptureFixture, traced_spans: Recording, how: str
) -> None:
    """Whoever starts the span: create_task, a message, OpenTelemetry's interface."""
    go = asyncio.Event()

    async def nothing() -> None:
        pass

    async def work() -> None:
        await go.wait()
        if how == "named task":
            await create_task(nothing(), "late")
        elif how == "publish":
            with publish("late", {}):
                pass
        else:
            traced_spans.tracer_provider.get_tracer("other").start_span("late").end()

    with span("request"):
        task = create_task(work())
        await asyncio.sleep(0)
    clock.now += 5_000_000_000
    go.set()
    await task
    [record] = caplog.records
    assert "its parent 'request' had ended" in record.getMessage()


async def test_client(caplog: pytest.LogCaptureFixture) -> None:
    """A poller that a request started, and that has no spans of its own but its client's."""
    go = asyncio.Event()
    clock = Clock()
    answering = httpx.MockTransport(lambda request: httpx.Response(204))

    async def poll() -> None:
        await go.wait()
        async with create_client(transport=answering) as client:
            await client.get("http://127.0.0.1/late")

    async with init(exporter="none") as tracing:
        tracing.tracer_provider._core.clock = clock
        with span("request"):
            task = create_task(poll())
            await asyncio.sleep(0)
        clock.now += 5_000_000_000
        go.set()
        await task
    assert "The span 'GET' was started 5.0 s after its parent 'request'" in caplog.text
