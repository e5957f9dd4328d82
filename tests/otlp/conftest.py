"""What the tests of the wire format share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _quiet_official_encoder() -> Iterator[None]:
    """OpenTelemetry's encoder logs a traceback for every attribute that it leaves out."""
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.common")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)
