"""instrument_all(): every client of the process, whenever it was made, and none afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from asynctrace.errors import ConfigError, LifecycleError
from asynctrace.httpx import (
    AsyncTracingTransport,
    TracingTransport,
    _client,
    instrument,
    instrument_all,
    uninstrument_all,
)
from asynctrace.initialization import init
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Kind, Recorder, Server

CLASSES = [httpx.AsyncClient, httpx.Client, httpx2.AsyncClient, httpx2.Client]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """What a test changed is what it was."""
    before = [kind.send for kind in CLASSES], list(sys.meta_path)
    yield
    uninstrument_all()
    assert ([kind.send for kind in CLASSES], sys.meta_path) == before


def _answering(kind: Kind) -> Any:
    return kind.transport(lambda request: kind.library.Response(200, content=b"hello"))


async def test_clients_made_before_and_after(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """Both are traced, each request once."""
    async with kind.client(transport=_answering(kind)) as before:
        instrument_all(tracing=tracing)
        async with kind.client(transport=_answering(kind)) as after:
            await kind.call(before.get, "http://host/")
            recorder.one()
            recorder.clear()
            await kind.call(after.get, "http://host/")
            recorder.one()


async def test_uninstrument_all(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """Classes and clients are exactly what they were."""
    transport, mount = _answering(kind), _answering(kind)
    async with kind.client(transport=transport, mounts={"http://a": mount}) as client:
        instrument_all(tracing=tracing)
        await kind.call(client.get, "http://host/")
        assert isinstance(client._transport, (AsyncTracingTransport, TracingTransport))
        uninstrument_all()
        uninstrument_all()
        assert client._transport is transport
        assert list(client._mounts.values()) == [mount]
        await kind.call(client.get, "http://host/")
    recorder.one()


async def test_a_client_that_is_traced_already(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """Its request has one span still, and it stays traced afterwards."""
    async with kind.client(transport=_answering(kind)) as client:
        instrument(client, tracing=tracing)
        instrument_all(tracing=tracing)
        await kind.call(client.get, "http://host/")
        recorder.one()
        uninstrument_all()
        recorder.clear()
        await kind.call(client.get, "http://host/")
        recorder.one()


async def test_top_level_functions(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """`httpx.get` and `httpx.stream` are traced as well."""
    instrument_all(tracing=tracing)
    await asyncio.to_thread(kind.library.get, server.url("/200"))
    recorder.one()
    recorder.clear()

    def stream() -> None:
        with kind.library.stream("GET", server.url("/200")) as response:
            response.read()

    await asyncio.to_thread(stream)
    recorder.one()


async def test_a_subclass(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A class derived from the client's, with a `send` of its own, is traced."""
    base = kind.library.AsyncClient if kind.is_async else kind.library.Client

    class Mine(base):  # type: ignore[misc, valid-type]
        def send(self, request: Any, **options: Any) -> Any:
            request.headers["x-mine"] = "1"
            return super().send(request, **options)

    instrument_all(tracing=tracing)
    client = Mine(transport=_answering(kind))
    await kind.call(client.get, "http://host/")
    await kind.call(client.aclose if kind.is_async else client.close)
    recorder.one()


