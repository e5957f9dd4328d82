"""httpx and httpx2 clients that are traced: one CLIENT span per attempt to send a request.

==============  ================================================================================
client          instrument(), uninstrument(): a client that exists
factory         create_client(): one that is made, over aiohttp's client if wanted
everywhere      instrument_all(): every client of the process
imports         notices a library that is imported later
transport       AsyncTracingTransport and TracingTransport, which make the spans
attempt         the life of a span: begun, headers received
ending          finished, failed or cancelled
used            what it uses of the tracing
exchange        what goes along with it when options ask: hooks, phases, durations
request         trace context into the headers of what is sent, and nowhere else
hops            which attempt it is: redirects, authentication, retries
body            the response's body, whose end is the span's end
closer          closes the streams of responses that nobody wants any more
logical         one span around all attempts of a call
library         httpx or httpx2, whichever an object is of
==============  ================================================================================

An attempt is one call of a client's transport. What retries inside of that call goes around a
transport of ours, and each of its attempts has a span and is counted; the client itself is then not
to be instrumented::

    retrying = RetryTransport(transport=AsyncTracingTransport(httpx.AsyncHTTPTransport()))
    client = httpx.AsyncClient(transport=retrying)

What retries around the call says which attempt it is::

    async for attempt in tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3)):
        with attempt:
            count = attempt.retry_state.attempt_number - 1
            extensions = {"asynctrace": {"resend_count": count}}
            response = await client.get(url, extensions=extensions)

By the same extensions a request names the template of its URL, and so its span:
`{"asynctrace": {"url_template": "/users/{id}"}}`.

Importing this module imports neither library.
"""

from __future__ import annotations

from asynctrace.httpx._client import instrument, uninstrument
from asynctrace.httpx._everywhere import instrument_all, uninstrument_all
from asynctrace.httpx._factory import create_client
from asynctrace.httpx._shaping import TracingOptions
from asynctrace.httpx._transport import AsyncTracingTransport, TracingTransport

__all__ = [
    "AsyncTracingTransport",
    "TracingOptions",
    "TracingTransport",
    "create_client",
    "instrument",
    "instrument_all",
    "uninstrument",
    "uninstrument_all",
]
