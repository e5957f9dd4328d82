"""The end of all pipelines together: by a shutdown, or at the exit of the process.

A shutdown runs on the host. At the exit the caller is a plain thread, no loop can be relied upon,
and from Python 3.12 on no thread can be started; what a host in another thread cannot deliver any
more is sent from here, without asyncio.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from .contracts import SpanDropReason
from .ended import Ended
from .host import Host
from .hosting import Hosting
from .pipeline import CLOSE_GRACE, Pipeline
from .stall import StallMeter


class Closing:
    """Empties the queues until a deadline, and cuts off and counts what is left then."""

    def __init__(
        self,
        hosting: Hosting,
        ended: Ended,
        *,
        stalls: StallMeter,
        contain: Callable[[str, BaseException], None],
    ) -> None:
        """`contain` is told of errors that went no further."""
        self._hosting = hosting
        self._ended = ended
        self._stalls = stalls
        self._contain = contain

    @property
    def _pipelines(self) -> Sequence[Pipeline]:
        return self._hosting.pipelines

    # ---- a shutdown, on the host

    async def close(self, deadline: float) -> bool:
        """Empty the queues until `deadline`, then cut and count the rest.

        Returns whether the deadline passed first. Ends within two `CLOSE_GRACE` of it.
        """
        self._begin(deadline, retries=True)
        await self._hosting.wait_ended(deadline)
        settled = all(pipeline.settled for pipeline in self._pipelines)
        await self.cut(SpanDropReason.DEADLINE)
        return not settled

    async def cut(self, reason: str) -> None:
        """Stop delivering and close: what is not delivered by now is dropped for `reason`.

        Ends within two `CLOSE_GRACE`.
        """
        self._hosting.closing = True
        if self._pipelines:
            self._ended.hand_on()
        for pipeline in self._pipelines:
            pipeline.queue.closed = True
        late = self._hosting.running
        for task in late:
            if not task.cancelling():  # it may be closing its exporter: once is enough
                task.cancel()
        saving = [
            asyncio.create_task(self._stalls.measured(self._save(pipeline)))
            for pipeline in self._pipelines
        ]
        try:
            if ending := [*late, *saving]:
                await asyncio.wait(ending, timeout=1.5 * CLOSE_GRACE)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5 * CLOSE_GRACE):
                    await asyncio.gather(*(p.shut_exporter_down() for p in self._hosting.idle))
        finally:
            for task in saving:
                task.cancel()  # a disk that hangs: what it has not taken is dropped
            self._ended.burst = 1  # each span that ends now is refused, and counted, at once
            for pipeline in self._pipelines:
                pipeline.close_books(reason)
            self._hosting.stop()

    def _begin(self, deadline: float, *, retries: bool) -> None:
        """Admit no more spans, and have the drain tasks end when the queues are empty."""
        self._hosting.closing = True
        for pipeline in self._pipelines:
            pipeline.begin_close(deadline, retries=retries)

    async def _save(self, pipeline: Pipeline) -> None:
        try:
            await pipeline.save()
        except Exception as error:
            self._contain("spool", error)

    # ---- the exit of the process, in a plain thread

    def expect_exit(self) -> None:
        """The interpreter exits: spans that end now are queued, and start no host any more."""
        self._hosting.closing = True
        for pipeline in self._pipelines:
            pipeline.expect_exit()

    def export_at_exit(self, deadline: float) -> None:
        """Send what is left while the interpreter exits."""
        if self._pipelines:
            self._ended.hand_on()
        host = self._hosting.host
        if host is None or host.is_here() or not self._export_beside(host, deadline):
            for number, pipeline in enumerate(self._pipelines):
                self._export(pipeline, deadline, sharing=len(self._pipelines) - number)

    def _export(self, pipeline: Pipeline, deadline: float, *, sharing: int) -> None:
        # One after the other: a receiver that hangs may use up its own share, no more.
        pipeline.queue.closed = True
        pipeline.export_at_exit(deadline - (1 - 1 / sharing) * (deadline - time.monotonic()))

    def _export_beside(self, host: Host, deadline: float) -> bool:
        """The drain tasks run in another thread, and do what they can there; what is left by one
        that has ended, because it takes a thread, is exported here meanwhile.

        False, and nothing is done, where their loop is blocked, which takes half the time to know,
        or has ended just now.
        """
        ended: SimpleQueue[Pipeline] = SimpleQueue()

        async def begin() -> None:
            # One attempt each: nobody waits gladly for a process that has nothing else to do.
            self._begin(deadline, retries=False)
            self._hosting.when_ended(ended.put)

        # A coroutine: its first step comes after that of a host that is only just being started.
        beginning = begin()
        try:
            begun = asyncio.run_coroutine_threadsafe(beginning, host.loop)
        except RuntimeError:
            beginning.close()
            return False
        try:
            begun.result((deadline - time.monotonic()) / 2)
        except Exception:  # the loop did not come to it in time, or was closed: the caller does it
            begun.cancel()
            return False
        with suppress(Empty):
            for sharing in range(len(self._pipelines), 0, -1):
                pipeline = ended.get(timeout=max(0.0, deadline - time.monotonic()))
                self._export(pipeline, deadline, sharing=sharing)
        self._cut_beside(host)
        for pipeline in self._pipelines:
            pipeline.close_books(SpanDropReason.EXIT)
        return True

    def _cut_beside(self, host: Host) -> None:
        if not self._hosting.running:
            self._hosting.stop()
            return
        try:
            cutting = asyncio.run_coroutine_threadsafe(self.cut(SpanDropReason.DEADLINE), host.loop)
            cutting.result(3 * CLOSE_GRACE)
        except Exception as error:  # the loop is blocked, or gone by now
            self._contain("exit", error)

    def __repr__(self) -> str:
        return f"<Closing {self._hosting!r}>"
