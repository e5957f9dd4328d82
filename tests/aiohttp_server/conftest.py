"""A tracing that delivers to the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asynctrace import semconv
from asynctrace.aiohttp._server import SCOPE_NAME
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.aiohttp_server.harness import Recorder


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def tracing(recorder: Recorder) -> AsyncIterator[Tracing]:
    """A Tracing that is not the global one, without processors as those of most services."""
    async with init(service_name="shop", set_global=False, exporter="none") as running:
        recorder.watch(running)
        yield running
        assert _unlisted(recorder) == set()


def _unlisted(recorder: Recorder) -> set[str]:
    """Names that the integration emitted and the closed list does not have."""
    names: set[str] = set()
    for span in recorder.spans:
        if span.instrumentation_scope.name == SCOPE_NAME:
            names.update(span.attributes, *(event.attributes for event in span.events))
    prefixes = (*semconv.HEADER_PREFIXES, "app.")  # the latter are those of the tests
    return {name for name in names - semconv.NAMES if not name.startswith(prefixes)}


@pytest.fixture(params=[True, False], ids=["cancelling", "patient"])
def handler_cancellation(request: pytest.FixtureRequest) -> bool:
    """Whether aiohttp cancels a handler whose client has left."""
    return bool(request.param)
