"""The package root: what it exports, and that importing it costs next to nothing."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import asynctrace

ROOT = Path(asynctrace.__file__)
HEAVY = {"aiohttp", "httpx", "httpx2", "grpc", "google.protobuf", "opentelemetry.exporter", "h2"}


def imported_by(statement: str) -> set[str]:
    """Which modules a fresh interpreter has after `statement`."""
    program = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def names_for_type_checkers() -> dict[str, str]:
    """Name and module of the imports under TYPE_CHECKING."""
    tree = ast.parse(ROOT.read_text())
    [block] = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", asynctrace.__all__)
def test_every_name_resolves(name: str) -> None:
    """Each public name is there, the same one each time, and says what it is for."""
    value = getattr(asynctrace, name)
    assert getattr(asynctrace, name) is value
    if not isinstance(value, str):
        assert inspect.getdoc(value), f"{name} has no docstring"


def test_type_checkers_see_the_same_names() -> None:
    """The imports under TYPE_CHECKING, the table and __all__ agree, and __all__ is sorted."""
    seen = names_for_type_checkers()
    submodules = {name for name, module in seen.items() if module == "asynctrace"}
    homes = {n: m.removeprefix("asynctrace.") for n, m in seen.items() if n not in submodules}
    assert homes == asynctrace._HOMES
    assert submodules == asynctrace._SUBMODULES
    assert sorted([*seen, "__version__"]) == sorted(asynctrace.__all__)
    assert asynctrace.__all__ == sorted(asynctrace.__all__)


def test_submodules_are_ours() -> None:
    """asynctrace.aiohttp and asynctrace.httpx are our integrations, not the libraries."""
    for name in asynctrace._SUBMODULES:
        module = getattr(asynctrace, name)
        assert module is importlib.import_module(f"asynctrace.{name}")
        assert module.__name__ == f"asynctrace.{name}"


def test_unknown_name() -> None:
    """A misspelled name is an AttributeError that names module and attribute."""
    with pytest.raises(AttributeError, match=r"'asynctrace' has no attribute 'spam'"):
        asynctrace.spam  # noqa: B018
    with pytest.raises(ImportError):
        exec("from asynctrace import spam")


def test_dir_lists_everything() -> None:
    """Completion offers the names before their first use."""
    assert set(asynctrace.__all__) <= set(dir(asynctrace))


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed distribution's version; a mark when there is none."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2 of {name}")
    assert asynctrace._version() == "1.2 of asynctrace"

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert asynctrace._version() == "0+unknown"


@pytest.mark.parametrize(
    "use",
    [
        "",
        "asynctrace.span; asynctrace.traced; asynctrace.create_task; asynctrace.wrap_executor",
        "asynctrace.inject; asynctrace.extract; asynctrace.ConfigError",
        "asynctrace.init; asynctrace.run; asynctrace.TracedQueue; asynctrace.process",
    ],
)
def test_no_library_is_imported_that_is_not_used(use: str) -> None:
    """Neither the root nor what works without them imports HTTP libraries or wire formats."""
    assert imported_by(f"import asynctrace\n{use}") & HEAVY == set()


def test_root_imports_nothing_of_opentelemetry() -> None:
    """The root alone imports no dependency at all."""
    assert "opentelemetry" not in imported_by("import asynctrace")


def test_star_import() -> None:
    """`from asynctrace import *` gives the public names and no others."""
    names: dict[str, object] = {}
    exec("from asynctrace import *", names)
    assert set(names) - {"__builtins__"} == set(asynctrace.__all__)
