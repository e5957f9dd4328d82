"""The arguments of workers, checked like the settings of ``init``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from asynctrace.config import checks
from asynctrace.errors import ConfigError

T = TypeVar("T")


def concurrency(value: object) -> int:
    """How many at once. Raises ``ConfigError`` for what is no such number."""
    return _checked("concurrency", value, checks.count(at_least=1))


def drain_timeout(value: object) -> float:
    """Seconds. Raises ``ConfigError`` for what is no time span."""
    return _checked("drain_timeout", value, checks.seconds)


def _checked(name: str, value: object, check: Callable[[object], T]) -> T:
    try:
        return check(value)
    except ValueError as error:
        raise ConfigError(name, value, str(error)) from None
