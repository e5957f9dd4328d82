"""Tokens that are renewed: asked for once, and once more when the collector refuses them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import count

import pytest

import asynctrace
from asynctrace.errors import ConfigError
from asynctrace.export.contracts import Delivered, Undelivered
from asynctrace.export.credentials import Credentials, Provide
from asynctrace.export.otlp_http import Endpoint, OtlpHttpExporter
from tests.support.batches import batch
from tests.support.collector import Answer, ScriptedCollector

UNAUTHORIZED = Answer(status=401, body=b"token expired")


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


def soon() -> float:
    return time.monotonic() + 5


def sender(collector: ScriptedCollector, provide: Provide) -> OtlpHttpExporter:
    endpoint = Endpoint(url=collector.url, headers={"x-tenant": "7"})
    return OtlpHttpExporter(endpoint, None, credentials=provide)


def tokens() -> Callable[[], Mapping[str, str]]:
    """A function that returns another token each time."""
    numbers = count(1)
    return lambda: {"Authorization": f"Bearer {next(numbers)}"}


def sent_tokens(collector: ScriptedCollector) -> list[str | None]:
    return [request.headers.get("authorization") for request in collector.requests]


class Asked:
    """An object whose call is a coroutine."""

    async def __call__(self) -> Mapping[str, str]:
        await asyncio.sleep(0)
        return {"authorization": "Bearer 1"}


async def asked() -> Mapping[str, str]:
    return {"authorization": "Bearer 1"}


def asked_later() -> Awaitable[Mapping[str, str]]:
    return asked()


@pytest.mark.parametrize("provide", [tokens(), asked, asked_later, Asked()])
async def test_the_function_may_be_async_or_not(
    provide: Provide, collector: ScriptedCollector
) -> None:
    """Its headers go with those of the configuration."""
    exporter = sender(collector, provide)
    assert await exporter.export(batch(), soon()) == Delivered()
    await exporter.close()
    (request,) = collector.requests
    assert request.headers["authorization"] == "Bearer 1"
    assert request.headers["x-tenant"] == "7"


async def test_credentials_are_kept_until_they_are_refused() -> None:
    """A 401 is answered by one more request with new ones, and the batch is delivered."""
    with ScriptedCollector(Answer(), Answer(), UNAUTHORIZED) as collector:
        exporter = sender(collector, tokens())
        for _ in range(3):
            assert await exporter.export(batch(), soon()) == Delivered()
        assert await asyncio.to_thread(exporter.export_at_exit, batch(), soon()) == Delivered()
        await exporter.close()
    told = sent_tokens(collector)
    assert told == ["Bearer 1", "Bearer 1", "Bearer 1", "Bearer 2", "Bearer 2"]


async def test_new_credentials_that_are_refused_are_a_failure(
    collector: ScriptedCollector,
) -> None:
    """One re-authentication for each batch, and no more: the collector means it."""
    collector.then(UNAUTHORIZED)
    exporter = sender(collector, tokens())
    outcome = await exporter.export(batch(), soon())
    assert outcome == Undelivered("http_401", "token expired")
    assert sent_tokens(collector) == ["Bearer 1", "Bearer 2"]
    await exporter.export(batch(), soon())
    assert sent_tokens(collector)[2:] == ["Bearer 2", "Bearer 3"]
    await exporter.close()


async def fail() -> Mapping[str, str]:
    raise ConnectionError("no token today")


def return_nonsense() -> object:
    return {"authorization": 5}


@pytest.mark.parametrize(
    ("provide", "told"), [(fail, "no token today"), (return_nonsense, "as strings")]
)
async def test_without_credentials_nothing_is_sent(
    provide: Provide, told: str, collector: ScriptedCollector
) -> None:
    """The batch waits for another attempt; the reason is told."""
    exporter = sender(collector, provide)
    outcome = await exporter.export(batch(), soon())
    await exporter.close()
    assert isinstance(outcome, Undelivered)
    assert (outcome.reason, outcome.retryable) == ("credentials", True)
    assert told in outcome.message
    assert collector.requests == []


async def test_a_function_that_blocks_does_not_block_the_loop(
    collector: ScriptedCollector,
) -> None:
    """It is called in a thread of its own."""
    called_in: list[threading.Thread] = []

    def blocking() -> Mapping[str, str]:
        called_in.append(threading.current_thread())
        return {}

    exporter = sender(collector, blocking)
    await exporter.export(batch(), soon())
    await exporter.close()
    assert called_in
    assert called_in[0] is not threading.main_thread()


def test_at_the_exit_nobody_is_asked(collector: ScriptedCollector) -> None:
    """It could hang, and nobody could cut it."""
    exporter = sender(collector, tokens())
    outcome = exporter.export_at_exit(batch(), soon())
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "exit"
    assert collector.requests == []


async def test_from_init_to_the_collector(collector: ScriptedCollector) -> None:
    """The option; what it returns is shown by no repr."""
    async with asynctrace.init(
        endpoint=collector.url, credentials=tokens(), set_global=False
    ) as tracing:
        tracing.get_tracer("test").start_span("work").end()
        assert await tracing.force_flush()
        assert "Bearer" not in repr(tracing.config)
        assert "credentials='***'" in repr(tracing.config)
    assert sent_tokens(collector) == ["Bearer 1"]


async def test_over_grpc_they_are_refused_and_not_forgotten() -> None:
    """A setting that would do nothing is an error."""
    with pytest.raises(ConfigError) as caught:
        await asynctrace.init(protocol="grpc", credentials=tokens(), set_global=False)
    assert caught.value.setting == "credentials"


def test_the_repr_tells_no_secret() -> None:
    """Only whether there is one."""
    assert repr(Credentials(tokens())) == "<Credentials not known>"
