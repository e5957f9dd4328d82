"""A service with a spool: real collectors that come and go, real files, the whole way.

What is compared, always, are the ids of the spans that ended and of those that arrived.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from asynctrace.export import attempts, closing
from asynctrace.export.circuit import Circuit
from asynctrace.export.contracts import Delivered, Outcome, SpanDropReason, Undelivered
from asynctrace.export.spool.pipeline import ROOM
from asynctrace.export.spool.store import Store
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.support.collector import Answer, ScriptedCollector, refusing_port
from tests.support.exporters import REFUSED, UNREACHABLE, ScriptedExporter, hang, stubborn
from tests.support.heartbeat import LONGEST_GAP, Heartbeat
from tests.support.stopwatch import in_time


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


@pytest.fixture(autouse=True)
def quick_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that was away is tried again after milliseconds, not seconds."""
    monkeypatch.setattr(attempts, "Circuit", lambda **_: Circuit(first=0.02, longest=0.05))


def options(directory: Path, to: object, **changed: object) -> dict[str, object]:
    """A service whose batches go out, and fail, quickly."""
    where = {"endpoint": to} if isinstance(to, str) else {"exporter": to}
    return {
        "service_name": "shop",
        "set_global": False,
        "spool": directory,
        "schedule_delay": 0.01,
        "export_timeout": 0.05,
        "max_export_batch_size": 8,
        **where,
        **changed,
    }


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


def end_spans(tracing: Tracing, number: int) -> list[str]:
    """End so many; their ids."""
    tracer = tracing.get_tracer("service")
    ids = []
    for _ in range(number):
        span = tracer.start_span("request")
        span.end()
        ids.append(f"{span.get_span_context().span_id:016x}")
    return ids


def figures_add_up(tracing: Tracing) -> None:
    """In every snapshot."""
    for figures in tracing.statistics().exporters.values():
        assert figures.accepted == (
            figures.exported
            + figures.failed
            + sum(figures.dropped.values())
            + figures.spooled
            + figures.queued
            + figures.in_flight
        )


async def until(tracing: Tracing, condition: Callable[[], bool]) -> None:
    """Wait until it is so; the figures add up at each look."""
    async with asyncio.timeout(20):
        while not condition():
            figures_add_up(tracing)
            await asyncio.sleep(0.005)
    figures_add_up(tracing)


async def next_start(directory: Path, collector: ScriptedCollector, number: int) -> int:
    """Start again and wait until so many spans have arrived; how many were replayed."""
    async with init(**options(directory, collector.url, export_timeout=60.0)) as tracing:
        await until(tracing, lambda: len(collector.spans) >= number)
        await until(tracing, lambda: not segments(directory))
        return tracing.statistics().replayed


# ---- what goes to disk


async def test_an_outage_loses_nothing(tmp_path: Path) -> None:
    """Batches that failed wait on disk, and are sent when the collector is back."""
    collector = ScriptedCollector()
    with collector:
        url = collector.url
    settings = options(tmp_path, url, export_timeout=0.5)  # a busy machine answers late
    async with Heartbeat() as heart, init(**settings) as tracing:
        ids = end_spans(tracing, 40)
        await until(tracing, lambda: tracing.statistics().spooled == 40)
        assert tracing.statistics().exported == 0
        with collector:
            ids += end_spans(tracing, 8)
            await until(tracing, lambda: sum(statistics_of(tracing)) == 48)
            assert set(collector.span_ids) == set(ids)
            await until(tracing, lambda: not segments(tmp_path))
            exported, replayed = statistics_of(tracing)
            report = await tracing.shutdown()
    assert (report.exported, report.spooled, report.failed) == (exported, replayed, 0)
    assert not report
    assert f"spooled {replayed}" in str(report)
    assert heart.longest < LONGEST_GAP


async def test_without_new_spans_it_is_sent_as_well(tmp_path: Path) -> None:
    """A service that has nothing to do still looks whether the collector is back."""
    collector = ScriptedCollector()
    with collector:
        url = collector.url
    async with init(**options(tmp_path, url, export_timeout=0.5)) as tracing:
        ids = end_spans(tracing, 5)
        await until(tracing, lambda: tracing.statistics().spooled == 5)
        with collector:
            await until(tracing, lambda: tracing.statistics().replayed == 5)
            assert set(collector.span_ids) == set(ids)


