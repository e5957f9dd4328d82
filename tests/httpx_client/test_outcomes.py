"""The table: every transport, every outcome, both libraries, with and without asyncio."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from asynctrace.httpx import instrument
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server


class Outcome(NamedTuple):
    """What a request is for, and what its span says then."""

    path: str
    status: int | None = None
    error_type: str | None = None
    size: int | None = None


ANSWERS = [
    Outcome("/200", 200, None, 5),
    Outcome("/302", 302, None, 5),
    Outcome("/404", 404, "404", 5),
    Outcome("/500", 500, "500", 5),
]
FAILURES = [
    Outcome("/cut", 200, "RemoteProtocolError", 5),
    Outcome("/garbage", None, "RemoteProtocolError"),
    Outcome("/silent", None, "ReadTimeout"),
]


def _mock(kind: Kind) -> Any:
    return kind.library.MockTransport(
        lambda request: kind.library.Response(int(request.url.path[1:]), content=b"hello")
    )


def _custom(kind: Kind) -> Any:
    def respond(request: Any) -> Any:
        status = int(request.url.path[1:])
        return kind.library.Response(status, stream=kind.stream(b"hel", b"lo"))

    return kind.transport(respond)


TRANSPORTS: dict[str, Callable[[Kind], dict[str, Any]]] = {
    "default": lambda kind: {},
    "http": lambda kind: {"transport": kind.http_transport(retries=1)},
    "mount": lambda kind: {"mounts": {"http://": kind.http_transport()}},
    "app": lambda kind: {"transport": kind.app_transport()},
    "mock": lambda kind: {"transport": _mock(kind)},
    "custom": lambda kind: {"transport": _custom(kind)},
}
REAL = ["default", "http", "mount"]


def _assert_span(recorder: Recorder, outcome: Outcome, library: str, *, name: str = "GET") -> None:
    span = recorder.one()
    attributes = dict(span.attributes or {})
    expected = outcome.error_type
    if expected and not expected.isdigit():
        expected = f"{library}.{expected}"
    assert span.name == name
    assert span.kind is SpanKind.CLIENT
    assert attributes.get("http.response.status_code") == outcome.status
    assert attributes.get("error.type") == expected
    assert attributes.get("http.response.body.size") == outcome.size
    assert span.status.status_code is (StatusCode.ERROR if expected else StatusCode.UNSET)
    is_exception = expected is not None and not expected.isdigit()
    assert [event.name for event in span.events] == ["exception"] * is_exception


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("outcome", ANSWERS, ids=lambda outcome: outcome.path[1:])
async def test_an_answer(
    kind: Kind,
    transport: str,
    outcome: Outcome,
    server: Server,
    tracing: Tracing,
    recorder: Recorder,
) -> None:
    """One CLIENT span with status code and body size; 4xx and 5xx are errors, 3xx are not."""
    async with kind.client(**TRANSPORTS[transport](kind)) as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, server.url(outcome.path))
    assert (response.status_code, response.content) == (outcome.status, b"hello")
    _assert_span(recorder, outcome, kind.library.__name__)


@pytest.mark.parametrize("transport", REAL)
@pytest.mark.parametrize("outcome", FAILURES, ids=lambda outcome: outcome.path[1:])
async def test_a_failure(
    kind: Kind,
    transport: str,
    outcome: Outcome,
    server: Server,
    tracing: Tracing,
    recorder: Recorder,
) -> None:
    """The library's exception passes through and is the span's error.type, recorded once."""
    async with kind.client(timeout=0.2, **TRANSPORTS[transport](kind)) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(getattr(kind.library, outcome.error_type or "")):
            await kind.call(client.get, server.url(outcome.path))
    _assert_span(recorder, outcome, kind.library.__name__)


@pytest.mark.parametrize("raised", [RuntimeError("no"), ValueError("no"), KeyError("no")])
async def test_an_exception_of_a_transport(
    kind: Kind, raised: Exception, tracing: Tracing, recorder: Recorder
) -> None:
    """What a transport raises is what the caller catches: the same object, not a copy."""

    def respond(request: Any) -> Any:
        raise raised

    async with kind.client(transport=kind.transport(respond)) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(type(raised)) as caught:
            await kind.call(client.get, "http://host/")
    assert caught.value is raised
    span = recorder.one()
    assert (span.attributes or {})["error.type"] == type(raised).__name__
    assert span.status.status_code is StatusCode.ERROR


async def test_connect_error(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """Nobody listens: ConnectError, and no status code."""
    async with Server() as server:
        url = server.url("/200")
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        with pytest.raises(kind.library.ConnectError):
            await kind.call(client.get, url)
    _assert_span(recorder, Outcome("", None, "ConnectError"), kind.library.__name__)


async def test_pool_timeout(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """A request that got no connection says so."""
    limits = kind.library.Limits(max_connections=1)
    timeout = kind.library.Timeout(5.0, pool=0.05)
    async with kind.client(limits=limits, timeout=timeout) as client:
        request = client.build_request("GET", server.url("/drip"))
        first = await kind.call(client.send, request, stream=True)
        instrument(client, tracing=tracing)
        with pytest.raises(kind.library.PoolTimeout):
            await kind.call(client.get, server.url("/200"))
        await kind.call(first.aclose if kind.is_async else first.close)
    _assert_span(recorder, Outcome("", None, "PoolTimeout"), kind.library.__name__)


async def test_connect_timeout(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A connection that does not come about in time is told by its phase."""
    transport = kind.transport(_raise_connect_timeout(kind))
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(kind.library.ConnectTimeout):
            await kind.call(client.get, "http://host/")
    _assert_span(recorder, Outcome("", None, "ConnectTimeout"), kind.library.__name__)


