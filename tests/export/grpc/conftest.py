"""What the tests of OTLP over gRPC have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.grpc_collector import Certificates, GrpcCollector


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA of this test run, a certificate for localhost and one for a client."""
    return Certificates.issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def _collector(certificates: Certificates) -> Iterator[GrpcCollector]:
    with GrpcCollector(certificates) as collector:
        yield collector


@pytest.fixture
def collector(_collector: GrpcCollector) -> GrpcCollector:
    """A real gRPC server in a process of its own, with nothing received yet."""
    _collector.requests.clear()
    return _collector
