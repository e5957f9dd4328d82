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


@pytest.mark.parametrize("failing", [False, True])
def test_one_that_fails_is_enough(failing: bool) -> None:
    """Whatever the others do. No attempt is no failure."""
    figures = replace(NOTHING, failing=failing)
    assert figures.healthy is not failing
    assert statistics(NOTHING, figures).healthy is not failing


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
        failing=True,
    )
    assert str(ill) == (
        "queued=0 exported=0 failed=0 dropped=3 spooled=4 replayed=0 circuit=open "
        "last_error='timeout'"
    )
