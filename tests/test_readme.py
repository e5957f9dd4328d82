"""The README says what the code does. Its code blocks are run as well: see the root conftest."""

from __future__ import annotations

from pathlib import Path

from asynctrace.config import markdown_table

README = Path(__file__).parent.parent / "README.md"


def test_the_settings_of_the_readme_are_those_of_the_table() -> None:
    """Whoever adds a setting is told to show it."""
    text = README.read_text(encoding="utf-8")
    _, _, rest = text.partition("<!-- settings -->\n")
    shown, _, _ = rest.partition("<!-- /settings -->")
    assert shown == markdown_table(), "put markdown_table() between the marks in the README"
