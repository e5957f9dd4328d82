"""The drain tasks and their host: found, lost, and not to be had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from asynctrace import _threads
from asynctrace.export.hosting import Change, Hosting
from asynctrace.export.pipeline import Pipeline
from asynctrace.export.stall import StallMeter


class Witness:
    """What a `Hosting` tells."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.contained: list[tuple[str, BaseException]] = []

    def hosting(self, *pipelines: object) -> Hosting:
        made = Hosting(
            stalls=StallMeter(),
            changed=self.changes.append,
            contain=lambda where, error: self.contained.append((where, error)),
        )
        made.pipelines = pipelines  # type: ignore[assignment]
        return made


class Fake:
    """A pipeline, as far as it is hosted."""

    name = "fake"

    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    async def run(self) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    wake = Pipeline.wake


def test_without_a_thread_there_is_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is raised at; the next span tries again."""

    def refuse(job: object) -> None:
        raise RuntimeError("can't start new thread")

    witness = Witness()
    hosting = witness.hosting()
    with monkeypatch.context() as patched:
        patched.setattr(_threads, "start", refuse)
        assert hosting.ensure_host() is None
        hosting.call()
    assert [where for where, _ in witness.contained] == ["host", "host"]
    assert witness.changes == []
    assert not hosting.is_here()
    found = hosting.ensure_host()
    assert found is not None
    assert Change.OWN in witness.changes
    found.post(hosting.stop)


async def test_a_drain_task_that_fails_is_told_and_the_host_is_left() -> None:
    """A fault of ours costs the host, and not the program; the next span finds another."""
    witness = Witness()
    hosting = witness.hosting(Fake(ValueError("bug")))
    hosting.start()
    await hosting.wait_ended(asyncio.get_running_loop().time() + 5)
    await asyncio.sleep(0)
    ((where, error),) = witness.contained
    assert (where, str(error)) == ("drain task", "bug")
    assert witness.changes == [Change.FOUND, Change.LEFT]
    assert hosting.host is None


async def test_one_host_follows_another_however_late_the_tasks_of_the_first_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that is still being cancelled says nothing of the host that has taken over."""
    witness = Witness()
    hosting = witness.hosting(Fake(), Fake())
    hosting.start()
    first, second = hosting.running
    first.cancel()
    await asyncio.wait({first})
    await asyncio.sleep(0)
    assert witness.changes == [Change.FOUND, Change.LOST]

    jobs: list[Callable[[], object]] = []
    with monkeypatch.context() as patched:
        patched.setattr(_threads, "start", jobs.append)  # a thread that has not begun yet
        found = hosting.ensure_host()
    second.cancel()
    await asyncio.wait({second})
    await asyncio.sleep(0)
    assert hosting.host is found
    assert witness.changes == [Change.FOUND, Change.LOST, Change.OWN]
    serving = asyncio.create_task(asyncio.to_thread(*jobs))
    async with asyncio.timeout(5):
        while len(hosting.running) < 2:
            await asyncio.sleep(0.001)
        hosting.stop()
        await serving


async def test_a_host_of_our_own_ends_when_another_takes_over() -> None:
    """No thread is left behind: neither by one whose task failed nor for another loop."""
    witness = Witness()
    hosting = witness.hosting(Fake(ValueError("bug")))
    first = hosting.ensure_host()
    assert first is not None
    async with asyncio.timeout(5):
        while Change.LEFT not in witness.changes:
            await asyncio.sleep(0.001)
        second = hosting.ensure_host()
        assert second is not None
        assert second is not first
        while first.alive:
            await asyncio.sleep(0.001)
        while witness.changes.count(Change.LEFT) < 2:
            await asyncio.sleep(0.001)
        hosting.adopt_running_loop()
        while second.alive:
            await asyncio.sleep(0.001)


async def test_tasks_that_are_cancelled_from_outside_lose_the_host() -> None:
    """As at the end of `asyncio.run`; not so when it is we who close."""
    for closing, changes in ((False, [Change.FOUND, Change.LOST]), (True, [Change.FOUND])):
        witness = Witness()
        hosting = witness.hosting(Fake())
        hosting.start()
        hosting.closing = closing
        (task,) = hosting.running
        assert hosting.idle == []
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(0)
        assert witness.changes == changes
        assert hosting.idle == list(hosting.pipelines)
        assert "0 running" in repr(hosting)
