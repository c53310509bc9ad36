"""Formulas of docs/scale.md: worked by hand once, and what has to hold for any collection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fan_out import of_sample
from hypothesis import given
from hypothesis import strategies as st
from scale_model import (
    FileCost,
    Fleet,
    Machine,
    Need,
    Search,
    Units,
    add_s,
    build_s,
    cached_share,
    disk_bytes,
    files_per_s,
    fleet_build_s,
    machines_for,
    memory_bytes,
    shards_for,
    train_s,
)

from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.types import IndexSettings

UNITS = Units(
    dim=1024,
    id_bytes=16,
    snapshot_bytes=400,
    catalog_bytes=100,
    words_bytes=84,
    resident_bytes=156,
    code_byte_ns=0.05,
    list_ns=1000,
    call_ns=50_000,
    row_ns=250,
    search_ms=0.4,
    commit_us=50,
    train_fixed_s=10,
    train_gflop_s=20,
    add_gflop_s=10,
    hop_us=1000,
    send_us=100,
    spread=of_sample(np.array([1.0])),
)
MACHINE = Machine(cores=10, memory=100e9, disk=1e12, reads_per_s=100_000, read_ns=100_000)
NEED = Need(n=10**6, share=0.1, rerank=200, growth=1 / 3)
VECTORS = st.integers(10**5, 2 * 10**9)


def fleet(vectors: int = 40 * 10**6, shards: int = 40, machines: int = 2, share: float = 1.0) -> Fleet:
    return Fleet(vectors, shards, machines, MACHINE, share)


def test_bytes_of_a_vector() -> None:
    # row 2 * 1024, code 256 of 512 dimensions at 2 a half byte = 128, ids, tables
    assert disk_bytes(UNITS, 10**6) == 2048 + 128 + 16 + 584
    assert memory_bytes(UNITS, 10**6) == 128 + 16 + 156


def test_machines_by_the_scarcer_of_memory_and_disk() -> None:
    # memory: 1e9 * 300 / 80e9 = 3.75; disk: 1e9 * 2776 * 1.3 / 0.8e12 = 4.5
    assert machines_for(UNITS, 10**9, MACHINE) == 5
    assert machines_for(UNITS, 10**9, replace(MACHINE, disk=1e13)) == 4
    assert machines_for(UNITS, 10**5, MACHINE) == 1


def test_shards_are_a_multiple_of_the_cores() -> None:
    assert shards_for(10**7, 1, MACHINE) == 10
    assert shards_for(10**9, 3, MACHINE) == 120  # 30 cores, at most 10 million vectors


def test_page_cache_by_hand() -> None:
    # 40e6 vectors: 12 GB resident of 160 GB; 148 GB for 82 GB of rows
    assert cached_share(UNITS, fleet()) == 1
    # 400e6: 120 GB resident, 40 GB for 819 GB of rows
    assert cached_share(UNITS, fleet(400 * 10**6)) == pytest.approx(40e9 / (400e6 * 2048))


def test_a_search_by_hand() -> None:
    search = Search(UNITS, fleet(), NEED)
    lists = choose_parameters(10**6, 1024, IndexSettings()).lists
    assert search.rows == 200
    # two calls, a tenth of the lists, a tenth of a million codes of 128 bytes
    assert search.codes_ms == pytest.approx(0.1 + 0.1 * lists * 0.001 + 0.1 * 128e6 * 0.05 / 1e6)
    assert search.rerank_ms == pytest.approx(0.05)
    assert search.reads == 0
    assert search.shard_ms == search.cpu_ms == pytest.approx(0.4 + search.codes_ms + 0.05)
    # 20 cores, half busy, 40 shards
    assert search.queries_per_s == pytest.approx(0.5 * 20 * 1000 / (40 * search.cpu_ms))
    # 20 shards on 10 cores: two turns; a hop, and two calls
    assert search.latency().quantile(0.5) == pytest.approx(2 * search.shard_ms + 1.0 + 0.2)


def test_rows_from_disks_by_hand() -> None:
    cold = Search(UNITS, fleet(400 * 10**6, 400), NEED)
    missing = 1 - 40e9 / (400e6 * 2048)
    assert cold.reads == pytest.approx(400 * 200 * missing)
    assert cold.rerank_ms == pytest.approx(200 * (250 + missing * 100_000) / 1e6)
    assert cold.queries_per_s == pytest.approx(min(2 * 100_000 / cold.reads, 10_000 / (400 * cold.cpu_ms)))


def test_rows_scored_grow_with_the_shard() -> None:
    assert NEED.rows(8 * 10**6) == pytest.approx(400)
    assert NEED.rows(10**5) == 200  # a smaller one needs no less than was measured


def test_building_by_hand() -> None:
    form = choose_parameters(10**6, 1024, IndexSettings())
    flop = 2 * 10 * form.train_rows * form.lists * 512
    assert train_s(UNITS, 10**6) == pytest.approx(10 + flop / 20e9)
    assert add_s(UNITS, 10**6) == pytest.approx(1e6 * 2 * 512 * (1024 + form.lists) / 10e9)
    one = build_s(UNITS, fleet(), {"image": 1.0})
    assert one == pytest.approx(train_s(UNITS, 10**6) + add_s(UNITS, 10**6) + 90)
    assert fleet_build_s(UNITS, fleet(), {"image": 1.0}) == pytest.approx(2 * one)  # 20 shards on 10 cores


def test_files_by_the_slower_of_cores_and_gpus() -> None:
    files = {"image": FileCost(0.01, 0.001), "text": FileCost(0.0, 0.0)}
    # 20 cores; half of the files take 10 ms, all 50 us to commit
    assert files_per_s(UNITS, fleet(), files, {"image": 0.5, "text": 0.5}) == pytest.approx(min(20 / 0.00505, 4000))
    slow = {"image": FileCost(0.0, 0.01)}
    assert files_per_s(UNITS, fleet(), slow, {"image": 1.0}) == pytest.approx(200)


@given(VECTORS, VECTORS)
def test_more_vectors_need_no_fewer_machines(few: int, more: int) -> None:
    assert machines_for(UNITS, few, MACHINE) <= machines_for(UNITS, few + more, MACHINE)


@given(VECTORS, st.integers(1, 100))
def test_a_plan_holds_together(vectors: int, more: int) -> None:
    machines = machines_for(UNITS, vectors, MACHINE) + more
    shards = shards_for(vectors, machines, MACHINE)
    assert shards % (machines * MACHINE.cores) == 0
    assert vectors / shards <= 10_000_000
    planned = fleet(vectors, shards, machines, 0.42)
    assert planned.shards_a_machine * machines == shards
    search = Search(UNITS, planned, NEED)
    assert 0 <= search.cold <= 1
    assert search.reads <= shards * search.rows
    assert search.shard_ms >= search.cpu_ms - 1e-9
    assert search.latency().quantile(0.5) >= search.shard_ms
    assert search.queries_per_s > 0


@given(st.integers(1, 50))
def test_queries_grow_with_machines_that_hold_all_rows(factor: int) -> None:
    few, many = fleet(), fleet(machines=2 * factor)
    rates = [Search(UNITS, one, NEED).queries_per_s for one in (few, many)]
    assert rates[1] == pytest.approx(factor * rates[0])
