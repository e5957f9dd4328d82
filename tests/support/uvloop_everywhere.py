"""A pytest plugin, `-p tests.support.uvloop_everywhere`: every async test runs on uvloop.

It says at the end how many loops it made: without any, everything would have passed for nothing.
"""

from __future__ import annotations

import asyncio

import pytest
import uvloop


class Policy(uvloop.EventLoopPolicy):
    made = 0

    def new_event_loop(self) -> uvloop.Loop:
        Policy.made += 1
        return super().new_event_loop()


def pytest_configure() -> None:
    asyncio.set_event_loop_policy(Policy())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"uvloop loops: {Policy.made}")
