"""From disk to the collector: when it is looked for, and what one segment comes to."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrace import _threads
from asynctrace.export.contracts import Batch, Delivered, Outcome, Undelivered
from asynctrace.export.spool.replay import LONGEST_PAUSE, Pace, Replay, send_segment
from asynctrace.export.spool.segments import Claim
from asynctrace.export.spool.spool import Spool, Tally
from asynctrace.export.spool.store import Store
from asynctrace.otlp.decode import decode_request
from tests.otlp import samples

AWAY = Undelivered("unreachable", retryable=True)
REFUSED = Undelivered("http_400")
LARGE = Undelivered("http_413", too_large=True)


class Receiver:
    """Answers by its script, then takes everything."""

    def __init__(self, *script: Outcome) -> None:
        self.script = list(script)
        self.taken: list[bytes] = []
        self.calls = 0

    async def __call__(self, batch: Batch) -> Outcome:
        self.calls += 1
        outcome = self.script.pop(0) if self.script else Delivered()
        if isinstance(outcome, Delivered):
            self.taken.append(batch.to_otlp())
        return outcome


async def filled(directory: Path, *bodies: bytes) -> Store:
    """A store that has written so many records of two spans each."""
    store = Store(directory, exporter="otlp", max_bytes=2**20)
    for body in bodies:
        await _threads.call(store.append, body, 2)
    return store


async def claimed(store: Store) -> Claim:
    claim = await _threads.call(store.claim)
    assert claim is not None
    return claim


def segments(directory: Path) -> list[Path]:
    return list(directory.glob("*.spool"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


# ---- when


@given(st.lists(st.sampled_from(["later", "at once", "soon"])), st.floats(0, 1, exclude_max=True))
def test_looks_become_rarer_until_there_is_news(events: list[str], jitter: float) -> None:
    """Never more than a minute, never in vain at once; at once when somebody takes spans."""
    pace, now = Pace(), 1000.0
    for event in events:
        before = pace.due
        if event == "later":
            pace.later(now, jitter=jitter)
            assert now + 0.5 <= pace.due <= now + LONGEST_PAUSE
        elif event == "soon":
            pace.soon(now)
            assert pace.due <= min(before, now + 1.0)
        else:
            pace.at_once()
            assert pace.due <= now
            assert pace == Pace()


def test_pauses_double() -> None:
    """Up to the longest."""
    pace = Pace()
    pauses = []
    for _ in range(8):
        pace.later(0.0, jitter=1.0)
        pauses.append(pace.due)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


# ---- one segment


async def test_a_segment_that_is_sent_is_deleted(tmp_path: Path) -> None:
    """Every record once, in its order; spans are counted, not records."""
    store, receiver, tally = await filled(tmp_path, b"1", b"2"), Receiver(), Tally()
    assert await send_segment(await claimed(store), receiver, tally) is None
    assert receiver.taken == [b"1", b"2"]
    assert tally == Tally(replayed=4)
    assert segments(tmp_path) == []


async def test_what_was_sent_is_acknowledged_before_anything_else(tmp_path: Path) -> None:
    """A failure in the middle leaves the rest, and only the rest."""
    store, tally = await filled(tmp_path, b"1", b"2"), Tally()
    receiver = Receiver(Delivered(), AWAY)
    claim = await claimed(store)
    assert await send_segment(claim, receiver, tally) is AWAY
    claim.release()
    assert tally == Tally(replayed=2)
    assert await send_segment(await claimed(store), receiver, tally) is None
    assert receiver.taken == [b"1", b"2"]


async def test_refused_records_are_counted(tmp_path: Path) -> None:
    """Whole ones, and rejected spans of those that were taken; never more than there are."""
    store, tally = await filled(tmp_path, b"1", b"2", b"3"), Tally()
    receiver = Receiver(REFUSED, Delivered(rejected=1), Delivered(rejected=99))
    assert await send_segment(await claimed(store), receiver, tally) is None
    assert tally == Tally(replayed=1, rejected=5)


async def test_a_request_that_is_too_large_is_sent_in_parts(tmp_path: Path) -> None:
    """The receiver takes less than was taken when it was written; only a single span is lost."""
    body = samples.ours(*(samples.span(name=name) for name in "abcd"))
    store, tally = Store(tmp_path, exporter="otlp", max_bytes=2**20), Tally()
    await _threads.call(store.append, body, 4)
    receiver = Receiver(LARGE, LARGE, Delivered(), LARGE, Delivered())
    assert await send_segment(await claimed(store), receiver, tally) is None
    taken = [[span.name for span in decode_request(request)] for request in receiver.taken]
    assert taken == [["a"], ["c", "d"]]
    assert tally == Tally(replayed=3, too_large=1)


async def test_a_size_that_may_be_retried_is_still_a_size(tmp_path: Path) -> None:
    """gRPC's RESOURCE_EXHAUSTED may ask for both: kept as it is, the record would never arrive and
    would hold up all behind it."""
    body = samples.ours(*(samples.span(name=name) for name in "ab"))
    store, tally = Store(tmp_path, exporter="otlp", max_bytes=2**20), Tally()
    await _threads.call(store.append, body, 2)
    receiver = Receiver(Undelivered("grpc_resource_exhausted", retryable=True, too_large=True))
    assert await send_segment(await claimed(store), receiver, tally) is None
    assert tally == Tally(replayed=2)
    assert segments(tmp_path) == []


async def test_a_failure_between_parts_keeps_the_record(tmp_path: Path) -> None:
    """It is sent again as a whole: at least once."""
    body = samples.ours(*(samples.span(name=name) for name in "ab"))
    store = Store(tmp_path, exporter="otlp", max_bytes=2**20)
    await _threads.call(store.append, body, 2)
    claim = await claimed(store)
    assert await send_segment(claim, Receiver(LARGE, Delivered(), AWAY), Tally()) is AWAY
    claim.release()
    receiver = Receiver()
    assert await send_segment(await claimed(store), receiver, Tally()) is None
    assert receiver.taken == [body]


async def test_an_acknowledgement_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk: at worst something is sent twice."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Claim, "acknowledge", full)
    store, receiver = await filled(tmp_path, b"1", b"2"), Receiver()
    assert await send_segment(await claimed(store), receiver, Tally()) is None
    assert receiver.taken == [b"1", b"2"]
    assert segments(tmp_path) == []


# ---- the task


async def test_an_unreadable_segment_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk error in the oldest: it is set aside and told, and the next is sent."""
    read = Claim.read
    broken: list[object] = []

    def fail_once(claim: Claim) -> object:
        if not broken:
            broken.append(claim.name)
            raise OSError(errno.EIO, "bad sector")
        return read(claim)

    monkeypatch.setattr(Claim, "read", fail_once)
    store = await filled(tmp_path, b"1")
    store.seal()
    spool = Spool(await filled(tmp_path, b"2"))
    receiver = Receiver()
    replay = Replay(spool, send=receiver, calm=lambda: True, jitter=lambda: 0.0)
    task = asyncio.create_task(replay.run())
    await until(lambda: spool.last_error is not None)
    replay.delivered()
    await until(lambda: receiver.taken == [b"2"])
    assert "bad sector" in (spool.statistics().last_error or "")
    await until(lambda: len(segments(tmp_path)) == 1)
    task.cancel()
    await asyncio.wait({task})


