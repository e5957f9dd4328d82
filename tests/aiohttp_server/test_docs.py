"""The page on servers tells every option and every attribute that is special to them."""

from __future__ import annotations

import re
from pathlib import Path

from asynctrace.aiohttp import ServerOptions
from asynctrace.aiohttp._options import Shape

PAGE = (Path(__file__).parents[2] / "docs" / "aiohttp.md").read_text(encoding="utf-8")


def test_every_option_is_documented() -> None:
    """And no other."""
    _, _, section = PAGE.partition("## Options")
    table = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    told = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert told == set(ServerOptions.__annotations__)


def test_every_option_is_known_by_the_code() -> None:
    """The types, and what checks them, name the same options."""
    options = dict.fromkeys(ServerOptions.__annotations__)
    assert Shape.of(options, {}) == Shape()
