"""The body of a request is made off the loop where it takes long."""

from __future__ import annotations

import threading

import pytest

from asynctrace import _threads
from asynctrace.export.contracts import Batch
from asynctrace.export.joining import JOINED_ON_LOOP, request_body
from tests.support.batches import batch, span_ids


class Place:
    """An encoding that notes in which thread it is called."""

    def __init__(self) -> None:
        self.on_loop: bool | None = None

    def __call__(self, body: bytes) -> bytes:
        self.on_loop = threading.current_thread() is threading.main_thread()
        return body[::-1]


LARGE = batch(3, size=JOINED_ON_LOOP // 2)


@pytest.mark.parametrize(
    ("sent", "costly", "on_loop"),
    [(batch(3), False, True), (batch(3), True, False), (LARGE, False, False)],
    ids=["small", "costly", "large"],
)
async def test_what_takes_long_is_done_in_a_thread(
    sent: Batch, costly: bool, on_loop: bool
) -> None:
    """Compression always; joining from a size on that the loop would feel."""
    place = Place()
    body = await request_body(sent, place, costly=costly)
    assert body == sent.to_otlp()[::-1]
    assert place.on_loop is on_loop


async def test_without_a_thread_a_large_batch_is_sent_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit of threads costs a stall and no span; what is costly waits for the exit's own way."""

    def refuse(job: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "start", refuse)
    assert len(span_ids(LARGE)) == 3
    assert await request_body(LARGE, Place(), costly=False) == LARGE.to_otlp()[::-1]
    with pytest.raises(RuntimeError, match="can't start"):
        await request_body(LARGE, Place(), costly=True)
