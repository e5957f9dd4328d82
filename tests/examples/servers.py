"""Real brokers for the recipes, each started on a free port of the loopback interface."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

PATIENCE = 50.0  # seconds until a broker has to be there


def need(program: str, *places: str) -> str:
    """Where the program is; the test is skipped when it is nowhere."""
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found is None:
        pytest.skip(f"{program} is not installed on this machine")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(port: int, *command: str, **environment: str) -> AsyncIterator[None]:
    """The server runs, and listens on `port`; in the end it is terminated."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _listens(port):
                assert process.returncode is None, f"{command[0]} ended with {process.returncode}"
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@asynccontextmanager
async def redis_server(folder: Path) -> AsyncIterator[str]:
    """The URL of a Redis server."""
    program, port = need("redis-server"), free_port()
    options = ("--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    async with serving(port, program, "--port", str(port), *options):
        yield f"redis://127.0.0.1:{port}"


@asynccontextmanager
async def rabbitmq_server(folder: Path) -> AsyncIterator[str]:
    """The URL of a RabbitMQ server."""
    program = need("rabbitmq-server", "/usr/lib/rabbitmq/bin")
    if os.access("/usr/lib/rabbitmq/bin/rabbitmq-server", os.X_OK):
        program = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # Debian's other one changes the user
    port, names, distribution = free_port(), free_port(), free_port()
    plugins = folder / "plugins"
    plugins.write_text("[].")
    try:
        async with serving(
            port,
            program,
            HOME=str(folder),
            RABBITMQ_NODENAME=f"test{port}@localhost",
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(port),
            RABBITMQ_DIST_PORT=str(distribution),
            RABBITMQ_MNESIA_BASE=str(folder / "data"),
            RABBITMQ_LOG_BASE=str(folder / "log"),
            RABBITMQ_PID_FILE=str(folder / "pid"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(plugins),
            RABBITMQ_CONF_ENV_FILE=str(folder / "none"),
            ERL_EPMD_ADDRESS="127.0.0.1",
            ERL_EPMD_PORT=str(names),
        ):
            yield f"amqp://guest:guest@127.0.0.1:{port}"
    finally:
        # Erlang's name server is a daemon of its own; this is ours, by its port.
        epmd = shutil.which("epmd")
        if epmd is not None:
            killer = await asyncio.create_subprocess_exec(
                epmd, "-port", str(names), "-kill",
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            await killer.wait()


# The mock cluster of librdkafka: one broker that keeps its topics in memory, and speaks Kafka's
# protocol over a socket to whoever connects. Its client tells the address, and keeps it alive.
KAFKA_BROKER = """
import sys
from confluent_kafka import Producer

client = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
[broker] = client.list_topics(timeout=10).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def kafka_server() -> AsyncIterator[str]:
    """The address of a Kafka server: of TEST_KAFKA (a test writes to it), else librdkafka's."""
    if address := os.environ.get("TEST_KAFKA"):
        yield address
        return
    if importlib.util.find_spec("confluent_kafka") is None:
        pytest.skip("no Kafka: set TEST_KAFKA=host:port, or install confluent-kafka for its broker")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KAFKA_BROKER,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        assert line, f"the broker ended with {await process.wait()}"
        yield line.decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
