"""All pipelines together: whatever happens, in whatever order, the figures add up and are true."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from asynctrace._lifecycle import State
from asynctrace.export.contracts import Delivered, Undelivered
from asynctrace.initialization import init
from asynctrace.trace.span import Span
from asynctrace.tracing import FlushReport, ShutdownReport, Tracing
from tests.support.exporters import REFUSED, UNREACHABLE, ScriptedExporter, hang
from tests.support.forking import in_child

FAULTS: dict[str, Any] = {
    "healthy": Delivered(),
    "unreachable": UNREACHABLE,
    "refuses": REFUSED,
    "rejects one": Delivered(1, "bad"),
    "raises": RuntimeError("bug"),
    "hangs": hang,
    "throttles": Undelivered("http_429", "slow down", retryable=True, retry_after=0.003),
    "throttles for long": Undelivered("http_429", "slow down", retryable=True, retry_after=60),
    "too large": Undelivered("http_413", "too large", too_large=True),
}
BATCH = 3
QUEUE = 8


class DeliveryMachine(RuleBasedStateMachine):
    """A tracing with two exporters that fall ill and recover.

    One is never ill: the other must not disturb it. After every step the figures of each add up,
    and what is said to be exported is what was taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.tracing: Tracing
        self.healthy = ScriptedExporter(name="healthy")
        self.ill = ScriptedExporter(name="ill")
        self.open: list[Span] = []
        self.ended = 0
        self.throttled = False
        self.forked = False
        self.report: ShutdownReport | None = None

    @property
    def exporters(self) -> dict[str, ScriptedExporter]:
        return {"healthy": self.healthy, "ill": self.ill}

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        async def begin() -> Tracing:
            return await init(
                exporter=[self.healthy, self.ill],
                set_global=False,
                max_queue_size=QUEUE,
                max_export_batch_size=BATCH,
                schedule_delay=0.002,
                timeout=0.01,
                export_timeout=0.02,
            )

        self.tracing = self.run(begin())

    @rule(number=st.integers(1, 2 * QUEUE))
    def end_spans(self, number: int) -> None:
        async def work() -> None:
            tracer = self.tracing.get_tracer("t")
            for _ in range(number):
                tracer.start_span("s").end()

        self.run(work())
        self.ended += number

    @rule()
    def start_span(self) -> None:
        span = self.tracing.get_tracer("t").start_span("open")
        assert isinstance(span, Span)
        self.open.append(span)

    @precondition(lambda self: self.open)
    @rule()
    def end_open_span(self) -> None:
        span = self.open.pop()
        if span.is_recording():  # and was not ended by the shutdown
            self.run(asyncio.sleep(0, span.end()))
            self.ended += 1

    @rule(fault=st.sampled_from(sorted(FAULTS)))
    def fall_ill_or_recover(self, fault: str) -> None:
        self.ill.then = FAULTS[fault]
        self.throttled |= fault == "throttles for long"

    @rule(milliseconds=st.integers(0, 5))
    def wait(self, milliseconds: int) -> None:
        self.run(asyncio.sleep(milliseconds / 1000))

    @rule(timeout=st.sampled_from([0.0, 0.005, 0.2]))
    def flush(self, timeout: float) -> None:
        async def work() -> tuple[Any, FlushReport]:
            before = self.tracing.statistics().exporters
            return before, await self.tracing.force_flush(timeout)

        before, report = self.run(work())
        if self.report is not None:
            assert report.exporters == {}
            return
        for name, was in before.items():
            mine = report.exporters[name]
            settled = mine.exported + mine.failed + sum(mine.dropped.values())
            assert settled + mine.pending == was.queued + was.in_flight
            assert report.timed_out or not mine.pending
        if timeout == 0.2:
            assert report.exporters["healthy"].pending == 0

    @precondition(lambda self: not self.throttled and self.report is None)
    @rule()
    def recover_and_flush(self) -> None:
        """Whatever state the circuit is in, the flush goes through."""
        self.ill.then = Delivered()
        report = self.run(self.tracing.force_flush(2.0))
        assert report.pending == 0
        assert not report.timed_out
        if report.exporters["ill"].exported:
            assert self.tracing.statistics().exporters["ill"].circuit == "closed"

    @precondition(lambda self: hasattr(os, "fork") and self.report is None and not self.forked)
    @rule(number=st.integers(0, QUEUE))
    def fork(self, number: int) -> None:
        """With whatever is queued and in flight, and a loop that will never run in the child.

        The parent goes on as if nothing had been: that is what the invariant says.
        """
        self.forked = True  # once in each run: it takes longer than all the other steps
        assert in_child(lambda: self.live_as_child(number)) == ""

    def live_as_child(self, number: int) -> None:
        """It begins with nothing, delivers its own spans and only those, and ends."""
        self.ill.then = Delivered()
        inherited = {name: len(it.delivered) for name, it in self.exporters.items()}
        for figures in self.tracing.statistics().exporters.values():
            assert figures.accepted == figures.queued == figures.in_flight == 0
        tracer = self.tracing.get_tracer("child")
        own = [tracer.start_span("child") for _ in range(number)]
        for span in own:
            span.end()
        assert self.tracing.tracer_provider.force_flush(10_000)
        ids = {f"{span.get_span_context().span_id:016x}" for span in own}
        report = asyncio.run(self.tracing.shutdown(1.0))
        for name, exporter in self.exporters.items():
            delivered = exporter.delivered[inherited[name] :]
            assert set(delivered) == ids
            assert len(delivered) == number == report.exporters[name].exported
            assert bool(report.exporters[name])

    @rule(cancelled=st.booleans(), timeout=st.sampled_from([0.0, 0.005, 0.2]))
    def shut_down(self, cancelled: bool, timeout: float) -> None:
        async def close() -> ShutdownReport | None:
            task = asyncio.create_task(self.tracing.shutdown(timeout))
            if cancelled:
                await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.wait({task})
            else:
                await task
            return await self.tracing.shutdown()

        unfinished = [span for span in self.open if span.is_recording()]
        report = self.run(close())
        if self.report is not None:
            assert report is self.report
            return
        self.report = report
        self.ended += report.unfinished
        assert report.unfinished == len(unfinished)
        assert self.tracing.state is State.CLOSED
        for exporter in report.exporters.values():
            assert exporter.pending == 0
            counted = exporter.exported + exporter.failed + sum(exporter.dropped.values())
            assert counted == self.ended

    @invariant()
    def the_figures_add_up(self) -> None:
        self.run(self.check())

    async def check(self) -> None:
        """On the host, where a snapshot is exact."""
        snapshot = self.tracing.statistics().exporters
        for name, figures in snapshot.items():
            assert figures.accepted == self.ended
            assert figures.accepted == (
                figures.exported
                + figures.failed
                + sum(figures.dropped.values())
                + figures.queued
                + figures.in_flight
            )
            exporter = self.exporters[name]
            assert figures.exported == len(exporter.delivered)
            assert len(set(exporter.delivered)) == len(exporter.delivered)
            assert exporter.most_concurrent <= 1
            assert figures.queued <= QUEUE + BATCH  # a batch that was put back
            assert figures.circuit in {"closed", "open", "half_open"}
        assert snapshot["healthy"].failed == 0
        assert snapshot["healthy"].circuit == "closed"

    def teardown(self) -> None:
        if hasattr(self, "tracing"):
            self.run(self.tracing.shutdown(0))
            assert self.ill.calls.count("shutdown") == 1
            assert self.healthy.calls[-2:] == ["close", "shutdown"]
        self.runner.close()


TestDelivery = DeliveryMachine.TestCase
TestDelivery.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
