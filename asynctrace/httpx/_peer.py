"""The other end of the connection that a response came over.

Looked up once per connection: asking a socket takes a system call, and asking through anyio costs
as much as all the rest of an attempt.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from asynctrace import semconv

_known: WeakKeyDictionary[Any, semconv.Attributes] = WeakKeyDictionary()


def peer_of(network_stream: Any) -> semconv.Attributes:
    """`network.peer.*` of what a transport gives as a response's `network_stream`.

    An address and never a name: with a proxy in between it is the proxy's. Empty when unknown.
    """
    try:
        return _known[network_stream]
    except KeyError:
        attributes = _known[network_stream] = _attributes(network_stream)
        return attributes
    except TypeError:  # a transport's own kind of stream, which no table can hold
        return _attributes(network_stream)


def _attributes(network_stream: Any) -> semconv.Attributes:
    try:
        address = network_stream.get_extra_info("server_addr")
    except Exception:  # the connection is closed already, as that of a short response may be
        return {}
    if isinstance(address, (str, bytes)):
        path = address.decode(errors="replace") if isinstance(address, bytes) else address
        return {semconv.NETWORK_PEER_ADDRESS: path, semconv.NETWORK_TRANSPORT: "unix"}
    if isinstance(address, tuple) and len(address) >= 2:
        return {
            semconv.NETWORK_PEER_ADDRESS: str(address[0]),
            semconv.NETWORK_PEER_PORT: int(address[1]),
        }
    return {}