async def test_a_full_queue_overflows_to_disk(tmp_path: Path) -> None:
    """The newcomers; `end` waits for nothing, and all of it arrives in the end."""
    release = asyncio.Event()

    async def slow() -> Delivered:
        await release.wait()
        return Delivered()

    exporter = ScriptedExporter([slow])
    settings = options(tmp_path, exporter, max_queue_size=16, export_timeout=60.0)
    async with init(**settings) as tracing:
        ids = end_spans(tracing, 8)
        await until(tracing, lambda: exporter.concurrent == 1)
        ids += end_spans(tracing, 30)
        await until(tracing, lambda: tracing.statistics().spooled == 14)
        statistics = tracing.statistics()
        assert (statistics.in_flight, statistics.queued, statistics.dropped) == (8, 16, 0)
        release.set()
        await until(tracing, lambda: statistics_of(tracing) == (24, 14))
        assert sorted(exporter.delivered) == sorted(ids)
        assert exporter.most_concurrent == 1


def statistics_of(tracing: Tracing) -> tuple[int, int]:
    statistics = tracing.statistics()
    return statistics.exported, statistics.replayed


async def test_what_comes_faster_than_the_disk_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded: some times the queue, and then the reason is counted."""
    gate = threading.Event()
    append = Store.append

    def slow(store: Store, body: bytes, spans: int) -> None:
        gate.wait(30)
        append(store, body, spans)

    monkeypatch.setattr(Store, "append", slow)
    exporter = ScriptedExporter(then=hang)
    settings = options(tmp_path, exporter, max_queue_size=16, export_timeout=60.0)
    tracing = await init(**settings)
    end_spans(tracing, 8)
    await until(tracing, lambda: exporter.concurrent == 1)
    end_spans(tracing, 24)  # the queue is full, and the disk has its first batch
    await until(tracing, lambda: tracing.statistics().in_flight == 16)
    end_spans(tracing, 16 * ROOM + 100)
    figures = tracing.statistics().exporters["scripted"]
    assert figures.dropped == {SpanDropReason.QUEUE_FULL: 100}
    figures_add_up(tracing)
    gate.set()
    await until(tracing, lambda: tracing.statistics().spooled == 8 + 16 * ROOM)
    report = await tracing.shutdown(timeout=0)
    assert report.spooled == 8 + 16 * ROOM + 24


@pytest.mark.parametrize("fault", ["refuses", "is silent"])
async def test_the_deadline_of_shutdown_loses_nothing(tmp_path: Path, fault: str) -> None:
    """What could not be sent by then goes to disk, in time; the next start sends it."""
    ids: list[str] = []
    with ScriptedCollector(then=Answer(silent=True)) as deaf, refusing_port() as port:
        url = deaf.url if fault == "is silent" else f"http://127.0.0.1:{port}"
        tracing = await init(**options(tmp_path, url, schedule_delay=60.0, export_timeout=60.0))
        ids += end_spans(tracing, 100)
        await asyncio.sleep(0.05)
        async with Heartbeat() as heart:
            with in_time(0.3):
                report = await tracing.shutdown(timeout=0.3)
        assert heart.longest < LONGEST_GAP
    assert (report.spooled, report.exported, report.failed, report.pending) == (100, 0, 0, 0)
    assert not any(report.dropped.values())
    assert report.timed_out or fault == "refuses"  # no retry fits before the deadline
    assert not report
    figures_add_up(tracing)
    with ScriptedCollector() as collector:
        assert await next_start(tmp_path, collector, 100) == 100
        assert sorted(collector.span_ids) == sorted(ids)


async def test_a_cancelled_shutdown_loses_nothing(tmp_path: Path) -> None:
    """Cut short, it still writes what is left."""
    exporter = ScriptedExporter(then=hang)
    tracing = await init(**options(tmp_path, exporter))
    end_spans(tracing, 20)
    closing = asyncio.create_task(tracing.shutdown(timeout=60))
    await until(tracing, lambda: exporter.concurrent == 1)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert (await tracing.shutdown()).spooled == 20


async def test_a_stubborn_exporter_does_not_keep_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that heeds no cancellation holds the batch; it is on disk all the same."""
    monkeypatch.setattr(closing, "CLOSE_GRACE", 0.5)  # so that a busy machine can write it
    released = asyncio.Event()
    exporter = ScriptedExporter(then=stubborn(released))
    tracing = await init(**options(tmp_path, exporter))
    end_spans(tracing, 20)
    await until(tracing, lambda: exporter.concurrent == 1)
    report = await tracing.shutdown(timeout=0)
    released.set()
    assert report.spooled == 20
    await until(tracing, lambda: exporter.concurrent == 0)
    assert tracing.statistics().spooled == 20
    figures_add_up(tracing)


