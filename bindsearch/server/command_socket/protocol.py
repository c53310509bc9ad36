"""Protocol between commands and a server of the same user on the same machine: one JSON line each way.

The client sends `{"version", "store", "environment", "query", "imu_rate_hz", "locate"}`, the server `{"answer"}`,
`{"error", "kind"}`, or `{"refused"}`, after which the command searches itself. Imports are few: a command that is
answered by a server loads nothing else.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import warnings
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from bindsearch import __version__

VERSION = f"{__version__}/2"
"""Version of the program, whose answers may differ, and of the protocol."""

MAX_REQUEST_BYTES = 1 << 20
MAX_ANSWER_BYTES = 64 << 20
MAX_PATH_BYTES = 100
"""Longest path of a socket: 108 bytes on Linux, 104 on macOS (unix(7), unix(4)), with its final zero."""

SUFFIX = ".sock"
_NAMES = "BINDSEARCH_MODELS BINDSEARCH_CACHE HOME XDG_DATA_HOME XDG_CACHE_HOME CUDA_VISIBLE_DEVICES TZ"
ENVIRONMENT = tuple(_NAMES.split())
"""Variables that answers may depend on."""


def environment() -> dict[str, str]:
    """Return the variables of ENVIRONMENT that are set."""
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}


def identity_of(store: Path) -> Mapping[str, Any]:
    """Return what tells a store from others, also from one at the same path in another container.

    Raises:
        OSError: its folder cannot be looked up.
    """
    resolved = store.resolve()
    status = resolved.stat()
    return {"path": str(resolved), "device": status.st_dev, "inode": status.st_ino}


def socket_folder() -> Path:
    """Return the folder of the sockets of this user."""
    from platformdirs import user_runtime_path

    with warnings.catch_warnings():  # of a fallback where the system has no folder for it; see `is_private`
        warnings.simplefilter("ignore")
        return user_runtime_path("bindsearch", appauthor=False)


def socket_path(folder: Path, identity: Mapping[str, Any]) -> Path:
    """Return the path of a store's socket."""
    return folder / f"{blake2b(os.fsencode(identity['path']), digest_size=10).hexdigest()}{SUFFIX}"


def is_private(folder: Path) -> bool:
    """Return whether a folder belongs to this user alone, so that nobody else can have put a socket there."""
    try:
        status = os.lstat(folder)  # a link does not count
    except OSError:
        return False
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return stat.S_ISDIR(status.st_mode) and is_own and not stat.S_IMODE(status.st_mode) & 0o077


def is_own_peer(connected: socket.socket) -> bool:
    """Return whether the other end belongs to this user; where the system does not tell, the folder's mode decides."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, uid, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(uid == os.getuid())
