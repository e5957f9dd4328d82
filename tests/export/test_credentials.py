"""Tokens that are renewed: asked for once, and once more when the collector refuses them."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import count
from types import TracebackType
from typing import Any, Protocol, Self

import pytest

import asynctrace
from asynctrace.export.contracts import Delivered, Exporter, Undelivered
from asynctrace.export.credentials import Credentials, Provide
from asynctrace.export.grpc.exporter import OtlpGrpcExporter
from asynctrace.export.grpc.request import Endpoint as GrpcEndpoint
from asynctrace.export.otlp_http import Endpoint, OtlpHttpExporter
from tests.support.batches import batch
from tests.support.collector import Answer, ScriptedCollector
from tests.support.h2_server import OK, H2Server, Peer


class Guarded(Protocol):
    """A collector that looks at the credentials before it takes spans."""

    protocol: str
    refusal: str
    """The reason of the failure when it refuses."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    @property
    @abstractmethod
    def sent(self) -> list[Mapping[str, str]]:
        """The headers of each request."""

    @abstractmethod
    def refuse(self, *which: int) -> None:
        """Refuse these requests, by their number from 0; without any, all."""

    @abstractmethod
    def exporter(self, provide: Provide) -> Exporter: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class OverHttp(ScriptedCollector):
    protocol = "http/protobuf"
    refusal = "http_401"

    @property
    def sent(self) -> list[Mapping[str, str]]:
        return [request.headers for request in self.requests]

    def refuse(self, *which: int) -> None:
        unauthorized = Answer(status=401, body=b"token expired")
        self.then(Answer() if which else unauthorized)
        if which:
            numbers = range(max(which) + 1)
            self._script += [unauthorized if n in which else Answer() for n in numbers]

    def exporter(self, provide: Provide) -> Exporter:
        endpoint = Endpoint(url=self.url, headers={"x-tenant": "7"})
        return OtlpHttpExporter(endpoint, None, credentials=provide)


class OverGrpc(H2Server):
    protocol = "grpc"
    refusal = "grpc_unauthenticated"

    def __init__(self) -> None:
        super().__init__(then=self._judge)
        self.sent: list[Mapping[str, str]] = []
        self._refused: Callable[[int], bool] = lambda number: False

    def refuse(self, *which: int) -> None:
        self._refused = lambda number: number in which or not which

    def _judge(self, peer: Peer) -> None:
        peer.greet()
        while True:
            call = peer.read_call()
            refused = self._refused(len(self.sent))
            self.sent.append(call.headers)
            words = [("grpc-status", "16"), ("grpc-message", "token expired")]
            peer.answer(call, message=None, trailers=words if refused else OK)

    def exporter(self, provide: Provide) -> Exporter:
        endpoint = GrpcEndpoint(url=self.url, headers={"x-tenant": "7"})
        return OtlpGrpcExporter(endpoint, None, credentials=provide)


