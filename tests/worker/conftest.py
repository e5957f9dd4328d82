"""The recording tracer of the context tests, for those of the worker."""

from __future__ import annotations

from tests.context.conftest import quiet, traced_spans

__all__ = ["quiet", "traced_spans"]
