"""A gRPC server of grpcio's own with opentelemetry-proto's service: run as a program.

It prints its ports as the first line, then one line of JSON per call. The metadata `x-answer` of a
call, JSON as well, says how it is answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}


def report(line: object) -> None:
    print(json.dumps(line), flush=True)


class TraceService(trace_service_pb2_grpc.TraceServiceServicer):
    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        metadata = {
            name: value if isinstance(value, str) else value.decode("latin-1")
            for name, value in context.invocation_metadata()
        }
        answer = json.loads(metadata.get("x-answer", "{}"))
        report(
            {
                "span_ids": [
                    span.span_id.hex()
                    for resource in request.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                ],
                "metadata": metadata,
                "size": request.ByteSize(),
                "time_remaining": context.time_remaining(),
                "identities": [x.decode() for x in context.peer_identities() or ()],
                "peer": context.peer(),
            }
        )
        await asyncio.sleep(answer.get("delay", 0))
        if answer.get("compress"):
            context.set_compression(grpc.Compression.Gzip)
        await self._refuse(answer, context)
        partial = trace_service_pb2.ExportTracePartialSuccess(
            rejected_spans=answer.get("rejected", 0), error_message=answer.get("message", "")
        )
        return trace_service_pb2.ExportTraceServiceResponse(partial_success=partial)

    async def _refuse(self, answer: dict[str, Any], context: Any) -> None:
        trailing: list[tuple[str, str | bytes]] = []
        if "pushback" in answer:
            trailing.append(("grpc-retry-pushback-ms", answer["pushback"]))
        if "retry" in answer:
            status = Status(code=answer["code"], message=answer.get("message", ""))
            delay = Duration(nanos=round(answer["retry"] * 1e9))
            status.details.add().Pack(RetryInfo(retry_delay=delay))
            trailing.append(("grpc-status-details-bin", status.SerializeToString()))
        if answer.get("code"):
            context.set_trailing_metadata(tuple(trailing))
            await context.abort(CODES[answer["code"]], answer.get("message", ""))


def credentials(folder: Path, *, mutual: bool) -> grpc.ServerCredentials:
    pair = ((folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes())
    authority = (folder / "ca.pem").read_bytes() if mutual else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=mutual)


async def main(folder: Path) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 2**20)])
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(TraceService(), server)
    ports = {
        "plain": server.add_insecure_port("127.0.0.1:0"),
        "tls": server.add_secure_port("127.0.0.1:0", credentials(folder, mutual=False)),
        "mutual": server.add_secure_port("127.0.0.1:0", credentials(folder, mutual=True)),
    }
    await server.start()
    report(ports)
    # Ends with whoever started it, which holds the other end of stdin.
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
