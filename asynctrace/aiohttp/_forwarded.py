"""Who the client is when proxies stand in between.

Each proxy appends to a header the address that it was called from. So the list grows to the right,
only the entries of one's own proxies can be believed, and these are the last ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# One element of RFC 7239: pairs, whose values may be quoted and then hold every separator.
_FOR = re.compile(r'(?:^|;)\s*for=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))', re.IGNORECASE)
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')


def client_of(values: Sequence[str], proxies: int, *, rfc7239: bool) -> str | None:
    """The address that the outermost of so many trusted proxies was called from.

    None when the header does not reach so far: then the request did not come through all of them,
    and nothing in it can be believed.
    """
    joined = ",".join(values)
    if rfc7239:
        entries = [_for_of(element) for element in _ELEMENT.findall(joined)]
    else:
        entries = [entry.strip() for entry in joined.split(",")]
    if not 0 < proxies <= len(entries):
        return None
    return address_of(entries[-proxies]) or None


def address_of(entry: str) -> str:
    """An entry without port and brackets; an obfuscated identifier (`_hidden`) is left as it is."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, colon, port = entry.rpartition(":")
    if colon and ":" not in host and port.isdigit():
        return host
    return "" if entry.lower() == "unknown" else entry


def _for_of(element: str) -> str:
    match = _FOR.search(element.strip())
    if match is None:
        return ""
    quoted, token = match.groups()
    return token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
