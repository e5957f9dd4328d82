"""wrap_executor: jobs see the context of who submitted them."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context

from asynctrace.context import ContextExecutor, span, wrap_executor
from tests.context.recording import Recording


def where_am_i(tag: object = None, *, more: object = None) -> tuple[int, object, object]:
    """The trace and baggage that a job sees."""
    context = trace.get_current_span().get_span_context()
    return context.trace_id, baggage.get_baggage("user"), (tag, more)


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "threads":
        executor: Executor = ThreadPoolExecutor(1, thread_name_prefix="pool")
    else:
        executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with executor:
        yield executor


def test_submit_and_map(pool: Executor, traced_spans: Recording) -> None:
    """Each job sees the span and the baggage current when it was submitted; then nothing stays."""
    executor = wrap_executor(pool)
    token = otel_context.attach(baggage.set_baggage("user", "ann"))
    with span("request") as request:
        trace_id = request.get_span_context().trace_id
        one = executor.submit(where_am_i, 1, more=2)
        many = executor.map(where_am_i, range(3), chunksize=2)
    otel_context.detach(token)
    assert one.result() == (trace_id, "ann", (1, 2))
    assert list(many) == [(trace_id, "ann", (number, None)) for number in range(3)]
    assert executor.submit(where_am_i).result()[:2] == (0, None)
    assert pool.submit(where_am_i).result()[:2] == (0, None)


async def test_run_in_executor(traced_spans: Recording) -> None:
    """The fault it is for: run_in_executor loses the context of a plain pool, and not of ours."""
    with ThreadPoolExecutor(1) as pool, span("request") as request:
        loop = asyncio.get_running_loop()
        trace_id = request.get_span_context().trace_id
        assert (await loop.run_in_executor(pool, where_am_i))[0] == 0
        assert (await loop.run_in_executor(wrap_executor(pool), where_am_i))[0] == trace_id


def test_exceptions_come_through() -> None:
    """A job's exception is its future's."""
    with wrap_executor(ThreadPoolExecutor(1)) as executor, pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result()


def test_shutdown_and_wrapping_twice() -> None:
    """Shutting down shuts the wrapped one down; a wrapped one is not wrapped again."""
    pool = ThreadPoolExecutor(1)
    executor = wrap_executor(pool)
    assert isinstance(executor, ContextExecutor)
    assert wrap_executor(executor) is executor
    assert "ThreadPoolExecutor" in repr(executor)
    with executor:
        pass
    with pytest.raises(RuntimeError):
        pool.submit(where_am_i)
