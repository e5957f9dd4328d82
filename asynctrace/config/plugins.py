"""What installed packages have registered for OpenTelemetry under a name (entry points)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points


def require(group: str, name: str, *, beside: Iterable[str] = ()) -> str:
    """Return ``name`` if a package registered it or it is one of ``beside``.

    Raises ValueError with the names there are. Installed packages are looked through only for a
    name that is not our own.
    """
    if name in beside or entry_points(group=group, name=name):
        return name
    known = sorted({*beside, *entry_points(group=group).names})
    raise ValueError(f"use one of {', '.join(known)}, or install the package that provides it")


def load(group: str, name: str) -> Callable[..., object]:
    """Import what is registered as ``name``. Raises whatever that import raises."""
    (entry, *_) = entry_points(group=group, name=name)
    loaded: Callable[..., object] = entry.load()
    return loaded
