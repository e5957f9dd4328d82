"""What the guards of the whole suite must let pass here."""

from __future__ import annotations

import blockbuster
import pytest


@pytest.fixture(scope="session", autouse=True)
def handlers_may_write(_blocking_watch: blockbuster.BlockBuster) -> None:
    """A log line is written by a handler of the program's, here pytest's; that is not our code.

    Nor is the lock that coverage takes when it sees a new thread.
    """
    for name, function in _blocking_watch.functions.items():
        function.can_block_in("coverage/collector.py", "lock_data")
        if name.endswith(".write"):
            function.can_block_in("logging/__init__.py", "emit")