@pytest.fixture(params=[OverHttp, OverGrpc], ids=["http", "grpc"])
def collector(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    guarded: Guarded = request.param()
    with guarded:
        yield guarded


def soon() -> float:
    return time.monotonic() + 5


def tokens() -> Callable[[], Mapping[str, str]]:
    """A function that returns another token each time."""
    numbers = count(1)
    return lambda: {"Authorization": f"Bearer {next(numbers)}"}


def sent_tokens(collector: Guarded) -> list[str | None]:
    return [headers.get("authorization") for headers in collector.sent]


class Asked:
    """An object whose call is a coroutine."""

    async def __call__(self) -> Mapping[str, str]:
        await asyncio.sleep(0)
        return {"authorization": "Bearer 1"}


async def asked() -> Mapping[str, str]:
    return {"authorization": "Bearer 1"}


def asked_later() -> Awaitable[Mapping[str, str]]:
    return asked()


def asked_at_once() -> Mapping[str, str]:
    return {"authorization": "Bearer 1"}


@pytest.mark.parametrize("provide", [asked_at_once, asked, asked_later, Asked()])
async def test_the_function_may_be_async_or_not(provide: Provide, collector: Guarded) -> None:
    """Its headers go with those of the configuration."""
    exporter = collector.exporter(provide)
    assert await exporter.export(batch(), soon()) == Delivered()
    await exporter.close()
    (headers,) = collector.sent
    assert headers["authorization"] == "Bearer 1"
    assert headers["x-tenant"] == "7"


async def test_credentials_are_kept_until_they_are_refused(collector: Guarded) -> None:
    """A refusal is answered by one more request with new ones, and the batch is delivered."""
    collector.refuse(2)
    exporter = collector.exporter(tokens())
    for _ in range(3):
        assert await exporter.export(batch(), soon()) == Delivered()
    assert await asyncio.to_thread(exporter.export_at_exit, batch(), soon()) == Delivered()
    await exporter.close()
    told = sent_tokens(collector)
    assert told == ["Bearer 1", "Bearer 1", "Bearer 1", "Bearer 2", "Bearer 2"]


async def test_new_credentials_that_are_refused_are_a_failure(collector: Guarded) -> None:
    """One re-authentication for each batch, and no more: the collector means it."""
    collector.refuse()
    exporter = collector.exporter(tokens())
    outcome = await exporter.export(batch(), soon())
    assert outcome == Undelivered(collector.refusal, "token expired")
    assert sent_tokens(collector) == ["Bearer 1", "Bearer 2"]
    await exporter.export(batch(), soon())
    assert sent_tokens(collector)[2:] == ["Bearer 2", "Bearer 3"]
    await exporter.close()


async def test_they_win_over_the_headers_of_the_configuration(collector: Guarded) -> None:
    """The newer word counts, in whichever case the name is written."""
    exporter = collector.exporter(lambda: {"X-Tenant": "8"})
    assert await exporter.export(batch(), soon()) == Delivered()
    await exporter.close()
    assert [headers["x-tenant"] for headers in collector.sent] == ["8"]


async def fail() -> Mapping[str, str]:
    raise ConnectionError("no token today")


def return_nonsense() -> Any:
    return {"authorization": 5}


@pytest.mark.parametrize(
    ("provide", "told"), [(fail, "no token today"), (return_nonsense, "as strings")]
)
async def test_without_credentials_nothing_is_sent(
    provide: Provide, told: str, collector: Guarded
) -> None:
    """The batch waits for another attempt; the reason is told."""
    exporter = collector.exporter(provide)
    outcome = await exporter.export(batch(), soon())
    await exporter.close()
    assert isinstance(outcome, Undelivered)
    assert (outcome.reason, outcome.retryable) == ("credentials", True)
    assert told in outcome.message
    assert collector.sent == []


async def test_what_grpc_cannot_send_is_told() -> None:
    """Nothing is sent; the value is not shown."""
    with OverGrpc() as collector:
        exporter = collector.exporter(lambda: {"authorization": "gehéim"})
        outcome = await exporter.export(batch(), soon())
        await exporter.close()
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "credentials"
    assert "authorization-bin" in outcome.message
    assert "gehéim" not in outcome.message
    assert collector.sent == []


async def test_a_function_that_blocks_does_not_block_the_loop(collector: Guarded) -> None:
    """It is called in a thread of its own."""
    called_in: list[threading.Thread] = []

    def blocking() -> Mapping[str, str]:
        called_in.append(threading.current_thread())
        return {}

    exporter = collector.exporter(blocking)
    await exporter.export(batch(), soon())
    await exporter.close()
    assert called_in
    assert called_in[0] is not threading.main_thread()


async def test_a_function_that_hangs_is_cut_at_the_deadline(collector: Guarded) -> None:
    """Also in the middle of a re-authentication; the shutdown is over in time and counts."""
    asked = 0

    async def hang_the_second_time() -> Mapping[str, str]:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.Event().wait()
        return {"authorization": "Bearer 1"}

    collector.refuse()
    tracing = await asynctrace.init(
        endpoint=collector.url,
        protocol=collector.protocol,
        credentials=hang_the_second_time,
        set_global=False,
    )
    tracing.get_tracer("test").start_span("work").end()
    report = await tracing.shutdown(0.2)
    assert report.timed_out
    assert report.dropped == {"deadline": 1}
    assert sent_tokens(collector) == ["Bearer 1"]


def test_at_the_exit_nobody_is_asked(collector: Guarded) -> None:
    """It could hang, and nobody could cut it."""
    exporter = collector.exporter(tokens())
    outcome = exporter.export_at_exit(batch(), soon())
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "exit"
    assert collector.sent == []


async def test_from_init_to_the_collector(collector: Guarded) -> None:
    """The option; what it returns is shown by no repr."""
    collector.refuse(0)
    async with asynctrace.init(
        endpoint=collector.url,
        protocol=collector.protocol,
        credentials=tokens(),
        set_global=False,
    ) as tracing:
        tracing.get_tracer("test").start_span("work").end()
        assert await tracing.force_flush()
        assert "Bearer" not in repr(tracing.config)
        assert "credentials='***'" in repr(tracing.config)
    assert sent_tokens(collector) == ["Bearer 1", "Bearer 2"]


def test_the_repr_tells_no_secret() -> None:
    """Only whether there is one."""
    assert repr(Credentials(tokens(), refused="http_401")) == "<Credentials not known>"
