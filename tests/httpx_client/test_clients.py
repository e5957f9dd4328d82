"""Clients: made traced, traced in place, and restored to what they were."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from opentelemetry.instrumentation.httpx import (
    AsyncOpenTelemetryTransport,
    HTTPX2ClientInstrumentor,
    HTTPXClientInstrumentor,
    SyncOpenTelemetryTransport,
)
from opentelemetry.trace import get_current_span

import asynctrace
from asynctrace.errors import AsyncTraceError, ConfigError
from asynctrace.httpx import (
    AsyncTracingTransport,
    TracingTransport,
    create_client,
    instrument,
    uninstrument,
)
from asynctrace.httpx._attempt import Attempts
from asynctrace.httpx._options import ClientOptions
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server


def _transports(client: Any) -> list[Any]:
    return [client._transport, *client._mounts.values()]


@pytest.mark.may_block("some versions of httpx read certificates")
async def test_create_client(server: Server, tracing: Tracing, recorder: Recorder) -> None:
    """A genuine client, with its options, and traced."""
    options: ClientOptions = {"base_url": server.url("/"), "headers": {"X-Mine": "1"}}
    async with create_client(tracing=tracing, timeout=3.0, **options) as client:
        assert type(client) is httpx.AsyncClient
        assert client.timeout == httpx.Timeout(3.0)
        assert (await client.get("/200")).status_code == 200
    recorder.one()
    assert server.requests[0].header("x-mine") == ["1"]


@pytest.mark.may_block("some versions of httpx read certificates")
async def test_create_client_traces_every_way_out(tracing: Tracing, recorder: Recorder) -> None:
    """A transport, mounts and a proxy given as options are all traced."""
    answer = httpx.MockTransport(lambda request: httpx.Response(200))
    mounts = {"http://mounted": answer, "http://direct": None}
    async with create_client(
        tracing=tracing, transport=answer, mounts=mounts, proxy="http://127.0.0.1:1"
    ) as client:
        traced = [t for t in _transports(client) if t is not None]
        assert len(traced) == 3
        assert all(isinstance(transport, AsyncTracingTransport) for transport in traced)
        await client.get("http://mounted/")
        await client.get("http://direct/")
        with pytest.raises(httpx.ConnectError):
            await client.get("http://elsewhere/")
    assert len(recorder.spans) == 3


def test_the_options_are_httpx_own() -> None:
    """What type checkers see is what this httpx takes."""
    options = set(inspect.signature(httpx.AsyncClient).parameters)
    assert set(ClientOptions.__annotations__) == options - {"app", "proxies", "transport"}


async def test_a_wrong_option_is_httpx_to_refuse() -> None:
    """Nothing is made of an option that httpx does not know."""
    with pytest.raises(TypeError, match="no_such_option"):
        create_client(no_such_option=1)  # type: ignore[call-arg]


async def test_instrument_twice(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """Tracing twice traces once, and the client is what comes back."""
    transport = kind.transport(lambda request: kind.library.Response(200))
    async with kind.client(transport=transport) as client:
        assert instrument(instrument(client, tracing=tracing)) is client
        await kind.call(client.get, "http://host/")
    recorder.one()


async def test_uninstrument(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """The client has the very transports it had, in the same places, mounted None included."""
    transport = kind.transport(lambda request: kind.library.Response(200))
    mounts = {"http://a": kind.transport(lambda request: None), "http://b": None}
    async with kind.client(transport=transport, mounts=mounts) as client:
        before, table = _transports(client), client._mounts
        instrument(client, tracing=tracing)
        assert all(
            now is not then for now, then in zip(_transports(client), before, strict=True) if then
        )
        assert uninstrument(uninstrument(client)) is client
        assert client._mounts is table
        assert all(now is then for now, then in zip(_transports(client), before, strict=True))
        await kind.call(client.get, "http://host/")
    assert recorder.started == []


async def test_a_tracing_transport_of_the_users(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """A tracing transport that was put there by hand is neither doubled nor taken away."""
    inner = kind.transport(lambda request: kind.library.Response(200))
    wrap = AsyncTracingTransport if kind.is_async else TracingTransport
    transport = wrap(inner, tracing=tracing)
    async with kind.client(transport=transport) as client:
        assert instrument(client)._transport is transport
        await kind.call(client.get, "http://host/")
        assert uninstrument(client)._transport is transport
    recorder.one()


async def test_the_transport_is_genuine(kind: Kind) -> None:
    """It is an instance of its library's base class, and answers for what it wraps."""
    inner = kind.transport(lambda request: kind.library.Response(200))
    inner.own = "thing"
    wrap = AsyncTracingTransport if kind.is_async else TracingTransport
    transport: Any = wrap(inner)
    name = "AsyncBaseTransport" if kind.is_async else "BaseTransport"
    assert isinstance(transport, (wrap, getattr(kind.library, name)))
    assert isinstance(transport, getattr(kind.library, name))
    assert isinstance(transport, wrap)
    assert type(wrap(inner)) is type(transport)
    assert transport.own == "thing"
    assert transport.wrapped is inner
    assert repr(transport) == f"{wrap.__name__}({inner!r})"
    with pytest.raises(AttributeError, match="nothing"):
        transport.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="wrapped"):
        type(transport).__new__(type(transport), inner).wrapped  # noqa: B018


