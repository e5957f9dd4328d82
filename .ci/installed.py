"""Is the installed package whole? It has the files of its source, and every module can be imported.

python .ci/installed.py SOURCE
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import asynctrace


def files(package: Path) -> set[str]:
    """Everything in a package but bytecode."""
    found = (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(package).as_posix() for path in found}


def main() -> None:
    source, installed = Path(sys.argv[1]).resolve(), Path(asynctrace.__file__).resolve().parent
    if source == installed:
        sys.exit(f"{installed} is the source itself")
    if missing := files(source) - files(installed):
        sys.exit(f"not installed: {', '.join(sorted(missing))}")
    for module in pkgutil.walk_packages(asynctrace.__path__, "asynctrace."):
        if not module.name.endswith(".__main__"):  # these are programs
            importlib.import_module(module.name)


if __name__ == "__main__":
    main()
