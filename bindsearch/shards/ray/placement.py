"""Placement of shards: which nodes of a cluster see their folders, and which node holds which."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bindsearch import __version__
from bindsearch.storage.config import STORE_FILE

CONNECT_S = 1.0
"""Time in seconds that a node has to take a connection."""


@dataclass(frozen=True)
class Sight:
    """Answer of one node: its address, the version of BindSearch there, and the shards whose folders it sees."""

    address: str
    version: str
    shards: frozenset[int]


def seen_shards(paths: Mapping[int, Path]) -> frozenset[int]:
    """Return the numbers of the shards whose stores are at these paths of this machine."""
    return frozenset(number for number, path in paths.items() if (path / STORE_FILE).is_file())


def _look(paths: Mapping[int, Path], address: str) -> Sight:
    return Sight(address, __version__, seen_shards(paths))


def look_around(
    paths: Mapping[int, Path], timeout_s: float, only: Collection[str] = ()
) -> tuple[dict[str, Sight], list[str]]:
    """Ask every node of the cluster which shards it sees.

    Args:
        paths: Folder of each shard.
        timeout_s: Time in seconds that a node has to answer.
        only: Ids of the nodes to ask; none: all.

    Returns:
        Answer by id of the node; and for each node without one that can be used, why.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnNode

    look: Any = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {}
    for node in ray.nodes():
        if node["Alive"] and (not only or node["NodeID"] in only):
            address, node_id = node["NodeManagerAddress"], node["NodeID"]
            there = look.options(scheduling_strategy=OnNode(node_id, soft=False))
            asked[there.remote(paths, address)] = node_id, address
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s) if asked else ([], [])
    found, problems = {}, []
    for reference in ready:
        node_id, address = asked[reference]
        try:
            sight = ray.get(reference, timeout=timeout_s)
        except Exception as error:  # the node died meanwhile, or lacks the package
            problems.append(f"node {address}: {one_line(error)}")
            continue
        if sight.version != __version__:
            problems.append(f"node {address} has BindSearch {sight.version}, here is {__version__}")
        else:
            found[node_id] = sight
    for reference in late:
        problems.append(f"node {asked[reference][1]}: no answer in {timeout_s:g} s")
        ray.cancel(reference, force=True)
    return found, problems


def reachable_nodes() -> set[str]:
    """Return the ids of the nodes that take connections from here: a busy one does at once, a lost one does not.

    Ray counts a lost node as alive for up to half a minute. A client outside of the cluster may reach none.
    """
    import ray

    reached = set()
    for node in filter(lambda node: node["Alive"], ray.nodes()):
        address = node["NodeManagerAddress"], node["NodeManagerPort"]
        with suppress(OSError), socket.create_connection(address, CONNECT_S):
            reached.add(node["NodeID"])
    return reached


def place(
    wanted: Iterable[int], seen: Mapping[str, Collection[int]], taken: Mapping[int, Collection[str]], load: Counter[str]
) -> dict[str, list[int]]:
    """Choose a node for each shard: one that sees it, if possible without another replica of it, with few shards.

    Args:
        wanted: Numbers of the shards.
        seen: Shards that each node sees.
        taken: Nodes that hold another replica of a shard, by its number.
        load: Number of shards that each node holds; those placed are added.

    Returns:
        Shards by node; one that no node sees is left out.
    """
    placed: dict[str, list[int]] = {}
    for number in wanted:
        nodes = [node for node, shards in seen.items() if number in shards]
        if nodes:
            node = min(nodes, key=lambda node: (node in taken.get(number, ()), load[node], node))
            load[node] += 1
            placed.setdefault(node, []).append(number)
    return placed


def one_line(error: BaseException) -> str:
    """Return why a call of Ray failed, as one short line."""
    from ray.exceptions import ActorUnschedulableError, RayActorError

    if isinstance(error, RayActorError | ActorUnschedulableError):
        return "its process ended, or its node is lost"
    cause = getattr(error, "cause", None)
    while isinstance(cause, BaseException):
        error, cause = cause, getattr(cause, "cause", None)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines and lines[0].startswith(("Traceback", "ray::", "\x1b")) else (lines or [""])[0]
    return f"{type(error).__name__}: {text}"[:200].rstrip(": ")
