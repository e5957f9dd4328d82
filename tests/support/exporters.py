"""Exporters by temper: one answers by a script, one hangs, one will not be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from asynctrace.export.contracts import Batch, Delivered, Outcome, Undelivered
from asynctrace.export.ended import Ended
from asynctrace.otlp.decode import decode_request

UNREACHABLE = Undelivered("unreachable", "nobody there", retryable=True)
REFUSED = Undelivered("http_400", "malformed", retryable=False)


class ScriptedExporter:
    """Records what it is given, and answers by its script; after that, with `then`.

    An answer that is an exception is raised; one that is callable is awaited for the answer.
    """

    needs_spans = False

    def __init__(
        self,
        script: Iterable[object] = (),
        *,
        then: object = None,
        name: str = "scripted",
        close_with: BaseException | None = None,
        judge: Callable[[list[str]], Outcome] | None = None,
    ) -> None:
        """`judge` answers by the span ids that it is given, in place of the script."""
        self.name = name
        self.attempts: list[list[str]] = []
        """The span ids of each call."""
        self.delivered: list[str] = []
        """The span ids that were taken."""
        self.calls: list[str] = []
        """`export`, `close`, `shutdown` in the order in which they were called."""
        self.remaining: list[float] = []
        """Seconds to the deadline at each call."""
        self.concurrent = 0
        self.most_concurrent = 0
        self._script = list(script)
        self.then: object = Delivered() if then is None else then
        self._close_with = close_with
        self._judge = judge

    async def export(self, batch: Batch, deadline: float) -> Outcome:
        self.calls.append("export")
        ids = [span.span_id for span in decode_request(batch.to_otlp())]
        self.attempts.append(ids)
        self.remaining.append(deadline - asyncio.get_running_loop().time())
        self.concurrent += 1
        self.most_concurrent = max(self.most_concurrent, self.concurrent)
        try:
            outcome = await self._answer() if self._judge is None else self._judge(ids)
        finally:
            self.concurrent -= 1
        if isinstance(outcome, Delivered):
            self.delivered += ids[: len(ids) - outcome.rejected]
        return outcome

    async def _answer(self) -> Outcome:
        answer = self._script.pop(0) if self._script else self.then
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Delivered | Undelivered):
            return answer
        assert callable(answer)
        outcome = await answer()
        assert isinstance(outcome, Delivered | Undelivered)
        return outcome

    async def close(self) -> None:
        self.calls.append("close")
        if self._close_with is not None:
            raise self._close_with

    async def shutdown(self) -> None:
        self.calls.append("shutdown")
        if self._close_with is not None:
            raise self._close_with

    def after_fork(self) -> None:
        self.calls.append("after_fork")

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        del deadline
        self.calls.append("export_at_exit")
        ids = [span.span_id for span in decode_request(batch.to_otlp())]
        outcome = Delivered() if self._judge is None else self._judge(ids)
        if isinstance(outcome, Delivered):
            self.delivered += ids
        return outcome


async def hang() -> Outcome:
    """Answers never; heeds its cancellation."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def stubborn(released: asyncio.Event, outcome: Outcome | None = None) -> Callable[[], object]:
    """Answers when it is released, and heeds no cancellation before."""

    async def answer() -> Outcome:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return outcome or Delivered()

    return answer


def no_spans() -> Ended:
    """For a pipeline that is given its items directly: nothing waits to be encoded."""
    return Ended(lambda _spans, _number: None, lambda: None, room=1, burst=1)
