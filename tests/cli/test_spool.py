"""`asynctrace spool`: what waits on disk, shown and sent by hand, to a real collector."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource

from asynctrace.cli.main import main
from asynctrace.export.contracts import Batch
from asynctrace.export.spool.format import HEADER, OVERHEAD
from asynctrace.export.spool.store import Store
from asynctrace.otlp.encode import SpanEncoder
from tests.support.collector import Answer, ScriptedCollector, partial_success, refusing_port

_encode = SpanEncoder()


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def collector() -> Iterator[ScriptedCollector]:
    with ScriptedCollector() as running:
        yield running


def request(*numbers: int, service: str = "shop") -> bytes:
    spans = [
        _encode.span(1, n, "", 0, 0x101, "s", 1, 10, 20, {}, 0, (), 0, (), 0, 0, None)
        for n in numbers
    ]
    items = [(None, span, None) for span in spans]
    return Batch(items, Resource({"service.name": service})).to_otlp()


def ids(*numbers: int) -> list[str]:
    return [f"{number:016x}" for number in numbers]


def fill(directory: Path, *numbers: int, exporter: str = "otlp", service: str = "shop") -> None:
    """One sealed segment with one record for each number."""
    store = Store(directory, exporter=exporter, max_bytes=2**20)
    for number in numbers:
        store.append(request(number, service=service), 1)
    store.seal()


def run(*arguments: str | Path) -> int:
    return main(["spool", *map(str, arguments)])


# ---- send


def test_what_waits_is_sent_and_deleted(
    tmp_path: Path, collector: ScriptedCollector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each record as one request, with the resource of the process that wrote it."""
    fill(tmp_path, 1, 2, service="shop")
    fill(tmp_path, 3, service="billing")
    assert run("send", tmp_path, "--endpoint", collector.url) == 0
    assert collector.span_ids == ids(1, 2, 3)
    services = [span.resource.attributes["service.name"] for span in collector.spans]
    assert services == ["shop", "shop", "billing"]
    assert capsys.readouterr().out == "sent 3 spans\n"
    assert list(tmp_path.iterdir()) == []
    assert run("send", tmp_path) == 0
    assert capsys.readouterr().out == "nothing waits\n"


