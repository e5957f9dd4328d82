"""One log line when delivery breaks, one when it works again, and none where nothing is lost."""

from __future__ import annotations

import pytest

from asynctrace.export.contracts import Undelivered
from asynctrace.export.outage import INTERVAL, PATIENCE, OutageLog, is_news


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_an_outage_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The first failure, with a hint; silence; then the recovery, with the totals."""
    now = 100.0
    outage = OutageLog("otlp", clock=lambda: now)
    for reason in ("unreachable", "timeout", "unreachable"):
        outage.failed(Undelivered(reason, "Connection refused", retryable=True))
        now += 1.5
    outage.lost(3)
    outage.lost(4)
    outage.delivered()
    outage.delivered()
    first, second = messages(caplog)
    assert first.startswith("Spans cannot be delivered by otlp: unreachable (Connection refused).")
    assert "Hint: is a collector listening there?" in first
    assert second == "otlp delivers again after 4.5 s and 3 failed attempts; 7 spans were lost."
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert {record.name for record in caplog.records} == {"asynctrace"}


def test_the_next_outage_is_told_anew(caplog: pytest.LogCaptureFixture) -> None:
    """Each has its own pair of lines and its own loss."""
    now = 0.0
    outage = OutageLog("otlp", clock=lambda: now)
    for lost in (1, 2):
        outage.failed(Undelivered("timeout", "late", retryable=True))
        outage.lost(lost)
        outage.delivered()
        now += INTERVAL
    assert len(messages(caplog)) == 4
    assert messages(caplog)[3] == (
        "otlp delivers again after 0.0 s and 1 failed attempts; 2 spans were lost."
    )


@pytest.mark.parametrize(
    ("lasted", "given_up", "since_told", "news"),
    [
        (0.0, False, None, False),
        (PATIENCE, False, None, True),
        (0.0, True, None, True),
        (0.0, True, INTERVAL / 2, False),
        (PATIENCE, True, INTERVAL / 2, False),
        (0.0, True, INTERVAL, True),
        (0.0, False, INTERVAL, False),
    ],
)
def test_the_rule(lasted: float, given_up: bool, since_told: float | None, news: bool) -> None:
    """A loss is told, and what lasts; neither soon after the last time."""
    assert is_news(lasted=lasted, given_up=given_up, since_told=since_told) is news


def test_a_receiver_that_refuses_now_and_then_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Every second attempt fails and the batch arrives: nobody needs to act."""
    now = 0.0
    outage = OutageLog("otlp", clock=lambda: now)
    for _ in range(1000):
        outage.failed(Undelivered("http_429", retryable=True))
        now += 0.5
        outage.delivered()
    assert messages(caplog) == []


def test_one_that_comes_and_goes_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Two lines in a minute at the most; the losses in between are told with the next."""
    now = 0.0
    outage = OutageLog("otlp", clock=lambda: now)
    while now <= INTERVAL:
        outage.failed(Undelivered("http_400"))
        outage.lost(1)
        outage.delivered()
        now += 1
    assert len(messages(caplog)) == 4
    assert messages(caplog)[1].endswith("; 1 spans were lost.")
    assert messages(caplog)[3].endswith(f"; {int(INTERVAL)} spans were lost.")


def test_a_second_outage_that_lasts_is_told_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """It begins too soon after the first to be told, and is still there when the time has come."""
    now = 0.0
    outage = OutageLog("otlp", clock=lambda: now)
    outage.failed(Undelivered("unreachable"))
    outage.lost(1)
    outage.delivered()
    while now <= INTERVAL:
        now += 1
        outage.failed(Undelivered("unreachable"))
        outage.lost(1)
    assert len(messages(caplog)) == 3


def test_a_loss_without_an_attempt_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """At the end nothing may have been tried."""
    outage = OutageLog("otlp")
    outage.lost(2, Undelivered("deadline", "2 spans were not delivered"))
    (line,) = messages(caplog)
    assert line.startswith("Spans cannot be delivered by otlp: deadline (2 spans were not")


def test_health_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged while batches are taken."""
    outage = OutageLog("otlp")
    outage.delivered()
    outage.delivered()
    assert not caplog.records


@pytest.mark.parametrize("reason", ["http_401", "http_404", "http_400", "exporter_error"])
def test_every_failure_has_a_hint(reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """Also one that is not in the table."""
    outage = OutageLog("otlp")
    outage.failed(Undelivered(reason, "no"))
    outage.given_up()
    (line,) = messages(caplog)
    assert reason in line
    assert "Hint: " in line


def test_a_complaint_is_told_once_until_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Partial success is one line, however many batches; after a whole batch it is news again."""
    outage = OutageLog("otlp")
    outage.delivered(2, "bad names")
    outage.delivered(5, "bad names")
    outage.delivered()
    outage.delivered(1, "bad times")
    assert messages(caplog) == [
        "The receiver of otlp rejected 2 spans: bad names",
        "The receiver of otlp rejected 1 spans: bad times",
    ]


def test_a_span_that_is_too_large_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its size, the receiver's words and what can be done; no outage."""
    outage = OutageLog("otlp")
    outage.too_large(5_000_000, Undelivered("http_413", "4 MB is enough", too_large=True))
    outage.too_large(6_000_000, Undelivered("http_413", "4 MB is enough", too_large=True))
    outage.delivered()
    (line,) = messages(caplog)
    assert line.startswith("A span of 5000000 bytes is too large for the receiver of otlp")
    assert "http_413 (4 MB is enough)" in line
    assert "Hint: " in line


def test_the_repr_tells_the_state() -> None:
    """One glance in a debugger."""
    outage = OutageLog("otlp")
    outage.failed(Undelivered("timeout"))
    outage.lost(3)
    assert repr(outage) == "<OutageLog 'otlp' failing=True lost=3>"
