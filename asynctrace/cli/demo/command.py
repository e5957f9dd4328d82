"""The subcommand `demo`: options, output, exit code."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
from urllib.parse import urlsplit

SUMMARY = "run three traced services on this machine and show the traces that they make"

_NO_RICH = """\
asynctrace demo draws with the package rich, which is not installed.
Install it:        pip install "asynctrace[cli]"
or do without it:  asynctrace demo --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--requests",
        type=_request_count,
        default=5,
        metavar="N",
        help="how many orders to send, 1 to 10000; the second is slow, the third fails"
        " (default: 5)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document and nothing else"
    )
    parser.add_argument(
        "--collector",
        type=_url,
        metavar="URL",
        help="send the spans to this OTLP/HTTP collector (such as http://localhost:4318) instead"
        " of a collector of the demo's own; then only the delivery is checked",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 if all was as it has to be, else 1, or 2 when it cannot be shown at all."""
    if not arguments.json and importlib.util.find_spec("rich") is None:
        print(_NO_RICH, file=sys.stderr)
        return 2

    from asynctrace.cli.demo.judge import problems
    from asynctrace.cli.demo.processes import StartError
    from asynctrace.cli.demo.run import run_demo
    from asynctrace.cli.demo.shop import orders

    if not arguments.json:
        print("Starting gateway, orders and inventory ...", file=sys.stderr)
    try:
        seen = asyncio.run(run_demo(orders(arguments.requests), collector_url=arguments.collector))
    except StartError as error:
        print(f"asynctrace demo: {error}", file=sys.stderr)
        return 1
    found = problems(seen)
    if arguments.json:
        from asynctrace.cli.demo.document import document

        json.dump(document(seen, found), sys.stdout, indent=2)
        print()
    else:
        from rich.console import Console

        from asynctrace.cli.demo.show import show

        show(seen, found, Console())
    return 1 if found else 0


def _request_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address such as http://localhost:4318"
        )
    return text
