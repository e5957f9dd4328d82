"""A real gRPC collector in a process of its own, and the certificates to reach it by TLS.

In a process of its own, because grpcio does not survive the forks of other tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from tests.support import programs

PROGRAM = Path(__file__).with_name("grpc_program.py")


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of one authority."""

    folder: Path

    @classmethod
    def issue(cls, folder: Path) -> Certificates:
        """A new authority, a certificate for localhost and one for a client."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        for name, identity in (("server", "localhost"), ("client", "shop@example.org")):
            issued = authority.issue_cert(identity)
            issued.private_key_pem.write_to_path(folder / f"{name}.key")
            for pem in issued.cert_chain_pems:
                pem.write_to_path(folder / f"{name}.pem", append=True)
        return cls(folder)

    def path(self, name: str) -> str:
        return str(self.folder / name)


class GrpcCollector:
    """Listens on three ports: plain, TLS, and TLS with client certificates."""

    def __init__(self, certificates: Certificates) -> None:
        self.requests: list[dict[str, Any]] = []
        self._certificates = certificates
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self._certificates.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=programs.LIBRARY,
        )
        assert self._process.stdout is not None
        self._ports: dict[str, int] = json.loads(self._process.stdout.readline())
        self._reader = threading.Thread(target=self._read, name="grpc-collector", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        self._process.stdout.close()

    def url(self, port: str = "plain") -> str:
        """The endpoint of the port `plain`, `tls` or `mutual`."""
        scheme = "http" if port == "plain" else "https"
        return f"{scheme}://localhost:{self._ports[port]}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.requests.append(json.loads(line))
                self._changed.notify_all()

    def wait_for_requests(self, number: int, timeout: float = 10.0) -> list[dict[str, Any]]:
        """Wait, in a thread, until as many calls have come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= number, timeout):
                raise AssertionError(f"{len(self.requests)} of {number} calls came")
            return list(self.requests)

    def wait_for_spans(self, span_ids: set[str], timeout: float = 10.0) -> None:
        """Wait, in a thread, until these spans and no others have come, each once."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                came = [span_id for request in self.requests for span_id in request["span_ids"]]
                if sorted(came) == sorted(span_ids):
                    return
                self._changed.wait(0.05)
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(came)} spans came, {len(span_ids)} were expected")
