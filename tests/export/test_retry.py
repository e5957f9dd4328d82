"""When a failed export is tried again, and how long `Retry-After` means."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynctrace.export.contracts import Undelivered
from asynctrace.export.retry import Action, RetryPolicy, parse_retry_after

seconds = st.floats(0, 1e6)
jitters = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 10_000)
policies = st.builds(
    RetryPolicy,
    initial=st.floats(0.001, 10),
    maximum=st.floats(0.001, 100),
    multiplier=st.floats(1, 5),
)


def failure(*, retryable: bool = True, retry_after: float | None = None) -> Undelivered:
    return Undelivered("unreachable", retryable=retryable, retry_after=retry_after)


@given(policies, attempts, st.floats(-10, 1e6), jitters, st.none() | seconds)
def test_no_attempt_is_planned_past_the_deadline(
    policy: RetryPolicy, attempt: int, remaining: float, jitter: float, wanted: float | None
) -> None:
    """Whatever the policy and the receiver say, the next attempt begins before the deadline."""
    delay = policy.delay(
        failure(retry_after=wanted), attempt=attempt, remaining=remaining, random=jitter
    )
    assert delay is None or 0 <= delay < remaining


@given(policies, attempts, jitters)
def test_back_off_grows_to_its_maximum_with_full_jitter(
    policy: RetryPolicy, attempt: int, jitter: float
) -> None:
    """Between nothing and the exponential ceiling, in proportion to the random number."""
    delay = policy.delay(failure(), attempt=attempt, remaining=math.inf, random=jitter)
    grown = policy.initial * policy.multiplier ** min(attempt - 1, 64)
    assert delay is not None
    assert delay == pytest.approx(min(grown, policy.maximum) * jitter)


@given(policies, attempts, jitters, seconds)
def test_what_the_receiver_asks_for_is_done_exactly(
    policy: RetryPolicy, attempt: int, jitter: float, wanted: float
) -> None:
    """`Retry-After` takes the place of the back-off, without jitter."""
    delay = policy.delay(
        failure(retry_after=wanted), attempt=attempt, remaining=math.inf, random=jitter
    )
    assert delay == wanted


@given(attempts, jitters, st.none() | seconds)
def test_what_cannot_be_retried_is_not(attempt: int, jitter: float, wanted: float | None) -> None:
    """A permanent failure has no next attempt."""
    permanent = failure(retryable=False, retry_after=wanted)
    policy = RetryPolicy()
    assert policy.delay(permanent, attempt=attempt, remaining=1e9, random=jitter) is None


failures = st.builds(
    Undelivered,
    reason=st.just("http_503"),
    retryable=st.booleans(),
    retry_after=st.none() | seconds,
    too_large=st.booleans(),
)


@given(
    policies, failures, st.integers(1, 5), attempts, st.floats(-1, 100), jitters,
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_every_failure_has_one_consequence(
    policy: RetryPolicy,
    failed: Undelivered,
    spans: int,
    attempt: int,
    remaining: float,
    jitter: float,
    probing: bool,
    closing: bool,
) -> None:
    """Size first, then whether it is final, then whether there is time, then whether there will
    be."""
    decision = policy.decide(
        failed,
        spans=spans,
        attempt=attempt,
        remaining=remaining,
        random=jitter,
        probing=probing,
        closing=closing,
    )
    in_time = policy.delay(failed, attempt=attempt, remaining=remaining, random=jitter)
    if failed.too_large:
        expected = Action.SPLIT if spans > 1 else Action.DROP
    elif not failed.retryable:
        expected = Action.REFUSE
    elif in_time is not None and (not probing or (closing and failed.retry_after is not None)):
        expected = Action.RETRY
        assert decision.delay == in_time < remaining
    elif (
        closing and attempt == 1 and remaining > 0 and not probing
        and failed.retry_after is None
    ):  # fmt: skip
        expected = Action.RETRY
        assert decision.delay <= remaining / 2
    elif closing:
        expected = Action.GIVE_UP
    elif probing or failed.retry_after is not None:
        expected = Action.POSTPONE
    else:
        expected = Action.GIVE_UP
    assert decision.action is expected


NOW = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC)


@given(st.integers(0, 10**11), st.sampled_from(["{}", " {} ", "\t{}"]))
def test_seconds_are_read(number: int, form: str) -> None:
    """delay-seconds, with the white space that headers come with."""
    assert parse_retry_after(form.format(number), now=0.0) == float(number)


def test_endless_digits_are_cut() -> None:
    """A delay that no number holds is still a finite, very long one."""
    parsed = parse_retry_after("9" * 5000, now=0.0)
    assert parsed is not None
    assert 1e9 < parsed < math.inf


@given(st.integers(-(10**6), 10**8))
def test_dates_are_read(offset: int) -> None:
    """HTTP-date: seconds from now, and 0 for one in the past."""
    moment = NOW + timedelta(seconds=offset)
    header = format_datetime(moment, usegmt=True)
    assert parse_retry_after(header, now=NOW.timestamp()) == max(0.0, float(offset))


def test_a_date_without_a_zone_is_utc() -> None:
    """HTTP-dates are GMT, also where the receiver forgot to say so."""
    parsed = parse_retry_after("Thu, 29 Feb 2024 12:00:30 -0000", now=NOW.timestamp())
    assert parsed == 30.0


@given(st.none() | st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [+-]?\w+"))
@example("")
@example("-5")
@example("1.5")
@example("٣")
@example("²")
@example("soon")
@example("Thu, 01 Jan 0001 00:00:00 +2359")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_garbage_is_no_delay(value: str | None) -> None:
    """Nothing that a server sends raises: it is a finite delay, or none."""
    parsed = parse_retry_after(value, now=NOW.timestamp())
    assert parsed is None or 0 <= parsed < math.inf


@pytest.mark.parametrize("value", [None, "", "-5", "1.5", "soon", "٣", "Thu, 99 Foo 2024"])
def test_what_cannot_be_read_is_ignored(value: str | None) -> None:
    """Absent and unreadable are the same."""
    assert parse_retry_after(value, now=0.0) is None
