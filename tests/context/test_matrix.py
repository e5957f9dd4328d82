"""Parents across every way that asyncio starts, shields, collects and cancels tasks.

Each on asyncio's loop and on uvloop, with lazy and (from Python 3.12 on) eager tasks.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from asynctrace.context import create_task, span, traced
from asynctrace.worker import wrap_executor
from tests.context.recording import Recording

pytestmark = pytest.mark.usefixtures("quiet")

REASON = "asynctrace.cancellation.reason"

Scenario = Callable[[], Awaitable[object]]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    if request.param == "asyncio":
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = pytest.importorskip("uvloop").new_event_loop
    return factory


@pytest.fixture(params=["lazy", "eager"])
def run(
    request: pytest.FixtureRequest, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> Callable[[Scenario], None]:
    """Runs a scenario under the span "root", on a loop of the case."""
    if request.param == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    if request.param == "eager" and (3, 13) <= sys.version_info < (3, 13, 3):
        if loop_factory is not asyncio.new_event_loop:
            pytest.skip("uvloop passes the eager factory an argument that 3.13.3 is first to take")

    async def under_root(scenario: Scenario) -> None:
        if request.param == "eager":
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        with span("root"):
            await scenario()
        for _ in range(10):  # until what is cancelled is known to be
            await asyncio.sleep(0)

    def run(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(under_root(scenario))

    return run


@traced(name="leaf")
async def leaf() -> None:
    await asyncio.sleep(0)


async def named(name: str) -> None:
    async with span(name):
        await leaf()


async def hang(name: str) -> None:
    with span(name):
        await asyncio.Event().wait()


async def task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(named("a"))
        with span("inner"):
            group.create_task(named("b"))


async def gather() -> None:
    with span("a"):
        await asyncio.gather(named("b"), named("c"))


async def as_completed() -> None:
    with span("a"):
        pending = [named("b"), named("c")]
    for finished in asyncio.as_completed(pending):
        await finished
        with span("between"):
            pass


async def shield() -> None:
    """The shielded work goes on, in its own place, when its caller is cancelled."""

    async def caller() -> None:
        with span("caller"):
            await asyncio.shield(inner)

    with span("a"):
        inner = asyncio.ensure_future(named("b"))
    outer = asyncio.create_task(caller())
    await asyncio.sleep(0)
    outer.cancel()
    await asyncio.wait({outer, inner})


async def wait_for() -> None:
    with span("a"):
        await asyncio.wait_for(named("b"), 10)
    with span("c"):
        pass


async def relations() -> None:
    with span("a"):
        tasks = [
            create_task(named("b")),
            create_task(named("c"), "child"),
            create_task(named("d"), "link", relation="link"),
            create_task(named("e"), relation="detached"),
        ]
    await asyncio.gather(*tasks)


async def executors() -> None:
    def work(name: str) -> None:
        with span(name):
            pass

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as threads:
        pool = wrap_executor(threads)
        with span("a"):
            waiting = loop.run_in_executor(pool, work, "in pool")
        await waiting
        with span("b"):
            await asyncio.to_thread(work, "in thread")


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (task_group, {"a": "root", "inner": "root", "b": "inner"}),
        (gather, {"a": "root", "b": "a", "c": "a"}),
        # as_completed makes the tasks where it is called, not where the coroutines were made.
        (as_completed, {"a": "root", "b": "root", "c": "root", "between": "root"}),
        (shield, {"a": "root", "b": "a", "caller": "root"}),
        (wait_for, {"a": "root", "b": "a", "c": "root"}),
        (
            relations,
            {
                "a": "root",
                "b": "a",
                "child": "a",
                "c": "child",
                "link": None,
                "d": "link",
                "e": None,
            },
        ),
        (executors, {"a": "root", "in pool": "a", "b": "root", "in thread": "b"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_parents(
    run: Callable[[Scenario], None],
    traced_spans: Recording,
    scenario: Scenario,
    expected: dict[str, str | None],
) -> None:
    """Each span's parent is the one that its task, thread or step was started under."""
    run(scenario)
    parents = traced_spans.parents()
    parents.pop("leaf", None)  # one name, several parents: these are looked at below
    assert parents == {"root": None, **expected}
    names = {made.context.span_id: made.name for made in traced_spans.spans}
    leaves = [made.parent.span_id for made in traced_spans.spans if made.name == "leaf"]
    assert "root" not in {names[parent] for parent in leaves}
    assert len(set(leaves)) == len(leaves)


async def cancelled_group() -> None:
    async def group() -> None:
        with span("group"):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(hang("a"))
                tasks.create_task(hang("b"))

    task = asyncio.create_task(group())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})


async def failing_sibling() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("sibling")

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hang("a"))
            tasks.create_task(fail())
            with span("body"):
                await asyncio.Event().wait()
    except* KeyError:
        pass


async def nested_timeouts() -> None:
    try:
        async with asyncio.timeout(10):
            with span("outer"):
                try:
                    async with asyncio.timeout(0):
                        await hang("a")
                except TimeoutError:
                    with span("b"):
                        pass
    except TimeoutError:
        pytest.fail("the inner timeout expired")


async def gather_cancelled() -> None:
    async def gathering() -> None:
        with span("gathering"):
            await asyncio.gather(hang("a"), hang("b"))

    task = asyncio.create_task(gathering())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize(
    ("scenario", "parents", "reasons"),
    [
        (
            cancelled_group,
            {"group": "root", "a": "group", "b": "group"},
            {"group": "cancelled", "a": "cancelled", "b": "cancelled"},
        ),
        (
            failing_sibling,
            {"a": "root", "body": "root"},
            {"a": "cancelled", "body": "scope"},
        ),
        (
            nested_timeouts,
            {"outer": "root", "a": "outer", "b": "outer"},
            {"a": "scope"},
        ),
        (
            gather_cancelled,
            {"gathering": "root", "a": "gathering", "b": "gathering"},
            {"gathering": "cancelled", "a": "cancelled", "b": "cancelled"},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_cancellation(
    run: Callable[[Scenario], None],
    traced_spans: Recording,
    scenario: Scenario,
    parents: dict[str, str],
    reasons: dict[str, str],
) -> None:
    """Parents stay right, all spans end, and each says of its cancellation what can be known."""
    run(scenario)
    assert traced_spans.parents() == {"root": None, **parents}
    told = {made.name: made.attributes[REASON] for made in traced_spans.spans if made.attributes}
    assert told == reasons
    assert traced_spans.tracer_provider.open_spans() == ()
