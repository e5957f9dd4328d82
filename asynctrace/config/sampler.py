"""The name of a sampler and its argument -> a sampler of the SDK, or of whoever registered it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)

from asynctrace.config import plugins

_GROUP: Final = "opentelemetry_traces_sampler"

_PLAIN: Final[Mapping[str, Sampler]] = MappingProxyType(
    {
        "always_on": ALWAYS_ON,
        "always_off": ALWAYS_OFF,
        "parentbased_always_on": DEFAULT_ON,
        "parentbased_always_off": DEFAULT_OFF,
    }
)
_RATIO: Final[Mapping[str, Callable[[float], Sampler]]] = MappingProxyType(
    {
        "traceidratio": TraceIdRatioBased,
        "parentbased_traceidratio": lambda ratio: ParentBased(TraceIdRatioBased(ratio)),
    }
)


def name(text: str) -> str:
    """The reader of OTEL_TRACES_SAMPLER: a name of the specification, or a registered one."""
    known = text.lower()
    if known in _PLAIN or known in _RATIO:
        return known
    plugins.require(_GROUP, text, beside=(*_PLAIN, *_RATIO))
    return text


def build(sampler: str, argument: str | None) -> Sampler:
    """Make the sampler called ``sampler``; raises ValueError when it refuses its argument."""
    if sampler in _PLAIN:
        return _PLAIN[sampler]
    if sampler in _RATIO:
        return _RATIO[sampler](_ratio(argument))
    return _registered(sampler, argument)


def _ratio(argument: str | None) -> float:
    try:
        ratio = 1.0 if argument is None else float(argument)
    except ValueError:
        ratio = math.nan
    if not 0.0 <= ratio <= 1.0:
        raise ValueError("write the share of traces to keep, a number from 0 to 1")
    return ratio


def _registered(sampler: str, argument: str | None) -> Sampler:
    try:
        built = plugins.load(_GROUP, sampler)(argument)
    except Exception as error:
        # Somebody else's code: whatever it raises means that this sampler cannot be had.
        raise ValueError(f"the sampler {sampler!r} refuses its argument: {error}") from error
    if not isinstance(built, Sampler):
        raise ValueError(f"what is installed as {sampler!r} makes no sampler")
    return built
