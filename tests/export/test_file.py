"""OTLP as lines of JSON in a file."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

import asynctrace
from asynctrace.export.contracts import Batch, Delivered, Undelivered
from asynctrace.export.file import OtlpFileExporter
from asynctrace.otlp.json import decode_json
from tests.support.batches import batch, span_ids


def soon() -> float:
    return time.monotonic() + 5


def read_ids(path: Path) -> list[str]:
    """The spans of a file, read as a collector would."""
    return [span.span_id for line in path.read_bytes().splitlines() for span in decode_json(line)]


async def test_each_batch_is_a_line_that_a_collector_can_read(tmp_path: Path) -> None:
    """Spans, resource and scope arrive; a second start appends."""
    path = tmp_path / "new" / "directory" / "spans.jsonl"
    for name in ("first", "second"):
        exporter = OtlpFileExporter(path)
        async with asynctrace.init(
            exporter=exporter, service_name="shop", set_global=False
        ) as tracing:
            with tracing.get_tracer("test").start_as_current_span(name):
                pass
        figures = tracing.statistics().exporters["file"]
        assert figures.exported == 1
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("first", "second"), strict=True):
        json.loads(line)
        (span,) = decode_json(line.encode())
        assert span.name == name
        assert span.scope.name == "test"
        assert span.resource.attributes["service.name"] == "shop"


async def test_the_file_may_be_rotated_at_any_time(tmp_path: Path) -> None:
    """What comes after goes to a new file under the old name."""
    path = tmp_path / "spans.jsonl"
    exporter = OtlpFileExporter(path)
    old, new = batch(2), batch(1)
    assert await exporter.export(old, soon()) == Delivered()
    path.rename(tmp_path / "spans.1")
    assert await exporter.export(new, soon()) == Delivered()
    assert read_ids(tmp_path / "spans.1") == span_ids(old)
    assert read_ids(path) == span_ids(new)


def test_directories_that_are_missing_are_made(tmp_path: Path) -> None:
    """Also while the process exits."""
    path, sent = tmp_path / "new" / "spans.jsonl", batch(2)
    assert OtlpFileExporter(path).export_at_exit(sent, soon()) == Delivered()
    assert read_ids(path) == span_ids(sent)


def test_a_line_that_was_torn_stays_alone(tmp_path: Path) -> None:
    """A writer that was killed in the middle spoils its own line and not the next."""
    path = tmp_path / "spans.jsonl"
    path.write_text('{"resourceSpans": [')
    sent = batch(3)
    assert OtlpFileExporter(path).export_at_exit(sent, soon()) == Delivered()
    torn, whole = path.read_bytes().splitlines()
    assert torn == b'{"resourceSpans": ['
    assert [span.span_id for span in decode_json(whole)] == span_ids(sent)


def test_writers_may_share_a_file(tmp_path: Path) -> None:
    """Lines are whole, whoever wrote them."""
    path = tmp_path / "spans.jsonl"
    sent = [[batch(2, size=5000) for _ in range(20)] for _ in range(4)]

    def write(batches: list[Batch]) -> None:
        exporter = OtlpFileExporter(path)
        for one in batches:
            assert exporter.export_at_exit(one, soon()) == Delivered()

    writers = [threading.Thread(target=write, args=(batches,)) for batches in sent]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    expected = [span_id for batches in sent for one in batches for span_id in span_ids(one)]
    assert sorted(read_ids(path)) == sorted(expected)


async def test_a_path_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    """It is somebody's to mend; the message says what it is."""
    outcome = await OtlpFileExporter(tmp_path).export(batch(), soon())
    assert isinstance(outcome, Undelivered)
    assert outcome.reason == "unwritable"
    assert outcome.retryable
    assert str(tmp_path) in outcome.message


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half a line is not delivered, and the next one does not continue it."""
    path = tmp_path / "spans.jsonl"
    exporter = OtlpFileExporter(path)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        outcome = exporter.export_at_exit(batch(), soon())
    assert isinstance(outcome, Undelivered)
    assert "10 of" in outcome.message
    sent = batch()
    assert exporter.export_at_exit(sent, soon()) == Delivered()
    assert [span.span_id for span in decode_json(path.read_bytes().splitlines()[1])] == span_ids(
        sent
    )


def test_a_pipe_is_a_file_too(tmp_path: Path) -> None:
    """Whoever reads it gets the lines as they come."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sent = batch()
    assert OtlpFileExporter(path).export_at_exit(sent, soon()) == Delivered()
    line = os.read(reader, 65536)
    os.close(reader)
    assert [span.span_id for span in decode_json(line)] == span_ids(sent)


def test_the_repr_tells_the_file(tmp_path: Path) -> None:
    """Absolute, because the working directory may change."""
    shown = repr(OtlpFileExporter(tmp_path / "spans.jsonl"))
    assert shown == f"<OtlpFileExporter {str(tmp_path / 'spans.jsonl')!r}>"
