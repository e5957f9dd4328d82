"""From settings to exporters, batches and names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

import asynctrace
from asynctrace.config import Config
from asynctrace.errors import ConfigError
from asynctrace.export.adapters import SyncExporterAdapter
from asynctrace.export.build import build_exporters, build_pipelines, unique_names
from asynctrace.export.console import ConsoleExporter
from asynctrace.export.contracts import Batch, Exporter
from asynctrace.export.file import OtlpFileExporter
from asynctrace.export.otlp_http import OtlpHttpExporter
from asynctrace.otlp.decode import decode_request
from asynctrace.otlp.json import decode_json
from asynctrace.testing import InMemoryExporter
from tests.support.exporters import ScriptedExporter, no_spans


class SdkExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def config(**options: object) -> Config:
    return Config.resolve(options, {})


async def test_each_setting_has_its_exporter() -> None:
    """Names, our own objects and OpenTelemetry's, in the given order."""
    own = InMemoryExporter()
    exporters = await build_exporters(config(exporter=["otlp", "console", own, SdkExporter()]))
    otlp, console, memory, adapter = exporters
    assert isinstance(otlp, OtlpHttpExporter)
    assert isinstance(console, ConsoleExporter)
    assert memory is own
    assert isinstance(adapter, SyncExporterAdapter)
    assert all(isinstance(exporter, Exporter) for exporter in exporters)
    names = [
        pipeline.name
        for pipeline in build_pipelines(
            exporters,
            config(),
            resource=Resource.get_empty,
            alarm=lambda: None,
            ended=no_spans(),
        )
    ]
    assert names == ["otlp", "console", "memory", "SdkExporter"]


async def test_otlp_goes_to_a_file_by_its_name(tmp_path: Path) -> None:
    """`otlp_file` with a path, from an argument or the environment; without one it says so."""
    path = tmp_path / "spans.jsonl"
    environ = {"OTEL_TRACES_EXPORTER": "otlp_file", "ASYNCTRACE_EXPORTER_FILE": str(path)}
    for settings in (
        config(exporter="otlp_file", exporter_file=path),
        Config.resolve({}, environ),
    ):
        (exporter,) = await build_exporters(settings)
        assert isinstance(exporter, OtlpFileExporter)
        assert exporter.path == path
        assert exporter.name == "file"
    with pytest.raises(ConfigError, match="ASYNCTRACE_EXPORTER_FILE"):
        await build_exporters(config(exporter="otlp_file"))


async def test_otlp_goes_to_standard_output_by_its_name(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The name of the specification; a line for each batch, as a collector reads it."""
    async with asynctrace.init(exporter="otlp/stdout", set_global=False) as tracing:
        for name in "ab":
            tracing.get_tracer("test").start_span(name).end()
        report = await tracing.force_flush()
        assert report.exporters["stdout"].exported == 2
    (line,) = capfd.readouterr().out.splitlines()
    assert [span.name for span in decode_json(line.encode())] == ["a", "b"]


async def test_none_means_none() -> None:
    """Tracing without an exporter is allowed."""
    assert await build_exporters(config(exporter="none")) == []


@pytest.mark.parametrize("content", ["", "no certificate"])
async def test_a_certificate_that_is_none_is_a_config_error(content: str, tmp_path: Path) -> None:
    """It names the setting, the file and what would be right."""
    path = tmp_path / "ca.pem"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        await build_exporters(config(endpoint="https://localhost:4318", certificate=str(path)))
    assert caught.value.setting == "certificate"
    assert caught.value.value == str(path)
    assert "PEM" in caught.value.remedy


async def test_a_client_certificate_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    """The one that is to blame is named."""
    path = tmp_path / "client.pem"
    path.write_text("no certificate")
    with pytest.raises(ConfigError) as caught:
        await build_exporters(
            config(
                endpoint="https://localhost:4318",
                client_certificate=str(path),
                client_key=str(path),
            )
        )
    assert caught.value.setting == "client_certificate"


@given(st.lists(st.sampled_from(["a", "b", "a#2", "a#3", "a#2#2"]), max_size=8))
def test_names_are_unique(given_names: list[str]) -> None:
    """Each exporter keeps its name if it can; whatever they call themselves, none is lost."""
    names = unique_names([ScriptedExporter(name=name) for name in given_names])
    assert len(set(names)) == len(given_names)
    assert all(new.startswith(old) for new, old in zip(names, given_names, strict=True))


def test_the_second_of_a_name_gets_a_number() -> None:
    """As people would number them."""
    exporters = [ScriptedExporter(name=name) for name in ("otlp", "file", "otlp", "otlp")]
    assert unique_names(exporters) == ["otlp", "file", "otlp#2", "otlp#3"]


def test_a_batch_is_grouped_by_scope() -> None:
    """One request: the resource once, each scope once, spans in order; no scope is allowed."""
    first = InstrumentationScope("first", "1", "https://schema", {"k": "v"})
    items = [(first, b"", None), (None, b"", None), (first, b"", None)]
    batch = Batch(items, Resource({"service.name": "shop"}))
    assert len(batch) == 3
    assert batch.spans == []
    assert repr(batch) == "<Batch of 3 spans>"
    assert decode_request(batch.to_otlp()) == []
