"""A Ray cluster as the place where shards are indexed and searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bindsearch.errors import BindSearchError, StoreError, first_line
from bindsearch.shards.hosts import Hosts, roll
from bindsearch.shards.layout import ShardMap, is_sharded, read_shard_map
from bindsearch.shards.place import Place
from bindsearch.shards.ray.cluster import Cluster, check_address, check_ray, connect_cluster

if TYPE_CHECKING:
    from bindsearch.reports import IndexReport
    from bindsearch.shards.index import OnShardProgress, ShardJob

Result = TypeVar("Result")

READ_S = 30.0
"""Time in seconds that a node has to read the map of a sharded store."""


class RayPlace(Place):
    """A Ray cluster as a place, to which this process connects on first use."""

    def __init__(self, on: str, device: str = "auto", cores: int = 1, gpus: float = 0.0, replicas: int = 1) -> None:
        """Check the address; nothing is connected yet.

        Args:
            on: Address, as of `connect_cluster`.
            device: Device to search on, as in `connect`.
            cores: Cores of each task that indexes a shard.
            gpus: GPUs of each such task.
            replicas: Number of actors that hold each shard.

        Raises:
            UsageError: it is no address.
            InstallationError: Ray is not installed.
        """
        super().__init__(device)
        check_address(on)
        check_ray()
        self._on, self._cores, self._gpus, self._replicas = on, cores, gpus, replicas

    @cached_property
    def _cluster(self) -> Cluster:
        return connect_cluster(self._on)

    def shard_map(self, root: Path) -> ShardMap:
        """Return the map of a sharded store in a folder of this machine, or of the cluster's."""
        if is_sharded(root):
            return read_shard_map(root)
        self._cluster  # noqa: B018  (connects)
        import ray

        try:
            found: ShardMap | BindSearchError = ray.get(ray.remote(num_cpus=0)(_try_read).remote(root), timeout=READ_S)
        except ray.exceptions.RayError as error:
            raise StoreError(f"the cluster {self._on} does not read {root}: {first_line(error)}") from None
        if isinstance(found, BindSearchError):
            raise found
        return found

    def hosts(self, root: Path, paths: Mapping[int, Path]) -> Hosts:
        """Return hosts that are actors of the cluster."""
        self._cluster  # noqa: B018  (connects)
        from bindsearch.shards.ray.hosts import HostSettings, RayHosts

        return RayHosts(root, paths, HostSettings(replicas=self._replicas, device=self._device, num_gpus=self._gpus))

    def run_jobs(
        self, jobs: Sequence[ShardJob], progress_of: OnShardProgress
    ) -> Mapping[int, IndexReport | BindSearchError]:
        """Index shards as tasks of the cluster."""
        self._cluster  # noqa: B018  (connects)
        from bindsearch.shards.ray.index import TaskShare, run_on_ray

        return run_on_ray(TaskShare(self._cores, self._gpus), jobs, progress_of)

    def run_each(self, call: Callable[[int], Result], numbers: Sequence[int]) -> Mapping[int, Result | BindSearchError]:
        """Call a function for shards in tasks of the cluster."""
        self._cluster  # noqa: B018  (connects)
        from bindsearch.shards.ray.index import TaskShare, run_each_on_ray

        return run_each_on_ray(TaskShare(self._cores, self._gpus), call, numbers)

    def roll(self, root: Path, change: Callable[[], Result]) -> Result:
        """Change the shards of a store; the hosts that run open what is new one after the other."""
        self._cluster  # noqa: B018  (connects)
        from bindsearch.shards.ray.hosts import HostSettings, RayHosts, replicas_of

        n = replicas_of(root)
        if not n:
            return change()
        paths = dict(enumerate(self.shard_map(root).paths(root)))
        with closing(RayHosts(root, paths, HostSettings(n, self._device, self._gpus))) as hosts:
            return roll(hosts, change)

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        if "_cluster" in self.__dict__:
            self._cluster.close()
            del self._cluster


def _try_read(root: Path) -> ShardMap | BindSearchError:
    """Return the map of a sharded store, or why it cannot be read, as exceptions of tasks lose their class."""
    try:
        return read_shard_map(root)
    except BindSearchError as error:
        return error