async def test_a_flush_says_what_went_to_disk(tmp_path: Path) -> None:
    """A spooled span has not arrived, and is not pending either."""
    async with init(**options(tmp_path, ScriptedExporter(then=UNREACHABLE))) as tracing:
        end_spans(tracing, 20)
        report = await tracing.force_flush(timeout=5)
        assert (report.spooled, report.pending, report.exported) == (20, 0, 0)
        assert not report
        assert not report.timed_out
        again = await tracing.force_flush(timeout=5)
        assert again
        assert again.spooled == 0


async def test_a_flush_waits_for_the_overflow(tmp_path: Path) -> None:
    """Spans that did not fit into the queue count as well, exactly those of the flush."""
    release = asyncio.Event()

    async def slow() -> Delivered:
        await release.wait()
        return Delivered()

    exporter = ScriptedExporter([slow])
    settings = options(tmp_path, exporter, max_queue_size=16, export_timeout=60.0)
    async with init(**settings) as tracing:
        end_spans(tracing, 8)
        await until(tracing, lambda: exporter.concurrent == 1)
        end_spans(tracing, 28)
        flush = asyncio.create_task(tracing.force_flush(timeout=10))
        await until(tracing, lambda: tracing.statistics().spooled == 12)
        release.set()
        report = await flush
    assert (report.exported, report.spooled, report.pending) == (24, 12, 0)


async def test_what_is_refused_for_ever_is_not_kept(tmp_path: Path) -> None:
    """It would be refused again: it has failed."""
    async with init(**options(tmp_path, ScriptedExporter(then=REFUSED))) as tracing:
        end_spans(tracing, 8)
        await until(tracing, lambda: tracing.statistics().failed == 8)
        assert tracing.statistics().spooled == 0
    assert segments(tmp_path) == []


# ---- coming back


async def test_newer_spans_go_first(tmp_path: Path) -> None:
    """While the queue holds a full batch, nothing is sent from disk."""
    store = Store(tmp_path, exporter="scripted", max_bytes=2**20)
    async with init(**options(tmp_path / "other", ScriptedExporter(then=hang))) as first:
        end_spans(first, 3)
        await first.shutdown(timeout=0)
    (segment,) = segments(tmp_path / "other")
    segment.rename(tmp_path / segment.name)
    assert store.bytes == 0

    gates = [asyncio.Event() for _ in range(3)]

    def answer(gate: asyncio.Event) -> Callable[[], object]:
        async def wait() -> Delivered:
            await gate.wait()
            return Delivered()

        return wait

    exporter = ScriptedExporter([answer(gate) for gate in gates])
    async with init(**options(tmp_path, exporter, export_timeout=60.0)) as tracing:
        end_spans(tracing, 24)
        for number, gate in enumerate(gates):
            await until(tracing, lambda number=number: len(exporter.attempts) == number + 1)
            gate.set()
        await until(tracing, lambda: tracing.statistics().replayed == 3)
        assert [len(ids) for ids in exporter.attempts][-1] == 3
        assert exporter.most_concurrent == 1


