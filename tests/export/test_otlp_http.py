"""OTLP over HTTP against a real socket: requests as the specification wants them."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
import warnings
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.resources import Resource

from asynctrace.export import resolver
from asynctrace.export.contracts import Batch, Delivered, Undelivered
from asynctrace.export.otlp_http import Endpoint, OtlpHttpExporter
from asynctrace.export.resolver import DaemonResolver
from asynctrace.otlp.encode import SpanEncoder
from tests.support.collector import Answer, ScriptedCollector, refusing_port

_encode = SpanEncoder()


def batch(*numbers: int, text: str = "s") -> Batch:
    items = [
        (
            None,
            _encode.span(1, n, "", 0, 0x101, text, 1, 10, 20, {}, 0, (), 0, (), 0, 0, None),
            None,
        )
        for n in numbers
    ]
    return Batch(items, Resource({"service.name": "shop"}))


def endpoint(url: str, **settings: object) -> Endpoint:
    return Endpoint(url=url, headers={}, **settings)  # type: ignore[arg-type]


@pytest.fixture
async def exporter(collector: ScriptedCollector) -> AsyncIterator[OtlpHttpExporter]:
    made = await OtlpHttpExporter.create(endpoint(f"{collector.url}/v1/traces?tenant=7"))
    yield made
    await made.close()
    await made.shutdown()


@pytest.fixture
def collector() -> object:
    with ScriptedCollector() as running:
        yield running


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def test_a_batch_is_one_request(
    collector: ScriptedCollector, exporter: OtlpHttpExporter
) -> None:
    """Path, query, type and length are right, and connections are kept for the next."""
    for numbers in ((1, 2), (3,)):
        assert await exporter.export(batch(*numbers), soon()) == Delivered()
    first, _ = collector.requests
    assert first.path == "/v1/traces?tenant=7"
    assert first.headers["content-type"] == "application/x-protobuf"
    assert first.headers["user-agent"] == "asynctrace"
    assert int(first.headers["content-length"]) == len(first.body)
    assert [span.span_id[-1] for span in collector.spans] == ["1", "2", "3"]
    assert collector.connections == 1
    assert repr(exporter).endswith(" connected>")


@pytest.mark.parametrize("json", [False, True])
@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
async def test_each_encoding_is_announced(
    json: bool, compression: str, collector: ScriptedCollector
) -> None:
    """The headers say how the body is written, also at the exit of the process."""
    made = OtlpHttpExporter(endpoint(collector.url, json=json, compression=compression), None)
    assert await made.export(batch(1), soon()) == Delivered()
    assert await asyncio.to_thread(made.export_at_exit, batch(2), soon()) == Delivered()
    await made.close()
    for request in collector.requests:
        assert request.headers.get("content-encoding", "none") == compression
        assert ("json" in request.headers["content-type"]) is json
    assert [span.span_id[-1] for span in collector.spans] == ["1", "2"]


async def test_headers_of_the_configuration_are_sent(collector: ScriptedCollector) -> None:
    """By every way out; they are not shown by the repr."""
    made = OtlpHttpExporter(Endpoint(url=collector.url, headers={"api-key": "hunter2"}), None)
    await made.export(batch(1), soon())
    await asyncio.to_thread(made.export_at_exit, batch(2), soon())
    await made.close()
    assert [request.headers["api-key"] for request in collector.requests] == ["hunter2"] * 2
    assert "hunter2" not in repr(made)
    secret = OtlpHttpExporter(endpoint("http://user:hunter2@collector:4318/v1/traces"), None)
    assert repr(secret) == "<OtlpHttpExporter http://collector:4318 idle>"


HEADERS_OF_THE_CLIENT = {"accept", "accept-encoding", "content-length"}
"""What aiohttp and `http.client` can read differs."""


@pytest.mark.parametrize("path", ["/v1/traces", "/a b/ü?tenant=7&x=é", "/v1/traces?q=%2F%20"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"user-agent": "mine"}, {"Authorization": "Bearer t"}, {"tenant": "grün", "who": "山"}],
)
async def test_the_request_at_the_exit_is_the_same(
    headers: dict[str, str], path: str, collector: ScriptedCollector
) -> None:
    """Credentials of the URL, the user agent, any text in a header: one request, two ways."""
    url = f"http://us%40er:p%C3%A4ss@127.0.0.1:{collector.port}{path}"
    made = OtlpHttpExporter(Endpoint(url=url, headers=headers), None)
    sent = batch(1)
    assert await made.export(sent, soon()) == Delivered()
    assert await asyncio.to_thread(made.export_at_exit, sent, soon()) == Delivered()
    await made.close()
    live, last = collector.requests
    assert last.path == live.path
    assert last.body == live.body
    for name in (live.headers.keys() | last.headers.keys()) - HEADERS_OF_THE_CLIENT:
        assert last.headers.get(name) == live.headers.get(name), name
    basic = "Basic " + base64.b64encode("us@er:päss".encode()).decode()
    assert live.headers["authorization"] == headers.get("Authorization", basic)
    assert live.headers["user-agent"] == headers.get("user-agent", "asynctrace")
    for name in {"tenant", "who"} & headers.keys():
        assert live.headers[name].encode("latin-1") == headers[name].encode("utf-8")


async def test_a_large_body_goes_out_in_pieces_without_a_warning(
    collector: ScriptedCollector, exporter: OtlpHttpExporter
) -> None:
    """Megabytes arrive whole; aiohttp has nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = await exporter.export(batch(*range(1, 4), text="x" * 10**6), soon())
    assert outcome == Delivered()
    assert [len(span.name) for span in collector.spans] == [10**6] * 3


