"""A tracing that delivers to the test, a server, and the four kinds of client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import KINDS, Kind, Recorder, Server


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def tracing(recorder: Recorder) -> AsyncIterator[Tracing]:
    """A Tracing that is not the global one, without processors as those of most services."""
    async with init(service_name="caller", set_global=False, exporter="none") as running:
        recorder.watch(running)
        yield running


@pytest.fixture
async def unsampled(recorder: Recorder) -> AsyncIterator[Tracing]:
    """A Tracing that samples nothing."""
    async with init(
        set_global=False, exporter="none", sampler=ALWAYS_OFF, span_processors=[recorder]
    ) as running:
        yield running


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """httpx and httpx2, each asynchronous and not."""
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture(params=[kind for kind in KINDS if kind.is_async], ids=str)
def async_kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        yield running
