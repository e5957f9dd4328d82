"""The command line itself: subcommands, options, exit codes, what is missing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from asynctrace.cli.demo import command
from asynctrace.cli.demo.processes import StartError
from asynctrace.cli.demo.run import Seen
from asynctrace.cli.main import main


def test_help_names_every_subcommand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newcomer finds the demo."""
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert command.SUMMARY in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["demo", "--requests", "0"],
        ["demo", "--requests", "many"],
        ["demo", "--requests", "10001"],
        ["demo", "--collector", "localhost:4318"],
        ["demo", "--collector", "http://"],
    ],
)
def test_misuse_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the usage, and nothing is started."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: asynctrace" in capsys.readouterr().err


def test_without_rich_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any process is started."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["demo"]) == 2
    assert 'pip install "asynctrace[cli]"' in capsys.readouterr().err


def test_without_rich_json_still_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs need no drawings: rich is not even imported."""

    async def nothing(*_: object, **__: object) -> Seen:
        return Seen((), (), "http://127.0.0.1:1", ())

    monkeypatch.setattr("asynctrace.cli.demo.run.run_demo", nothing)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_service_that_does_not_come_up_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and one line, not a traceback."""

    async def fail(*_: object, **__: object) -> Seen:
        raise StartError("orders ended before it was ready")

    monkeypatch.setattr("asynctrace.cli.demo.run.run_demo", fail)
    assert main(["demo", "--json"]) == 1
    printed = capsys.readouterr()
    assert printed.err == "asynctrace demo: orders ended before it was ready\n"
    assert printed.out == ""


def test_an_interrupt_has_the_exit_code_of_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 + SIGINT, and no traceback."""

    async def interrupt(*_: object, **__: object) -> Seen:
        raise KeyboardInterrupt

    monkeypatch.setattr("asynctrace.cli.demo.run.run_demo", interrupt)
    assert main(["demo", "--json"]) == 130


def test_the_module_is_the_command() -> None:
    """python -m asynctrace.cli needs no script on the PATH, and no heavy import to help."""
    program = (
        "import runpy, sys; sys.argv = ['asynctrace', '--help']\n"
        "try: runpy.run_module('asynctrace.cli', run_name='__main__')\n"
        "finally: print(sorted({'aiohttp', 'httpx', 'rich'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage: asynctrace")
    assert ended.stdout.endswith("[]\n")
