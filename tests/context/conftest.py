"""A recording tracer, and a log that must stay empty."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.context.recording import Recording, recording


@pytest.fixture
def traced_spans() -> Iterator[Recording]:
    """The spans of a tracer that runs during the test."""
    with recording() as record:
        yield record


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails the test when anything is logged from WARNING on."""
    yield
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
