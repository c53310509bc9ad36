"""Ray clusters of several nodes on this machine, and sharded stores on them."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bindsearch.shards.hosts import Hosts, Replies
from bindsearch.shards.layout import read_shard_map
from bindsearch.shards.ray.cluster import connect_cluster, loopback_only

STORE_BYTES = 80 << 20


class Nodes:
    """Nodes of a cluster; this process is connected to it."""

    def __init__(self, cluster: Any, client: str) -> None:
        self.cluster = cluster
        self.client = client

    @property
    def address(self) -> str:
        """Address of the head node."""
        address: str = self.cluster.address
        return address

    def add(self) -> Any:
        """Add a node."""
        return self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def kill(self, node_id: str, *, only_raylet: bool = False) -> None:
        """Kill the processes of a node with SIGKILL, as if the machine were lost, or its raylet alone."""
        (node,) = (node for node in self.cluster.list_all_nodes() if node.node_id == node_id)
        (raylet,) = node.all_processes["raylet"]
        pid = raylet.process.pid
        workers = [] if only_raylet else Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, workers)):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        raylet.process.wait(10)  # until then it takes connections


@contextmanager
def ray_nodes(n: int, *, with_client: bool = False) -> Iterator[Nodes]:
    """Start a cluster of n nodes that listens on this machine alone, and connect to it.

    Args:
        n: Number of nodes.
        with_client: Whether processes may connect as `ray://`.
    """
    from ray.cluster_utils import Cluster

    # Ray writes the head node's address there, whatever folder the node has, and fails if it is missing
    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
    with loopback_only(), tempfile.TemporaryDirectory(prefix="bs-ray-", ignore_cleanup_errors=True) as folder:
        head: dict[str, Any] = {
            "num_cpus": 1,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "temp_dir": folder,
        }
        port = free_port() if with_client else 0
        if with_client:
            head["ray_client_server_port"] = port
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes = Nodes(cluster, f"ray://127.0.0.1:{port}")
            for _ in range(n - 1):
                nodes.add()
            with connect_cluster(nodes.address):
                yield nodes
        finally:
            cluster.shutdown()


def free_port() -> int:
    """Return a port that nothing listens on, outside of the ranges that Ray gives to workers and clients."""
    for port in range(24_000 + os.getpid() % 5000, 32_000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def shard_folders(root: Path) -> Mapping[int, Path]:
    """Return the folder of each shard of a store."""
    return dict(enumerate(read_shard_map(root).paths(root)))


def seconds_until(hosts: Hosts, is_reached: Callable[[Replies], bool], limit_s: float = 60.0) -> float:
    """Return the seconds until the replies of all shards are as they should be."""
    started = time.monotonic()
    while not is_reached(hosts.run("generation", dict.fromkeys(range(hosts.n)), 5.0)):
        assert time.monotonic() - started < limit_s
        time.sleep(0.05)
    return time.monotonic() - started