async def test_damaged_records_are_skipped_and_counted(
    tmp_path: Path, collector: ScriptedCollector
) -> None:
    """Never fatal: what surrounds them arrives."""
    async with init(**options(tmp_path, ScriptedExporter(then=UNREACHABLE, name="otlp"))) as old:
        ids = end_spans(old, 24)
        await until(old, lambda: old.statistics().spooled == 24)
    for number, path in enumerate(segments(tmp_path)):
        data = bytearray(path.read_bytes())
        data[60] ^= 0xFF
        path.write_bytes(data + (b"torn" if not number else b""))
    async with init(**options(tmp_path, collector.url, export_timeout=60.0)) as tracing:
        await until(tracing, lambda: not segments(tmp_path))
        figures = tracing.statistics().exporters["otlp"]
    assert figures.spool is not None
    assert figures.spool.damaged >= 2
    assert figures.replayed == len(collector.span_ids)
    assert set(collector.span_ids) < set(ids)


async def test_credentials_that_are_refused_lose_nothing(
    tmp_path: Path, collector: ScriptedCollector
) -> None:
    """The records stay until somebody with better ones comes."""
    with ScriptedCollector(then=Answer(status=401)) as strict:
        async with init(**options(tmp_path, strict.url)) as tracing:
            ids = end_spans(tracing, 8)
            await until(tracing, lambda: tracing.statistics().spooled == 8)
    assert await next_start(tmp_path, collector, 8) == 8
    assert sorted(collector.span_ids) == sorted(ids)


class Fickle(SpanExporter):
    """An exporter of the SDK's kind: fails first, and then takes span objects."""

    def __init__(self) -> None:
        self.works = False
        self.spans: list[ReadableSpan] = []

    def export(self, spans: object) -> SpanExportResult:
        if not self.works:
            return SpanExportResult.FAILURE
        self.spans += spans  # type: ignore[operator]
        return SpanExportResult.SUCCESS


async def test_exporters_of_the_sdk_get_spans_back(tmp_path: Path) -> None:
    """Span objects, made from the bytes on disk."""
    exporter = Fickle()
    async with init(**options(tmp_path, exporter)) as tracing:
        ids = end_spans(tracing, 8)
        await until(tracing, lambda: tracing.statistics().spooled == 8)
        exporter.works = True
        await until(tracing, lambda: tracing.statistics().replayed == 8)
    assert sorted(f"{span.context.span_id:016x}" for span in exporter.spans) == sorted(ids)
    assert {span.resource.attributes["service.name"] for span in exporter.spans} == {"shop"}


async def test_each_exporter_has_its_own(tmp_path: Path, collector: ScriptedCollector) -> None:
    """What one took is not sent to it again because another did not."""
    broken = ScriptedExporter(then=UNREACHABLE, name="broken")
    settings = options(tmp_path, ["otlp", broken], endpoint=collector.url, export_timeout=0.5)
    async with init(**settings) as tracing:
        ids = end_spans(tracing, 8)
        await until(tracing, lambda: tracing.statistics().spooled == 8)
        broken.then = Delivered()
        await until(tracing, lambda: tracing.statistics().replayed == 8)
        figures = tracing.statistics().exporters
        assert (figures["otlp"].spooled, figures["otlp"].exported) == (0, 8)
        assert (figures["broken"].spooled, figures["broken"].exported) == (8, 0)
    assert sorted(collector.span_ids) == sorted(broken.delivered) == sorted(ids)


async def test_init_after_shutdown_sends_what_the_first_life_left(
    tmp_path: Path, collector: ScriptedCollector
) -> None:
    """In one process: the first life lets go of its segments when it closes."""
    tracing = await init(**options(tmp_path, ScriptedExporter(then=hang, name="otlp")))
    ids = end_spans(tracing, 8)
    await tracing.shutdown(timeout=0)
    assert await next_start(tmp_path, collector, 8) == 8
    assert sorted(collector.span_ids) == sorted(ids)


# ---- disks


