"""The table that is shown to users says what the code does."""

from __future__ import annotations

import opentelemetry.environment_variables as api_variables
import opentelemetry.sdk.environment_variables as sdk_variables

from asynctrace.config import FIELDS, Options, markdown_table
from asynctrace.config.fields import LIMITS

# Not about traces, or about a part of opentelemetry-python that is not used here.
_ELSEWHERE = (
    "OTEL_BLRP_",
    "OTEL_CONFIG_FILE",
    "OTEL_EXPORTER_OTLP_LOGS_",
    "OTEL_EXPORTER_OTLP_METRICS_",
    "OTEL_EXPORTER_PROMETHEUS_",
    "OTEL_EXPORTER_ZIPKIN_",
    "OTEL_LOG",
    "OTEL_METRIC",
    "OTEL_PYTHON_",
)


def test_every_setting_is_shown() -> None:
    """Argument, variables and meaning of each row are in the table."""
    table = markdown_table()
    for field in (*FIELDS, *LIMITS):
        assert field.help in table
        assert field.argument is None or f"| `{field.argument}` |" in table
        assert all(f"`{variable}`" in table for variable in field.variables)
    widths = {line.count(" | ") for line in table.splitlines()}
    assert widths == {3}


def test_every_standard_variable_about_tracing_is_honoured() -> None:
    """A variable that OpenTelemetry adds for tracing shows up here."""
    standard = {
        value
        for module in (api_variables, sdk_variables)
        for name, value in vars(module).items()
        if name.startswith("OTEL_") and not name.startswith(_ELSEWHERE)
    }
    ours = {variable for field in (*FIELDS, *LIMITS) for variable in field.variables}
    assert standard - ours <= {"OTEL_PYTHON_CONTEXT"}
    # The one of our own: OpenTelemetry has `otlp_file` and no variable that names the file.
    assert ours - standard == {"ASYNCTRACE_EXPORTER_FILE"}


def test_a_row_can_be_set_by_something() -> None:
    """No row is for show."""
    assert not [field.name for field in FIELDS if not field.argument and not field.variables]


def test_type_checkers_know_every_argument() -> None:
    """The typed options of ``init`` are those of the table, in its order."""
    arguments = [field.argument for field in FIELDS if field.argument]
    assert list(Options.__annotations__) == arguments
