"""The OpenTelemetry tracer, made for asyncio.

`provider`, `tracer` and `span` subclass the SDK's classes, so that whatever accepts those accepts
these, and replace what they do on the hot path: the sampling decision comes first, a dropped trace
builds nothing, a recorded span takes no lock and is not copied when it ends. Everything that is not
hot is the SDK's own: resource, samplers, id generators, limits, processors, attribute cleaning.

Read in this order: `core` (what the parts share), `span`, `tracer`, `provider`; then `delegate`,
the process-wide provider that outlives the lives of `init`. `encoding` turns a span into bytes.
"""
