"""Service of a sharded store on a cluster: hosts of its shards, a pool of encoders, and processes that answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.server.ray_serve.deploy import ServiceSettings, serve_sharded
from bindsearch.shards.connect import connect

if TYPE_CHECKING:
    from bindsearch.encoders.base import Encoder
    from bindsearch.store import Store


@dataclass(frozen=True)
class ClusterSettings:
    """Processes of a cluster that a service uses besides those that answer.

    Attributes:
        on: Address of the cluster, as in `connect`.
        replicas: Number of processes that hold each shard.
        encoders: Number of processes that encode queries.
        num_gpus: GPUs of each encoder.
    """

    on: str
    replicas: int = 1
    encoders: int = 1
    num_gpus: float = 0.0


def serve_store(
    folder: Path, cluster: ClusterSettings, settings: ServiceSettings, on_start: Callable[[str], None]
) -> None:
    """Serve a sharded store until SIGINT or SIGTERM.

    Args:
        folder: Folder of the sharded store, as the nodes see it.
        cluster: The cluster, and what of it is used.
        settings: Settings of the service.
        on_start: Called with the address when the service answers.

    Raises:
        StoreNotFoundError: there is no sharded store.
        UsageError: the address or the token cannot be used, or Ray Serve runs on the cluster already.
        BindSearchError: the cluster cannot be used, or the service does not start.
    """
    with ExitStack() as held:
        store = held.enter_context(connect(folder, on=cluster.on, replicas=cluster.replicas))
        store.status()  # starts the hosts, which the processes of the service find
        from bindsearch.shards.ray.encoders import PoolSettings, RayEncoder

        pool = PoolSettings(actors=cluster.encoders, num_gpus=cluster.num_gpus)
        encoder = RayEncoder(store.encoder, pool)
        held.callback(encoder.close)
        serve_sharded(partial(_open, folder, cluster.replicas, encoder), settings, on_start)


def _open(folder: Path, replicas: int, encoder: Encoder) -> Store:
    """Open the store in a process of the service, which is part of the cluster."""
    return connect(folder, on="auto", replicas=replicas, encoder=encoder)
