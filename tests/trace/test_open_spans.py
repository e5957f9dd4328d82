"""The table of open spans: bounded, weak, and counted when it is too small."""

from __future__ import annotations

import gc
import threading

from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tests.trace.recording import CountingIds, Traced


def test_open_spans_are_those_that_have_not_ended() -> None:
    """In the order of their starts."""
    traced = Traced()
    first, second, third = (traced.span(f"{n}") for n in range(3))
    assert traced.provider.open_spans() == (first, second, third)
    second.end()
    assert traced.provider.open_spans() == (first, third)
    first.end()
    third.end()
    assert traced.provider.open_spans() == ()
    assert traced.provider.open_span_overflow == 0


def test_dropped_spans_are_not_listed() -> None:
    """There is nothing to end at shutdown."""
    traced = Traced(sampler=ALWAYS_OFF)
    span = traced.tracer.start_span("n")
    assert traced.provider.open_spans() == ()
    span.end()


def test_spans_beyond_the_bound_are_counted_and_traced() -> None:
    """Memory is bounded; delivery is not affected."""
    traced = Traced(max_open_spans=3)
    spans = [traced.span(f"{n}") for n in range(5)]
    assert traced.provider.open_spans() == tuple(spans[:3])
    assert traced.provider.open_span_overflow == 2
    for span in spans:
        span.end()
    assert traced.sink.spans == spans
    assert "OpenSpans(0 of 3, overflow=2)" in repr(traced.provider)


def test_room_that_became_free_is_used_again() -> None:
    """An overflow is not for ever."""
    traced = Traced(max_open_spans=2)
    spans = [traced.span(f"{n}") for n in range(3)]
    spans[0].end()
    newcomer = traced.span("new")
    assert traced.provider.open_spans() == (spans[1], newcomer)


def test_a_span_that_is_forgotten_is_freed() -> None:
    """Weakly held: a span that nobody can end any more does not stay, and takes no room."""
    traced = Traced(max_open_spans=4)
    for n in range(20):
        traced.span(f"{n}")
        gc.collect()
    kept = traced.span("kept")
    assert traced.provider.open_spans() == (kept,)
    assert len(traced.provider._core.open_spans.table) <= 4
    assert traced.provider.open_span_overflow == 0


def test_a_full_table_is_not_swept_for_every_span() -> None:
    """A sweep costs as much as the table is long: in vain it is repeated rarely."""
    bound = 80
    traced = Traced(max_open_spans=bound, id_generator=CountingIds())
    kept = [traced.span() for _ in range(bound)]
    table = traced.provider._core.open_spans
    sweeps = 0
    for _ in range(100):
        before = table._next_sweep
        traced.span()
        sweeps += table._next_sweep != before
    assert (table.overflow, len(kept)) == (100, bound)
    assert 1 <= sweeps <= 100 // (bound // 8)


def test_a_forked_child_forgets_the_spans_of_its_parent() -> None:
    """They are the parent's to end; ended in the child they do no harm either."""
    traced = Traced(max_open_spans=1)
    first, second = traced.span(), traced.span()
    traced.provider.forget_open_spans()
    assert traced.provider.open_spans() == ()
    assert traced.provider.open_span_overflow == 0
    newcomer = traced.span()
    first.end()
    second.end()
    assert traced.provider.open_spans() == (newcomer,)


def test_no_table_at_all_is_possible() -> None:
    """`max_open_spans=0` lists nothing and counts everything."""
    traced = Traced(max_open_spans=0)
    traced.span().end()
    assert traced.provider.open_spans() == ()
    assert traced.provider.open_span_overflow == 1


def test_threads_may_start_and_end_while_the_table_is_read() -> None:
    """No lock, and no "changed size during iteration" either."""
    traced = Traced(max_open_spans=50)
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                for span in [traced.span() for _ in range(30)]:
                    span.end()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        traced.provider.open_spans()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert traced.provider.open_spans() == ()
