"""Places where shards are indexed and searched: this process, or a cluster (`shards.ray.place`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bindsearch.shards.each import run_each_here
from bindsearch.shards.hosts import Hosts, LocalHosts
from bindsearch.shards.layout import ShardMap, read_shard_map

if TYPE_CHECKING:
    from bindsearch.errors import BindSearchError
    from bindsearch.reports import IndexReport
    from bindsearch.shards.index import OnShardProgress, ShardJob

Result = TypeVar("Result")


class Place:
    """Processes that index and search shards: this one; `shards.ray.place` has those of a cluster."""

    def __init__(self, device: str = "auto") -> None:
        """Search on a device, as in `connect`."""
        self._device = device

    def shard_map(self, root: Path) -> ShardMap:
        """Return the map of the sharded store in a folder.

        Raises:
            StoreNotFoundError: there is no sharded store in that folder.
        """
        return read_shard_map(root)

    def hosts(self, root: Path, paths: Mapping[int, Path]) -> Hosts:  # noqa: ARG002  (for clusters)
        """Return hosts of the shards of a sharded store, given its folder and that of each shard."""
        return LocalHosts(paths, self._device)

    def run_jobs(
        self, jobs: Sequence[ShardJob], progress_of: OnShardProgress
    ) -> Mapping[int, IndexReport | BindSearchError]:
        """Index shards; return the report or the error of each."""
        from bindsearch.shards.index import run_here

        return run_here(jobs, progress_of)

    def run_each(self, call: Callable[[int], Result], numbers: Sequence[int]) -> Mapping[int, Result | BindSearchError]:
        """Call a function for the numbers of shards; return its result or its error for each."""
        return run_each_here(call, numbers)

    def roll(self, root: Path, change: Callable[[], Result]) -> Result:  # noqa: ARG002  (for clusters)
        """Change the shards of a store; where several processes hold each, one after the other opens what is new."""
        return change()

    def close(self) -> None:
        """Release the processes."""
