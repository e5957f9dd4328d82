"""A Tracing that starts with its application and ends after it.

aiohttp starts an application by its `cleanup_ctx`, then `on_startup`; at the end it runs all of
`on_cleanup`: first the exits of `cleanup_ctx`, then the other receivers in order, among them those
of the applications that were joined to it. Spans come from all of these. So tracing starts as the
first context and is shut down by the last receiver.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from aiohttp import web

from asynctrace.aiohttp._server import ServerTracing
from asynctrace.initialization import init
from asynctrace.tracing import Tracing, running

if TYPE_CHECKING:
    from asynctrace.config import Options

_logger = logging.getLogger("asynctrace")


class Lifespan:
    """Starts a Tracing for one application, and shuts down what it started.

    With options it starts one of its own in any case; when another runs already, beside it.
    Without, only when none runs.
    """

    __slots__ = ("_options", "_owned", "_server")

    def __init__(self, server: ServerTracing, options: Options) -> None:
        self._server = server
        self._options = options
        self._owned: Tracing | None = None

    def __repr__(self) -> str:
        return f"<Lifespan owning {self._owned or 'nothing'}>"

    def attach(self, app: web.Application) -> None:
        """Put start and end into an application that has not been started or joined."""
        app.cleanup_ctx.insert(0, self.context)
        app.on_cleanup.append(self.stop)

    async def context(self, app: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`.

        Raises what `init` raises, which fails the start of the application.
        """
        await self._start()
        self._server.current()  # adopts it now: what that imports must not hold up a request
        self._move_to_the_end(app)
        yield
        if not app.on_cleanup.frozen:
            # The start of the application failed: then aiohttp exits its contexts, and that is all.
            await self.stop(app)

    def _move_to_the_end(self, app: web.Application) -> None:
        """Shut down behind all receivers that were added since `attach`."""
        if not app.on_cleanup.frozen:
            app.on_cleanup.remove(self.stop)
            app.on_cleanup.append(self.stop)
        elif app.on_cleanup[-1] != self.stop and self._owned is not None:
            # Joined to another application, which froze it, after more clean-ups were registered.
            _logger.warning(
                "%r was joined to another application and has clean-ups registered after setup();"
                " their spans will be lost. Call setup() last, or on the application above it",
                app,
            )

    async def stop(self, _app: web.Application) -> None:
        """For `on_cleanup`. A second call does nothing."""
        owned, self._owned = self._owned, None
        if owned is not None:
            self._server.tracing = None
            await owned.shutdown()

    async def _start(self) -> None:
        options = self._options
        if running() is not None:
            if not options:
                return
            options = {"set_global": False, **options}
        self._owned = self._server.tracing = await init(**options)
