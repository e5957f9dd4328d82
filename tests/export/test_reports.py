"""What the figures come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asynctrace.export.reports import ExporterStatistics, Statistics

NOTHING = ExporterStatistics(
    accepted=0,
    exported=0,
    failed=0,
    dropped={},
    queued=0,
    queued_bytes=0,
    in_flight=0,
    retries=0,
    last_error=None,
    last_error_time=None,
    last_success_time=None,
)


def statistics(*exporters: ExporterStatistics, state: str = "running") -> Statistics:
    named = {str(number): figures for number, figures in enumerate(exporters)}
    return Statistics(state=state, exporters=named, open_spans=0, open_span_overflow=0, faults={})


@pytest.mark.parametrize(
    ("error", "success", "healthy"),
    [
        (None, None, True),
        (None, 1.0, True),
        (1.0, None, False),
        (2.0, 1.0, False),
        (1.0, 2.0, True),
        (1.0, 1.0, True),
    ],
)
def test_the_last_attempt_decides(
    error: float | None, success: float | None, healthy: bool
) -> None:
    """No attempt is no failure; a partial success, whose times are the same, is a success."""
    figures = replace(NOTHING, last_error_time=error, last_success_time=success)
    assert figures.healthy is healthy
    assert statistics(NOTHING, figures).healthy is healthy


@pytest.mark.parametrize("state", ["new", "starting", "draining", "closed", "failed"])
def test_only_what_runs_is_healthy(state: str) -> None:
    """Before its start and after its end nothing is delivered."""
    assert not statistics(NOTHING, state=state).healthy


def test_the_text_has_what_matters() -> None:
    """Four figures always, and the rest when there is something to tell."""
    assert str(NOTHING) == "queued=0 exported=0 failed=0 dropped=0"
    ill = replace(
        NOTHING,
        dropped={"queue_full": 2, "closed": 1},
        spooled=4,
        circuit="open",
        last_error="timeout",
        last_error_time=1.0,
    )
    assert str(ill) == (
        "queued=0 exported=0 failed=0 dropped=3 spooled=4 replayed=0 circuit=open "
        "last_error='timeout'"
    )