async def test_failures_are_answers() -> None:
    """Nobody listening, a cut, garbage: retryable, with words for people; nothing is raised."""
    with refusing_port() as port:
        made = OtlpHttpExporter(endpoint(f"http://127.0.0.1:{port}/"), None)
        refused = await made.export(batch(1), soon())
        await made.close()
    assert isinstance(refused, Undelivered)
    assert (refused.reason, refused.retryable) == ("unreachable", True)
    assert refused.message.startswith(f"cannot connect to 127.0.0.1:{port}: ")
    for answer in (Answer(cut=True), Answer(raw=b"garbage\r\n\r\n"), Answer(cut_early=True)):
        with ScriptedCollector(answer) as collector:
            made = OtlpHttpExporter(endpoint(collector.url), None)
            outcome = await made.export(batch(1), soon())
            assert isinstance(outcome, Undelivered)
            assert (outcome.reason, outcome.retryable) == ("unreachable", True)
            assert outcome.message
            assert await made.export(batch(1), soon()) == Delivered()
            await made.close()


async def test_redirects_are_not_followed(collector: ScriptedCollector) -> None:
    """Spans and credentials go where the configuration says, and nowhere else."""
    elsewhere = Answer(status=307, headers={"Location": f"{collector.url}/stolen"})
    with ScriptedCollector(elsewhere) as first:
        made = OtlpHttpExporter(endpoint(first.url), None)
        outcome = await made.export(batch(1), soon())
        await made.close()
    assert outcome == Undelivered("http_307")
    assert collector.requests == []


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    """A status with a huge body is a delivery all the same."""
    with ScriptedCollector(Answer(body=b"x" * 5_000_000)) as collector:
        made = OtlpHttpExporter(endpoint(collector.url), None)
        assert await made.export(batch(1), soon()) == Delivered()
        await made.close()


async def test_cookies_are_not_kept(collector: ScriptedCollector) -> None:
    """A load balancer's cookie is not sent back."""
    collector.then(Answer(headers={"Set-Cookie": "a=b"}))
    made = OtlpHttpExporter(endpoint(collector.url), None)
    await made.export(batch(1), soon())
    await made.export(batch(2), soon())
    await made.close()
    assert "cookie" not in collector.requests[1].headers


# ---- loops and processes


