"""What a span, a method and an error are called, on either side of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["METHODS", "OTHER_METHOD", "error_type", "known_methods", "span_name"]

METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""The methods that the conventions call known, by default."""

OTHER_METHOD: Final = "_OTHER"


def known_methods(environ: Mapping[str, str]) -> frozenset[str]:
    """The methods that may appear in names and attributes: the variable replaces the whole list."""
    listed = environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "")
    return frozenset(filter(None, map(str.strip, listed.split(",")))) or METHODS


def span_name(method: str, target: str | None) -> str:
    """`GET /users/{id}`, or the method alone; `method` is the value of `http.request.method`.

    The target is a template: a path must never get here, or every URL would be a name of its own.
    """
    verb = "HTTP" if method == OTHER_METHOD else method
    return f"{verb} {target}" if target else verb


def error_type(kind: type[BaseException]) -> str:
    """A class as `error.type` and `exception.type` have it: in full, but for builtins."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
