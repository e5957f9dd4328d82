"""The entry point: finds the subcommand, and gives everything else to it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from asynctrace.cli import spool
from asynctrace.cli.demo import command as demo


class Command(Protocol):
    """What the module of a subcommand has.

    It is imported whatever is called, so it imports what is expensive or optional in `run`.
    """

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit code of the process."""


COMMANDS: Final[Mapping[str, Command]] = {"demo": demo, "spool": spool}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; argparse itself exits with 2 on misuse."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Drawings have characters that not every terminal knows: better a `?` than a crash.
            stream.reconfigure(errors="replace")
    arguments = _parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command].run(arguments)
    except KeyboardInterrupt:
        return 130  # what shells report of a program that SIGINT ended


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asynctrace", description="Distributed tracing for asyncio services."
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands"
    )
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.SUMMARY, description=command.SUMMARY)
        command.add_arguments(subparser)
    return parser