async def test_cancelled_it_lets_the_segment_go(tmp_path: Path) -> None:
    """In the middle of a request: the record is sent another time, by whoever comes."""
    spool = Spool(await filled(tmp_path, b"1"))
    waiting = asyncio.Event()

    async def hang(_: Batch) -> Outcome:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    replay = Replay(spool, send=hang, calm=lambda: True)
    task = asyncio.create_task(replay.run())
    await waiting.wait()
    assert "sending=<Claim" in repr(replay)
    task.cancel()
    await asyncio.wait({task})
    other = Store(tmp_path, exporter="otlp", max_bytes=2**20)
    found: list[Claim] = []

    async def look() -> bool:
        claim = await _threads.call(other.claim)
        found.extend([claim] if claim is not None else [])
        return bool(found)

    async with asyncio.timeout(5):
        while not await look():
            await asyncio.sleep(0.002)
    found[0].release()


async def test_while_there_are_newer_spans_the_segment_is_given_back(tmp_path: Path) -> None:
    """In the middle of a segment, too; it goes on where it was when there is room again."""
    spool = Spool(await filled(tmp_path, b"1", b"2"))
    receiver = Receiver()
    replay = Replay(spool, send=receiver, calm=lambda: receiver.calls != 1)
    task = asyncio.create_task(replay.run())
    await until(lambda: receiver.taken == [b"1"])
    await until(lambda: "sending=None" in repr(replay))
    assert len(segments(tmp_path)) == 1
    receiver.calls = 2
    replay.delivered()
    await until(lambda: receiver.taken == [b"1", b"2"])
    task.cancel()
    await asyncio.wait({task})
