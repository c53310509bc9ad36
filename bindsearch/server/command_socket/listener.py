"""Answers to commands of this user over a Unix socket."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bindsearch.errors import BindSearchError
from bindsearch.search.query_data import query_from_data
from bindsearch.server.command_socket import protocol
from bindsearch.server.limits import SEND_S, STOP_S, Lane, Refusal
from bindsearch.server.open_store import OpenStore
from bindsearch.views.answer_data import answer_data, with_lines
from bindsearch.views.located_hits import HitLocating, locate_hits

logger = logging.getLogger("bindsearch.server")

MAX_CLIENTS = 64
REQUEST_S = 5.0
PROBE_S = 0.2
MAX_PROBED = 100
"""Sockets of other servers that are looked at, to remove those that no process listens on."""


@asynccontextmanager
async def answering_commands(opened: OpenStore, lane: Lane, locating: Lane) -> AsyncIterator[str | None]:
    """Answer commands within the block, in the threads of searches and of locating; yield why not, or None."""
    try:
        listening, path = _listen(opened.path)
    except (OSError, RuntimeError) as error:
        yield f"commands do not use this server: {getattr(error, 'strerror', None) or error}"
        return
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(tasks) >= MAX_CLIENTS:
            writer.close()
            return
        tasks.add(task)
        try:
            if protocol.is_own_peer(writer.get_extra_info("socket")):
                line = await asyncio.wait_for(reader.readuntil(b"\n"), REQUEST_S)
                writer.write(await _reply(line, opened, lane, locating))
                await asyncio.wait_for(writer.drain(), SEND_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the command searches itself
        finally:
            tasks.discard(task)
            writer.close()

    inode = path.stat().st_ino
    server = await asyncio.start_unix_server(answer, sock=listening, limit=protocol.MAX_REQUEST_BYTES)
    try:
        yield None
    finally:
        with suppress(OSError):  # gone, or of a later server
            if path.stat().st_ino == inode:
                path.unlink()
        server.close()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)


def _listen(store: Path) -> tuple[socket.socket, Path]:
    """Return a listening socket and its path; sockets that no process listens on are removed.

    Raises:
        OSError: it cannot be made, or another server answers for this store.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no Unix sockets")
    folder = protocol.socket_folder()
    for made in (folder.parent, folder):  # a mode applies to the last folder alone
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not protocol.is_private(folder):
        raise OSError(f"{folder} can be used by other users: remove it, or set its mode to 0700")
    path = protocol.socket_path(folder, protocol.identity_of(store))
    if len(os.fsencode(path)) > protocol.MAX_PATH_BYTES:
        raise OSError(f"the path {path} is too long for a socket: set XDG_RUNTIME_DIR to a short one")
    for other in sorted(folder.glob(f"*{protocol.SUFFIX}"))[:MAX_PROBED]:
        if not _is_alive(other):
            other.unlink(missing_ok=True)
    if path.exists():
        raise OSError("another server answers them for this store")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    new = folder / f"{os.getpid()}.new"
    try:
        new.unlink(missing_ok=True)
        listening.bind(str(new))
        new.chmod(0o600)
        listening.listen(MAX_CLIENTS)
        new.replace(path)  # in one step: of two servers that start at once, the last one answers
    except BaseException:
        listening.close()
        new.unlink(missing_ok=True)
        raise
    return listening, path


def _is_alive(path: Path) -> bool:
    """Return whether a process listens on a socket; a busy one counts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


async def _reply(line: bytes, opened: OpenStore, lane: Lane, locating: Lane) -> bytes:
    try:
        request = json.loads(line)
        chosen = locating if request.get("locate") else lane
        reply = _refusal(request, opened.path) or await chosen.run(lambda: _search(request, opened))
    except Refusal as refusal:
        reply = {"refused": refusal.message}
    except OSError as error:
        reply = {"refused": f"the store cannot be looked up: {error.strerror or type(error).__name__}"}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        reply = {"refused": f"the request cannot be read: {type(error).__name__}"}
    except Exception as error:
        logger.error("a command: %s: %s", type(error).__name__, ascii(str(error)))
        reply = {"refused": "the search failed"}
    encoded = json.dumps(reply).encode() + b"\n"
    return encoded if len(encoded) <= protocol.MAX_ANSWER_BYTES else b'{"refused": "the answer is too large"}\n'


def _search(request: dict[str, Any], opened: OpenStore) -> dict[str, Any]:
    try:
        query = query_from_data(request["query"])
        store = opened.current()
        rate_hz = request["imu_rate_hz"]
        answer, locating = store.answer(query, imu_rate_hz=rate_hz), HitLocating(imu_rate_hz=rate_hz)
        data = locate_hits(store, query, answer, locating) if request["locate"] else answer_data(answer)
        return {"answer": with_lines(data)}
    except BindSearchError as error:
        return {"error": str(error), "kind": type(error).__name__}


def _refusal(request: dict[str, Any], store: Path) -> dict[str, Any] | None:
    """Return why a command must search itself; None if it need not.

    The store is looked up each time: its path may be a link that has been changed since the server started.

    Raises:
        OSError: the store is gone.
    """
    own_store = protocol.identity_of(store)
    checks = {"version": protocol.VERSION, "store": own_store, "environment": protocol.environment()}
    different = [name for name, own in checks.items() if request[name] != own]
    return {"refused": f"another {different[0]}"} if different else None
