"""What a span says about the exception that ended its work, row by row of the module's table."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections.abc import Awaitable, Callable

import pytest
from opentelemetry.trace import StatusCode

from asynctrace.context import span
from asynctrace.initialization import init
from asynctrace.semconv import UNFINISHED
from asynctrace.testing import InMemoryExporter
from asynctrace.tracing import Tracing
from tests.context.recording import Recording, recording

REASON = "asynctrace.cancellation.reason"


def fail_with(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, span("work"):
        raise error
    assert caught.value is error


class StubbornError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Control(BaseException):
    """Some library's control flow."""


def test_success_says_nothing(traced_spans: Recording) -> None:
    """A block that is simply left has no status, event or attribute."""
    with span("work"):
        pass
    work = traced_spans.one("work")
    assert (work.status.status_code, work.events, work.attributes) == (StatusCode.UNSET, (), {})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no"), "ValueError"),
        (json.JSONDecodeError("no", "", 0), "json.decoder.JSONDecodeError"),
        (TimeoutError(errno.ETIMEDOUT, "connect"), "TimeoutError"),
        (ExceptionGroup("both", [ValueError("a"), ValueError("b")]), "ValueError"),
        (ExceptionGroup("both", [ValueError("a"), KeyError("b")]), "ExceptionGroup"),
        (BaseExceptionGroup("x", [asyncio.CancelledError(), OSError("b")]), "OSError"),
        (ExceptionGroup("x", [ExceptionGroup("y", [OSError("b")])]), "OSError"),
    ],
    ids=repr,
)
def test_exception(traced_spans: Recording, error: BaseException, kind: str) -> None:
    """An exception is one event, status ERROR with its message, and error.type; no reason."""
    fail_with(error)
    work = traced_spans.one("work")
    assert work.status.status_code is StatusCode.ERROR
    assert work.status.description == str(error)
    assert work.attributes == {"error.type": kind}
    [event] = work.events
    assert event.name == "exception"
    assert event.attributes["exception.message"] == str(error)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (BaseExceptionGroup("x", [asyncio.CancelledError()]), "cancelled"),
        (KeyboardInterrupt(), "shutdown"),
        (SystemExit(0), "shutdown"),
    ],
    ids=repr,
)
def test_cancellation_is_no_error(
    traced_spans: Recording, error: BaseException, reason: str
) -> None:
    """Status unset, no event, and the reason as far as it is known."""
    fail_with(error)
    work = traced_spans.one("work")
    assert (work.status.status_code, work.events) == (StatusCode.UNSET, ())
    assert work.attributes == {REASON: reason}


@pytest.mark.parametrize("error", [GeneratorExit(), Control()], ids=repr)
def test_control_flow_says_nothing(traced_spans: Recording, error: BaseException) -> None:
    """Being closed, or another library's BaseException, is neither failure nor cancellation."""
    fail_with(error)
    work = traced_spans.one("work")
    assert (work.status.status_code, work.events, work.attributes) == (StatusCode.UNSET, (), {})


async def cut_off_by_timeout() -> None:
    async with asyncio.timeout(0):
        await asyncio.Event().wait()


async def cut_off_by_wait_for() -> None:
    await asyncio.wait_for(asyncio.Event().wait(), 0.001)


@pytest.mark.parametrize("work", [cut_off_by_timeout, cut_off_by_wait_for])
async def test_timeout_of_asyncio(
    traced_spans: Recording, work: Callable[[], Awaitable[None]]
) -> None:
    """What asyncio.timeout and wait_for cut off is an error whose reason is known."""
    with pytest.raises(TimeoutError):
        async with span("work"):
            await work()
    made = traced_spans.one("work")
    assert made.status.status_code is StatusCode.ERROR
    assert made.attributes == {"error.type": "TimeoutError", REASON: "timeout"}


async def cut_off_inside_of_timeout() -> None:
    async with asyncio.timeout(0), span("work"):
        await asyncio.Event().wait()


async def cut_off_inside_of_group() -> None:
    async def fail() -> None:
        raise TimeoutError

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        with span("work"):
            await asyncio.Event().wait()


@pytest.mark.parametrize("work", [cut_off_inside_of_timeout, cut_off_inside_of_group])
async def test_cancellation_taken_back(
    traced_spans: Recording, work: Callable[[], Awaitable[None]]
) -> None:
    """A span inside of the timeout or group that cancelled it says so, ended when it was left."""
    with pytest.raises((TimeoutError, ExceptionGroup)):
        await work()
    left = time.time_ns()
    assert traced_spans.names() == []  # it is known one step of the loop later
    await asyncio.sleep(0)
    made = traced_spans.one("work")
    assert made.attributes == {REASON: "scope"}
    assert made.status.status_code is StatusCode.UNSET
    assert made.start_time <= made.end_time <= left


async def test_cancelled_inside_of_a_timeout(traced_spans: Recording) -> None:
    """A timeout that did not expire is not blamed for a cancellation from outside."""

    async def work() -> None:
        async with asyncio.timeout(60), span("work"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert traced_spans.one("work").attributes == {REASON: "cancelled"}


async def test_ended_before_it_is_known(traced_spans: Recording) -> None:
    """A shutdown that comes in between ends the span, with what is known by then, once."""
    with pytest.raises(TimeoutError):
        await cut_off_inside_of_timeout()
    for left_open in traced_spans.tracer_provider.open_spans():
        left_open.end()
    await asyncio.sleep(0)
    assert traced_spans.one("work").attributes == {REASON: "cancelled"}


async def test_cancelled_task(traced_spans: Recording) -> None:
    """A cancelled task's span ends with the task, as cancelled; the cancellation passes through."""
    entered = asyncio.Event()

    async def work() -> None:
        async with span("work"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert traced_spans.one("work").attributes == {REASON: "cancelled"}


def test_nested_spans_tell_it_each(traced_spans: Recording) -> None:
    """An exception is recorded once per span that it leaves."""
    with pytest.raises(KeyError), span("outer"), span("inner"):
        raise KeyError("x")
    for name in ("outer", "inner"):
        assert len(traced_spans.one(name).events) == 1
        assert traced_spans.one(name).attributes == {"error.type": "KeyError"}


def test_exception_without_a_text() -> None:
    """An exception whose __str__ fails reaches the caller unharmed, and is recorded."""
    with recording() as record:
        record.fault = lambda where, error: None  # type: ignore[method-assign]
        fail_with(StubbornError())
    assert record.one("work").status.status_code is StatusCode.ERROR
    assert record.one("work").attributes["error.type"].endswith("StubbornError")


async def test_shutdown_before_the_reason_is_known() -> None:
    """A span whose work was just cancelled has ended: the shutdown does not call it unfinished."""
    exporter = InMemoryExporter()

    async def work(tracing: Tracing) -> None:
        try:
            with span("cancelled"):
                await asyncio.Event().wait()
        finally:
            await tracing.shutdown()

    async with init(exporter=exporter) as tracing:
        open_span = span("open")
        open_span.__enter__()
        task = asyncio.create_task(work(tracing))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    open_span.__exit__(None, None, None)
    attributes = {made.name: made.attributes for made in exporter.spans}
    assert attributes == {"cancelled": {REASON: "cancelled"}, "open": {UNFINISHED: True}}