def _raise_connect_timeout(kind: Kind) -> Callable[[Any], Any]:
    def respond(request: Any) -> Any:
        raise kind.library.ConnectTimeout("too slow", request=request)

    return respond


async def test_write_timeout(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A server that does not read what is sent to it is told by that phase."""
    timeout = kind.library.Timeout(5.0, write=0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        async with kind.client(timeout=timeout) as client:
            instrument(client, tracing=tracing)
            with pytest.raises(kind.library.WriteTimeout):
                await kind.call(client.post, url, content=bytes(20_000_000))
    _assert_span(recorder, Outcome("", None, "WriteTimeout"), kind.library.__name__, name="POST")


async def test_unknown_method(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A method outside the known ones cannot make a new span name; the original is kept aside."""
    async with kind.client(transport=_mock(kind)) as client:
        instrument(client, tracing=tracing)
        await kind.call(client.request, "brew", "http://host/200")
    span = recorder.one()
    assert span.name == "HTTP"
    attributes = span.attributes or {}
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == "BREW"


async def test_protocol_version(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """The version is what the transport tells; where none is told, none is guessed."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, server.url("/200"))
    async with kind.client(transport=_mock(kind)) as client:
        instrument(client, tracing=tracing)
        await kind.call(client.get, "http://host/200")
    versions = [(span.attributes or {}).get("network.protocol.version") for span in recorder.spans]
    assert versions == ["1.1", None]


async def test_redirects(kind: Kind, server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """Every hop is an attempt of its own, under the same parent."""
    tracer = tracing.get_tracer("test")
    async with kind.client(follow_redirects=True) as client:
        instrument(client, tracing=tracing)
        with tracer.start_as_current_span("outer") as outer:
            response = await kind.call(client.get, server.url("/redirect/200"))
    assert len(response.history) == 1
    first, second, _ = recorder.spans
    parents = {span.parent.span_id if span.parent else 0 for span in (first, second)}
    assert parents == {outer.get_span_context().span_id}
    statuses = [(span.attributes or {})["http.response.status_code"] for span in (first, second)]
    assert statuses == [302, 200]


_EXCEPTIONS = sorted(
    name
    for name in httpx.__all__
    if isinstance(kind := getattr(httpx, name), type) and issubclass(kind, httpx.RequestError)
)


@pytest.mark.parametrize("name", _EXCEPTIONS)
async def test_every_exception(kind: Kind, name: str, tracing: Tracing, recorder: Recorder) -> None:
    """Time-outs by phase, and all the others: passed on, and told by the full name."""
    assert {"ConnectTimeout", "PoolTimeout", "ReadTimeout", "WriteTimeout"} < set(_EXCEPTIONS)
    raised = getattr(kind.library, name)("no")

    def respond(request: Any) -> Any:
        raise raised

    async with kind.client(transport=kind.transport(respond)) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(type(raised)) as caught:
            await kind.call(client.get, "http://host/")
    assert caught.value is raised
    attributes = recorder.one().attributes or {}
    assert attributes["error.type"] == f"{kind.library.__name__}.{name}"
    assert "http.response.status_code" not in attributes