def test_each_loop_has_its_own_session(collector: ScriptedCollector) -> None:
    """After one loop is gone, or stands still, the next one connects anew."""
    made = OtlpHttpExporter(endpoint(collector.url), None)

    async def export(number: int) -> None:
        assert await made.export(batch(number), soon()) == Delivered()

    async def last() -> None:
        await export(3)
        await made.close()

    standing = asyncio.new_event_loop()
    standing.run_until_complete(export(1))
    asyncio.run(last())
    asyncio.run(last())
    assert collector.connections == 3
    for session in made._foreign:
        standing.run_until_complete(session.close())
    standing.close()


async def test_a_forked_child_forgets_the_connection(
    collector: ScriptedCollector, exporter: OtlpHttpExporter
) -> None:
    """It does not close what is the parent's; it connects anew."""
    await exporter.export(batch(1), soon())
    exporter.after_fork()
    (inherited,) = exporter._foreign
    assert not inherited.closed
    assert await exporter.export(batch(2), soon()) == Delivered()
    assert collector.connections == 2
    await inherited.close()


# ---- the exit


@pytest.mark.parametrize("fault", [Answer(silent=True), Answer(cut=True), Answer(raw=b"?\r\n\r\n")])
def test_the_exit_is_bounded(fault: Answer) -> None:
    """A collector that is bad at the exit costs the time that is left, not more."""
    with ScriptedCollector(then=fault) as collector:
        made = OtlpHttpExporter(endpoint(collector.url), None)
        begun = time.monotonic()
        outcome = made.export_at_exit(batch(1), soon(0.2))
        assert time.monotonic() - begun < 2
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "unreachable"


def test_the_exit_reads_the_answer(collector: ScriptedCollector) -> None:
    """It judges it as always."""
    collector.then(Answer(status=503))
    made = OtlpHttpExporter(endpoint(f"{collector.url}/v1/traces?tenant=7"), None)
    outcome = made.export_at_exit(batch(1), soon())
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "http_503"
    assert collector.requests[0].path == "/v1/traces?tenant=7"
    assert collector.requests[0].headers["host"] == f"127.0.0.1:{collector.port}"


def test_the_exit_looks_nothing_up() -> None:
    """A name that was never resolved is not resolved now: the look-up could hang."""
    made = OtlpHttpExporter(endpoint("http://collector.invalid:4318/v1/traces"), None)
    outcome = made.export_at_exit(batch(1), soon())
    assert outcome == Undelivered("exit", "collector.invalid was never resolved")


# ---- names


async def test_names_are_resolved_in_a_daemon_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses, and the newest is remembered for the exit."""
    answers = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 80)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 80, 0, 0)),
    ]
    monkeypatch.setattr(resolver.socket, "getaddrinfo", lambda *args: answers)
    names = DaemonResolver()
    found = await names.resolve("collector", 80, socket.AF_UNSPEC)
    assert [(one["host"], one["port"], one["hostname"]) for one in found] == [
        ("10.1.2.3", 80, "collector"),
        ("fd00::1", 80, "collector"),
    ]
    assert names.last_addresses == ["10.1.2.3", "fd00::1"]
    await names.close()


async def test_without_threads_known_addresses_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that exits starts none: the last answer, or the loopback's own addresses."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr("asynctrace._threads.start", refuse)
    names = DaemonResolver()
    names.learn("collector.test", 4318)
    with pytest.raises(RuntimeError):
        await names.resolve("collector.test", 4318)
    names.last_addresses = ["10.1.2.3"]
    (known,) = await names.resolve("collector.test", 4318)
    assert (known["host"], known["port"], known["family"]) == ("10.1.2.3", 4318, socket.AF_INET)
    found = await DaemonResolver().resolve("localhost", 4318)
    assert [(one["host"], one["family"]) for one in found] == [
        ("127.0.0.1", socket.AF_INET),
        ("::1", socket.AF_INET6),
    ]


async def test_a_name_that_is_unknown_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other failure, with the name in the message."""

    def unknown(*args: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(resolver.socket, "getaddrinfo", unknown)
    made = OtlpHttpExporter(endpoint("http://collector.invalid:4318/v1/traces"), None)
    outcome = await made.export(batch(1), soon())
    await made.close()
    assert isinstance(outcome, Undelivered)
    assert outcome.retryable
    assert "collector.invalid" in outcome.message
