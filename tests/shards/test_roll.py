"""Replicas open new generations one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.errors import StoreError
from bindsearch.shards.hosts import Replies, ShardHost, roll, to_replies
from bindsearch.shards.layout import TIMEOUT_S
from helpers.ray_nodes import shard_folders
from helpers.sharded import index, make_shards

SHARDS = 2
REPLICAS = 3


class ReplicaHosts:
    """Replicas in this process, with a record of which rest and what they are asked."""

    n = SHARDS
    replicas = REPLICAS

    def __init__(self, paths: Mapping[int, Path]) -> None:
        self.hosts = [ShardHost(paths) for _ in range(REPLICAS)]
        self.resting_now: set[int] = set()
        self.most_resting = 0
        self.opened: list[tuple[int, dict[int, int]]] = []
        self.lost: set[int] = set()
        self.checks = True

    def run(self, method: str, requests: Mapping[int, object], timeout_s: float = TIMEOUT_S) -> Replies:
        return self.run_replica(0, method, requests, timeout_s)

    def run_replica(
        self, replica: int, method: str, requests: Mapping[int, object], timeout_s: float = TIMEOUT_S
    ) -> Replies:
        if replica in self.lost:
            return Replies(missing=dict.fromkeys(requests, "its node is lost"))
        if method == "release":
            assert self.resting_now == {replica} or not self.checks, "a replica opens a generation while it is asked"
            self.opened.append((replica, self.generations(replica)))
        return to_replies(self.hosts[replica].run(method, requests))

    def generations(self, replica: int) -> dict[int, int]:
        return self.run_replica(replica, "generation", dict.fromkeys(range(SHARDS))).results

    @contextmanager
    def resting(self, replica: int) -> Iterator[None]:
        self.resting_now.add(replica)
        self.most_resting = max(self.most_resting, len(self.resting_now))
        yield
        self.resting_now.discard(replica)

    def close(self) -> None:
        for host in self.hosts:
            host.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(8):
        (tmp_path / "media").mkdir(exist_ok=True)
        (tmp_path / "media" / f"{number}.txt").write_text(f"a text with the number {number}")
    root = make_shards(tmp_path / "store", SHARDS)
    index(root, tmp_path / "media")
    return root


@pytest.fixture
def hosts(root: Path) -> Iterator[ReplicaHosts]:
    hosts = ReplicaHosts(shard_folders(root))
    yield hosts
    hosts.close()


def change(root: Path) -> int:
    """Publish a new generation of each shard, and return the newest number."""
    media = root.parent / "media"
    for number in range(8):
        (media / f"{number}.txt").write_text(f"another text with the number {number}")
    index(root, media)
    return max(bs.connect(path).generation().manifest.generation for path in shard_folders(root).values())


def test_replicas_answer_from_the_old_generation_until_it_is_their_turn(root: Path, hosts: ReplicaHosts) -> None:
    before = hosts.generations(0)
    newest = roll(hosts, lambda: change(root))
    assert newest > max(before.values())
    assert hosts.opened == [(replica, before) for replica in range(REPLICAS)]
    assert hosts.most_resting == 1
    after = [hosts.generations(replica) for replica in range(REPLICAS)]
    assert after == [after[0]] * REPLICAS
    assert all(after[0][number] > before[number] for number in range(SHARDS))


def test_replicas_answer_during_the_change(root: Path, hosts: ReplicaHosts) -> None:
    done, answers = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            answers.append(tuple(hosts.generations(1).values()))

    def slow_change() -> int:
        newest = change(root)
        done.set()
        return newest

    thread = threading.Thread(target=ask)
    thread.start()
    roll(hosts, slow_change)
    thread.join()
    assert len({*answers}) == 1


def test_after_a_failed_change_replicas_are_released(root: Path, hosts: ReplicaHosts) -> None:
    def fail() -> None:
        change(root)
        raise StoreError("the disk is full")

    hosts.checks = False  # there is nothing to open one after the other
    with pytest.raises(StoreError, match="the disk is full"):
        roll(hosts, fail)
    assert all(hosts.generations(replica) == newest(root) for replica in range(REPLICAS))


def test_a_lost_replica_is_passed_over(root: Path, hosts: ReplicaHosts) -> None:
    hosts.lost = {1}
    roll(hosts, lambda: change(root))
    hosts.lost = set()
    hosts.hosts[1].close()
    assert [replica for replica, _ in hosts.opened] == [0, 2]
    assert hosts.generations(2) == newest(root)


def newest(root: Path) -> dict[int, int]:
    return {number: bs.connect(path).generation().manifest.generation for number, path in shard_folders(root).items()}
