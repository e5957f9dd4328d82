"""The table of settings as Markdown, for the README; a test holds the two together."""

from __future__ import annotations

from collections.abc import Iterator

from asynctrace.config.fields import FIELDS, LIMITS, Field

_HEAD = ("Argument", "Variables, first wins", "Default", "Meaning")


def markdown_table() -> str:
    """One row for each setting, then one for each limit of ``span_limits``."""
    rows = [_HEAD, ("---",) * len(_HEAD), *map(_row, FIELDS), *map(_row, LIMITS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(field: Field) -> tuple[str, ...]:
    argument = f"`{field.argument}`" if field.argument else ""
    variables = "<br>".join(f"`{variable}`" for variable in field.variables)
    return argument, variables, _default(field), field.help.replace("|", "\\|")


def _default(field: Field) -> str:
    if field.default is None:
        return field.unset
    return ", ".join(f"`{part}`" for part in _parts(field.default)) or "none"


def _parts(default: object) -> Iterator[str]:
    match default:
        case bool():
            yield str(default)
        case float():
            yield f"{default:g}"
        case tuple():
            yield from map(str, default)
        case str() | int():
            yield str(default)
