"""Attributes as the SDK keeps them: cleaned, bounded in number and length, oldest dropped first.

A value of exactly `str`, `int`, `float` or `bool` is valid in every version of OpenTelemetry and is
taken as it is. Everything else is cleaned by the installed SDK's own `BoundedAttributes`, so that
its rules (and its warnings) are the ones that hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.util.types import AnyValue

from .limits import AttributeLimits

Fault = Callable[[str, BaseException], None]

PLAIN = frozenset({str, int, float, bool})


def are_plain(attributes: Mapping[str, AnyValue]) -> bool:
    """Whether no key and no value needs cleaning, lengths apart."""
    for key, value in attributes.items():
        if type(value) not in PLAIN or type(key) is not str or not key:
            return False
    return True


def take(
    attributes: Mapping[str, AnyValue], limits: AttributeLimits, fault: Fault
) -> tuple[dict[str, AnyValue], int]:
    """A new dict of the cleaned `attributes`, and how many were dropped. Never raises."""
    kept: dict[str, AnyValue] = {}
    return kept, merge(kept, attributes, limits, fault)


def merge(
    kept: dict[str, AnyValue],
    attributes: Mapping[str, AnyValue],
    limits: AttributeLimits,
    fault: Fault,
) -> int:
    """Sets `attributes` in `kept`, returns how many were dropped. Never raises.

    A key that is set again moves to the end, as the last one to be dropped.
    """
    try:
        if not attributes:
            return 0
        if limits.count == 0:
            return len(attributes)
        if limits.length is None and are_plain(attributes):
            if len(kept) + len(attributes) <= limits.count and kept.keys().isdisjoint(attributes):
                kept.update(attributes)
                return 0
            return _place(kept, attributes.items(), limits.count)
        cleaned = BoundedAttributes(None, attributes, max_value_len=limits.length)
    except Exception as error:
        return _merge_singly(kept, attributes, limits, fault, error)
    return cleaned.dropped + _place(kept, cleaned.items(), limits.count)


def merge_one(
    kept: dict[str, AnyValue], key: str, value: AnyValue, limits: AttributeLimits, fault: Fault
) -> int:
    """Sets one attribute in `kept`, returns how many were dropped. Never raises."""
    try:
        if limits.count == 0:
            return 1
        cleaned = BoundedAttributes(None, None, immutable=False, max_value_len=limits.length)
        cleaned[key] = value
    except Exception as error:
        fault("attribute", error)
        return 1
    return cleaned.dropped + _place(kept, cleaned.items(), limits.count)


def merge_trusted(
    kept: dict[str, AnyValue],
    attributes: Mapping[str, AnyValue],
    limits: AttributeLimits,
    fault: Fault,
) -> int:
    """Sets attributes known to be valid; a key that is set again keeps its place."""
    if limits.length is None and len(kept) + len(attributes) <= limits.count:
        kept.update(attributes)
        return 0
    return merge(kept, attributes, limits, fault)


def _place(kept: dict[str, AnyValue], items: Iterable[tuple[str, AnyValue]], most: int) -> int:
    dropped = 0
    for key, value in items:
        kept.pop(key, None)
        if len(kept) >= most:
            kept.pop(next(iter(kept)), None)
            dropped += 1
        kept[key] = value
    return dropped


def _merge_singly(
    kept: dict[str, AnyValue],
    attributes: object,
    limits: AttributeLimits,
    fault: Fault,
    error: Exception,
) -> int:
    """One attribute could not be cleaned: the others must not be lost with it."""
    if not isinstance(attributes, Mapping):
        fault("attributes", error)
        return 0
    dropped = 0
    try:
        for key, value in attributes.items():
            dropped += merge_one(kept, key, value, limits, fault)
    except Exception as unreadable:
        fault("attributes", unreadable)
    return dropped
