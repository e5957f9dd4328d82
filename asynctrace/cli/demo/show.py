"""A run of the demo in the terminal, for people. Needs rich, the extra `cli`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asynctrace.cli.demo.judge import spans_by_service
from asynctrace.cli.demo.run import Seen
from asynctrace.cli.demo.shop import SLOW
from asynctrace.otlp.records import SpanRecord
from asynctrace.tree import Layout, Trace, count, duration_text, fit, heading, printable, rows

_COLOURS = ("cyan", "magenta", "blue", "green")  # red and yellow tell errors and slowness


def show(seen: Seen, problems: Sequence[str], console: Console) -> None:
    """Print the traces, the delivery figures and the verdict."""
    colours = {
        service.name: _COLOURS[number % len(_COLOURS)]
        for number, service in enumerate(seen.services)
    }
    for trace in seen.traces or ():
        console.print(_trace(trace, colours, Layout.of(console.width)), no_wrap=True)
        console.print()
    console.print(_delivery(seen, colours))
    console.print()
    console.print(_verdict(seen, problems))


def _trace(trace: Trace[SpanRecord], colours: Mapping[str, str], layout: Layout) -> Text:
    """The same picture as `asynctrace.tree.draw`, in colour."""
    lines = rows(trace, bar_width=layout.bar, slow=SLOW)
    label_width = layout.label(lines)
    drawn = [Text(heading(trace), style="bold")]
    for row in lines:
        colour = colours.get(row.service, "white")
        label = Text.assemble((row.branch, "dim"), (row.service, colour), f" {row.name}")
        label.truncate(label_width, overflow="ellipsis", pad=True)
        line = Text.assemble(
            label,
            (f" {fit(row.kind, layout.kind)} ", "dim"),
            (row.bar, colour),
            (f" {row.duration:>{layout.duration}}", "yellow" if row.slow else ""),
            (f" {row.status:>{layout.status}} ", "red" if row.failed else ""),
            (", ".join(row.notes), "bold red" if row.failed else "bold yellow"),
        )
        line.truncate(layout.width, overflow="ellipsis")
        line.rstrip()
        drawn.append(line)
    return Text("\n").join(drawn)


def _delivery(seen: Seen, colours: Mapping[str, str]) -> Table:
    arrived = None if seen.traces is None else spans_by_service(seen.traces)
    table = Table(title="Delivery", title_justify="left", title_style="bold", box=None)
    table.add_column("service", no_wrap=True)
    for name in ("accepted", "exported", "dropped", "failed", "arrived", "flushed", "stopped"):
        table.add_column(name, justify="right", no_wrap=True)
    for service in seen.services:
        figures = service.delivery
        spans = ["?", "?", "?", "?"]
        flushed = "?"
        if figures is not None:
            dropped = sum(figures.dropped.values())
            spans = [str(n) for n in (figures.accepted, figures.exported, dropped, figures.failed)]
            flushed = duration_text(figures.elapsed)
        table.add_row(
            Text(service.name, style=colours[service.name]),
            *spans,
            "-" if arrived is None else str(arrived.get(service.name, 0)),
            flushed,
            duration_text(service.elapsed),
        )
    return table


def _verdict(seen: Seen, problems: Sequence[str]) -> Text:
    if problems:
        text = Text(f"{count(len(problems), 'problem')}:", style="bold red")
        for problem in problems:
            text.append("\n  ✖ " + "\n    ".join(map(printable, problem.splitlines())), "not bold")
        return text
    if seen.traces is None:
        return Text(
            f"✔ Every span was delivered to {seen.endpoint}. Whether the traces are complete"
            " can be checked only with the demo's own collector: leave --collector out.",
            style="green",
        )
    spans = sum(len(trace.nodes) for trace in seen.traces)
    return Text(
        f"✔ {count(len(seen.traces), 'trace')}, {count(spans, 'span')}:"
        " every trace is complete and every parent is right.",
        style="bold green",
    )
