"""What a span records of an exception, under OpenTelemetry's names for it."""

from __future__ import annotations

import traceback

from opentelemetry.semconv.attributes.exception_attributes import (
    EXCEPTION_ESCAPED,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
)
from opentelemetry.util.types import AnyValue

from .attributes import Fault


def exception_attributes(
    exception: BaseException, *, escaped: bool, fault: Fault
) -> dict[str, AnyValue]:
    """The attributes of an `exception` event, without those that the exception refuses to give."""
    attributes: dict[str, AnyValue] = {EXCEPTION_TYPE: _type_name(exception)}
    try:
        attributes[EXCEPTION_MESSAGE] = str(exception)
    except Exception as error:
        fault("exception.message", error)
    try:
        attributes[EXCEPTION_STACKTRACE] = "".join(traceback.format_exception(exception))
    except Exception as error:
        fault("exception.stacktrace", error)
    attributes[EXCEPTION_ESCAPED] = str(escaped)
    return attributes


def describe_exception(exception: BaseException) -> str:
    """The status description of a span that ended with `exception`."""
    try:
        return f"{type(exception).__name__}: {exception}"
    except Exception:
        return type(exception).__name__


def _type_name(exception: BaseException) -> str:
    cls = type(exception)
    if cls.__module__ and cls.__module__ != "builtins":
        return f"{cls.__module__}.{cls.__qualname__}"
    return cls.__qualname__
