"""Every exception that asynctrace raises on purpose.

::

    Exception
    └── AsyncTraceError             .hint says what to do about it
        ├── ConfigError             a setting that cannot be used; also a ValueError
        └── LifecycleError          a call in the wrong state; also a RuntimeError

They are raised while tracing starts, or by the awaitable calls of its owner (``force_flush``,
``shutdown``, ``current``). Nothing here is ever raised into a handler, a request or a job that is
being traced.
"""

from __future__ import annotations

from reprlib import Repr

__all__ = ["AsyncTraceError", "ConfigError", "LifecycleError"]

_shorten = Repr()
_shorten.maxstring = _shorten.maxother = 120


class AsyncTraceError(Exception):
    """The root of the tree.

    ``hint`` is one sentence saying what to do; it is empty when there is nothing to advise.
    """

    hint: str

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} (hint: {self.hint})" if self.hint else message


class ConfigError(AsyncTraceError, ValueError):
    """A setting has a value that cannot be used. Nothing was started.

    ``setting`` is the name as the user wrote it, an argument or an environment variable; ``value``
    is what it held; ``remedy`` (which is the hint, too) says what would be right. Whoever raises it
    for a setting that may hold a secret passes a masked ``value``: the error is made to be logged.
    """

    setting: str
    value: object
    remedy: str

    def __init__(self, setting: str, value: object, remedy: str) -> None:
        super().__init__(f"{setting}={_shorten.repr(value)} cannot be used: {remedy}")
        self.setting = setting
        self.value = value
        self.remedy = self.hint = remedy

    def __str__(self) -> str:
        # The remedy is part of the message already.
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        # Errors cross process boundaries (pools, pytest-xdist) and are rebuilt from what __init__
        # takes.
        return type(self), (self.setting, self.value, self.remedy)


class LifecycleError(AsyncTraceError, RuntimeError):
    """The call is not possible in the present state. Nothing was changed."""
