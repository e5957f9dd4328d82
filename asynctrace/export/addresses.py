"""Which addresses a host has, as far as that can be told without looking it up."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

LOOPBACK = ("127.0.0.1", "::1")


def is_literal(host: str) -> bool:
    """Whether `host` is an IP address itself."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def without_look_up(host: str, known: Sequence[str]) -> Sequence[str]:
    """Itself, what is `known` of it, or the loopback's two; empty where it has to be looked up."""
    if is_literal(host):
        return [host]
    return known or (LOOPBACK if host == "localhost" else ())
