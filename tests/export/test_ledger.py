"""The book of a pipeline: a flush's figures are those of the spans before it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrace.export.contracts import Undelivered
from asynctrace.export.ledger import Flush, Ledger
from asynctrace.export.reports import (
    ExporterReport,
    ExporterStatistics,
    FlushReport,
    ShutdownReport,
    Statistics,
)


@dataclass
class Expected:
    """A flush and the spans it is about: those between what was settled and what was queued."""

    flush: Flush
    first: int
    target: int


steps = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(1, 5)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.sampled_from(["exported", "failed", "dropped"]), st.integers(1, 4)),
    ),
    max_size=40,
)


@given(steps)
def test_a_flush_reports_exactly_the_spans_before_it(plan: list[tuple[str, int]]) -> None:
    """However the batches fall, its figures count what became of its own spans and of no other."""
    asyncio.run(_play(plan))


async def _play(plan: list[tuple[str, int]]) -> None:
    ledger = Ledger()
    fates: list[str] = []
    arrived = 0
    flushes: list[Expected] = []
    for what, number in plan:
        if what == "arrive":
            arrived += number
        elif what == "flush":
            flushes.append(Expected(ledger.begin_flush(arrived), len(fates), arrived))
        else:
            limit = min(number, arrived - len(fates))
            target = ledger.next_target()
            if target is not None:
                limit = min(limit, target - len(fates))
            if limit:
                ledger.in_flight = limit
                fates += [what] * limit
                _settle(ledger, what, limit)
        for expected in flushes:
            done = expected.flush.done is None or expected.flush.done.done()
            assert done == (expected.target <= len(fates))
    for expected in flushes:
        report = ledger.end_flush(expected.flush)
        figures = Counter(fates[expected.first : expected.target])
        assert report.exported == figures["exported"]
        assert report.failed == figures["failed"]
        assert report.dropped == ({"deadline": figures["dropped"]} if figures["dropped"] else {})
        assert report.pending == max(0, expected.target - len(fates))
    assert ledger.next_target() is None


def _settle(ledger: Ledger, what: str, number: int) -> None:
    match what:
        case "exported":
            ledger.settle(exported=number)
        case "failed":
            ledger.settle(failed=number)
        case _:
            ledger.settle(dropped=number, reason="deadline")


async def test_a_closed_book_stays_as_it_is() -> None:
    """An exporter that comes back after the deadline changes no figure."""
    ledger = Ledger()
    ledger.settle(exported=1)
    ledger.closed = True
    ledger.settle(exported=5, failed=5)
    assert (ledger.exported, ledger.failed) == (1, 0)


async def test_figures_are_taken_when_the_flush_completes() -> None:
    """Not when its waiter wakes: the batch after it may be settled by then."""
    ledger = Ledger()
    flush = ledger.begin_flush(2)
    ledger.settle(exported=2)
    ledger.settle(failed=7)
    assert ledger.end_flush(flush) == ExporterReport(2, 0, {}, pending=0)


async def test_a_cancelled_waiter_does_no_harm() -> None:
    """Its future is cancelled, and the spans are settled all the same."""
    ledger = Ledger()
    flush = ledger.begin_flush(1)
    assert flush.done is not None
    flush.done.cancel()
    ledger.settle(exported=1)
    assert ledger.exported == 1


# ---- reports


def report(
    exported: int = 0, failed: int = 0, dropped: int = 0, pending: int = 0
) -> ExporterReport:
    reasons = {"deadline": dropped} if dropped else {}
    return ExporterReport(exported, failed, reasons, pending)


@pytest.mark.parametrize(
    ("figures", "timed_out", "truth"),
    [
        (report(3), False, True),
        (report(), False, True),
        (report(3), True, False),
        (report(3, failed=1), False, False),
        (report(3, dropped=1), False, False),
        (report(3, pending=1), False, False),
    ],
)
def test_a_report_is_true_only_if_everything_arrived(
    figures: ExporterReport, timed_out: bool, truth: bool
) -> None:
    """One failed, dropped or pending span at any exporter makes it false."""
    exporters = {"good": report(9), "other": figures}
    assert bool(FlushReport(exporters, timed_out=timed_out, elapsed=0.1)) is truth
    assert bool(ShutdownReport(exporters, timed_out=timed_out, elapsed=0.1)) is truth


def test_a_report_adds_up_its_exporters() -> None:
    """Totals over all of them, drops by reason, and one line for people."""
    whole = ShutdownReport(
        {"a": report(3, 1, 2), "b": report(4, 0, 1, 5)}, timed_out=True, elapsed=1.23456
    )
    assert (whole.exported, whole.failed, whole.pending) == (7, 1, 5)
    assert whole.dropped == {"deadline": 3}
    assert str(whole) == (
        "exported 7, failed 1, dropped 3 (deadline), pending 5; timed out in 1.235 s"
    )


def test_the_last_attempt_decides_whether_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their order and not by their times: a clock may be set back."""
    clock = iter([1000.0, 500.0, 2000.0, 100.0, 100.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    ledger = Ledger()
    assert not ledger.failing
    for answer, failing in (
        (lambda: ledger.note_error(Undelivered("timeout")), True),
        (lambda: ledger.note_answer(0, ""), False),
        (lambda: ledger.note_answer(1, "one is bad"), False),
        (lambda: ledger.note_error(Undelivered("timeout")), True),
        (lambda: ledger.note_answer(0, ""), False),
    ):
        answer()
        assert ledger.failing is failing
    assert ledger.last_success_time == 100.0


def test_values_cannot_be_changed() -> None:
    """Reports are handed out: nobody may change what was said."""
    whole = FlushReport({"a": report(1)}, timed_out=False, elapsed=0.0)
    with pytest.raises(AttributeError):
        whole.elapsed = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        whole.dropped["x"] = 1  # type: ignore[index]


def test_statistics_add_up_their_exporters() -> None:
    """The totals of a snapshot hold the identity if each exporter's figures do."""
    one = ExporterStatistics(
        accepted=15,
        exported=5,
        failed=1,
        dropped={"queue_full": 2},
        queued=3,
        queued_bytes=300,
        in_flight=4,
        retries=2,
        last_error=None,
        last_error_time=None,
        last_success_time=None,
    )
    both = Statistics("running", {"a": one, "b": one}, 0, 0, {})
    assert both.accepted == 30
    assert both.accepted == (
        both.exported + both.failed + both.dropped + both.queued + both.in_flight
    )