def test_where_to_comes_from_the_environment(
    tmp_path: Path, collector: ScriptedCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same variables as for the service, headers included."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
    fill(tmp_path, 1)
    assert run("send", tmp_path) == 0
    (sent,) = collector.requests
    assert (sent.path, sent.headers["api-key"]) == ("/v1/traces", "secret")


def test_without_a_collector_everything_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the reason; nothing is lost by trying."""
    fill(tmp_path, 1, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with refusing_port() as port:
        assert run("send", tmp_path, "--endpoint", f"http://127.0.0.1:{port}") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    printed = capsys.readouterr()
    assert printed.out == "sent 0 spans\n"
    assert "unreachable" in printed.err


def test_what_had_arrived_is_not_sent_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A collector that goes away in the middle: the next call goes on with the rest."""
    fill(tmp_path, 1, 2, 3)
    with ScriptedCollector(Answer(), Answer(status=503)) as collector:
        assert run("send", tmp_path, "--endpoint", collector.url) == 1
        assert capsys.readouterr().out == "sent 1 spans\n"
        assert run("send", tmp_path, "--endpoint", collector.url) == 0
        assert collector.span_ids == ids(1, 2, 3)
    assert capsys.readouterr().out == "sent 2 spans\n"


def test_a_collector_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    """Retry-After is no failure."""
    fill(tmp_path, 1)
    busy = Answer(status=429, headers={"Retry-After": "0"})
    with ScriptedCollector(busy, busy) as collector:
        assert run("send", tmp_path, "--endpoint", collector.url) == 0
        assert collector.span_ids == ids(1)


@pytest.mark.parametrize("asked", ["3600"])
def test_but_not_for_ever(tmp_path: Path, asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond the time-out of an export it is told, and the spans stay."""
    fill(tmp_path, 1)
    with ScriptedCollector(Answer(status=429, headers={"Retry-After": asked})) as collector:
        assert run("send", tmp_path, "--endpoint", collector.url) == 1
    assert "http_429" in capsys.readouterr().err


def test_a_hanging_collector_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the configured time-out."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "50")
    fill(tmp_path, 1)
    with ScriptedCollector(then=Answer(silent=True)) as collector:
        assert run("send", tmp_path, "--endpoint", collector.url) == 1
    assert "timeout" in capsys.readouterr().err


def test_what_is_refused_for_ever_is_in_nobodys_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted, deleted, and what comes after it is sent; rejected spans count as refused, too."""
    fill(tmp_path, 1, 2, 3)
    with ScriptedCollector(Answer(status=400), partial_success(1, "no")) as collector:
        assert run("send", tmp_path, "--endpoint", collector.url) == 0
    assert capsys.readouterr().out == "sent 1 spans; 2 were refused\n"
    assert list(tmp_path.iterdir()) == []


def test_wrong_credentials_lose_nothing(tmp_path: Path) -> None:
    """It is the sender that is wrong, not the spans."""
    fill(tmp_path, 1)
    with ScriptedCollector(Answer(status=401)) as collector:
        assert run("send", tmp_path, "--endpoint", collector.url) == 1
        assert run("send", tmp_path, "--endpoint", collector.url) == 0
        assert collector.span_ids == ids(1)


def test_damaged_records_are_skipped_and_told(
    tmp_path: Path, collector: ScriptedCollector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever surrounds them is sent."""
    fill(tmp_path, 1, 2, 3)
    (segment,) = tmp_path.iterdir()
    data = bytearray(segment.read_bytes())
    data[len(HEADER) + len(request(1)) + 2 * OVERHEAD + 3] ^= 1
    segment.write_bytes(data)
    assert run("send", tmp_path, "--endpoint", collector.url) == 0
    assert collector.span_ids == ids(1, 3)
    assert capsys.readouterr().out == "sent 2 spans; 1 damaged records were skipped\n"


def test_what_a_running_process_writes_is_its_own(
    tmp_path: Path, collector: ScriptedCollector, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is left to it, and told."""
    store = Store(tmp_path, exporter="otlp", max_bytes=2**20)
    store.append(request(1), 1)
    assert run("send", tmp_path, "--endpoint", collector.url) == 0
    assert collector.requests == []
    told = "sent 0 spans; 1 segments are in use by running processes\n"
    assert capsys.readouterr().out == told
    store.seal()


def test_exporters_are_not_mixed_up(
    tmp_path: Path, collector: ScriptedCollector, capsys: pytest.CaptureFixture[str]
) -> None:
    """What waits for two destinations is not sent to one of them by guess."""
    fill(tmp_path, 1, exporter="otlp")
    fill(tmp_path, 2, exporter="otlp#2")
    assert run("send", tmp_path, "--endpoint", collector.url) == 2
    assert "otlp, otlp#2" in capsys.readouterr().err
    assert run("send", tmp_path, "--endpoint", collector.url, "--exporter", "otlp#2") == 0
    assert collector.span_ids == ids(2)


@pytest.mark.parametrize("endpoint", ["nonsense://x", "http://"])
def test_a_useless_endpoint_is_explained(
    tmp_path: Path, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the spans stay."""
    fill(tmp_path, 1)
    assert run("send", tmp_path, "--endpoint", endpoint) == 2
    assert "endpoint" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


# ---- show


def test_what_waits_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oldest first, with its process, exporter, size, spans and state."""
    fill(tmp_path, 1, 2)
    (whole,) = tmp_path.iterdir()
    with whole.open("ab") as stream:
        stream.write(b"torn")
    size = whole.stat().st_size
    store = Store(tmp_path, exporter="other", max_bytes=2**20)
    store.append(request(3), 1)
    assert run("show", tmp_path) == 0
    _, waiting, written, total = capsys.readouterr().out.splitlines()
    assert waiting.split()[2:] == [
        str(os.getpid()),
        "otlp",
        str(size),
        "2",
        "waits,",
        "1",
        "damaged",
    ]
    assert written.split()[3] == "other"
    assert written.endswith("in use")
    assert total.startswith("2 segments, ")
    assert total.endswith(" 3 spans, 1 damaged records")
    assert run("show", tmp_path, "--exporter", "other") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    store.seal()


def test_an_unreadable_segment_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told, and the listing goes on."""
    fill(tmp_path, 1)
    (segment,) = tmp_path.iterdir()
    (tmp_path / segment.name.replace("otlp", "dir")).mkdir()
    assert run("show", tmp_path) == 0
    printed = capsys.readouterr()
    assert "directory" in printed.err
    assert " 1 spans" in printed.out


@pytest.mark.parametrize("action", ["show", "send"])
def test_a_directory_that_is_none_is_told(
    tmp_path: Path, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, or a file: exit code 2 and one line."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing", tmp_path / "file"):
        assert run(action, path) == 2
        assert capsys.readouterr().err.startswith("asynctrace spool: ")


def test_an_action_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """Misuse is explained by argparse."""
    with pytest.raises(SystemExit) as ended:
        main(["spool"])
    assert ended.value.code == 2
    assert "ACTION" in capsys.readouterr().err
