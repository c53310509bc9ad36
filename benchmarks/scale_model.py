"""Needs of a collection on many machines: memory, disk, machines, rates and latencies, from unit costs.

Every function is one formula of docs/scale.md. Nothing is measured here: `Units` holds what scale.py measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fan_out import Latency, slowest

from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.types import IndexSettings

FILLED = 0.8
"""Share of a machine's memory and disk that is planned for. An assumption."""

SPARE_DISK = 1.3
"""Room for what `optimize` writes before it deletes the old: index and rewritten vector files of some shards at a
time. An assumption."""

BUSY = 0.5
"""Share of the cores' time that searches take at the stated rate: beyond it, waiting grows fast. An assumption."""

SHARD_ROWS = 10_000_000
"""Vectors of a shard, at most: its indexes are built within an hour on one core. A choice."""

TUNE_S = 90.0
"""Seconds that operating points of one modality take: `TUNE_SECONDS` of the engine, its time limit."""

KMEANS_ROUNDS = 10
POINTS_PER_CENTROID = 128


@dataclass(frozen=True)
class Units:
    """Unit costs at d dimensions, as measured; nanoseconds, microseconds and milliseconds by their names.

    Attributes:
        dim: dimensions d.
        id_bytes: bytes of the files of an index beside the codes, a vector.
        snapshot_bytes: bytes of snapshot files, a vector; catalog_bytes, words_bytes: of these.
        resident_bytes: resident bytes beside index and mapped rows, a vector.
        code_byte_ns: a byte of codes scanned; list_ns: a list visited; call_ns: a call of an index.
        row_ns: a row scored from the page cache.
        search_ms: a search beside all these: planning, ranking, lookups of paths.
        commit_us: a vector committed.
        train_fixed_s: core-seconds of training beside k-means.
        train_gflop_s: multiplications and additions of k-means a second and core, in 1e9; add_gflop_s: of adding rows.
        hop_us: an empty call of an actor; send_us: a call among many, to send and to receive.
        spread: latency of one shard as a multiple of its median.
    """

    dim: int
    id_bytes: float
    snapshot_bytes: float
    catalog_bytes: float
    words_bytes: float
    resident_bytes: float
    code_byte_ns: float
    list_ns: float
    call_ns: float
    row_ns: float
    search_ms: float
    commit_us: float
    train_fixed_s: float
    train_gflop_s: float
    add_gflop_s: float
    hop_us: float
    send_us: float
    spread: Latency

    @property
    def row_bytes(self) -> int:
        """Return the bytes of an fp16 row."""
        return 2 * self.dim


@dataclass(frozen=True)
class Need:
    """Needs of one kind of query of one modality's index at n rows: share of its codes, rows scored exactly.

    Attributes:
        n: rows of the index where it was measured.
        share: share of the codes.
        rerank: rows scored exactly.
        growth: exponent that the rows scored grow with.
    """

    n: int
    share: float
    rerank: int
    growth: float

    def rows(self, n: float) -> float:
        """Return the rows scored exactly of an index of n rows: as measured, times (n / n measured)^growth."""
        return self.rerank * math.pow(max(1.0, n / self.n), self.growth)


@dataclass(frozen=True)
class Machine:
    """A machine: cores, bytes of memory and disk, random reads a second of its disk, and nanoseconds of one alone."""

    cores: int
    memory: float
    disk: float
    reads_per_s: float
    read_ns: float


@dataclass(frozen=True)
class Fleet:
    """N vectors in S shards on M equal machines; `target_share` of the vectors are of the modality sought."""

    vectors: int
    shards: int
    machines: int
    machine: Machine
    target_share: float

    @property
    def shard_rows(self) -> float:
        """Return the vectors of one shard."""
        return self.vectors / self.shards

    @property
    def target_rows(self) -> float:
        """Return the vectors of one shard that are of the modality sought."""
        return self.shard_rows * self.target_share

    @property
    def shards_a_machine(self) -> int:
        """Return the shards that the fullest machine holds."""
        return math.ceil(self.shards / self.machines)


# Room


def code_bytes(units: Units, rows: float) -> int:
    """Return the bytes of a code in a partition of that many rows, by the engine's own choice."""
    return choose_parameters(max(1, round(rows)), units.dim, IndexSettings()).code_bytes


def disk_bytes(units: Units, rows: float) -> float:
    """Return the bytes on disk of a vector, in a partition of that many rows: row + code + ids + tables."""
    tables = units.snapshot_bytes + units.catalog_bytes + units.words_bytes
    return units.row_bytes + code_bytes(units, rows) + units.id_bytes + tables


def memory_bytes(units: Units, rows: float) -> float:
    """Return the resident bytes of a vector: its code and ids, and what else is not a mapped row."""
    return code_bytes(units, rows) + units.id_bytes + units.resident_bytes


def machines_for(units: Units, vectors: int, machine: Machine) -> int:
    """Return the fewest machines whose memory and disk hold that many vectors."""
    memory = vectors * memory_bytes(units, SHARD_ROWS) / (FILLED * machine.memory)
    disk = vectors * disk_bytes(units, SHARD_ROWS) * SPARE_DISK / (FILLED * machine.disk)
    return max(1, math.ceil(memory), math.ceil(disk))


def shards_for(vectors: int, machines: int, machine: Machine) -> int:
    """Return a number of shards: a multiple of all cores, as one search of a shard uses one, of at most SHARD_ROWS."""
    cores = machines * machine.cores
    return cores * max(1, math.ceil(vectors / (SHARD_ROWS * cores)))


