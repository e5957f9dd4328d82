"""`python -m asynctrace.cli` is the same as the command `asynctrace`."""

import sys

from asynctrace.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
