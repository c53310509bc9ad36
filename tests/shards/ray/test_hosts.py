"""Searches of shards in actors of a cluster of two nodes: the lists of one process, also after an actor is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.encoders import load_encoder
from bindsearch.encoders.base import locatable_modalities, locating
from bindsearch.errors import UsageError
from bindsearch.media import Passage, Picture
from bindsearch.shards.store import ShardedStore
from bindsearch.types import Modality
from helpers.ray_nodes import Nodes, ray_nodes, seconds_until, shard_folders
from helpers.sharded import assert_equal, index, is_same, make_shards
from helpers.stores import connect

pytest.importorskip("ray")

from bindsearch.shards.ray.encoders import PoolSettings, RayEncoder
from bindsearch.shards.ray.hosts import CHECK_S, RayHosts
from bindsearch.shards.ray.place import RayPlace

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray leaves sockets open, and warns

SHARDS = 3
FILES = 40
ANSWERED_S = 15.0


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes(2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "media").mkdir()
    for number in range(FILES):
        (folder / "media" / f"{number}.txt").write_text(f"a text with the number {number} about dogs")
    index(make_shards(folder / "store", SHARDS), folder / "media")
    return folder / "store"


@pytest.fixture(scope="module")
def hosts(nodes: Nodes, root: Path) -> Iterator[RayHosts]:
    hosts = RayHosts(root, shard_folders(root))
    yield hosts
    hosts.close()


def test_the_lists_are_those_of_one_process(nodes: Nodes, hosts: RayHosts, root: Path) -> None:
    with ShardedStore(root) as here, ShardedStore(root, place=RayPlace(nodes.address)) as there:
        for number in range(5):
            query = f"a text with the number {number}"
            expected, answer = here.search(query, k=20), there.search(query, k=20)
            assert [(hit.path, hit.item_id) for hit in answer] == [(hit.path, hit.item_id) for hit in expected]
            assert [hit.score for hit in answer] == pytest.approx([hit.score for hit in expected], abs=1e-6)
        with pytest.raises(UsageError, match="no_such_column"):
            there.search("a text", filter="no_such_column > 3")


def test_a_folder_is_indexed_and_searched_on_the_cluster(nodes: Nodes, root: Path, tmp_path: Path) -> None:
    media = root.parent / "media"
    with (
        bs.connect(tmp_path / "many", on=nodes.address, shards=SHARDS, encoder="null", decode="thread") as many,
        connect(tmp_path / "one", encoder="null") as one,
    ):
        assert many.index(media).added == one.index(media).added == FILES
        assert_equal(many.path, one.path)
        for number in range(5):
            query = f"a text with the number {number}"
            assert is_same(many.search(query), one.search(query))


def test_both_nodes_hold_shards_and_a_second_client_finds_them(hosts: RayHosts, root: Path) -> None:
    states = [state for state, _ in hosts.states()]
    assert len({state.node for state in states}) == 2
    second = RayHosts(root, shard_folders(root))
    assert {state.process for state, _ in second.states()} == {state.process for state in states}
    second.close()
    assert hosts.run("generation", dict.fromkeys(range(SHARDS))).missing == {}


def test_a_killed_host_is_started_again_and_its_shards_are_missing_meanwhile(hosts: RayHosts) -> None:
    victim = hosts.states()[0][0]
    os.kill(victim.process, signal.SIGKILL)
    started = time.monotonic()
    seconds_until(hosts, lambda replies: replies.missing.keys() == victim.shards, ANSWERED_S)
    reasons = hosts.run("generation", dict.fromkeys(victim.shards)).missing.values()
    assert all("host on node 127.0.0.1" in reason and "\n" not in reason for reason in reasons)
    seconds_until(hosts, lambda replies: not replies.missing, ANSWERED_S)
    assert time.monotonic() - started < ANSWERED_S


def test_a_host_that_is_late_keeps_its_shards(hosts: RayHosts) -> None:
    victim = hosts.states()[0][0]
    os.kill(victim.process, signal.SIGSTOP)
    try:
        replies = hosts.run("generation", dict.fromkeys(range(SHARDS)), timeout_s=1.0)
        assert replies.missing == dict.fromkeys(victim.shards, "no answer in 1 s")
        time.sleep(3 * CHECK_S)
    finally:
        os.kill(victim.process, signal.SIGCONT)
    seconds_until(hosts, lambda replies: not replies.missing, ANSWERED_S)
    assert victim.process in {state.process for state, _ in hosts.states()}


def test_a_late_shard_is_missing(hosts: RayHosts) -> None:
    started = time.monotonic()
    replies = hosts.run("summary", dict.fromkeys(range(SHARDS)), timeout_s=0.0)
    assert replies.results == {}
    assert {*replies.missing.values()} == {"no answer in 0 s"}
    assert time.monotonic() - started < 2
    seconds_until(hosts, lambda replies: not replies.missing, ANSWERED_S)


def test_vectors_of_encoders_in_actors_are_the_same(nodes: Nodes) -> None:
    here = load_encoder("null")
    there = RayEncoder(here, PoolSettings(actors=2, num_cpus=0.1))
    prepared = [here.prepare(Passage(text)) for text in ("a dog", "two cats")]
    for _ in range(3):  # both actors answer
        np.testing.assert_array_equal(there.encode(Modality.TEXT, prepared), here.encode(Modality.TEXT, prepared))
    assert there.digest == here.digest
    assert not hasattr(there, "as_query")
    assert bs.encode_media(there, [Passage("a dog")]).shape == (1, here.dim)
    with pytest.raises(AttributeError, match="an encoder in actors has no _towers"):
        there._towers  # noqa: B018
    there.close()


def test_dense_features_come_from_an_actor(nodes: Nodes) -> None:
    here = load_encoder("mini")
    there = RayEncoder(here, PoolSettings(num_cpus=0.1))
    prepared = [here.prepare(Picture(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))]
    assert locatable_modalities(there) == locatable_modalities(here)
    located = locating(there, Modality.IMAGE).locate(Modality.IMAGE, prepared)
    np.testing.assert_allclose(located, locating(here, Modality.IMAGE).locate(Modality.IMAGE, prepared), atol=1e-2)
    there.close()


def test_an_encoder_that_no_node_can_run_is_refused(nodes: Nodes) -> None:
    with pytest.raises(UsageError, match="no node of the cluster has 1 cores and 4 GPUs for an encoder: give fewer"):
        RayEncoder(load_encoder("null"), PoolSettings(num_gpus=4))