def cached_share(units: Units, fleet: Fleet) -> float:
    """Return the share of the rows that the rest of the memory holds, as page cache."""
    used = fleet.vectors * memory_bytes(units, fleet.target_rows)
    spare = fleet.machines * FILLED * fleet.machine.memory - used
    return min(1.0, max(0.0, spare) / (fleet.vectors * units.row_bytes))


# Searches


@dataclass(frozen=True)
class Search:
    """Cost of one kind of search over a fleet."""

    units: Units
    fleet: Fleet
    need: Need

    @cached_property
    def rows(self) -> float:
        """Return the rows that one shard scores exactly."""
        return min(self.need.rows(self.fleet.target_rows), self.fleet.target_rows)

    @cached_property
    def codes_ms(self) -> float:
        """Return the time of the codes of one shard: lists visited, and the codes in them."""
        n = self.fleet.target_rows
        lists = choose_parameters(max(1, round(n)), self.units.dim, IndexSettings()).lists
        scanned = self.need.share * n * code_bytes(self.units, n) * self.units.code_byte_ns
        return (2 * self.units.call_ns + self.need.share * lists * self.units.list_ns + scanned) / 1e6

    @cached_property
    def cold(self) -> float:
        """Return the share of the rows that are read from the disk."""
        return 1 - cached_share(self.units, self.fleet)

    @cached_property
    def rerank_ms(self) -> float:
        """Return the time of the rows of one shard, read one at a time."""
        return self.rows * (self.units.row_ns + self.cold * self.fleet.machine.read_ns) / 1e6

    @cached_property
    def cpu_ms(self) -> float:
        """Return the time of a core for one shard; waiting for the disk is not counted."""
        return self.units.search_ms + self.codes_ms + self.rows * self.units.row_ns / 1e6

    @cached_property
    def shard_ms(self) -> float:
        """Return the median latency of one shard that has a core."""
        return self.units.search_ms + self.codes_ms + self.rerank_ms

    @cached_property
    def reads(self) -> float:
        """Return the reads from disks that one query causes, in all shards."""
        return self.fleet.shards * self.rows * self.cold

    @cached_property
    def queries_per_s(self) -> float:
        """Return the queries a second of the fleet: limited by cores at BUSY, or by the reads of the disks."""
        fleet = self.fleet
        by_cores = BUSY * fleet.machines * fleet.machine.cores * 1000 / (fleet.shards * self.cpu_ms)
        by_reads = fleet.machines * fleet.machine.reads_per_s / self.reads if self.reads else math.inf
        return min(by_cores, by_reads)

    def latency(self) -> Latency:
        """Return the latency of a query on an idle fleet, without the encoding of the query.

        The slowest of all shards, times the turns that the shards of a machine take on its cores, a hop, and the
        router's calls.
        """
        turns = math.ceil(self.fleet.shards_a_machine / self.fleet.machine.cores)
        one = self.units.spread.scaled(self.shard_ms * turns)
        router_ms = (self.units.hop_us + self.fleet.machines * self.units.send_us) / 1000
        return slowest(one, self.fleet.shards).later(router_ms)


# Building


def train_s(units: Units, rows: float) -> float:
    """Return core-seconds of training for that many rows: fixed + 2 rounds sample lists reduced dimensions / rate."""
    form = choose_parameters(max(1, round(rows)), units.dim, IndexSettings())
    sample = min(form.train_rows, form.lists * POINTS_PER_CENTROID)
    flop = 2 * KMEANS_ROUNDS * sample * form.lists * form.reduced_dim
    return units.train_fixed_s + flop / (1e9 * units.train_gflop_s)


def add_s(units: Units, rows: float) -> float:
    """Return core-seconds of adding that many rows: 2 rows reduced dimensions (dimensions + lists) / rate."""
    form = choose_parameters(max(1, round(rows)), units.dim, IndexSettings())
    return rows * 2 * form.reduced_dim * (units.dim + form.lists) / (1e9 * units.add_gflop_s)


def build_s(units: Units, fleet: Fleet, shares: Mapping[str, float]) -> float:
    """Return core-seconds of building all indexes of one shard; `shares` of the vectors by modality."""
    parts = [fleet.shard_rows * share for share in shares.values()]
    return sum(train_s(units, rows) + add_s(units, rows) + TUNE_S for rows in parts)


def fleet_build_s(units: Units, fleet: Fleet, shares: Mapping[str, float]) -> float:
    """Return the seconds until all shards have indexes, one core a shard at a time."""
    turns = math.ceil(fleet.shards_a_machine / fleet.machine.cores)
    return turns * build_s(units, fleet, shares)


# Ingestion


@dataclass(frozen=True)
class FileCost:
    """Cost of a file of one modality: core-seconds to decode, seconds of a GPU to embed (0: on the cores)."""

    core_s: float
    gpu_s: float


def files_per_s(units: Units, fleet: Fleet, files: Mapping[str, FileCost], shares: Mapping[str, float]) -> float:
    """Return the files that the fleet indexes a second, with one GPU a machine: the slower of cores and GPUs."""
    core_s = sum(share * files[name].core_s for name, share in shares.items()) + units.commit_us / 1e6
    gpu_s = sum(share * files[name].gpu_s for name, share in shares.items())
    by_cores = fleet.machines * fleet.machine.cores / core_s
    return min(by_cores, fleet.machines / gpu_s if gpu_s else math.inf)
