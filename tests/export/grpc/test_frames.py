"""The server's bytes, frame by frame."""

from __future__ import annotations

import pytest
from h2.exceptions import FrameTooLargeError
from hypothesis import given
from hypothesis import strategies as st

from asynctrace.export.grpc.frames import MAX_FRAME, FrameSplitter, GoAway
from tests.support.h2_server import goaway


def frame(kind: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload


FRAMES = st.builds(
    frame,
    st.integers(0, 255).filter(lambda kind: kind != 7),
    st.integers(0, 2**31 - 1),
    st.binary(max_size=40),
)
GOAWAYS = st.builds(GoAway, st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1), st.text("ä x"))


def to_bytes(item: bytes | GoAway) -> bytes:
    if isinstance(item, bytes):
        return item
    return goaway(item.last_stream, item.error, item.debug.encode())


@given(st.lists(FRAMES | GOAWAYS, max_size=8), st.lists(st.integers(1, 30)))
def test_frames_stay_whole_and_goaways_are_read(
    items: list[bytes | GoAway], sizes: list[int]
) -> None:
    """However they are cut: the same frames, in order, and no piece spans two of them."""
    data, position = b"".join(map(to_bytes, items)), 0
    splitter, given_out = FrameSplitter(), list[bytes | GoAway]()
    for size in [*sizes, len(data)]:
        given_out += splitter.feed(data[position : position + size])
        position += size
    whole: list[bytes | GoAway] = []
    pieces = iter(given_out)
    for item in items:
        piece = next(pieces)
        while isinstance(item, bytes) and isinstance(piece, bytes) and len(piece) < len(item):
            more = next(pieces)
            assert isinstance(more, bytes)
            piece += more
        whole.append(piece)
    assert whole == items
    assert list(pieces) == []


@pytest.mark.parametrize(
    "improper",
    [frame(7, 1, b"12345678"), frame(7, 0, b"1234567")],
    ids=["on a stream", "too short"],
)
def test_an_improper_goaway_is_for_h2_to_judge(improper: bytes) -> None:
    """It passes through like any other frame."""
    assert list(FrameSplitter().feed(improper)) == [improper]


def test_a_frame_that_is_too_long_is_refused_at_its_header() -> None:
    """GOAWAY or not; the longest that is allowed passes."""
    longest = frame(0, 1, bytes(MAX_FRAME))
    assert list(FrameSplitter().feed(longest)) == [longest]
    for kind in (0, 7):
        with pytest.raises(FrameTooLargeError):
            list(FrameSplitter().feed(frame(kind, 0, bytes(MAX_FRAME + 1))[:9]))


def test_the_text_of_a_goaway_is_kept_short() -> None:
    """It ends in a log line."""
    (read,) = FrameSplitter().feed(goaway(1, 0, b"x" * 5000))
    assert str(read) == f"the server said GOAWAY with code 0 ({'x' * 200})"
    (plain,) = FrameSplitter().feed(goaway(1, 2, b""))
    assert str(plain) == "the server said GOAWAY with code 2"
