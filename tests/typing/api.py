"""The public types, for mypy and pyright. Checked, never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import assert_type, overload

from aiohttp import ClientSession
from aiohttp.typedefs import Handler
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

import asynctrace

assert_type(asynctrace.__version__, str)


# --- lifecycle -----------------------------------------------------------------------------------


async def lifecycle() -> None:
    async with asynctrace.init(service_name="shop") as tracing:
        assert_type(tracing, asynctrace.Tracing)
    tracing = await asynctrace.init(exporter="none", shutdown_timeout=1.0)
    assert_type(await tracing.force_flush(timeout=2.0), asynctrace.FlushReport)
    assert_type(await tracing.shutdown(timeout=2.0), asynctrace.ShutdownReport)
    assert_type(asynctrace.current(), asynctrace.Tracing)
    asynctrace.init(servise_name="shop")  # type: ignore[call-arg]
    assert_type(tracing.healthy(), bool)
    assert_type(tracing.statistics().longest_stall, float)


async def token() -> dict[str, str]:
    return {"authorization": "Bearer x"}


async def delivery(session: ClientSession, handler: Handler) -> None:
    exporters = ["otlp", asynctrace.ConsoleExporter(), asynctrace.OtlpFileExporter("spans.jsonl")]
    await asynctrace.init(exporter=exporters, credentials=token, session=session)
    await asynctrace.init(credentials=lambda: {"authorization": "Bearer x"})
    await asynctrace.init(credentials={"a": "b"})  # type: ignore[arg-type]
    assert_type(asynctrace.flush_after(handler, timeout=1.0), Handler)


# --- span ----------------------------------------------------------------------------------------


async def spans(tracing: asynctrace.Tracing, link: Link) -> None:
    with asynctrace.span("a", kind=SpanKind.CLIENT, attributes={"a": 1, "b": ["c"]}) as one:
        assert_type(one, Span)
    async with asynctrace.span("b", links=[link], tracing=tracing) as two:
        assert_type(two, Span)
    asynctrace.span()  # type: ignore[call-arg]
    asynctrace.span("a", SpanKind.CLIENT)  # type: ignore[call-arg]


def always_returns() -> int:
    with asynctrace.span("a"):  # lets exceptions out, so nothing is missing after the block
        return 1


# --- traced --------------------------------------------------------------------------------------


@asynctrace.traced
def plain(number: int, *, text: str = "") -> list[str]:
    return [text] * number


@asynctrace.traced(name="waits", kind=SpanKind.SERVER, attributes={"a": 1})
async def waits(number: int) -> str:
    return str(number)


@asynctrace.traced
def rows(number: int) -> Iterator[int]:
    yield number


@asynctrace.traced()
async def pages(number: int) -> AsyncIterator[bytes]:
    yield bytes(number)


@overload
def either(value: int) -> int: ...
@overload
def either(value: str) -> str: ...
@asynctrace.traced
def either(value: int | str) -> int | str:
    return value


class Shop:
    @asynctrace.traced
    def method(self, number: int) -> str:
        return str(number)

    @staticmethod
    @asynctrace.traced
    def static(number: int) -> str:
        return str(number)

    @classmethod
    @asynctrace.traced
    def make(cls, number: int) -> Shop:
        return cls()

    @asynctrace.traced(name="other order")
    @classmethod
    def make_too(cls, number: int) -> Shop:
        return cls()

    @asynctrace.traced
    @staticmethod
    def static_too(number: int) -> str:
        return str(number)


async def calls(shop: Shop) -> None:
    assert_type(plain(1, text="a"), list[str])
    assert_type(await waits(1), str)
    assert_type(rows(1), Iterator[int])
    assert_type(pages(1), AsyncIterator[bytes])
    assert_type(either(1), int)
    assert_type(either("a"), str)
    assert_type(shop.method(1), str)
    assert_type(Shop.static(1), str)
    assert_type(Shop.make(1), Shop)
    assert_type(shop.make_too(1), Shop)
    assert_type(shop.static_too(1), str)
    plain("a")  # type: ignore[arg-type]
    plain(1, "a")  # type: ignore[call-arg]
    await waits()  # type: ignore[call-arg]
    shop.method()  # type: ignore[call-arg]
    asynctrace.traced(capture=["number", "return"], relation="link")(plain)
    asynctrace.traced(relation="detached")  # type: ignore[call-overload]
    asynctrace.traced("name")  # type: ignore[call-overload]


# --- tasks and executors -------------------------------------------------------------------------


async def tasks() -> None:
    assert_type(asynctrace.create_task(waits(1)), asyncio.Task[str])
    assert_type(asynctrace.create_task(waits(1), "name", relation="link"), asyncio.Task[str])
    asynctrace.create_task(waits(1), relation="sibling")  # type: ignore[arg-type]


async def executors() -> None:
    executor = asynctrace.wrap_executor(ThreadPoolExecutor())
    assert_type(executor.submit(plain, 1, text="a"), Future[list[str]])
    assert_type(executor.map(str, [1, 2]), Iterator[str])
    assert_type(await asyncio.get_running_loop().run_in_executor(executor, plain, 1), list[str])


# --- baggage and logs ----------------------------------------------------------------------------


async def travelling() -> None:
    with asynctrace.baggage({"user.id": "7"}, tenant="acme") as nothing:
        assert_type(nothing, None)
    async with asynctrace.baggage(tenant="acme"):
        pass
    asynctrace.baggage(tenant=7)  # type: ignore[arg-type]
    await asynctrace.init(loop_monitor=True, baggage_attributes=["user.id"])


def logs() -> None:
    asynctrace.logging.install()
    assert_type(asynctrace.logging.fields(), dict[str, str | bool])


# --- workers -------------------------------------------------------------------------------------


def workers() -> None:
    assert_type(asynctrace.run(waits(1), service_name="worker", shutdown_timeout=1.0), str)
    assert_type(asynctrace.run(lambda: waits(1), loop_factory=asyncio.new_event_loop), str)
    asynctrace.run(1)  # type: ignore[arg-type]
    asynctrace.run(waits(1), servise_name="worker")  # type: ignore[call-arg]


async def stopping() -> None:
    if asynctrace.stopping():
        return
    await asynctrace.stopping()


async def numbers() -> AsyncIterator[int]:
    yield 1


async def consuming() -> None:
    async def handle(number: int) -> None: ...
    async def handle_text(text: str) -> None: ...

    async with asynctrace.worker.Worker(concurrency=8, drain_timeout=1.0) as worker:
        assert_type(worker, asynctrace.worker.Worker)
        await worker.consume(numbers(), handle, name="orders", carrier=lambda number: {})
        await worker.consume(asynctrace.TracedQueue[int](), handle, relation="link")
        await worker.consume(numbers(), handle, span=lambda n: asynctrace.process({}, str(n)))
        await worker.consume(numbers(), handle_text)  # type: ignore[arg-type]


async def other_queues() -> None:
    priorities: asyncio.PriorityQueue[int] = asynctrace.TracedPriorityQueue()
    stack: asyncio.LifoQueue[int] = asynctrace.TracedLifoQueue[int](maxsize=1)
    await priorities.put(await stack.get())
    async with asynctrace.TracedPriorityQueue[int]().process() as item:
        assert_type(item, int)


async def queues() -> None:
    queue = asynctrace.TracedQueue[int](maxsize=3)
    plain_queue: asyncio.Queue[int] = queue
    await queue.put(1)
    assert_type(await queue.get(), int)
    async with queue.process("orders", relation="link") as item:
        assert_type(item, int)
    await plain_queue.join()
    queue.put_nowait("a")  # type: ignore[arg-type]


def messages() -> None:
    headers: dict[str, str] = {}
    pairs: list[tuple[str, bytes]] = []
    asynctrace.inject(headers)
    asynctrace.inject(pairs)
    assert_type(asynctrace.extract(pairs), Context)
    with asynctrace.publish("orders", headers, system="kafka") as sent:
        assert_type(sent, Span)
    with asynctrace.process(pairs, "orders", relation="child", attributes={"a": 1}) as taken:
        assert_type(taken, Span)
    asynctrace.process(None, "orders", message_id="7", redelivered=True, delivery_count=2)
    with asynctrace.process_batch([pairs, headers, None], "orders", system="kafka") as batch:
        assert_type(batch, Span)


# --- errors --------------------------------------------------------------------------------------


def errors(error: asynctrace.ConfigError, other: asynctrace.LifecycleError) -> None:
    as_value_error: ValueError = error
    as_runtime_error: RuntimeError = other
    as_ours: list[asynctrace.AsyncTraceError] = [error, other]
    assert_type(error.hint, str)
    print(as_value_error, as_runtime_error, as_ours)
