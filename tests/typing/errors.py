"""What a type checker knows about the errors. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

from asynctrace import AsyncTraceError, ConfigError, LifecycleError


def report(error: AsyncTraceError) -> str:
    """Every error of the library carries a hint."""
    return assert_type(error.hint, str)


def explain(error: ConfigError) -> tuple[str, object, str]:
    """A configuration error names what was wrong and what would be right."""
    return (
        assert_type(error.setting, str),
        assert_type(error.value, object),
        assert_type(error.remedy, str),
    )


as_value_error: ValueError = ConfigError("timeout", -1, "give seconds")
as_runtime_error: RuntimeError = LifecycleError("closed")

ConfigError("timeout")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
LifecycleError("closed", "positional")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
