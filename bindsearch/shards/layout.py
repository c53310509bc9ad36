"""Layout of a sharded store: shards.json, which shard a file belongs to, and numbers of items over all shards."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bindsearch.atomic import atomic_write, make_folder
from bindsearch.errors import StoreError, StoreNotFoundError, UsageError
from bindsearch.small_files import check_seal, read_json, sealed
from bindsearch.storage.config import PUT_BACK, STORE_FILE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Number = TypeVar("Number", int, "NDArray[np.int64]")

SHARDS_FILE = "shards.json"
FORMAT = 1
HASH = "xxh3-64"
"""Hash of a file's path relative to its collection, which chooses its shard."""

MAX_SHARDS = 65_536

TIMEOUT_S = 30.0
"""Default time in seconds that a shard has to answer a request."""


@dataclass(frozen=True)
class ShardMap:
    """Content of shards.json, fixed until `reshard`.

    Attributes:
        format: Format version.
        n: Number of shards.
        hash: Name of the hash that chooses the shard of a file.
        folders: Folder of each shard: relative to the sharded store, or absolute, such as on another disk.
        created: Time of creation, UTC, such as 2026-11-28T12:00:00Z.
    """

    format: int
    n: int
    hash: str
    folders: tuple[str, ...]
    created: str

    def paths(self, root: Path) -> list[Path]:
        """Return the folder of each shard, given the folder of the sharded store."""
        return [root / folder for folder in self.folders]


def is_sharded(path: Path) -> bool:
    """Return whether there is a sharded store at a path."""
    return (path / SHARDS_FILE).is_file()


def sharded_store_of(folder: Path) -> Path | None:
    """Return the folder of the sharded store that a folder is a shard of; None if it is no shard in such a folder."""
    for root in (folder.parent, folder.parent.parent):  # shards made by `reshard` are one folder deeper
        with suppress(StoreError):  # a shard can be opened where the map cannot
            if is_sharded(root) and folder in read_shard_map(root).paths(root):
                return root
    return None


def shard_map_mark(root: Path) -> tuple[int, int] | None:
    """Return inode and mtime of shards.json, which change when it is replaced; None if it cannot be seen here."""
    try:
        status = (root / SHARDS_FILE).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def shard_of(rel_path: str, n: int) -> int:
    """Return the shard, 0..n-1, of a file by its path relative to its collection, with `/` between names.

    Members of an archive, and rows of a file with several samples, are in the shard of that file. A path that is not
    UTF-8 counts as it is shown, since that is how it is recorded.
    """
    import xxhash

    shown = rel_path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return xxhash.xxh3_64_intdigest(shown.encode()) % n


def global_id(local: Number, shard: int, n: int) -> Number:
    """Return the number over all shards of an item or row with a number in one of n shards."""
    return local * n + shard


def local_id(number: Number, n: int) -> tuple[Number, Number]:
    """Return the number in its shard and the shard of a number over all n shards."""
    return number // n, number % n


def new_shard_map(n: int, created: str) -> ShardMap:
    """Return the map of a new store with shards in its own folder.

    Raises:
        UsageError: the number of shards is not in 1..MAX_SHARDS.
    """
    if not 1 <= n <= MAX_SHARDS:
        raise UsageError(f"{n} shards: give a number from 1 to {MAX_SHARDS:,}")
    return ShardMap(FORMAT, n, HASH, tuple(f"shard-{number:04d}" for number in range(n)), created)


def write_shard_map(root: Path, shards: ShardMap) -> None:
    """Write shards.json atomically; the folder is made.

    Raises:
        UsageError: there is an ordinary store in the folder.
    """
    if (root / STORE_FILE).exists():
        raise UsageError(f"{root} is a store without shards: index into another folder (--store)")
    make_folder(root, Path(root.anchor))
    with atomic_write(root / SHARDS_FILE) as file:
        file.write(sealed(asdict(shards), indent=2) + b"\n")


def read_shard_map(root: Path) -> ShardMap:
    """Read shards.json.

    Raises:
        StoreNotFoundError: there is no sharded store in that folder.
        StoreError: the file is damaged, has another format version, or cannot be read now.
    """
    shards = read_json(root / SHARDS_FILE, lambda data: _checked(data, root), PUT_BACK)
    if shards is None:
        way_out = f"create one with `bindsearch index FOLDER --shards N --store {root}`"
        raise StoreNotFoundError(f"no sharded store at {root}: {way_out}")
    return shards


def _checked(data: dict[str, Any], root: Path) -> ShardMap:
    """Return the map in shards.json; raise an error if its values are impossible or do not fit."""
    found_format = data.get("format")
    if found_format != FORMAT:
        raise StoreError(f"{root / SHARDS_FILE} has format {found_format}, this BindSearch reads up to {FORMAT}")
    check_seal(data, required=False)  # whoever edits the folders removes it
    shards = ShardMap(**{**data, "folders": tuple(data["folders"])})
    texts = (shards.hash, shards.created, *shards.folders)
    folders = {os.path.normpath(path) for path in shards.paths(root.absolute())}
    fits = type(shards.n) is int and 1 <= shards.n <= MAX_SHARDS and shards.n == len(shards.folders)
    if not fits or not all(isinstance(text, str) and text for text in texts) or len(folders) < shards.n:
        raise ValueError("its numbers and folders do not fit")
    if shards.hash != HASH:
        raise ValueError(f"the hash is {shards.hash!r:.40}")
    return shards
