"""Redirects of aiohttp's client: what each hop is told, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry import baggage, context

from asynctrace.aiohttp import client_session
from asynctrace.tracing import Tracing
from tests.httpx_client.harness import Recorder, Server, until

COUNT = "http.request.resend_count"
REASON = "asynctrace.cancellation.reason"
CONTEXT = {"traceparent", "tracestate", "baggage"}


class Chain:
    """A server that sends a request on, from host to host, and keeps the headers of each."""

    def __init__(self, *hosts: str) -> None:
        self.sent: list[set[str]] = []
        self._hosts = hosts
        app = web.Application()
        app.router.add_get("/{hop}", self._answer)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def url(self, hop: int = 0) -> str:
        return f"http://{self._hosts[hop]}:{self._server.port}/{hop}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.sent.append({name.lower() for name in request.headers})
        following = int(request.match_info["hop"]) + 1
        if following == len(self._hosts):
            return web.Response(text="hello")
        return web.Response(status=302, headers={"location": self.url(following)})


def _counts(recorder: Recorder) -> list[object]:
    return [(span.attributes or {}).get(COUNT) for span in recorder.spans]


async def _get(session: aiohttp.ClientSession, url: str, **options: Any) -> None:
    async with session.get(url, **options) as response:
        await response.read()


@pytest.mark.parametrize(
    "targets", [["127.0.0.1"], lambda request: request.url.host == "127.0.0.1"]
)
async def test_context_does_not_follow_elsewhere(
    tracing: Tracing, recorder: Recorder, targets: Any
) -> None:
    """What went to one host goes to the next only if it may: aiohttp keeps the headers."""
    token = context.attach(baggage.set_baggage("who", "me"))
    try:
        async with (
            Chain("127.0.0.1", "localhost", "127.0.0.1") as chain,
            client_session(tracing=tracing, propagate_to=targets) as session,
        ):
            await _get(session, chain.url())
    finally:
        context.detach(token)
    assert [headers & CONTEXT for headers in chain.sent] == [
        {"traceparent", "baggage"},
        set(),
        {"traceparent", "baggage"},
    ]
    assert _counts(recorder) == [None, 1, 2]


@pytest.mark.parametrize(
    ("hosts", "counts"),
    [
        (("localhost", "127.0.0.1"), [1]),
        (("127.0.0.1", "localhost"), [None]),
        (("127.0.0.1", "localhost", "127.0.0.1"), [None, 2]),
        (("localhost", "localhost", "127.0.0.1"), [2]),
    ],
)
async def test_a_hop_that_is_skipped(
    tracing: Tracing, recorder: Recorder, hosts: tuple[str, ...], counts: list[object]
) -> None:
    """It has no span and no header; those before and after it have theirs."""
    async with (
        Chain(*hosts) as chain,
        client_session(tracing=tracing, skip=["localhost"]) as session,
    ):
        await _get(session, chain.url())
    assert _counts(recorder) == counts
    assert [bool(headers & CONTEXT) for headers in chain.sent] == [
        host != "localhost" for host in hosts
    ]
    assert tracing.open_spans() == ()


async def test_the_callers_own_context_follows(tracing: Tracing) -> None:
    """What the caller has put into the headers is the caller's to send, to whomever."""
    theirs = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "baggage": "x=y"}
    async with (
        Chain("127.0.0.1", "localhost") as chain,
        client_session(tracing=tracing) as session,
    ):
        await _get(session, chain.url(), headers=theirs)
    assert [headers & CONTEXT for headers in chain.sent] == [set(theirs)] * 2


@pytest.fixture
def send_to(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the server answer with a redirect that has these headers."""

    def answer_with(headers: str) -> None:
        async def answer(connection: Any) -> None:
            await connection.send(f"HTTP/1.1 302 F\r\n{headers}Content-Length: 0\r\n\r\n".encode())

        monkeypatch.setattr(server, "_answer", answer)

    return answer_with


async def test_a_redirect_to_nowhere(
    server: Server, tracing: Tracing, recorder: Recorder, send_to: Callable[[str], None]
) -> None:
    """Without a location it is the answer, and its attempt the only one."""
    send_to("")
    async with client_session(tracing=tracing) as session:
        await _get(session, server.url("/"))
    attributes = recorder.one().attributes or {}
    assert attributes["http.response.status_code"] == 302
    assert attributes["http.response.body.size"] == 0
    assert COUNT not in attributes


async def test_a_location_that_is_no_url(
    server: Server, tracing: Tracing, recorder: Recorder, send_to: Callable[[str], None]
) -> None:
    """The redirect was answered; what the server has got wrong is no fault of ours."""
    send_to("Location: http://[::1\r\n")
    async with client_session(tracing=tracing) as session:
        with pytest.raises(aiohttp.InvalidUrlRedirectClientError):
            await _get(session, server.url("/"))
    assert (recorder.one().attributes or {})["http.response.status_code"] == 302
    assert tracing.statistics().faults == {}


@pytest.mark.parametrize("path", ["/200", "/redirect/200"])
async def test_cancelled_at_every_step(
    server: Server, tracing: Tracing, recorder: Recorder, path: str
) -> None:
    """Wherever in its life a request is cancelled, all spans end, and the last one says so."""
    async with client_session(tracing=tracing) as session:
        for steps in range(60):
            recorder.clear()
            task = asyncio.create_task(_get(session, server.url(path)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            [outcome] = await asyncio.gather(task, return_exceptions=True)
            await until(lambda: len(recorder.spans) == len(recorder.started))
            if recorder.spans:
                reason = (recorder.spans[-1].attributes or {}).get(REASON)
                assert reason == (None if outcome is None else "cancelled")
    assert tracing.open_spans() == ()
