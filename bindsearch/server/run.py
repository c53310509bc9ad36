"""A running server: its address, its connections, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bindsearch.errors import BindSearchError, UsageError
from bindsearch.server.access import Access, choose_token
from bindsearch.server.app import Service, make_app
from bindsearch.server.command_socket.listener import answering_commands
from bindsearch.server.guard import Guard
from bindsearch.server.limits import HEADER_S, MAX_CONNECTIONS, MAX_HEADER_BYTES, STOP_S
from bindsearch.server.open_store import OpenStore

logger = logging.getLogger("bindsearch.server")

BACKLOG = 256
WARM_UP = "warm up"


def serve(
    store: Path,
    *,
    host: str,
    port: int,
    token_file: Path | None,
    shown_store: str | None,
    use_socket: bool,
    on_start: Callable[[str], None],
    on_notice: Callable[[str], None],
) -> bool:
    """Serve a store until SIGINT or SIGTERM.

    Args:
        store: Folder of the store.
        host: Address to bind to; one that other machines reach needs a token.
        port: Port; 0: a free one.
        token_file: File of the token.
        shown_store: Store of command lines that the page shows; None: the default.
        use_socket: Whether commands of this user are answered, too.
        on_start: Called with the address of the page when it can be opened.
        on_notice: Called with what does not work.

    Returns:
        Whether all threads are idle. One that decodes a long file is not, and the interpreter would wait for it.

    Raises:
        UsageError: the address or the token cannot be used.
        StoreNotFoundError: there is no store.
    """
    for name in ("uvicorn.error", "asyncio"):
        log = logging.getLogger(name)
        log.addHandler(logging.NullHandler())
        log.propagate = False
    opened = OpenStore(store)
    try:
        with contextlib.closing(_listen(host, port)) as listening:
            access = Access(host, listening.getsockname()[1], choose_token(host, token_file))
            service = Service(opened, shown_store)
            lanes = service.searches, service.locating
            commands = answering_commands(opened, *lanes) if use_socket else contextlib.nullcontext()
            with contextlib.suppress(KeyboardInterrupt):  # the way to end it
                asyncio.run(_serve(service, commands, access, listening, on_start, on_notice))
            return all(lane.is_idle for lane in service.lanes)
    finally:
        opened.close()


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises UsageError: the address is none of this machine, or the port is in use."""
    listening = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except (OSError, UnicodeError, OverflowError) as error:
        if listening is not None:
            listening.close()
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host} port {port} ({reason}): give another --port or --host") from None
    return listening


async def _serve(
    service: Service,
    commands: AbstractAsyncContextManager[str | None],
    access: Access,
    listening: socket.socket,
    on_start: Callable[[str], None],
    on_notice: Callable[[str], None],
) -> None:
    try:
        config = uvicorn.Config(
            Guard(make_app(service), access),
            http=_Connection,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=int(STOP_S),
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        server = _Server(config, service, lambda: on_start(access.url))
        warming = asyncio.ensure_future(_warm_up(service))
        async with commands as problem:
            if problem is not None:
                on_notice(problem)
            await server.serve([listening])
        warming.cancel()
    finally:
        service.uploads.close()
        for lane in service.lanes:
            lane.close()


async def _warm_up(service: Service) -> None:
    """Load the text tower before it is asked for; a store whose model is missing tells so when it is searched."""
    try:
        await service.searches.run(lambda: service.opened.current().search(WARM_UP, k=1))
    except BindSearchError as error:
        logger.warning("%s", error)


class _Server(uvicorn.Server):
    """A server that tells when it has started, and ends streams when it stops."""

    def __init__(self, config: uvicorn.Config, service: Service, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.stopping.set()
        await super().shutdown(sockets)


class _Connection(H11Protocol):
    """A connection that is closed if the headers of a request take longer than HEADER_S."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        is_waiting = self.conn.their_state is h11.IDLE
        if is_waiting and self._timer is None:
            self._timer = self.loop.call_later(HEADER_S, self._give_up)
        elif not is_waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.abort()
