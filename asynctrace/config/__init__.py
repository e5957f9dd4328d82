"""What a tracing can be told: arguments, OpenTelemetry's environment variables, defaults.

::

    text.py       the text of a variable -> a value; pure
    checks.py     an argument -> a value; pure
    endpoint.py   the rules for the collector's URL; pure
    plugins.py    what installed packages registered by name
    sampler.py    the name of a sampler and its argument -> a sampler
    fields.py     FIELDS, the one table: argument, variables, default, reader, help
    options.py    Options: the arguments, for type checkers
    resolve.py    Config: the table applied to arguments and an environment
    table.py      the table as Markdown

The order of precedence is the same for every setting: the argument, then the variable of the
traces signal, then the general variable, then the default. A value that cannot be used is a
ConfigError that names the argument or the variable, the value and what would be right.
"""

from __future__ import annotations

from asynctrace.config.fields import FIELDS, Field
from asynctrace.config.options import Options
from asynctrace.config.resolve import Config
from asynctrace.config.table import markdown_table

__all__ = ["FIELDS", "Config", "Field", "Options", "markdown_table"]
