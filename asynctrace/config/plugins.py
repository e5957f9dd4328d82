"""What installed packages have registered for OpenTelemetry under a name (entry points)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Final


def require(group: str, name: str, *, beside: Iterable[str] = ()) -> str:
    """Return ``name`` if a package registered it or it is one of ``beside``.

    Raises ValueError with the names there are. Installed packages are looked through only for a
    name that is not our own.
    """
    if name in beside or entry_points(group=group, name=name):
        return name
    known = sorted({*beside, *entry_points(group=group).names})
    raise ValueError(f"use one of {', '.join(known)}, or install the package that provides it")


_EXPORTERS: Final = "opentelemetry_traces_exporter"
_ZIPKIN: Final = ("zipkin", "zipkin_proto_http", "zipkin_json")


def require_exporter(name: str, *, beside: Iterable[str]) -> str:
    """Return the name under which a span exporter is registered; raises ValueError with the remedy.

    `zipkin` is whichever of OpenTelemetry's packages for Zipkin is installed.
    """
    if name != "zipkin":
        return require(_EXPORTERS, name, beside=beside)
    installed = entry_points(group=_EXPORTERS).names
    for candidate in _ZIPKIN:
        if candidate in installed:
            return candidate
    raise ValueError("run `pip install opentelemetry-exporter-zipkin-json`")


def load_exporter(name: str) -> Callable[..., object]:
    """Import the span exporter that is registered as ``name``."""
    return load(_EXPORTERS, name)


def load(group: str, name: str) -> Callable[..., object]:
    """Import what is registered as ``name``. Raises whatever that import raises."""
    (entry, *_) = entry_points(group=group, name=name)
    loaded: Callable[..., object] = entry.load()
    return loaded
