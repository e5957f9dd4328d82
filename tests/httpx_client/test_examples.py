"""The example of the clients does what it says."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import asynctrace
from examples import retrying_clients
from tests.httpx_client.harness import Connection, Recorder, Server


def _counts(spans: list[ReadableSpan]) -> list[object]:
    return [(span.attributes or {}).get("http.request.resend_count") for span in spans]


@pytest.mark.may_block("an SSL context reads certificates")
async def test_retrying_clients(
    server: Server, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of retrying count their attempts, from the second on."""
    answer = server._answer

    async def fail_twice(connection: Connection) -> None:
        if len(server.requests) <= 2:
            connection.path = "/503"
        await answer(connection)

    monkeypatch.setattr(server, "_answer", fail_twice)
    url = server.url("/200")
    async with asynctrace.init(exporter="none", span_processors=[recorder]):
        async with retrying_clients.retrying_client() as client:
            assert (await client.get(url)).status_code == 200
        assert _counts(recorder.spans) == [None, 1, 2]
        recorder.clear()
        server.requests.clear()
        async with asynctrace.create_client() as client:
            assert (await retrying_clients.get(client, url)).status_code == 200
        assert _counts(recorder.spans) == [None, 1, 2]
