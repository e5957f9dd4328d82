"""The OTLP wire format of traces: spans to bytes, bytes to plain records. Pure, no I/O.

``wire``         protobuf's own primitives, written and read side by side
``records``      what a request says, as frozen plain values
``values``       attributes to bytes, with the caches that make encoding cheap
``encode``       one span, a resource, a scope, a whole request, an answer to bytes
``repair``       what the encoder falls back to when it is handed unusable data
``decode``       the opposite of ``encode``, for bytes that anybody may have sent
``json``         OTLP/JSON in both directions
``json_object``  reading JSON objects by protobuf's rules

The message definitions are those of the opentelemetry-proto repository, written out by hand: the
protobuf runtime costs ten times the encoding and a tenth of a second to import, and a tracer
needs neither reflection nor mutable messages.
"""
