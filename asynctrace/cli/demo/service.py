"""What a service of the demo does beside its work: serve, stop when told to, tell how it went.

It talks to the demo through its standard streams: one line of JSON on stdout when it listens, one
with the delivery figures at the end. The end of stdin means that the demo is gone, so that nothing
is left behind whatever happens to it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading

from aiohttp import web

import asynctrace


def serve(app: web.Application) -> None:
    """Serve `app` on a free loopback port until SIGTERM, or until stdin ends."""
    asyncio.run(_serve(app))


async def _serve(app: web.Application) -> None:
    stop = _stop_event()
    runner = web.AppRunner(app, access_log=None)
    try:
        await runner.setup()
        tracing = asynctrace.current()  # the app's own, see asynctrace.setup
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _say(port=runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()
    report = await tracing.shutdown()  # it is down already: this is the same report again
    _say(
        accepted=tracing.statistics().accepted,
        exported=report.exported,
        failed=report.failed,
        dropped=dict(report.dropped),
        pending=report.pending,
        elapsed=report.elapsed,
        errors=[one.last_error for one in report.exporters.values() if one.last_error],
    )


def _stop_event() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait_for_end_of_input() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        try:
            loop.call_soon_threadsafe(stop.set)
        except RuntimeError:
            pass  # the loop is closed: stopped already

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    return stop


def _say(**message: object) -> None:
    print(json.dumps(message), flush=True)
