"""Arguments and return values on the spans of traced functions: only those that are listed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from asynctrace.semconv import ARGUMENT_PREFIX, RETURN

_RETURN = "return"  # no parameter can have this name
_LONGEST = 256  # characters of what is not a plain value

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_PLAIN = (str, bool, int, float)


class Capture:
    """What of a call is put on its span."""

    __slots__ = ("_parameters", "result")

    def __init__(self, function: Callable[..., object], names: Iterable[str]) -> None:
        """Raises ``TypeError`` for a name that is not a parameter of `function`."""
        self.result = False
        """Whether the return value is wanted."""
        self._parameters: list[tuple[str, int | None, object]] = []
        signature = inspect.signature(function)
        positions = {
            name: position
            for position, (name, parameter) in enumerate(signature.parameters.items())
            if parameter.kind in _POSITIONAL
        }
        for name in names:
            if name == _RETURN:
                self.result = True
            elif name in signature.parameters:
                default = signature.parameters[name].default
                self._parameters.append((name, positions.get(name), default))
            else:
                raise TypeError(f"capture={name!r}: {function!r} has no such parameter")

    def tell_arguments(
        self, span: Span, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        """Put the arguments of one call on its span, when they are wanted."""
        if self._parameters and span.is_recording():
            span.set_attributes(self.arguments(args, kwargs))

    def arguments(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> dict[str, AttributeValue]:
        """The attributes for the arguments of one call. What was not given, nor has a default, is
        left out: the call will fail, and say so."""
        found: dict[str, AttributeValue] = {}
        for name, position, default in self._parameters:
            if position is not None and position < len(args):
                value = args[position]
            else:
                value = kwargs.get(name, default)
            if value is not inspect.Parameter.empty:
                found[ARGUMENT_PREFIX + name] = _attribute(value)
        return found

    def tell_result(self, span: Span, result: object) -> None:
        """Put what a call returned on its span, when it is wanted."""
        if self.result and span.is_recording():
            span.set_attribute(RETURN, _attribute(result))


def _attribute(value: Any) -> AttributeValue:
    if type(value) in _PLAIN:
        plain: AttributeValue = value
        return plain
    try:
        text = repr(value)
    except Exception as error:  # a __repr__ of theirs must not fail the call
        text = f"<{type(value).__qualname__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
