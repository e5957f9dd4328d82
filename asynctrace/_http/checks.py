"""Options that have one shape, whichever integration has them. Pure.

`given` holds the options that are not None, by name. Each raises ConfigError for what cannot be
used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asynctrace.errors import ConfigError


def flag(given: Mapping[str, object], option: str, *, default: bool) -> bool:
    """A yes or no."""
    value = given.get(option, default)
    if isinstance(value, bool):
        return value
    raise ConfigError(option, value, "True or False is needed")


def function(given: Mapping[str, object], option: str) -> Callable[..., Any] | None:
    """A hook of the user's; None when there is none."""
    value = given.get(option)
    if value is None or callable(value):
        return value
    raise ConfigError(option, value, "a function is needed")


def names(
    given: Mapping[str, object],
    option: str,
    environ: Mapping[str, str] | None = None,
    variable: str = "",
) -> tuple[str, ...]:
    """A list of names, by the option or else by the variable; empty when neither is given."""
    value = given.get(option)
    if value is None:
        listed = "" if environ is None else environ.get(variable, "")
        return tuple(filter(None, map(str.strip, listed.split(","))))
    if isinstance(value, (list, tuple, set, frozenset)):
        listed_names = tuple(value)
        if all(isinstance(name, str) and name for name in listed_names):
            return listed_names
    raise ConfigError(option, value, "a sequence of names is needed")
