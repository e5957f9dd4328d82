"""OTLP over gRPC: one unary call at a time, of our own, over `h2`. No grpcio is needed.

From pure to I/O; what is above imports what is below, and only the last three know of sockets::

    exporter    the `Exporter`: settings, attempts, forks, the exit of the process
    link        the connection of a loop: an asyncio protocol around `connection`
    blocking    the same around a plain socket, for when no loop can be had any more
    dial        look-up, TCP and TLS
    -----------
    connection  HTTP/2 for one call at a time: bytes in, bytes and a result out (h2 is within)
    response    HTTP/2 events of a call -> what the server answered
    outcome     what was answered -> delivered or not, by the OTLP specification
    request     settings -> headers and message of a call
    frames      GOAWAY, which h2 cannot survive

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md is the protocol,
https://opentelemetry.io/docs/specs/otlp/#otlpgrpc what it carries.
"""
