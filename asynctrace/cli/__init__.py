"""The command `asynctrace`; each subcommand is a module or package of its own here."""
