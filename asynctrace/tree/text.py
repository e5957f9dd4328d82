"""Small pieces of text for terminals: widths, bars, durations."""

from __future__ import annotations

import unicodedata

_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def bar(offset: float, duration: float, total: float, width: int) -> str:
    """`duration` out of `total` seconds as exactly `width` cells, an eighth of a cell at least."""
    total = total or 1.0
    start = min(round(offset / total * width), width - 1)
    eighths = min(max(1, round(duration / total * width * 8)), (width - start) * 8)
    return (" " * start + "█" * (eighths // 8) + _EIGHTHS[eighths % 8]).ljust(width)


def duration_text(seconds: float) -> str:
    """A duration with its unit, three digits precise: `850 µs`, `4.2 ms`, `413 ms`, `1.25 s`."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.09995:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 99.995 else f"{seconds:.0f} s"


def count(number: int, noun: str) -> str:
    """`1 span`, `2 spans`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """The text without what could command a terminal or fail to be encoded.

    Names come from the network.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def cells(text: str) -> int:
    """How many cells of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def fit(text: str, width: int) -> str:
    """The text, padded with blanks or cut with an ellipsis to exactly `width` cells."""
    room = width - cells(text)
    if room >= 0:
        return text + " " * room
    kept, room = "", width - 1
    for character in text:
        room -= _cell(character)
        if room < 0:
            break
        kept += character
    return fit(kept + "…", width)


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
