"""Indexing of shards as tasks of a Ray cluster: as in one process, also when workers and nodes are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
from bindsearch.device import usable_cores
from bindsearch.operations.index import IndexRequest
from bindsearch.operations.verify.check import verify
from bindsearch.reports import IndexReport, Progress
from bindsearch.shards.index import index_shards
from bindsearch.shards.maintain import (
    classify_shards,
    compact_shards,
    recover_shards,
    verify_shards,
)
from bindsearch.shards.reshard import reshard
from bindsearch.storage.snapshot import CURRENT
from helpers.sharded import OPTIONS, assert_equal, counts, items_of, make_shards, shard_paths, union, writers
from helpers.stores import connect
from helpers.waiting import wait_for

ray = pytest.importorskip("ray")

from bindsearch.shards.ray.index import TaskShare, run_each_on_ray, run_on_ray  # noqa: E402  (after Ray was found)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray itself leaves sockets open, and warns
]

FILES = 3000
NODES = 3
SHARDS = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    for _ in range(NODES):
        nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
    ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for number in range(FILES):
        (folder / f"{number}.txt").write_text(f"a text with the number {number}")
    return folder


def index(root: Path, *paths: Path, share: TaskShare | None = None, **options: Any) -> IndexReport:
    run = partial(run_on_ray, share or TaskShare(max_retries=20))
    return index_shards(root, paths, IndexRequest(), OPTIONS, run=run, **options)


def assert_complete(root: Path, media: Path) -> None:
    """Check that each file is in one shard, once, and that nothing is damaged."""
    items = union(map(items_of, shard_paths(root)))
    assert items.keys() == {str(path) for path in media.iterdir()}
    for shard in shard_paths(root):
        assert verify(shard).findings == ()


def test_tasks_make_what_one_store_holds_and_report_it(cluster: Any, tmp_path: Path, media: Path) -> None:
    root = make_shards(tmp_path / "shards", SHARDS)
    seen: list[Progress] = []
    report = index(root, media, on_progress=seen.append)
    with connect(tmp_path / "store", encoder="null") as store:
        assert counts(report) == counts(store.index(media))
        assert_equal(root, store.path)
    assert seen[-1].done == seen[-1].total == seen[-1].segments == FILES
    assert sorted(progress.done for progress in seen) == [progress.done for progress in seen]


@pytest.mark.parametrize("seed", range(5))
def test_workers_that_are_killed_lose_nothing_and_double_nothing(
    cluster: Any, tmp_path: Path, media: Path, seed: int
) -> None:
    rng = random.Random(seed)
    root = make_shards(tmp_path / "shards", SHARDS)
    done = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < 4 and not done.wait(rng.uniform(0.1, 1.5)):
            if pids := writers(root):
                killed.append(rng.choice(pids))
                with suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        report = index(root, media)
    finally:
        done.set()
        killer.join()
    assert killed
    assert os.getpid() not in killed
    assert report.added + report.unchanged == FILES
    assert_complete(root, media)


def test_a_node_that_is_killed_costs_only_what_it_had_not_committed(cluster: Any, tmp_path: Path, media: Path) -> None:
    root = make_shards(tmp_path / "shards", SHARDS)
    lost: list[bool] = []

    def kill() -> None:
        wait_for(lambda: len(writers(root)) == NODES)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        lost.append(True)
        cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

    killer = threading.Thread(target=kill)
    killer.start()
    report = index(root, media)
    killer.join()
    assert lost
    assert report.added + report.unchanged == FILES
    assert_complete(root, media)


DRIVER = """
import sys
from functools import partial
from pathlib import Path
import ray
from bindsearch.operations.index import IndexRequest
from bindsearch.shards.index import ShardOptions, index_shards
from bindsearch.shards.ray.index import TaskShare, run_on_ray
from bindsearch.types import DecodeIn

address, root, media = sys.argv[1:]
ray.init(address=address, log_to_driver=False, configure_logging=False)
options = ShardOptions(encoder="null", device="cpu", decode=DecodeIn.THREAD)
print("started", flush=True)
try:
    index_shards(Path(root), [media], IndexRequest(), options, run=partial(run_on_ray, TaskShare()))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after_s", [0.1, 1.5])
def test_a_run_that_is_interrupted_leaves_consistent_shards_and_free_locks(
    cluster: Any, tmp_path: Path, media: Path, number: signal.Signals, after_s: float
) -> None:
    root = make_shards(tmp_path / "shards", SHARDS)
    command = [sys.executable, "-c", DRIVER, cluster.address, str(root), str(media)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: writers(root))
        time.sleep(after_s)
        process.send_signal(number)
        output, _ = process.communicate(timeout=90)
    if number is signal.SIGINT:
        assert "interrupted" in output
        assert not writers(root)
        for shard in shard_paths(root):
            if (shard / CURRENT).exists():  # else it was interrupted before its first commit
                assert verify(shard).findings == ()
    report = index(root, media)
    assert report.added + report.unchanged == FILES
    assert_complete(root, media)


def test_errors_of_ours_are_not_retried_and_name_the_shard(cluster: Any, tmp_path: Path, media: Path) -> None:
    root = make_shards(tmp_path / "shards", SHARDS)
    index(root, media)
    (root / "shard-0002" / "store.json").write_text("{}")
    with pytest.raises(bs.StoreError, match=r"1 of 4 shards failed \(shard-0002\), the others are done: .*store.json"):
        index(root, media)


def test_shards_are_maintained_and_resharded_by_tasks(cluster: Any, tmp_path: Path, media: Path) -> None:
    root = make_shards(tmp_path / "shards", 2)
    index(root, media)
    run_each = partial(run_each_on_ray, TaskShare())
    before = union(map(items_of, shard_paths(root)))
    assert verify_shards(root, run_each=run_each).findings == ()
    assert reshard(root, 4, device="cpu", run_each=run_each).items == FILES
    assert union(map(items_of, shard_paths(root))) == before
    report = classify_shards(root, ["cat", "dog"], column="animal", device="cpu", run_each=run_each)
    assert report.items == FILES
    (root / "shards-0004" / "shard-0003" / "catalog.duckdb").unlink()
    with pytest.raises(bs.StoreError, match=r"1 of 4 shards failed \(shards-0004/shard-0003\)"):
        compact_shards(root, run_each=run_each)
    assert recover_shards(root, run_each=run_each).reason.startswith("shard 3:")
    assert compact_shards(root, run_each=run_each).remaining == ()


def test_a_task_that_no_machine_can_run_is_refused(cluster: Any, tmp_path: Path, media: Path) -> None:
    root = make_shards(tmp_path / "shards", SHARDS)
    with pytest.raises(bs.UsageError, match="no machine of the cluster has 99 cores and 0 GPUs"):
        index(root, media, share=TaskShare(num_cpus=99))
    with pytest.raises(bs.UsageError, match="above 0"):
        TaskShare(num_cpus=0)


def test_a_task_uses_its_share_of_the_cores(cluster: Any) -> None:
    def cores(_: int) -> int:
        return usable_cores()

    assert run_each_on_ray(TaskShare(num_cpus=0.5), cores, [0, 1]) == {0: 1, 1: 1}
