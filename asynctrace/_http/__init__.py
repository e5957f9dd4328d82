"""What the HTTP integrations have in common, and does not belong into `semconv`.

===========  =================================================================================
checks       options that have one shape, whichever integration has them
headers      which headers a span shows, of requests and responses, on either side
targets      which requests of a client are meant: by host, by URL, by a function
client       the options of a client, checked
contrib      one span where OpenTelemetry's own instrumentation of a client is active as well
suppression  whether somebody asked OpenTelemetry's instrumentations to keep quiet
===========  =================================================================================
"""
