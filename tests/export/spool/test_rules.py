"""The rules of the directory: names, bounds, whose turn it is, what an answer means."""

from __future__ import annotations

import errno

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynctrace.export.contracts import Delivered, SpanDropReason, Undelivered
from asynctrace.export.spool.rules import (
    MAX_SEGMENT,
    Segment,
    SegmentName,
    evictions,
    failure_reason,
    is_worth_keeping,
    segment_limit,
    sendable,
)

numbers = st.integers(0, 10**19)
names = st.builds(
    SegmentName,
    created=numbers,
    pid=numbers,
    nonce=st.text("0123456789abcdef", min_size=1),
    exporter=st.text(min_size=1).filter(lambda text: text.isprintable()),
)
directories = st.lists(
    st.builds(Segment, names, st.integers(0, 100)), unique_by=lambda segment: segment.name
)


@given(names)
def test_a_name_survives_the_directory(name: SegmentName) -> None:
    """Whatever the exporter is called: its name stands in the file's and is read back."""
    assert "/" not in str(name)
    assert SegmentName.parse(str(name)) == name


@given(names, names)
def test_names_sort_as_their_ages(one: SegmentName, other: SegmentName) -> None:
    """A listing of the directory shows the oldest first."""
    if one.created < other.created:
        assert one < other
        assert str(one) < str(other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".spool",
        "notes.txt",
        "00000000000000000001.12.ab.otlp.tmp",
        "00000000000000000001.12.ab.spool",
        "00000000000000000001.12..otlp.spool",
        "1.12.ab.otlp.spool",
        "x0000000000000000001.12.ab.otlp.spool",
        "00000000000000000001.-2.ab.otlp.spool",
        "00000000000000000001.12.ab.a%2.spool",
    ],
)
def test_other_files_are_let_alone(text: str) -> None:
    """What is none of ours is neither sent nor counted nor deleted."""
    assert SegmentName.parse(text) is None


@given(directories, st.integers(0, 120), st.integers(1, 300), st.data())
def test_the_oldest_go_and_no_more_than_needed(
    segments: list[Segment], incoming: int, max_bytes: int, data: st.DataObject
) -> None:
    """What stays fits with what comes; of those that may go, the oldest go; none goes in vain."""
    busy = {s.name for s in segments if data.draw(st.booleans())}
    chosen = evictions(segments, incoming=incoming, max_bytes=max_bytes, busy=busy)
    free = sorted(segment for segment in segments if segment.name not in busy)
    kept = sum(segment.size for segment in segments) + incoming
    if chosen is None:
        assert kept - sum(segment.size for segment in free) > max_bytes
        return
    assert list(chosen) == free[: len(chosen)]
    assert kept - sum(segment.size for segment in chosen) <= max_bytes
    if chosen:
        assert kept - sum(segment.size for segment in chosen[:-1]) > max_bytes


def test_segments_are_a_part_of_the_bound() -> None:
    """Deleting the oldest never deletes everything, and reading one never takes much memory."""
    assert segment_limit(800) == 100
    assert segment_limit(10**12) == MAX_SEGMENT


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(directories)
def test_the_oldest_is_sent_first(segments: list[Segment]) -> None:
    """Of one exporter, or of all."""
    everything = sendable(segments)
    assert everything == sorted(segment.name for segment in segments)
    for exporter in {name.exporter for name in everything}:
        mine = [name for name in everything if name.exporter == exporter]
        assert sendable(segments, exporter) == mine


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (Delivered(), False),
        (Delivered(rejected=3), False),
        (Undelivered("http_503", retryable=True), True),
        (Undelivered("unreachable", retryable=True), True),
        (Undelivered("http_401"), True),
        (Undelivered("http_404"), True),
        (Undelivered("exporter_failure"), True),
        (Undelivered("http_400"), False),
        (Undelivered("http_413"), False),
        (Undelivered("exporter_error"), False),
    ],
)
def test_what_can_still_arrive_is_kept(outcome: Delivered | Undelivered, kept: bool) -> None:
    """A receiver that is away, or that wants other credentials, leaves the record where it is."""
    assert is_worth_keeping(outcome) is kept


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, SpanDropReason.SPOOL_FULL),
        (errno.EFBIG, SpanDropReason.SPOOL_FULL),
        (errno.EDQUOT, SpanDropReason.SPOOL_FULL),
        (errno.EACCES, SpanDropReason.SPOOL_ERROR),
        (errno.EIO, SpanDropReason.SPOOL_ERROR),
    ],
)
def test_reasons_of_a_disk(number: int, reason: str) -> None:
    """A full disk is told from one that cannot be written."""
    assert failure_reason(OSError(number, "no")) == reason
