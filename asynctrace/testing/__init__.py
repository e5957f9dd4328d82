"""For tests of traced programs: fakes that go through the real pipeline."""

from __future__ import annotations

from asynctrace.testing.exporters import InMemoryExporter

__all__ = ["InMemoryExporter"]