async def test_a_shared_transport(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """A transport that several clients share is wrapped for each, and traced once for each."""
    transport = _answering(kind)
    instrument_all(tracing=tracing)
    async with (
        kind.client(transport=transport) as one,
        kind.client(transport=transport) as another,
    ):
        await kind.call(one.get, "http://host/")
        await kind.call(another.get, "http://host/")
    assert len(recorder.spans) == 2


async def test_a_client_that_is_equal_to_others(
    kind: Kind, tracing: Tracing, recorder: Recorder
) -> None:
    """Clients are told apart by what they are, whatever they say of themselves."""
    base = kind.library.AsyncClient if kind.is_async else kind.library.Client

    class Equal(base):  # type: ignore[misc, valid-type]
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    instrument_all(tracing=tracing)
    for count in (1, 2):
        client = Equal(transport=_answering(kind))
        await kind.call(client.get, "http://host/")
        assert len(recorder.spans) == count
        await kind.call(client.aclose if kind.is_async else client.close)


@pytest.mark.may_block("a synchronous client, and threads that wait for each other")
def test_a_first_call_in_two_threads(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is traced though another thread is about to trace the very client."""
    entered, go_on = threading.Event(), threading.Event()
    install = _client.install

    def slow_install(*args: Any) -> None:
        if not entered.is_set():
            entered.set()
            assert go_on.wait(10)
        install(*args)

    monkeypatch.setattr(_client, "install", slow_install)
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with asyncio.Runner() as runner, httpx.Client(transport=transport) as client:
        context = init(set_global=False, exporter="none", span_processors=[recorder])
        instrument_all(tracing=runner.run(context.__aenter__()))
        first = threading.Thread(target=client.get, args=("http://host/",))
        first.start()
        assert entered.wait(10)
        client.get("http://host/")
        traced = len(recorder.spans)
        go_on.set()
        first.join()
        runner.run(context.__aexit__(None, None, None))
        assert (traced, len(recorder.spans)) == (1, 2)
        uninstrument_all()
        assert client._transport is transport


@pytest.mark.may_block("contrib reads the metadata of packages")
@pytest.mark.parametrize("contrib", ["none", "before", "after"])
async def test_every_way_at_once(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder, contrib: str
) -> None:
    """All ways of tracing on one client, and contrib among them: one span, one header."""
    from opentelemetry.instrumentation import httpx as contribs

    name = "HTTPXClientInstrumentor" if kind.library is httpx else "HTTPX2ClientInstrumentor"
    instrumentor = getattr(contribs, name)()
    wrap = AsyncTracingTransport if kind.is_async else TracingTransport
    try:
        if contrib == "before":
            instrumentor.instrument(tracer_provider=tracing.tracer_provider)
        instrument_all(tracing=tracing)
        transport: Any = wrap(kind.http_transport(), tracing=tracing)
        async with kind.client(transport=transport) as client:
            instrument(client, tracing=tracing)
            if contrib == "after":
                instrumentor.instrument(tracer_provider=tracing.tracer_provider)
            await kind.call(client.get, server.url("/200"))
    finally:
        if contrib != "none":
            instrumentor.uninstrument()
    [traceparent] = server.requests[0].header("traceparent")
    assert f"{recorder.one().context.span_id:016x}" in traceparent


async def test_options(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """The options hold for every client."""
    instrument_all(tracing=tracing, skip=["skipped"])
    async with kind.client(transport=_answering(kind)) as client:
        await kind.call(client.get, "http://skipped/")
        assert recorder.started == []
        await kind.call(client.get, "http://host/")
    recorder.one()


def test_twice() -> None:
    """The same again is nothing new; other options are an error that says what to do."""
    instrument_all(skip=["a"])
    send = httpx.Client.send
    instrument_all(skip=["a"])
    assert httpx.Client.send is send
    with pytest.raises(LifecycleError, match="with other options") as caught:
        instrument_all()
    assert "uninstrument_all" in caught.value.hint


def test_wrong_options() -> None:
    """Options are checked at once, and nothing is changed when one is wrong."""
    before = httpx.Client.send
    with pytest.raises(ConfigError):
        instrument_all(end_span_at="never")  # type: ignore[arg-type]
    assert httpx.Client.send is before


def test_a_send_that_somebody_else_wrapped() -> None:
    """What was patched over ours stays, and ours does nothing any more."""
    instrument_all()
    ours = httpx.Client.send

    def theirs(self: Any, *args: Any, **options: Any) -> Any:
        return ours(self, *args, **options)

    httpx.Client.send = theirs  # type: ignore[method-assign]
    try:
        uninstrument_all()
        assert httpx.Client.send is theirs
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        with httpx.Client(transport=transport) as client:
            client.get("http://host/")
            assert client._transport is transport
    finally:
        httpx.Client.send = ours.__wrapped__  # type: ignore[attr-defined, method-assign]


@pytest.mark.may_block("contrib reads the metadata of packages")
async def test_contribs_engine(
    kind: Kind, server: Server, tracing: Tracing, recorder: Recorder
) -> None:
    """contrib traces all clients, into our pipeline, and is taken away again."""
    instrument_all(tracing=tracing, engine="contrib")
    async with kind.client() as client:
        await kind.call(client.get, server.url("/200"))
    scope = recorder.one().instrumentation_scope
    assert scope is not None
    assert scope.name == "opentelemetry.instrumentation.httpx"
    uninstrument_all()
    recorder.clear()
    async with kind.client() as client:
        await kind.call(client.get, server.url("/200"))
    assert recorder.started == []


_LATER = """
import asyncio, sys
import asynctrace.httpx
from asynctrace.testing import InMemoryExporter
from asynctrace import init

asynctrace.httpx.instrument_all()
assert not {{"httpx", "httpx2"}} & sys.modules.keys(), "imported by us"

async def main():
    exporter = InMemoryExporter()
    async with init(exporter=exporter) as tracing:
        {then}
        transport = library.MockTransport(lambda request: library.Response(200))
        async with library.AsyncClient(transport=transport) as client:
            await client.get("http://host/")
        with library.Client(transport=transport) as client:
            client.get("http://host/")
        await tracing.force_flush()
    assert len(exporter.spans) == 2, exporter.spans
    assert type(library.__spec__.loader).__module__ != "asynctrace.httpx._imports"
    assert library.__loader__ is library.__spec__.loader

asyncio.run(main())
"""

_IMPORTS = {
    "httpx": "import httpx as library",
    "httpx2": "import httpx2 as library",
    "alias": "import httpx2; httpx2.alias_httpx(); import httpx as library",
    "both": "import httpx; import httpx2 as library",
}


@pytest.mark.may_block("starts a process")
@pytest.mark.parametrize("then", _IMPORTS)
def test_a_library_imported_later(then: str) -> None:
    """It is traced from its import on, and its module looks like any other."""
    program = _LATER.format(then=_IMPORTS[then])
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


_INSIDE = """
import sys
from importlib.abc import MetaPathFinder
import asynctrace.httpx

class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "httpx":
            import httpx2

asynctrace.httpx.instrument_all()
sys.meta_path.insert(1, Finder())
import httpx, httpx2
for kind in (httpx.Client, httpx.AsyncClient, httpx2.Client, httpx2.AsyncClient):
    assert hasattr(kind.send, "__wrapped__"), kind
"""


@pytest.mark.may_block("starts a process")
def test_libraries_imported_at_once() -> None:
    """One that is imported while the other is being looked for is met as well."""
    subprocess.run([sys.executable, "-c", _INSIDE], check=True, timeout=30)


@pytest.mark.may_block("starts a process")
def test_a_library_unlike_the_others(tmp_path: Path) -> None:
    """An import never fails because of us; that its clients are not traced is logged."""
    (tmp_path / "httpx2.py").write_text("answer = 42\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import asynctrace.httpx\n"
        "asynctrace.httpx.instrument_all(); import httpx2; print(httpx2.answer)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "42\n"
    assert done.stderr.startswith("the clients of httpx2 are not traced: AttributeError(")


@pytest.mark.may_block("writes a log line")
def test_a_client_unlike_the_others(
    tracing: Tracing, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot be traced works all the same, and this is said once."""

    class Client(httpx.Client):
        def _transport_for_url(self, url: httpx.URL) -> httpx.BaseTransport:
            return httpx.MockTransport(lambda request: httpx.Response(200))

    instrument_all(tracing=tracing)
    client = Client()
    mounts = client.__dict__.pop("_mounts")
    assert client.get("http://host/").status_code == 200
    assert client.get("http://host/").status_code == 200
    client._mounts = mounts
    client.close()
    assert recorder.started == []
    [record] = caplog.records
    assert "keeps its transports elsewhere" in record.getMessage()


async def test_logical_spans(kind: Kind, tracing: Tracing, recorder: Recorder) -> None:
    """Every call of every client is in one, and in one alone."""
    instrument_all(tracing=tracing, logical_span=True)
    async with kind.client(transport=_answering(kind)) as client:
        await kind.call(client.get, "http://host/")
        assert [span.name for span in recorder.spans] == ["GET", "GET request"]
        recorder.clear()
        instrument(client, tracing=tracing, logical_span=True)
        await kind.call(client.get, "http://host/")
        assert [span.name for span in recorder.spans] == ["GET", "GET request"]


def test_a_library_that_is_not_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """When one cannot be traced none is, and nothing is left half done."""
    monkeypatch.setitem(sys.modules, "httpx2", sys)
    before = httpx.Client.send, list(sys.meta_path)
    with pytest.raises(AttributeError):
        instrument_all()
    assert (httpx.Client.send, sys.meta_path) == before
    uninstrument_all()


def test_a_library_that_cannot_be_found() -> None:
    """What is not installed is not found with us, either."""
    import importlib.util

    instrument_all()
    finder: Any = sys.meta_path[0]
    assert finder.find_spec("nothing", None) is None
    finder._asking.add("httpx")
    assert finder.find_spec("httpx", None) is None
    finder._asking.clear()
    spec = importlib.util.find_spec("httpx")
    assert spec is not None
