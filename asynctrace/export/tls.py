"""The client's side of TLS, for every exporter."""

from __future__ import annotations

import ssl


def client_context(
    *, certificate: str | None, client_certificate: str | None, client_key: str | None
) -> ssl.SSLContext:
    """Trust `certificate`, or what the system trusts; show `client_certificate` when asked for one.

    All are paths of PEM files. Reads files: not on the event loop.

    Raises:
        OSError: a file cannot be read, or does not hold what it should (`ssl.SSLError`).
    """
    context = ssl.create_default_context(cafile=certificate)
    if client_certificate:
        context.load_cert_chain(client_certificate, client_key)
    return context
