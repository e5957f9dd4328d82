"""A tracing that delivers to the test, and the server that misbehaves on demand."""

from __future__ import annotations

from tests.httpx_client.conftest import recorder, server, tracing, unsampled

__all__ = ["recorder", "server", "tracing", "unsampled"]
