"""Several exporters: what one does with the time is not taken from the others."""

from __future__ import annotations

import asyncio
import time

import pytest
from opentelemetry.sdk.resources import Resource

import asynctrace
from asynctrace.config import Config
from asynctrace.export.build import build_pipelines
from asynctrace.export.contracts import Batch, Outcome, SpanDropReason, Undelivered
from asynctrace.export.delivery import Delivery
from asynctrace.export.host import Host
from asynctrace.export.hosting import Hosting
from tests.support.batches import batch
from tests.support.exporters import ScriptedExporter, hang, stubborn
from tests.support.stopwatch import in_time


class HangsAtExit(ScriptedExporter):
    """Keeps whoever calls it at the exit for as long as it is allowed to."""

    def export_at_exit(self, batch: Batch, deadline: float) -> Outcome:
        time.sleep(max(0.0, deadline - time.monotonic()))
        return Undelivered("timeout", retryable=True)


@pytest.mark.parametrize("hanging", [2, 6])
async def test_a_shutdown_waits_for_all_of_them_at_once(hanging: int) -> None:
    """However many hang, and in whatever way: it ends when one would, and the others deliver."""
    released = asyncio.Event()
    tempers = [hang, stubborn(released)]
    ill = [
        ScriptedExporter(then=tempers[number % 2], name=f"ill{number}") for number in range(hanging)
    ]
    for exporter in ill[:1]:
        exporter.close = _never  # type: ignore[method-assign]
    healthy = ScriptedExporter(name="healthy")
    tracing = await asynctrace.init(exporter=[*ill, healthy], set_global=False)
    for _ in range(20):
        tracing.get_tracer("test").start_span("work").end()
    with in_time(0.3):
        report = await tracing.shutdown(0.3)
    released.set()
    assert report.timed_out
    assert report.exporters["healthy"].exported == len(healthy.delivered) == 20
    for exporter in ill:
        assert report.exporters[exporter.name].dropped == {SpanDropReason.DEADLINE: 20}


async def _never() -> None:
    await asyncio.Event().wait()


def test_the_exit_gives_each_its_share() -> None:
    """There they come one after the other: the first that hangs leaves time for those behind."""
    ill = [HangsAtExit(name=f"ill{number}") for number in range(2)]
    healthy = ScriptedExporter(name="healthy")
    delivery = queued([*ill, healthy])
    with in_time(0.3):
        delivery.export_at_exit(time.monotonic() + 0.3)
    first, second, last = (pipeline.report() for pipeline in delivery.pipelines)
    assert (first.failed, second.failed, last.exported) == (3, 3, 3)
    assert len(healthy.delivered) == 3


def test_a_share_that_is_not_used_is_left_to_the_others() -> None:
    """What is done quickly takes no time from whoever comes next."""
    quick, ill = ScriptedExporter(name="quick"), HangsAtExit(name="ill")
    delivery = queued([quick, ill])
    begun = time.monotonic()
    with in_time(0.2):
        delivery.export_at_exit(begun + 0.2)
    assert time.monotonic() - begun > 0.15


def test_a_loop_that_ends_at_that_moment_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was still running when it was asked, in a thread that the exit does not wait for."""
    healthy = ScriptedExporter(name="healthy")
    delivery = queued([healthy])
    loop = asyncio.new_event_loop()
    loop.close()
    monkeypatch.setattr(Hosting, "host", Host(loop))
    with in_time(0.0):
        delivery.export_at_exit(time.monotonic() + 60)
    assert len(healthy.delivered) == 3


def queued(exporters: list[ScriptedExporter]) -> Delivery:
    """A delivery without a host, three spans in each of its queues."""
    delivery = Delivery()
    delivery.pipelines = delivery._hosting.pipelines = build_pipelines(
        exporters,
        Config.resolve({}, {}),
        resource=Resource.get_empty,
        alarm=delivery.call_host,
        ended=delivery.ended,
    )
    delivery.expect_exit()
    for pipeline in delivery.pipelines:
        for item in batch(3).items:
            pipeline.append(item)
    return delivery
