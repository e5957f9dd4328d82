"""What the errors say, and that they survive a trip between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from asynctrace.errors import AsyncTraceError, ConfigError, LifecycleError


def test_config_error_names_setting_value_and_remedy() -> None:
    """The message alone is enough to mend the setting."""
    error = ConfigError("OTEL_BSP_SCHEDULE_DELAY", "soon", "write a number")
    assert str(error) == "OTEL_BSP_SCHEDULE_DELAY='soon' cannot be used: write a number"
    assert (error.setting, error.value, error.remedy) == (
        "OTEL_BSP_SCHEDULE_DELAY",
        "soon",
        "write a number",
    )
    assert error.hint == error.remedy


def test_config_error_shortens_long_values() -> None:
    """A value of a megabyte makes a message of a line, and stays available in full."""
    error = ConfigError("headers", "x" * 1_000_000, "give less")
    assert len(str(error)) < 200
    assert error.value == "x" * 1_000_000


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(ConfigError("a", 1, "b"), ValueError), (LifecycleError("a"), RuntimeError)],
)
def test_errors_are_caught_as_what_they_resemble(
    error: AsyncTraceError, builtin: type[Exception]
) -> None:
    """Both the library's root and the matching built-in catch them."""
    assert isinstance(error, AsyncTraceError)
    assert isinstance(error, builtin)


def test_hint_is_part_of_the_message() -> None:
    """A log line with the error shows what to do; without a hint nothing is added."""
    assert str(LifecycleError("closed", hint="start again")) == "closed (hint: start again)"
    assert str(LifecycleError("closed")) == "closed"
    assert LifecycleError("closed").hint == ""


@pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error", [ConfigError("a", {"b": 1}, "c"), LifecycleError("a", hint="b"), AsyncTraceError("a")]
)
def test_errors_survive_copies(error: AsyncTraceError, duplicate: object) -> None:
    """A process pool delivers the same error that its worker raised."""
    assert callable(duplicate)
    again = duplicate(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
