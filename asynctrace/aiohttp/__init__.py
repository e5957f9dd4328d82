"""aiohttp's server, traced by composition: one middleware, one start, one clean-up per application.

::

    _setup.py      setup(): what it accepts, and where its parts go into an application
    _lifespan.py   a Tracing that starts and ends with its application
    _server.py     the middleware, and the usual request in line: one SERVER span each
    _request.py    what a request says: its route's name, its attributes, whose child it is
    _exchange.py   the way out of every other request: streams, errors, clients that left
    _ending.py     how a request ended, and what its span says about that
    _body.py       what was sent of a body, and when that began
    _websocket.py  what was said over a WebSocket
    _options.py    the options of one application, checked
    _shaped.py     requests that are traced by options, or measured
    _forwarded.py  who the client is behind proxies
    _refused.py    requests that aiohttp refuses by itself
    _contrib.py    OpenTelemetry contrib as the engine, or found active
    _holds.py      responses that end when their spans are delivered: flush_after()
    _client.py     client_session(), trace_config(): one CLIENT span per attempt of aiohttp's client

No class of aiohttp is replaced, so it does not matter who imported what first. `import aiohttp` is
the library everywhere in here; imports are absolute.
"""

from __future__ import annotations

from asynctrace.aiohttp._client import client_session, trace_config
from asynctrace.aiohttp._client_options import ClientOptions
from asynctrace.aiohttp._flushing import flush_after
from asynctrace.aiohttp._options import ServerOptions
from asynctrace.aiohttp._setup import setup

__all__ = [
    "ClientOptions",
    "ServerOptions",
    "client_session",
    "flush_after",
    "setup",
    "trace_config",
]
