"""Opening of stores: ordinary ones, and sharded ones in this process or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bindsearch.arguments import (
    shell_command,
    shown,
    to_absolute,
    to_choice,
    to_flag,
    to_integer,
    to_number,
    to_path_text,
)
from bindsearch.errors import UsageError
from bindsearch.shards.layout import TIMEOUT_S, is_sharded, sharded_store_of
from bindsearch.storage.config import STORE_FILE, resolve_store
from bindsearch.store import Store
from bindsearch.types import DecodeIn, PathLike

if TYPE_CHECKING:
    from bindsearch.encoders.base import Encoder
    from bindsearch.shards.place import Place


def connect(
    path: PathLike | None = None,
    *,
    encoder: str | Encoder | None = None,
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    device: str = "auto",
    compile: bool = False,
    segment_s: Mapping[str, float] | None = None,
    decode: str | DecodeIn = DecodeIn.PROCESS,
    on: str | None = None,
    shards: int | None = None,
    workers: int | None = None,
    gpus: float = 0.0,
    replicas: int = 1,
    timeout_s: float = TIMEOUT_S,
    require_all: bool = False,
) -> Store:
    """Open a store; the first `index` creates it.

    Args:
        path: Folder of the store (default: $BINDSEARCH_STORE, else the user's data directory), or of a sharded one;
            also `ray://HOST:10001/DIR`: a sharded store on a cluster.
        encoder: A name or an Encoder (default: the one that the store was created with, `mini` for a new store).
        encoder_options: Preprocessing options of the encoder (default: those that the store was created with).
        device: Device for towers and indexes: "auto" (GPUs if there are any, else the CPU), "cpu", "cuda", "cuda:1".
            Towers use the first GPU, indexes use all.
        compile: Use torch.compile for the towers; worth it for long runs on a GPU.
        segment_s: Lengths of segments in seconds in a new store, such as {"audio": 5.0} (default: 10 for audio and
            video, 5 for imu).
        decode: "process": decode media files in worker processes, so that a file that crashes its decoder is one
            failed file. "thread": decode in threads of this process, which start immediately; such a file crashes the
            process.
        on: Cluster that indexes and searches the shards: "local" (one is started here), "auto", "ray://HOST:10001" or
            "HOST:6379" (default: none, this process does). It needs the extra [ray]; see docs/distributed.md.
        shards: Number of shards of a new sharded store (default: of a new store on a cluster, 1; else no shards).
        workers: Cores, and decoders, of each task of a cluster that indexes a shard (default: 1).
        gpus: GPUs of each such task, which may be a fraction.
        replicas: Number of processes of a cluster that hold each shard.
        timeout_s: Time in seconds that a shard has to answer a search.
        require_all: Raise StoreError if a shard does not answer; else the answer is partial and names it.

    Returns:
        The store; its files are opened on first use.

    Raises:
        UsageError: the path is empty, there is a store without shards where shards are asked for, or a segment length,
            a number or `decode` is invalid.
        InstallationError: Ray is needed and not installed.
    """
    folder, on = _location(path, on)
    if not isinstance(device, str):
        raise UsageError(f"the device is {shown(device)}: give a text such as cpu or cuda:1")
    decode_in = to_choice(decode, DecodeIn, "decode mode")
    if shards is not None:
        shards = to_integer(shards, "shards", "give a number from 1", lowest=1)
    open_store: Callable[..., Store] = Store
    if on is not None or shards is not None or is_sharded(folder):
        if (folder / STORE_FILE).exists():
            way_out = "leave out `on` and `shards`, or index into another folder"
            raise UsageError(f"the store {folder} has no shards: {way_out}")
        from bindsearch.shards.store import ShardedStore

        open_store = partial(
            ShardedStore,
            place=_place(on, device, workers, gpus, replicas),
            shards=shards,
            timeout_s=to_number(timeout_s, "timeout_s", "give seconds above 0", 1e-3),
            require_all=to_flag(require_all, "require_all"),
        )
    elif (root := sharded_store_of(folder)) is not None:
        open_store = partial(Shard, root)
    return open_store(
        folder,
        encoder=encoder,
        encoder_options=encoder_options,
        device=device,
        compile=compile,
        segment_s=segment_s,
        decode=decode_in,
    )


def _location(path: PathLike | None, on: str | None) -> tuple[Path, str | None]:
    """Return the folder of a store, and the cluster that has it; raise UsageError if the path names another one."""
    if on is not None and not isinstance(on, str):
        raise UsageError(f"the cluster is {shown(on)}: give a text such as local or ray://HOST:10001")
    if path is None:
        return resolve_store(None), on
    written = to_path_text(path)
    if written.startswith("ray://"):
        from bindsearch.shards.ray.cluster import split_location

        location = split_location(written)
        assert location is not None
        if on is not None and on != location[0]:
            raise UsageError(f"{written} is not on the cluster {on}: give one of them")
        return location[1], location[0]
    to_absolute(path)  # raises if it cannot be a path
    return resolve_store(path), on


def _place(on: str | None, device: str, workers: int | None, gpus: float, replicas: int) -> Place:
    """Return where shards are indexed and searched; raise UsageError if the address or a number is invalid."""
    cores = 1 if workers is None else to_integer(workers, "workers", "give a number from 1", lowest=1)
    n = to_integer(replicas, "replicas", "give a number from 1", lowest=1)
    share = to_number(gpus, "gpus", "give a number from 0", 0.0)
    if on is None:
        from bindsearch.shards.place import Place

        return Place(device)
    from bindsearch.shards.ray.place import RayPlace

    return RayPlace(on, device, cores, share, n)


def _for_all_shards(command: str) -> Callable[..., NoReturn]:
    """Return a method that raises UsageError, as the command has to be run for all shards."""

    def refuse(self: Shard, *_: Any, **__: Any) -> NoReturn:
        instead = shell_command(command, "--store", self._root)
        raise UsageError(f"{self.path} is a shard of {self._root}: run `{instead}` for all of its shards")

    return refuse


class Shard(Store):
    """A shard as a store; see `Store`. What would give it files of other shards is refused."""

    def __init__(self, root: Path, path: Path, **options: Any) -> None:
        """Prepare access to a shard of the sharded store in `root`; see `connect` for the options."""
        super().__init__(path, **options)
        self._root = root

    index = _for_all_shards("index")  # a shard has a share of the files of each folder
    watch = _for_all_shards("watch")
    retry = _for_all_shards("retry")
    reindex = _for_all_shards("index")  # all shards have one encoder
    relocate = _for_all_shards("relocate")  # collections have one root in all shards
