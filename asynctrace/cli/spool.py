"""The subcommand `spool`: what waits on disk, shown and sent by hand."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asynctrace.export.spool.rules import Segment
    from asynctrace.export.spool.sending import Sent

SUMMARY = "show or send the spans that wait on disk because they could not be delivered"

_ROW = "{:<20} {:>8} {:<12} {:>12} {:>9}  {}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="list what waits")
    send = actions.add_parser(
        "send",
        help="send what waits to the collector of the OTEL_EXPORTER_OTLP_* variables, and delete "
        "what has arrived",
    )
    for action in (show, send):
        action.add_argument("directory", metavar="DIRECTORY", type=Path, help="as given to spool=")
        action.add_argument("--exporter", metavar="NAME", help="only what waits for this exporter")
    send.add_argument("--endpoint", metavar="URL", help="the collector, instead of the variables'")


def run(arguments: argparse.Namespace) -> int:
    """0 if it went well, 1 if spans are left that could not be sent, 2 if it makes no sense."""
    from asynctrace.export.spool.segments import list_segments

    directory: Path = arguments.directory
    try:
        found = list_segments(directory)
        if not directory.is_dir():
            return _misuse(f"there is no directory {directory}")
    except OSError as error:
        return _misuse(str(error))
    wanted = arguments.exporter
    segments = sorted(s for s in found if wanted is None or s.name.exporter == wanted)
    if arguments.action == "show":
        _show(directory, segments)
        return 0
    return _send(directory, segments, arguments.endpoint)


def _show(directory: Path, segments: list[Segment]) -> None:
    from asynctrace.export.spool.segments import is_busy, read_without_claim

    print(_ROW.format("WRITTEN SINCE (UTC)", "PROCESS", "EXPORTER", "BYTES", "SPANS", "STATE"))
    spans = damaged = 0
    for segment in segments:
        try:
            contents = read_without_claim(directory, segment.name)
        except OSError as error:
            print(f"{segment.name}: {error.strerror}", file=sys.stderr)
            continue
        name = segment.name
        since = datetime.fromtimestamp(name.created / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        state = "in use" if is_busy(directory, name) else "waits"
        if contents.damaged:
            state += f", {contents.damaged} damaged"
        print(_ROW.format(since, name.pid, name.exporter, segment.size, contents.spans, state))
        spans += contents.spans
        damaged += contents.damaged
    size = sum(segment.size for segment in segments)
    print(f"{len(segments)} segments, {size} bytes, {spans} spans, {damaged} damaged records")


def _send(directory: Path, segments: list[Segment], endpoint: str | None) -> int:
    from asynctrace.errors import ConfigError
    from asynctrace.export.spool.sending import send_directory

    exporters = sorted({segment.name.exporter for segment in segments})
    if not exporters:
        print("nothing waits")
        return 0
    if len(exporters) > 1:
        names = ", ".join(exporters)
        return _misuse(f"there are spans for several exporters; say --exporter which: {names}")
    try:
        sent = asyncio.run(send_directory(directory, exporter=exporters[0], endpoint=endpoint))
    except ConfigError as error:
        return _misuse(str(error))
    print(_told(sent))
    if sent.failure is None:
        return 0
    failure = f"{sent.failure.reason} {sent.failure.message}".rstrip()
    print(f"asynctrace spool: what is left waits on: {failure}", file=sys.stderr)
    return 1


def _told(sent: Sent) -> str:
    parts = [f"sent {sent.tally.replayed} spans"]
    if sent.tally.rejected:
        parts.append(f"{sent.tally.rejected} were refused")
    if sent.tally.too_large:
        parts.append(f"{sent.tally.too_large} were too large, each alone")
    if sent.tally.damaged:
        parts.append(f"{sent.tally.damaged} damaged records were skipped")
    if sent.in_use:
        parts.append(f"{sent.in_use} segments are in use by running processes")
    return "; ".join(parts)


def _misuse(message: str) -> int:
    print(f"asynctrace spool: {message}", file=sys.stderr)
    return 2
