"""Renewal of replicas one after the other when shards publish a new generation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from bindsearch.errors import StoreError
from bindsearch.shards.hosts import Hosts, Replies
from bindsearch.shards.layout import TIMEOUT_S

HOLD_S = 6 * 3600.0
"""Longest time in seconds that replicas answer from the generation before a change."""

Result = TypeVar("Result")


class ReplicatedHosts(Hosts, Protocol):
    """Hosts of which several hold each shard."""

    replicas: int
    """Number of hosts that hold each shard."""

    def run_replica(
        self, replica: int, method: str, requests: dict[int, object], timeout_s: float = TIMEOUT_S
    ) -> Replies:
        """Call a method for shards in one replica only; see `Hosts.run`."""

    def resting(self, replica: int) -> AbstractContextManager[None]:
        """Ask a replica only for shards that no other one answers for."""


def roll(hosts: ReplicatedHosts, change: Callable[[], Result], timeout_s: float = 600.0) -> Result:
    """Change the shards, and let their replicas open what is published one after the other.

    All replicas answer from the generations before the change until it is done. A replica that does not answer is
    passed over: it opens the newest generation when it is started again.

    Args:
        hosts: The hosts.
        change: Publishes new generations of shards, such as `optimize`.
        timeout_s: Time in seconds that a replica has to open them.

    Returns:
        The result of `change`.

    Raises:
        StoreError: a shard that answers cannot open its new generation; the replicas after it still have the old one.
    """
    shards = range(hosts.n)
    for replica in range(hosts.replicas):
        hosts.run_replica(replica, "hold", dict.fromkeys(shards, HOLD_S))
    try:
        result = change()
    except BaseException:
        for replica in range(hosts.replicas):
            hosts.run_replica(replica, "release", dict.fromkeys(shards))
        raise
    for replica in range(hosts.replicas):
        with hosts.resting(replica):
            released = hosts.run_replica(replica, "release", dict.fromkeys(shards), timeout_s)
            warm = hosts.run_replica(replica, "summary", dict.fromkeys(released.results), timeout_s)
        if warm.missing:
            number, why = next(iter(warm.missing.items()))
            raise StoreError(f"replica {replica} of shard {number} cannot open its new generation: {why}")
    return result
