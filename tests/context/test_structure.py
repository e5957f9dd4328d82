"""Random programs: each span's parent is the one that the program's structure says."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections import Counter
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry import trace

from asynctrace.context import Relation, create_task, span, traced
from asynctrace.context.stopping import Stop
from asynctrace.trace.span import Span
from asynctrace.worker import TracedLifoQueue, TracedPriorityQueue, TracedQueue, wrap_executor
from tests.context.recording import Recording, recording

REASON = "asynctrace.cancellation.reason"

KINDS = (
    "span",
    "task",
    "named task",
    "link",
    "detached",
    "gather",
    "group",
    "queue",
    "queue link",
    "priority queue",
    "generator",
    "cancelled",
    "timeout",
    "thread",
)


@dataclass
class Node:
    """A piece of a program: what it does with its parts."""

    kind: str
    parts: list[Node] = field(default_factory=list)


nodes = st.recursive(
    st.builds(Node, st.sampled_from(KINDS)),
    lambda parts: st.builds(Node, st.sampled_from(KINDS), st.lists(parts, max_size=3)),
    max_leaves=12,
)


Job = tuple[int, Node, str, "asyncio.Future[None]"]


class Program:
    """Runs a tree of nodes, and notes for each span what its parent has to be."""

    def __init__(self) -> None:
        self.expected: dict[str, str | None] = {}
        self.reasons: dict[str, str] = {}
        self._count = 0
        self._queues: dict[str, tuple[TracedQueue[Job], Relation]] = {
            "queue": (TracedQueue(), "child"),
            "queue link": (TracedLifoQueue(), "link"),
            "priority queue": (TracedPriorityQueue(), "child"),
        }
        self._consumers: set[asyncio.Task[None]] = set()

    async def run(self, node: Node) -> None:
        with ThreadPoolExecutor(1) as threads:
            self._pool = wrap_executor(threads)
            with span(self._new_name("of the first consumers", None)):
                for kind in self._queues:
                    self._start_consumer(kind)
            await self._run(node, None)
        for consumer in self._consumers:
            consumer.cancel()
        await asyncio.gather(*self._consumers, return_exceptions=True)

    def _start_consumer(self, kind: str) -> None:
        task = asyncio.create_task(self._consume(kind))
        self._consumers.add(task)
        task.add_done_callback(self._consumers.discard)

    async def _consume(self, kind: str) -> None:
        queue, relation = self._queues[kind]
        async with queue.process(relation=relation) as (_, node, name, done):
            # The job may wait for others of its queue. Who takes these is started in its span.
            self._start_consumer(kind)
            trace.get_current_span().update_name(name)
            await self._parts(node, name)
        done.set_result(None)

    def _new_name(self, kind: str, parent: str | None) -> str:
        self._count += 1
        name = f"{kind} {self._count}"
        self.expected[name] = parent
        return name

    async def _run(self, node: Node, parent: str | None) -> None:
        await getattr(self, "_" + node.kind.replace(" ", "_"))(node, parent)

    async def _parts(self, node: Node, parent: str | None) -> None:
        for part in node.parts:
            await asyncio.sleep(0)
            await self._run(part, parent)

    async def _span(self, node: Node, parent: str | None) -> None:
        name = self._new_name("span", parent)
        async with span(name):
            await self._parts(node, name)

    async def _task(self, node: Node, parent: str | None) -> None:
        await asyncio.create_task(self._span(node, parent))

    async def _named_task(self, node: Node, parent: str | None) -> None:
        name = self._new_name("named", parent)
        await create_task(self._parts(node, name), name)

    async def _link(self, node: Node, parent: str | None) -> None:
        name = self._new_name("link", None)
        await create_task(self._parts(node, name), name, relation="link")

    async def _detached(self, node: Node, parent: str | None) -> None:
        await create_task(self._span(node, None), relation="detached")

    async def _gather(self, node: Node, parent: str | None) -> None:
        await asyncio.gather(*(self._run(part, parent) for part in node.parts))

    async def _group(self, node: Node, parent: str | None) -> None:
        name = self._new_name("group", parent)
        with span(name):
            async with asyncio.TaskGroup() as group:
                for part in node.parts:
                    group.create_task(self._run(part, name))

    async def _queue(self, node: Node, parent: str | None) -> None:
        queue, relation = self._queues[node.kind]
        done = asyncio.get_running_loop().create_future()
        name = self._new_name("job", parent if relation == "child" else None)
        queue.put_nowait((self._count, node, name, done))
        await done

    _queue_link = _priority_queue = _queue

    async def _generator(self, node: Node, parent: str | None) -> None:
        name = self._new_name("generator", parent)

        @traced(name=name)
        async def rows() -> AsyncGenerator[int, None]:
            for number, part in enumerate(node.parts):
                await self._run(part, name)
                yield number
            yield len(node.parts)

        stop_after = len(node.parts) // 2
        generator = rows()
        async for number in generator:
            with span(self._new_name("consumer", parent)):
                await asyncio.sleep(0)
            if number >= stop_after:
                break
        await generator.aclose()

    async def _cancelled(self, node: Node, parent: str | None) -> None:
        name = self._new_name("cancelled", parent)
        self.reasons[name] = "cancelled"
        hanging = asyncio.Event()

        async def hang() -> None:
            with span(name):
                await self._parts(node, name)
                hanging.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hang())
        await hanging.wait()
        task.cancel()
        await asyncio.wait({task})

    async def _timeout(self, node: Node, parent: str | None) -> None:
        name = self._new_name("timeout", parent)
        self.reasons[name] = "scope"
        try:
            async with asyncio.timeout(None) as timeout:
                with span(name):
                    await self._parts(node, name)
                    timeout.reschedule(0)
                    await asyncio.Event().wait()
        except TimeoutError:
            pass

    async def _thread(self, node: Node, parent: str | None) -> None:
        in_thread, in_pool = self._new_name("thread", parent), self._new_name("pool", parent)

        def work(name: str) -> None:
            with span(name):
                pass

        await asyncio.to_thread(work, in_thread)
        await asyncio.get_running_loop().run_in_executor(self._pool, work, in_pool)


def run(root: Node) -> tuple[Program, Recording]:
    program = Program()
    with recording() as record:

        async def main() -> None:
            before = otel_context.get_current()
            await program.run(root)
            assert otel_context.get_current() == before

        asyncio.run(main())
        assert record.tracer_provider.open_spans() == ()
    return program, record


@given(nodes)
def test_parents(root: Node) -> None:
    """Whatever is nested in whatever: parents, reasons, and every span is ended, once."""
    program, record = run(root)
    assert record.parents() == program.expected
    assert len(record.spans) == len(program.expected)
    told = {s.name: s.attributes[REASON] for s in record.spans if REASON in s.attributes}
    assert told == program.reasons


def everything(depth: int) -> Node:
    if not depth:
        return Node("span")
    return Node("span", [Node(kind, [everything(depth - 1)]) for kind in KINDS])


def test_nothing_is_left() -> None:
    """Spans, contexts and tasks are gone with the program: the second run leaves no more."""

    def leftovers() -> Counter[str]:
        gc.collect()
        kinds = (Span, asyncio.Task, contextvars.Context, Stop)
        return Counter(type(o).__name__ for o in gc.get_objects() if issubclass(type(o), kinds))

    run(everything(2))
    before = leftovers()
    for _ in range(3):
        run(everything(2))
    assert leftovers() == before