async def test_a_spool_that_cannot_be_written_drops_with_a_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The start succeeds and one line warns; the spans are counted; one line when it works."""
    place = tmp_path / "spool"
    place.write_text("a file")
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with init(**options(place, exporter)) as tracing:
        end_spans(tracing, 8)
        await until(tracing, lambda: tracing.statistics().dropped == 8)
        figures = tracing.statistics().exporters["scripted"]
        assert figures.dropped == {SpanDropReason.SPOOL_ERROR: 8}
        assert figures.spool is not None
        assert "spool" in (figures.spool.last_error or "")
        place.unlink()
        end_spans(tracing, 8)
        await until(tracing, lambda: tracing.statistics().spooled == 8)
    told = [r.getMessage() for r in caplog.records if "spool" in r.getMessage()]
    assert len(told) == 2
    assert str(place) in told[0]
    assert "8 spans were dropped" in told[1]


@pytest.mark.parametrize("way", ["overflow", "outage"])
async def test_a_write_under_way_at_the_deadline_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Whoever closes waits for it: each span is on disk once."""
    begun, gate = threading.Event(), threading.Event()
    append = Store.append

    def slow(store: Store, body: bytes, spans: int) -> None:
        begun.set()
        gate.wait(30)
        append(store, body, spans)

    monkeypatch.setattr(Store, "append", slow)
    exporter = ScriptedExporter(then=hang if way == "overflow" else UNREACHABLE, name="otlp")
    tracing = await init(**options(tmp_path, exporter, max_queue_size=16, export_timeout=60.0))
    if way == "overflow":
        end_spans(tracing, 8)
        await until(tracing, lambda: exporter.concurrent == 1)
        end_spans(tracing, 24)
    else:
        end_spans(tracing, 16)
        closing = asyncio.create_task(tracing.shutdown(timeout=0.2))
    await until(tracing, begun.is_set)
    if way == "overflow":
        closing = asyncio.create_task(tracing.shutdown(timeout=0))
    await until(tracing, lambda: tracing._delivery.pipelines[0].queue.closed)
    await asyncio.sleep(0.02)
    gate.set()
    report = await closing
    figures_add_up(tracing)
    with ScriptedCollector() as collector:
        assert await next_start(tmp_path, collector, report.spooled) == report.spooled
    assert report.spooled == (32 if way == "overflow" else 16)


async def test_a_disk_that_hangs_does_not_hold_up_the_shutdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has not taken in time is dropped and counted."""
    gate = threading.Event()
    monkeypatch.setattr(Store, "append", lambda *_: gate.wait(30))
    tracing = await init(**options(tmp_path, ScriptedExporter(then=UNREACHABLE)))
    end_spans(tracing, 20)
    await asyncio.sleep(0.1)
    with in_time(0.1):
        report = await tracing.shutdown(timeout=0.1)
    assert report.dropped == {SpanDropReason.DEADLINE: 20}
    gate.set()
    figures_add_up(tracing)


async def test_the_directory_keeps_its_bound(tmp_path: Path) -> None:
    """The oldest segments go, and how many spans they held is told."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with init(**options(tmp_path, exporter, spool_max_bytes=20_000)) as tracing:
        for number in range(1, 41):
            end_spans(tracing, 8)
            await until(tracing, lambda number=number: written(tracing) == 8 * number)
            assert sum(path.stat().st_size for path in segments(tmp_path)) <= 20_000
        spool = tracing.statistics().exporters["scripted"].spool
        assert spool is not None
        assert 0 < spool.bytes <= 20_000
        evicted = spool.evicted
        figures = tracing.statistics().exporters["scripted"]
        assert figures.dropped == {SpanDropReason.SPOOL_EVICTED: evicted}
        assert figures.spooled == 320 - evicted
    assert 0 < evicted < 320
    report = await tracing.shutdown()
    assert report.dropped == {SpanDropReason.SPOOL_EVICTED: evicted}
    assert report.spooled == 320 - evicted
    exporter.then = Delivered()
    async with init(**options(tmp_path, exporter)) as tracing:
        await until(tracing, lambda: not segments(tmp_path))
        assert tracing.statistics().replayed == 320 - evicted


