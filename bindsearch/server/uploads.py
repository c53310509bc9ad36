"""Files that a page sends as terms of queries: kept in a temporary folder for an hour, each in a folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock, Timeout

from bindsearch.server.limits import MAX_UPLOAD_BYTES, MAX_UPLOADS, MAX_UPLOADS_BYTES, UPLOAD_LIFETIME_S, Refusal
from bindsearch.types import Modality

MAX_NAME_BYTES = 200
PREFIX = "bindsearch-uploads-"
LOCK = "lock"
"""File in the folder of a server, which it holds locked; the system frees the lock of one that is killed."""
NO_LOCK = (OSError, NotImplementedError, Timeout)
"""Errors of a lock that another process holds, or of a file system without locks."""
SETTLED_S = 60.0
"""Age of a folder whose server has locked it, or is dead."""
_NO_SEPARATORS = MappingProxyType({ord("/"): "_", 0: "_"})


@dataclass(frozen=True)
class Upload:
    """A file that was sent: the key that queries have, its sender's name, the copy, and when (monotonic clock)."""

    key: str
    name: str
    path: Path
    size_bytes: int
    sent_s: float
    modality: Modality


class Uploads:
    """The uploads of one server; its methods are called in the loop of the server."""

    def __init__(self) -> None:
        """Make the temporary folder, which only this user can read; remove those of servers that were killed."""
        _remove_left_behind()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = FileLock(self.folder / LOCK)
        with suppress(*NO_LOCK):
            self._lock.acquire()
        self._uploads: dict[str, Upload] = {}
        self._arriving: dict[str, int] = {}

    def close(self) -> None:
        """Remove all files."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._uploads.clear()

    def find(self, key: object) -> Upload:
        """Return an upload. Raises Refusal: there is none, or not any more."""
        self._remove_old()
        if not isinstance(key, str) or key not in self._uploads:
            raise Refusal(404, "there is no such upload, or not any more: send the file again")
        return self._uploads[key]

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> tuple[str, Path]:
        """Write a body to a file; call `keep` or `discard` with its key afterwards.

        Args:
            name: Name of the file at its sender.
            chunks: The body.

        Returns:
            The key of the upload and the path of the copy, which has the same name, as far as that is safe.

        Raises:
            Refusal: the file is empty or too large, or there are too many.
        """
        self._remove_old()
        if len(self._uploads) + len(self._arriving) >= MAX_UPLOADS:
            raise Refusal(507, f"{MAX_UPLOADS} files were sent: wait an hour, or start the server again")
        key = secrets.token_urlsafe(12)
        path = self.folder / key / safe_name(name)
        self._arriving[key] = 0
        try:
            path.parent.mkdir(mode=0o700)
            with path.open("xb") as file:
                async for chunk in chunks:
                    self._arriving[key] += len(chunk)
                    self._check_sizes(self._arriving[key])
                    file.write(chunk)
            if not self._arriving[key]:
                raise Refusal(400, "the file is empty: choose another one")
        except BaseException as error:
            self.discard(key)
            if isinstance(error, OSError) and not isinstance(error, ConnectionError):
                reason = error.strerror or type(error).__name__
                raise Refusal(507, f"the file cannot be kept: {reason}") from error
            raise
        return key, path

    def keep(self, key: str, name: str, path: Path, modality: Modality) -> Upload:
        """Add a file that has arrived."""
        self._uploads[key] = Upload(key, name, path, self._arriving.pop(key, 0), time.monotonic(), modality)
        return self._uploads[key]

    def discard(self, key: str) -> None:
        """Remove an upload."""
        self._arriving.pop(key, None)
        self._uploads.pop(key, None)
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def _check_sizes(self, size_bytes: int) -> None:
        if size_bytes > MAX_UPLOAD_BYTES:
            raise Refusal(413, f"the file is larger than {MAX_UPLOAD_BYTES >> 20} MB: send a part of it")
        held = sum(upload.size_bytes for upload in self._uploads.values())
        if held + sum(self._arriving.values()) > MAX_UPLOADS_BYTES:
            raise Refusal(507, f"the files sent have more than {MAX_UPLOADS_BYTES >> 20} MB in all: wait an hour")

    def _remove_old(self) -> None:
        oldest_s = time.monotonic() - UPLOAD_LIFETIME_S
        for key in [key for key, upload in self._uploads.items() if upload.sent_s < oldest_s]:
            self.discard(key)


def _remove_left_behind() -> None:
    """Remove the folders of servers that were killed: their locks are free, and they are not just being made."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(*NO_LOCK):
            status = folder.lstat()
            is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            is_settled = status.st_mtime <= time.time() - SETTLED_S
            if is_own and is_settled and stat.S_ISREG((folder / LOCK).lstat().st_mode):
                with FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)


def safe_name(name: str) -> str:
    """Return a name for a copy of a file: one name in a folder that is no setting, sidecar or hidden file."""
    plain = name.translate(_NO_SEPARATORS).encode("utf-8", "replace").decode().lstrip(". ")
    stem, suffix = Path(plain).stem, Path(plain).suffix
    short = suffix if len(suffix.encode()) <= 20 else ""
    room = MAX_NAME_BYTES - len(short.encode())
    return f"{stem.encode()[:room].decode(errors='ignore') or 'upload'}{short}"
