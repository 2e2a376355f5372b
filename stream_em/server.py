"""A small web server in a thread and event loop of its own: /metrics, /livez, /readyz.

It reads the meter's snapshot and nothing else, so that no request can slow the engine.
"""

import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Mapping
from threading import Thread
from types import MappingProxyType
from typing import final

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_em.errors import SettingsError, Unreachable
from stream_em.metrics.collector import registry
from stream_em.metrics.meter import Meter
from stream_em.metrics.snapshot import Snapshot

log = logging.getLogger(__name__)

STALL_SECONDS = 60.0
GRACE_SECONDS = 1  # for requests under way when the server closes
START_SECONDS = 5.0
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")

READINESS: Mapping[str, Callable[[Snapshot], bool]] = MappingProxyType(
    {
        "restored": lambda now: now.state not in ("starting", "restoring"),
        "input connected": lambda now: now.input.connected,
        "not draining": lambda now: now.state != "draining",
        "not failed": lambda now: now.state != "failed",
    }
)


@final
class Server:
    """A running server. `url` is where it answers, without a slash at the end."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._listener = listener
        self._server = uvicorn.Server(config)
        self._thread = Thread(target=self._work, name="stream-em-http", daemon=True)
        self._thread.start()
        self._await_start()

    def close(self) -> None:
        """Answer what is under way, for a second at most, and end. Idempotent."""
        self._server.should_exit = True
        self._thread.join(GRACE_SECONDS + 0.4)
        self._server.force_exit = True
        self._listener.close()

    def _work(self) -> None:
        self._server.run(sockets=[self._listener])  # off the main thread: no signal handlers

    def _await_start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started and self._thread.is_alive():
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)


def serve(
    meter: Meter, address: str = "127.0.0.1:9464", *, stall_seconds: float = STALL_SECONDS
) -> Server:
    """Serve a meter's metrics and health at `host:port`; port 0 takes any free one.

    `/livez` answers 503 once the learning loop gave no beat for `stall_seconds`. Raises
    `SettingsError` for an address that is none, `Unreachable` for one that is taken.
    """
    listener = _listening(address)
    server = Server(_app(meter, listener, stall_seconds), listener)
    log.info("metrics and health at %s/metrics, /livez, /readyz", server.url)
    return server


def _listening(address: str) -> socket.socket:
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(
            f"the address of the web server is {address!r}, expected host:port such as "
            "127.0.0.1:9464; port 0 takes any free one"
        )
    listener = None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(64)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise Unreachable(
            f"the web server cannot listen on {address} ({error.strerror or error}); stop what "
            "listens there, or set [http] address to another one (port 0 takes any free port)"
        ) from error
    return listener


def _app(meter: Meter, listener: socket.socket, stall_seconds: float) -> Starlette:
    registered = registry(meter)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registered), headers={"content-type": content_type})

    async def livez(request: Request) -> Response:
        silent = time.monotonic() - meter.beat_at
        if silent > stall_seconds:
            return PlainTextResponse(f"the learning loop stands still for {silent:.0f} s\n", 503)
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        now = meter.snapshot
        failing = [check for check, passed in READINESS.items() if not passed(now)]
        body = {"ready": not failing, "state": now.state, "failing": failing}
        return JSONResponse(body, 503 if failing else 200)

    handlers = {"/metrics": metrics, "/livez": livez, "/readyz": readyz}
    routes = [Route(path, handler, methods=["GET"]) for path, handler in handlers.items()]
    return Starlette(routes=routes, middleware=_middleware(listener))


def _middleware(listener: socket.socket) -> list[Middleware]:
    """Headers for all answers; on loopback also a check of the host, against DNS rebinding."""
    layers = [Middleware(_NoSniff)]
    host = str(listener.getsockname()[0])
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        names = [*LOOPBACK_NAMES, host]
        layers.append(Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False))
    return layers


@final
class _NoSniff:
    """Middleware: browsers take every answer for what its header says, and keep none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        await self._app(scope, receive, with_headers)
