"""The drain tasks of the pipelines, on whichever host there is.

They run on the loop of `init`. When that is gone or never was (a fork, a closed loop, a plain
thread), the first accepted span starts a daemon thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import suppress_instrumentation

from asynctrace.context.own import own_context

from .host import Host
from .pipeline import Pipeline
from .stall import StallMeter


class Change(Enum):
    """What happened to the host."""

    FOUND = "found"
    """The drain tasks run, or will as soon as their loop does."""
    OWN = "own"
    """A daemon thread of ours has become it."""
    LEFT = "left"
    """A drain task ended by itself."""
    LOST = "lost"
    """The loop is being closed around the drain tasks."""


class Hosting:
    """Starts the drain tasks, notices when their host goes, and finds them another."""

    def __init__(
        self,
        *,
        stalls: StallMeter,
        changed: Callable[[Change], None],
        contain: Callable[[str, BaseException], None],
    ) -> None:
        """`changed` is told of each change, on the host; `contain` of errors that went no further.

        From `FOUND` on the host looks after the queues by itself; after the last two a span has to
        call for the next one.
        """
        self.pipelines: Sequence[Pipeline] = ()
        self.closing = False
        """Whether nobody is to start another host."""
        self._stalls = stalls
        self._changed = changed
        self._contain = contain
        self._host: Host | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stop: Callable[[], object] = _nothing
        self._rehosting = threading.Lock()

    # ---- any thread

    @property
    def host(self) -> Host | None:
        """Where the pipelines run; None when there is no such place at present."""
        host = self._host
        return host if host is not None and host.serving else None

    def is_here(self) -> bool:
        """Whether the caller runs in the loop of the last host."""
        return self._host is not None and self._host.is_here()

    def ensure_host(self) -> Host | None:
        """The host; a daemon thread becomes it when there is none. None if none can be started."""
        # Not a blocking acquire: a finalizer may run while its own thread is in here.
        if self.host is None and self._rehosting.acquire(blocking=False):
            try:
                if self.host is None:
                    self._host = Host.in_thread(self._serve)
                    self._changed(Change.OWN)
            except RuntimeError as error:
                self._contain("host", error)
            finally:
                self._rehosting.release()
        return self.host

    def call(self) -> None:
        """Have the pipelines look at their queues; what a pipeline calls when a batch is full."""
        if self.closing:
            return  # whoever closes looks at every queue, and needs no new host for it
        host = self._host
        if host is None or not host.post(self._wake_pipelines):
            self.ensure_host()

    def stop(self) -> None:
        """Let a host of our own end."""
        self._stop()

    # ---- the host

    def adopt_running_loop(self) -> Host:
        """The running loop becomes the host, because the old one is gone or stands still."""
        self._host = Host(asyncio.get_running_loop())
        self.start()
        return self._host

    def start(self, stopped: asyncio.Event | None = None) -> None:
        """Start the drain tasks on the running loop, which becomes the host.

        Whoever was the host before ends; a host of our own gives the event by which this one does.
        """
        loop = asyncio.get_running_loop()
        self.stop()
        if self._host is None or self._host.loop is not loop:
            self._host = Host(loop)
        self._stop = partial(self._host.post, stopped.set) if stopped else _nothing
        for task in self._tasks:
            with suppress(RuntimeError):  # of a loop that stands still, or is closed by now
                task.get_loop().call_soon_threadsafe(task.cancel)
        self._changed(Change.FOUND)
        context = _quiet_context()
        self._tasks = [
            loop.create_task(
                self._stalls.measured(pipeline.run()),
                name=f"asynctrace {pipeline.name}",
                context=context,
            )
            for pipeline in self.pipelines
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """The drain tasks that have not ended."""
        return [task for task in self._tasks if not task.done()]

    @property
    def idle(self) -> list[Pipeline]:
        """The pipelines whose drain task has ended, perhaps before its first step."""
        tasks = zip(self.pipelines, self._tasks, strict=False)
        return [pipeline for pipeline, task in tasks if task.done()]

    async def wait_ended(self, deadline: float) -> None:
        """Until all drain tasks have ended, or `deadline` has come."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, deadline - time.monotonic()))

    def when_ended(self, tell: Callable[[Pipeline], None]) -> None:
        """Have `tell` called with each pipeline whose drain task has ended, as soon as it has."""

        def told_of(pipeline: Pipeline) -> Callable[[object], None]:
            return lambda _: tell(pipeline)

        for pipeline, task in zip(self.pipelines, self._tasks, strict=False):
            task.add_done_callback(told_of(pipeline))

    async def _serve(self) -> None:
        """The life of a host of our own."""
        stopped = asyncio.Event()
        self.start(stopped)
        await stopped.wait()

    def _wake_pipelines(self) -> None:
        for pipeline in self.pipelines:
            pipeline.wake()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._contain("drain task", error)
        # Another loop may have become the host already, and not have begun yet.
        in_host = self._host is not None and self._host.loop is task.get_loop()
        if in_host and not self.closing and task in self._tasks:
            # The loop is being closed around us: `asyncio.run` cancels every task at its end.
            self._host = None
            self._changed(Change.LOST if task.cancelled() else Change.LEFT)

    # ---- the process

    def after_fork(self) -> None:
        """In a forked child: no host, and none of the parent's tasks."""
        self._host = None
        self._tasks = []
        self._stop = _nothing
        self._rehosting = threading.Lock()

    def __repr__(self) -> str:
        return f"<Hosting {self._host!r} {len(self.running)} running>"


def _nothing() -> None:
    """There is nothing to stop."""


def _quiet_context() -> contextvars.Context:
    """No current span, and our own requests are not traced by anybody's instrumentation."""
    context = contextvars.Context()

    def suppress() -> None:
        with suppress_instrumentation():
            suppressed = otel_context.get_current()
        otel_context.attach(suppressed)

    context.run(suppress)
    return own_context(context)
