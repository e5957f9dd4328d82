"""setup(): what it accepts, and where its parts go into an application."""

from __future__ import annotations

import os
from typing import Final, Unpack, cast

from aiohttp import web

from asynctrace import semconv
from asynctrace.aiohttp._contrib import take_over
from asynctrace.aiohttp._lifespan import Lifespan
from asynctrace.aiohttp._middleware import middleware
from asynctrace.aiohttp._options import PLAIN, ServerOptions, Shape
from asynctrace.aiohttp._refused import watch_refusals
from asynctrace.aiohttp._server import KEY, ServerTracing
from asynctrace.config import Config, Options
from asynctrace.errors import ConfigError
from asynctrace.tracing import Tracing

_TOO_LATE: Final = (
    "call setup() before the application is started, and before it is joined to another with "
    "add_subapp() or add_domain(); of one that is joined already, set up the application above it"
)


class SetupOptions(Options, ServerOptions, total=False):
    """What :func:`setup` takes: how requests are traced, and what :func:`asynctrace.init` takes."""


def setup(
    app: web.Application, tracing: Tracing | None = None, /, **options: Unpack[SetupOptions]
) -> None:
    """Trace every request that `app` handles: one SERVER span each, current in the handler.

    ::

        setup(app, service_name="shop")    # with the options of asynctrace.init()
        setup(app)                         # the same, all from the environment
        setup(app, tracing)                # with a Tracing that somebody else owns
        setup(app, skip=["/health"])       # any of them with options for this application

    The options of :class:`ServerOptions` say how the requests of this application are traced. All
    others are those of `init`:

    With options, the application owns a `Tracing` of its own. It is started before everything else
    in the application and shut down after every other clean-up, also those of its sub-applications,
    and also when the start fails. It becomes the global one of the process, unless one is running
    then: beside that it is independent (`set_global=False`).

    Without options, the application uses the global `Tracing` that is running, looked up for each
    request; if none is running when the application starts, it starts and owns one as above.

    With `tracing`, it uses that one and ends nothing.

    Applications may be nested, and each may be set up: a request has one span, made by the
    outermost that was. An application that is to be joined to another can own a `Tracing`, too;
    then call setup() last before it is joined, because clean-ups that are registered later run
    after the `Tracing` was shut down (aiohttp tells it nothing of the application above).

    Setting up an application once more with the same arguments, or with none, does nothing.

    Raises:
        ConfigError: the arguments cannot be used, or not together, or not any more: `app` is
            started or joined to another, or was set up in another way.

    What can only be known when the application starts fails its start: LifecycleError when the
    global `Tracing` is being started by somebody else at that moment, ConfigError for an
    environment that cannot be used.
    """
    shaping, options_of_init = _split(options)
    _check(app, tracing, options_of_init)
    made = app.get(_SETUP)
    if made is not None:
        made.check_repeated(tracing, options)
        return
    if app.on_startup.frozen:
        raise ConfigError("app", app, _TOO_LATE)
    shape = Shape.of(shaping, os.environ)
    engine = options.get("engine") if tracing is None else tracing.config.engine
    if engine == "contrib" and Shape.of(shaping, {}) != PLAIN:
        raise ConfigError("engine", engine, f"it knows nothing of {', '.join(shaping)}; leave them")
    server = ServerTracing(tracing, semconv.known_methods(os.environ), shape)
    app[KEY] = server
    app[_SETUP] = Setup(tracing, options)
    take_over(app)
    app.middlewares.insert(0, middleware(server))  # the outermost
    app.on_startup.append(_forget_shutdown)
    app.on_shutdown.append(server.note_shutdown)
    if shape.wants_announcements:
        app.on_response_prepare.append(server.announce)
    if shape.protocol_errors:
        watch_refusals(app, server)
    if tracing is None:
        Lifespan(server, options_of_init).attach(app)
    elif engine == "contrib":
        server.adopt(tracing)  # imports what must not hold up a request


async def _forget_shutdown(app: web.Application) -> None:
    """For `on_startup`: an application may be started once more."""
    app[KEY].stopping = False


class Setup:
    """With what an application was set up."""

    __slots__ = ("_options", "_tracing")

    def __init__(self, tracing: Tracing | None, options: SetupOptions) -> None:
        self._tracing = tracing
        self._options = options

    def check_repeated(self, tracing: Tracing | None, options: SetupOptions) -> None:
        """Raise ConfigError when a repeated call asks for something else."""
        remedy = f"the application was set up already, with {self!r}; set it up once"
        if tracing is not None and tracing is not self._tracing:
            raise ConfigError("tracing", tracing, remedy)
        for name, value in options.items():
            if not _is_same(self._options.get(name), value):
                raise ConfigError(name, "another value", remedy)  # it may be a secret

    def __repr__(self) -> str:
        return repr(self._tracing) if self._tracing else f"the options {sorted(self._options)}"


_SETUP: Final = web.AppKey("asynctrace.setup", Setup)


def _split(options: SetupOptions) -> tuple[ServerOptions, Options]:
    """The options for requests and those for `init`."""
    names = ServerOptions.__annotations__
    for_requests = {name: value for name, value in options.items() if name in names}
    for_init = {name: value for name, value in options.items() if name not in names}
    return cast(ServerOptions, for_requests), cast(Options, for_init)


def _check(app: object, tracing: object, options: Options) -> None:
    if not isinstance(app, web.Application):
        raise ConfigError("app", app, "an aiohttp.web.Application is needed")
    if tracing is None:
        if options:  # without, it may never come to a Tracing of its own
            Config.resolve(options, os.environ)
        return
    if not isinstance(tracing, Tracing):
        raise ConfigError(
            "tracing",
            tracing,
            "a Tracing is needed, as asynctrace.init() gives it when awaited; options are keywords",
        )
    if options:
        names = ", ".join(options)
        raise ConfigError("tracing", tracing, f"it has its options already; give {names} to init()")


def _is_same(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # what cannot be compared is not known to be the same
        return False
