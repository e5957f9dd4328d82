"""What other packages have registered, above all the exporters for Zipkin."""

from __future__ import annotations

import importlib.metadata

import pytest

from asynctrace.config import Config, plugins
from asynctrace.errors import ConfigError


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have these exporters registered, and no others."""
    entries = importlib.metadata.EntryPoints(
        importlib.metadata.EntryPoint(name, "json:dumps", "opentelemetry_traces_exporter")
        for name in names
    )
    monkeypatch.setattr(plugins, "entry_points", entries.select)


@pytest.mark.parametrize(
    ("installed", "taken"),
    [
        (("zipkin_json",), "zipkin_json"),
        (("zipkin_proto_http", "zipkin_json"), "zipkin_proto_http"),
        (("zipkin_json", "zipkin_proto_http", "zipkin"), "zipkin"),
    ],
)
def test_zipkin_is_whichever_package_is_installed(
    installed: tuple[str, ...], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the specification first, which stands for all of them."""
    install(monkeypatch, *installed)
    assert Config.resolve({}, {"OTEL_TRACES_EXPORTER": "zipkin"}).exporters == (taken,)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable, the value and the remedy."""
    install(monkeypatch, "otlp_proto_http")
    with pytest.raises(ConfigError, match="OTEL_TRACES_EXPORTER='otlp,zipkin'") as caught:
        Config.resolve({}, {"OTEL_TRACES_EXPORTER": "otlp,zipkin"})
    assert "pip install opentelemetry-exporter-zipkin" in caught.value.remedy


def test_any_registered_exporter_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in OpenTelemetry's own SDK; what nobody has registered is refused with what there is."""
    install(monkeypatch, "vendor")
    assert Config.resolve({"exporter": ["vendor", "otlp"]}, {}).exporters == ("vendor", "otlp")
    with pytest.raises(ConfigError, match="console, none, otlp, otlp/stdout, otlp_file, vendor"):
        Config.resolve({"exporter": "vender"}, {})
    assert plugins.load_exporter("vendor") is importlib.import_module("json").dumps