async def test_a_subclass_of_the_users(tracing: Tracing, recorder: Recorder) -> None:
    """A class derived from ours is as genuine."""

    class Mine(AsyncTracingTransport):
        pass

    inner = httpx.MockTransport(lambda request: httpx.Response(200))
    async with httpx.AsyncClient(transport=Mine(inner, tracing=tracing)) as client:
        assert isinstance(client._transport, Mine)
        assert isinstance(client._transport, httpx.AsyncBaseTransport)
        await client.get("http://host/")
    recorder.one()


async def test_a_transport_by_behaviour_alone(tracing: Tracing, recorder: Recorder) -> None:
    """A transport that derives from nothing works as it does in a bare client."""

    class Duck:
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200)

        async def aclose(self) -> None:
            pass

    client = httpx.AsyncClient(transport=Duck())  # type: ignore[arg-type]
    await instrument(client, tracing=tracing).get("http://host/")
    await client.aclose()
    recorder.one()


async def test_a_copy_of_a_client(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """It shares the transports, as without us: traced once, and restored apart."""
    transport = kind.transport(lambda request: kind.library.Response(200))
    async with kind.client(transport=transport) as client:
        instrument(client, tracing=tracing)
        copied = copy.copy(client)
        await kind.call(instrument(copied).get, "http://host/")
        recorder.one()
        assert uninstrument(copied)._transport is transport
        await kind.call(client.get, "http://host/")
    assert len(recorder.spans) == 2


async def test_a_response_that_is_pickled(kind: Kind, server: Server, tracing: Tracing) -> None:
    """It and its request can be, whatever was noted of them."""
    async with kind.client(follow_redirects=True) as client:
        instrument(client, tracing=tracing)
        response = await kind.call(client.get, server.url("/redirect/404"))
    assert pickle.loads(pickle.dumps(response)).content == b"hello"
    again = pickle.loads(pickle.dumps(response.request))
    assert (again.url, again.headers) == (response.request.url, response.request.headers)


async def test_a_transport_shared_with_a_client_that_is_not_traced(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """The requests of the one are traced, and the other's are not."""
    transport = kind.transport(lambda request: kind.library.Response(200))
    async with (
        kind.client(transport=transport) as traced,
        kind.client(transport=transport) as plain,
    ):
        instrument(traced, tracing=tracing)
        await kind.call(plain.get, "http://plain/")
        assert recorder.started == []
        await kind.call(traced.get, "http://traced/")
    assert (recorder.one().attributes or {})["server.address"] == "traced"


async def test_event_hooks(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A client's own hooks see the caller's request, and what they add is sent."""
    sent: list[Any] = []
    seen: list[set[str]] = []

    def respond(request: Any) -> Any:
        sent.append(request.headers)
        return kind.library.Response(500)

    def on_request(request: Any) -> None:
        request.headers["x-hook"] = "1"

    def on_response(response: Any) -> None:
        seen.append(set(response.request.headers))
        response.raise_for_status()

    async def on_request_async(request: Any) -> None:
        on_request(request)

    async def on_response_async(response: Any) -> None:
        on_response(response)

    hooks = {
        "request": [on_request_async if kind.is_async else on_request],
        "response": [on_response_async if kind.is_async else on_response],
    }
    async with kind.client(transport=kind.transport(respond), event_hooks=hooks) as client:
        instrument(client, tracing=tracing)
        with pytest.raises(kind.library.HTTPStatusError):
            await kind.call(client.get, "http://host/")
    assert {"x-hook", "traceparent"} <= set(sent[0])
    assert "traceparent" not in seen[0]
    assert (recorder.one().attributes or {})["error.type"] == "500"


async def test_entering_and_closing_reach_the_wrapped(kind: Kind) -> None:
    """The wrapped transport is entered, left and closed as it would be alone."""
    calls: list[str] = []

    class Async(kind.library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def __aenter__(self) -> Any:
            calls.append("enter")
            return self

        async def __aexit__(self, *_: object) -> None:
            calls.append("exit")

        async def aclose(self) -> None:
            calls.append("close")

    class Sync(kind.library.BaseTransport):  # type: ignore[misc, name-defined]
        def __enter__(self) -> Any:
            calls.append("enter")
            return self

        def __exit__(self, *_: object) -> None:
            calls.append("exit")

        def close(self) -> None:
            calls.append("close")

    if kind.is_async:
        transport: Any = AsyncTracingTransport(Async())
        async with transport as entered:
            assert entered is transport
        await transport.aclose()
    else:
        sync_transport: Any = TracingTransport(Sync())
        with sync_transport as sync_entered:
            assert sync_entered is sync_transport
        sync_transport.close()
    assert calls == ["enter", "exit", "close"]


async def test_one_span_through_nested_transports(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """An attempt is one call of the client's transport, however many of ours it passes."""
    wrap = AsyncTracingTransport if kind.is_async else TracingTransport
    inner = wrap(kind.transport(lambda request: kind.library.Response(200)), tracing=tracing)

    class Retrying(kind.library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            await inner.handle_async_request(request)
            return await inner.handle_async_request(request)

    class RetryingSync(kind.library.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            inner.handle_request(request)
            return inner.handle_request(request)

    async with kind.client(transport=Retrying() if kind.is_async else RetryingSync()) as client:
        await kind.call(client.get, "http://host/")
        assert len(recorder.spans) == 2  # ours inside of a retrying transport counts its attempts
        recorder.clear()
        instrument(client, tracing=tracing)
        await kind.call(client.get, "http://host/")
    recorder.one()


async def test_the_span_is_current_inside_the_transport(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """What a transport does belongs to the attempt; afterwards the caller's span is current."""
    inside: list[Any] = []

    def respond(request: Any) -> Any:
        inside.append(get_current_span())
        return kind.library.Response(200)

    async with kind.client(transport=kind.transport(respond)) as client:
        instrument(client, tracing=tracing)
        before = get_current_span()
        await kind.call(client.get, "http://host/")
        assert get_current_span() is before
    assert inside == [recorder.one()]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [instrument, uninstrument])
def test_no_client(function: Any) -> None:
    """Something else than a client is refused with a remedy."""
    with pytest.raises(ConfigError, match="pass a client of httpx or httpx2"):
        function(object())
    with pytest.raises(ConfigError):
        function(httpx.Headers())


def test_transports_that_have_moved() -> None:
    """A library that keeps its transports elsewhere is told apart from a wrong argument."""
    client = httpx.Client()
    mounts = client._mounts
    del client._mounts
    with pytest.raises(
        AsyncTraceError, match=r"httpx\.Client keeps its transports elsewhere"
    ) as caught:
        instrument(client)
    assert "AsyncTracingTransport" in caught.value.hint
    assert not isinstance(client._transport, TracingTransport)
    client._mounts = mounts
    client.close()


async def test_where_the_transports_are(kind: Kind) -> None:
    """The private names that `instrument` relies on: notice when either library moves them."""
    transport = kind.http_transport()
    async with kind.client(transport=transport, mounts={"http://a": None}) as client:
        assert client._transport is transport
        assert list(client._mounts.values()) == [None]
        assert client._transport_for_url(kind.library.URL("http://b/")) is client._transport


def test_suppression_keys() -> None:
    """The keys looked up are those that OpenTelemetry's public function looks up."""
    from opentelemetry import context
    from opentelemetry.instrumentation import utils

    from asynctrace._http.suppression import is_suppressed

    assert not is_suppressed(context.get_current())
    for suppress in (utils.suppress_instrumentation, utils.suppress_http_instrumentation):
        with suppress():
            assert is_suppressed(context.get_current())
    assert is_suppressed(context.set_value("suppress_instrumentation", True))


# --- contrib's instrumentation at the same time --------------------------------------------------


@contextmanager
def _contrib(kind: Kind, tracing: Tracing) -> Iterator[None]:
    instrumentor: Any = (
        HTTPXClientInstrumentor() if kind.library is httpx else HTTPX2ClientInstrumentor()
    )
    instrumentor.instrument(tracer_provider=tracing.tracer_provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


async def test_with_contribs_instrumentor(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """contrib patches the transport's class, inside of ours: the attempt has one span, ours."""
    with _contrib(kind, tracing):
        async with kind.client() as client:
            instrument(client, tracing=tracing)
            await kind.call(client.get, server.url("/200"))
    scope = recorder.one().instrumentation_scope
    assert scope is not None
    assert scope.name == "asynctrace.httpx"
    [traceparent] = server.requests[0].header("traceparent")
    assert f"{recorder.one().context.span_id:016x}" in traceparent


async def test_inside_of_contribs_instrument_client(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """contrib patches the transport that is ours: the attempt has one span, contrib's."""
    async with kind.client() as client:
        instrument(client, tracing=tracing)
        instrumentor: Any = (
            HTTPXClientInstrumentor if kind.library is httpx else HTTPX2ClientInstrumentor
        )
        instrumentor.instrument_client(client, tracer_provider=tracing.tracer_provider)
        await kind.call(client.get, server.url("/200"))
        instrumentor.uninstrument_client(client)
    scope = recorder.one().instrumentation_scope
    assert scope is not None
    assert scope.name == "opentelemetry.instrumentation.httpx"


@pytest.mark.parametrize("is_async", [True, False])
async def test_around_contribs_transport(
    is_async: bool, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """contrib's transport, given to a client that is then traced: one span."""
    provider = tracing.tracer_provider
    if is_async:
        transport = AsyncOpenTelemetryTransport(httpx.AsyncHTTPTransport(), provider)
        async with httpx.AsyncClient(transport=transport) as client:
            await instrument(client, tracing=tracing).get(server.url("/200"))
    else:
        sync_transport = SyncOpenTelemetryTransport(httpx.HTTPTransport(), provider)
        sync_client = instrument(httpx.Client(transport=sync_transport), tracing=tracing)
        await asyncio.to_thread(sync_client.get, server.url("/200"))
        sync_client.close()
    recorder.one()


# --- imports -------------------------------------------------------------------------------------

_FRESH = """
import sys
import asynctrace.httpx
assert not {{"httpx", "httpx2"}} & sys.modules.keys(), "imported at once"
{then}
"""

_THEN = {
    "create_client imports httpx": """
client = asynctrace.httpx.create_client()
assert "httpx" in sys.modules and "httpx2" not in sys.modules
""",
    "instrument imports no other library": """
import httpx2
asynctrace.httpx.instrument(httpx2.Client())
assert "httpx" not in sys.modules
""",
    "a transport needs a library": """
from asynctrace.errors import ConfigError
try:
    asynctrace.httpx.AsyncTracingTransport(object())
except ConfigError as error:
    assert error.setting == "wrapped"
else:
    raise AssertionError
""",
    "the alias of httpx2": """
import httpx2
httpx2.alias_httpx()
client = asynctrace.httpx.create_client()
assert type(client) is httpx2.AsyncClient
assert isinstance(client._transport, httpx2.AsyncBaseTransport)
""",
}


@pytest.mark.may_block("starts a process")
@pytest.mark.parametrize("then", _THEN)
def test_imports(then: str) -> None:
    """Neither library is imported unless the user does, and then only that one."""
    program = _FRESH.format(then=_THEN[then])
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_public_names() -> None:
    """The package's root has the two that everybody needs."""
    assert asynctrace.create_client is create_client
    assert asynctrace.instrument is instrument


async def test_repr_of_attempts(tracing: Tracing) -> None:
    """It tells where the tracing comes from."""
    assert repr(Attempts(None, {}, is_async=True)) == "Attempts(whichever tracing runs)"
    assert repr(Attempts(tracing, {}, is_async=True)) == f"Attempts({tracing!r})"
