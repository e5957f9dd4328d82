"""httpx and httpx2 clients that are traced: one CLIENT span per attempt to send a request.

==============  ================================================================================
client          create_client(), instrument(), uninstrument()
transport       AsyncTracingTransport and TracingTransport, which make the spans
attempt         the life of a span: begun, headers received, finished or failed
request         trace context into the headers of what is sent, and nowhere else
body            the response's body, whose end is the span's end
library         httpx or httpx2, whichever an object is of
==============  ================================================================================

Importing this module imports neither library.
"""

from __future__ import annotations

from asynctrace.httpx._client import create_client, instrument, uninstrument
from asynctrace.httpx._transport import AsyncTracingTransport, TracingTransport

__all__ = [
    "AsyncTracingTransport",
    "TracingTransport",
    "create_client",
    "instrument",
    "uninstrument",
]
