"""The table of costs: each row a ratio within this run.

python -m benchmarks [--quick] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version

from . import client, encoding, imports, server
from .measure import Cost, compare
from .pipelines import BATCH

MOST_TOLD = 100
"""Beyond it a ratio says no more than that there is nothing to measure."""

PACKAGES = ("opentelemetry-sdk", "aiohttp", "httpx", "protobuf")


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    theirs: float
    ours: float
    limit: float
    """Ours may be at most theirs divided by this."""
    aim: float
    unit: str = "us"

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours if self.ours > 0 else float("inf")


async def costs(*, rounds: int, operations: int) -> dict[str, dict[str, Cost]]:
    return {
        "server": await compare(server.subjects(), rounds=rounds, operations=operations),
        "client": await compare(client.subjects(), rounds=rounds, operations=operations),
        "encoding": await compare(encoding.subjects(), rounds=rounds, operations=2 * BATCH),
    }


def table(measured: Mapping[str, Mapping[str, Cost]]) -> list[Row]:
    """The rows of the table: what tracing adds over the same program without it."""

    def added(area: str, side: str, floor: str) -> float:
        return measured[area][side].microseconds - measured[area][floor].microseconds

    def row(what: str, area: str, floor: str, kind: str, limit: float, aim: float) -> Row:
        theirs = added(area, f"contrib, {kind}", floor)
        return Row(what, theirs, added(area, f"asynctrace, {kind}", floor), limit, aim)

    theirs, ours = (cost.microseconds for cost in measured["encoding"].values())
    return [
        row("aiohttp request, sampled and encoded", "server", "do nothing", "sampled", 10, 15),
        row("aiohttp request, not sampled", "server", "do nothing", "not sampled", 12, 20),
        row("httpx request, sampled and encoded", "client", "bare", "sampled", 10, 14),
        row("httpx request, not sampled", "client", "bare", "not sampled", 12, 16),
        Row("encoding one span to OTLP", theirs, ours, 8, 8),
    ]


def import_row(milliseconds: Mapping[str, float]) -> Row:
    floor = milliseconds["opentelemetry.sdk.trace"]
    return Row(
        "`import asynctrace`, over opentelemetry.sdk.trace",
        milliseconds["and the OTLP exporter"] - floor,
        max(0.01, milliseconds["and asynctrace"] - floor),
        0,
        0,
        unit="ms",
    )


def environment() -> dict[str, str]:
    machine = f"{platform.machine()}, {platform.python_implementation()}"
    return {
        "machine": f"{machine} {platform.python_version()}",
        **{package: version(package) for package in PACKAGES},
    }


def shown(ratio: float) -> str:
    return f"1/{ratio:.1f}" if ratio < MOST_TOLD else f"under 1/{MOST_TOLD}"


def as_markdown(
    rows: list[Row],
    measured: Mapping[str, Mapping[str, Cost]],
    milliseconds: Mapping[str, float],
) -> str:
    lines = [
        "| added cost | contrib + SDK + its encoder | asynctrace | ratio | held to |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        held = f"1/{row.limit:g}, aim 1/{row.aim:g}" if row.limit else "50 ms"
        lines.append(
            f"| {row.what} | {row.theirs:.1f} {row.unit} | {row.ours:.1f} {row.unit} "
            f"| {shown(row.ratio)} | {held} |"
        )
    floors = measured["server"]
    lines += [
        "",
        (
            f"Floor: a bare aiohttp request {floors['bare'].microseconds:.1f} us, "
            f"with a middleware that does nothing {floors['do nothing'].microseconds:.1f} us; "
            f"a bare httpx transport call {measured['client']['bare'].microseconds:.1f} us. "
            "Names of `asynctrace` are imported when they are first used; what `init` and `setup` "
            "import besides aiohttp, in a thread of `init`, takes "
            f"{milliseconds['and what init imports'] - milliseconds['and aiohttp']:.0f} ms."
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    # What contrib emits is then what we emit; by default it still has the conventions' old names.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run at all?")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    rounds, operations = (2, BATCH) if arguments.quick else (25, 4 * BATCH)
    measured = asyncio.run(costs(rounds=rounds, operations=operations))
    milliseconds = imports.measure(rounds=1 if arguments.quick else 7)
    rows = [*table(measured), import_row(milliseconds)]
    if arguments.json:
        document = {
            "environment": environment(),
            "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
            "costs": {
                area: {name: cost.microseconds for name, cost in found.items()}
                for area, found in measured.items()
            },
            "imports": milliseconds,
        }
        print(json.dumps(document, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in environment().items()), "\n")
    print(as_markdown(rows, measured, milliseconds))


if __name__ == "__main__":
    main()
