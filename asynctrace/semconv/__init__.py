"""The names our spans carry, and the pure rules that turn HTTP into names and status.

==========  ==================================================================
attributes  the closed list of attributes' names
metrics     the names of instruments
naming      what a span, a method and an error are called
redaction   queries and URLs without what grants access
server      what a server's span says of a request, and which status is an error
client      the same for a client's span
==========  ==================================================================

Nothing here knows aiohttp, httpx, spans or clocks: strings in, strings out. Whoever needs a name
or a rule takes it from this package; a list of a hundred names is not written down twice for that.
"""

# ruff: noqa: F403

from __future__ import annotations

from asynctrace.semconv.attributes import *
from asynctrace.semconv.client import *
from asynctrace.semconv.metrics import *
from asynctrace.semconv.naming import *
from asynctrace.semconv.redaction import *
from asynctrace.semconv.server import *