async def test_what_waits_is_sent_in_parts_when_it_is_too_large(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the span that is too large by itself is lost, for a reason that is told; and it is no
    outage: nothing waits for the receiver to come back."""
    away, bad = True, ""

    def judge(ids: list[str]) -> Outcome:
        if away:
            return UNREACHABLE
        too_large = len(ids) > 2 or ids == [bad] or bad in ids
        return Undelivered("http_413", "1 MB at most", too_large=True) if too_large else Delivered()

    exporter = ScriptedExporter(judge=judge)
    async with init(**options(tmp_path, exporter)) as tracing:
        ids = end_spans(tracing, 8)
        bad = ids[3]
        await until(tracing, lambda: tracing.statistics().spooled == 8)
        away = False
        caplog.clear()
        await until(tracing, lambda: not segments(tmp_path) and tracing.statistics().replayed == 7)
        figures = tracing.statistics().exporters["scripted"]
        assert figures.spool is not None
        assert (figures.spool.too_large, figures.spool.rejected) == (1, 0)
        assert figures.last_error == "http_413: 1 MB at most"
        assert figures.circuit == "closed"
    assert sorted(exporter.delivered) == sorted(set(ids) - {bad})
    assert len([record for record in caplog.records if "too large" in record.message]) == 1
    assert not [record for record in caplog.records if "cannot be delivered" in record.message]


@pytest.mark.parametrize(
    ("answer", "replayed", "rejected"),
    [
        (REFUSED, 0, 8),
        (Delivered(3, "bad"), 5, 3),
        (Undelivered("http_429", retryable=True, retry_after=0.01), 8, 0),
    ],
    ids=["refused", "in part", "throttled"],
)
async def test_what_the_receiver_says_of_stored_spans_is_told(
    tmp_path: Path, answer: Outcome, replayed: int, rejected: int
) -> None:
    """Refused for ever they are counted and gone; asked to wait, they wait and arrive."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    async with init(**options(tmp_path, exporter)) as tracing:
        end_spans(tracing, 8)
        await until(tracing, lambda: tracing.statistics().spooled == 8)
        exporter._script = [answer]
        exporter.then = Delivered()
        await until(tracing, lambda: not segments(tmp_path))
        spool = tracing.statistics().exporters["scripted"].spool
        assert spool is not None
        assert (spool.replayed, spool.rejected) == (replayed, rejected)


def written(tracing: Tracing) -> int:
    """How many spans came to disk, whatever became of them there."""
    figures = tracing.statistics().exporters["scripted"]
    return figures.spooled + figures.dropped.get(SpanDropReason.SPOOL_EVICTED, 0)


async def test_what_earlier_lives_left_is_not_among_the_dropped(tmp_path: Path) -> None:
    """Deleted for newer spans it is told as evicted; the figures are about this life's spans."""
    exporter = ScriptedExporter(then=UNREACHABLE)
    for life in range(2):
        async with init(**options(tmp_path, exporter, spool_max_bytes=20_000)) as tracing:
            for number in range(1, 19):
                end_spans(tracing, 8)
                await until(tracing, lambda number=number: written(tracing) == 8 * number)
            figures = tracing.statistics().exporters["scripted"]
            assert figures.spool is not None
            assert bool(figures.spool.evicted) is bool(life)
            assert figures.dropped == {}
            assert figures.spooled == 8 * 18


async def test_the_overflow_is_written_in_requests_that_the_receiver_takes(tmp_path: Path) -> None:
    """What it has said of sizes is known to the disk: nothing is split when it is sent later."""
    sizes: list[int] = []

    def judge(ids: list[str]) -> Outcome:
        sizes.append(len(ids))
        return Delivered() if len(ids) <= 2 else Undelivered("http_413", too_large=True)

    exporter = ScriptedExporter(judge=judge)
    few = {"max_queue_size": 8, "max_export_batch_size": 8}
    async with init(**options(tmp_path, exporter, **few)) as tracing:
        end_spans(tracing, 8)
        assert (await tracing.force_flush()).exported == 8
        end_spans(tracing, 48)
        await until(tracing, lambda: statistics_of(tracing) == (16, 40))
        assert max(sizes[-20:]) <= 2
        figures_add_up(tracing)


async def test_nothing_is_written_without_need(tmp_path: Path) -> None:
    """A healthy service leaves the directory empty."""
    async with init(**options(tmp_path / "spool", ScriptedExporter())) as tracing:
        end_spans(tracing, 20)
        assert (await tracing.force_flush()).exported == 20
        await until(tracing, (tmp_path / "spool").exists)
    assert segments(tmp_path / "spool") == []
    assert os.stat(tmp_path / "spool").st_mode & 0o077 == 0
