"""Spans on a terminal and in a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from io import StringIO
from typing import TextIO

import pytest

import asynctrace
from asynctrace.export.console import ConsoleExporter, trees
from asynctrace.export.contracts import Batch, Delivered, Undelivered
from asynctrace.export.writing import WritingExporter
from asynctrace.otlp.records import ResourceRecord, SpanRecord
from tests.support.batches import batch
from tests.support.programs import LIBRARY, run_program

PROGRAM = """
    import asyncio, asynctrace

    async def main():
        async with asynctrace.init(exporter="console", service_name="shop"):
            with asynctrace.span("order"):
                with asynctrace.span("pay"):
                    pass

    asyncio.run(main())
"""


class Terminal(StringIO):
    """A terminal in memory that tells neither its width nor, perhaps, many characters."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


async def written_to(stream: TextIO) -> None:
    async with asynctrace.init(
        exporter=ConsoleExporter(stream), service_name="shop", set_global=False
    ) as tracing:
        tracer = tracing.get_tracer("test")
        with tracer.start_as_current_span("order"), tracer.start_as_current_span("pay"):
            pass
        with tracer.start_as_current_span("other"):
            pass


async def test_a_terminal_gets_a_tree_for_each_trace() -> None:
    """Children stand below their parents, with the service's name; an empty line after each."""
    terminal = Terminal()
    await written_to(terminal)
    first, second = terminal.getvalue().strip().split("\n\n")
    heading, order, pay = first.splitlines()
    assert heading.startswith("trace ")
    assert "2 spans" in heading
    assert order.startswith("shop order")
    assert pay.startswith("└─ shop pay")
    assert "shop other" in second


async def test_a_poor_terminal_gets_what_it_can_show() -> None:
    """Where the encoding lacks the lines of a tree, marks stand for them and nothing is lost."""
    terminal = Terminal("ascii")
    await written_to(terminal)
    assert terminal.getvalue().isascii()
    assert "shop pay" in terminal.getvalue()


def test_a_terminal_gets_its_trees_at_the_exit_as_well() -> None:
    """Written by the exiting thread itself."""
    terminal = Terminal()
    assert ConsoleExporter(terminal).export_at_exit(batch(2), 0.0) == Delivered()
    assert terminal.getvalue().count("unknown_service work") == 2


async def test_anything_else_gets_one_line_of_json_for_each_span() -> None:
    """Programs read it line by line."""
    pipe = StringIO()
    await written_to(pipe)
    lines = [json.loads(line) for line in pipe.getvalue().splitlines()]
    assert [line["name"] for line in lines] == ["pay", "order", "other"]
    assert lines[0]["parent_id"] == lines[1]["context"]["span_id"]


def test_a_parent_elsewhere_is_not_called_missing() -> None:
    """It runs still, or in another process: that is usual here."""
    resource = ResourceRecord(attributes={"service.name": "shop"})
    span = SpanRecord(
        trace_id="1" * 32, span_id="2" * 16, parent_span_id="3" * 16, name="GET", resource=resource
    )
    assert "shop GET" in trees([span])
    assert "missing" not in trees([span])


def test_a_real_terminal_is_told_from_a_pipe() -> None:
    """The same program draws on one and writes JSON into the other."""
    piped = run_program(PROGRAM)
    assert [json.loads(line)["name"] for line in piped.out.splitlines()] == ["pay", "order"]
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    with subprocess.Popen(command, stdout=theirs, cwd=LIBRARY) as program:
        os.close(theirs)
        shown = _read_all(ours)
    os.close(ours)
    assert program.returncode == 0
    assert "└─ shop pay" in shown


def _read_all(descriptor: int) -> str:
    """What a terminal was sent until its other side is closed, which is an error on Linux."""
    chunks = []
    with suppress(OSError):
        while chunk := os.read(descriptor, 4096):
            chunks.append(chunk)
    return b"".join(chunks).decode()


def test_a_process_without_standard_output_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised, and the spans count as not delivered."""
    monkeypatch.setattr(sys, "stdout", None)
    outcome = ConsoleExporter().export_at_exit(batch(), time.monotonic() + 1)
    assert isinstance(outcome, Undelivered)
    assert "no standard output" in outcome.message


# ---- what writes, whatever it writes to


class Slow(WritingExporter):
    """Takes as long as it is held, then fails if it is told to."""

    def __init__(self) -> None:
        super().__init__(name="slow")
        self.go_on = threading.Event()
        self.error: Exception | None = None
        self.written: list[Batch] = []

    def _write(self, batch: Batch) -> None:
        self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        self.written.append(batch)


async def cut_off(exporter: Slow, sent: Batch) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await exporter.export(sent, 0.0)


async def ended(exporter: Slow) -> None:
    exporter.go_on.set()
    async with asyncio.timeout(5):
        while repr(exporter) != "<Slow>":
            await asyncio.sleep(0.001)


async def test_while_a_write_hangs_no_other_begins() -> None:
    """Also at the exit of the process, where nobody could cut it."""
    exporter = Slow()
    await cut_off(exporter, batch())
    assert repr(exporter) == "<Slow busy>"
    busy = await exporter.export(batch(), 0.0)
    assert isinstance(busy, Undelivered)
    assert busy.retryable
    assert isinstance(exporter.export_at_exit(batch(), 0.0), Undelivered)
    await ended(exporter)
    assert await exporter.export(batch(), 0.0) == Delivered()
    assert len(exporter.written) == 2


async def test_a_write_that_was_late_is_not_done_twice() -> None:
    """The batch was given up at its deadline and comes again: it is there already."""
    exporter, sent = Slow(), batch()
    await cut_off(exporter, sent)
    await ended(exporter)
    assert await exporter.export(sent, 0.0) == Delivered()
    assert exporter.written == [sent]
    assert await exporter.export(sent, 0.0) == Delivered()
    assert exporter.written == [sent, sent]


async def test_a_write_that_was_late_and_failed_is_done_again() -> None:
    """Nothing came of the first."""
    exporter, sent = Slow(), batch()
    exporter.error = OSError("full")
    await cut_off(exporter, sent)
    await ended(exporter)
    exporter.error = None
    assert await exporter.export(sent, 0.0) == Delivered()
    assert exporter.written == [sent]


@pytest.mark.parametrize(
    ("error", "retryable"), [(OSError("full"), True), (ValueError("closed"), False)]
)
async def test_what_cannot_be_written_is_tried_again_when_that_can_help(
    error: Exception, retryable: bool
) -> None:
    """A disk may get room; a stream that is closed stays so."""
    exporter = Slow()
    exporter.go_on.set()
    exporter.error = error
    outcome = await exporter.export(batch(), 0.0)
    assert isinstance(outcome, Undelivered)
    assert outcome.retryable is retryable
    assert str(error) in outcome.message


async def test_a_forked_child_does_not_wait_for_the_parents_thread() -> None:
    """The thread that writes is not there any more."""
    exporter = Slow()
    await cut_off(exporter, batch())
    exporter.after_fork()
    assert repr(exporter) == "<Slow>"
    exporter.go_on.set()


async def test_without_a_thread_the_failure_is_told_and_the_next_write_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit of the system is no reason to be busy for ever."""
    exporter = Slow()
    exporter.go_on.set()

    def refuse(job: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("asynctrace._threads.start", refuse)
        with pytest.raises(RuntimeError):
            await exporter.export(batch(), 0.0)
    assert await exporter.export(batch(), 0.0) == Delivered()
