"""Keeping the indexes of a store good: which partitions need one, more rows in it, or a new one; and making it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from bindsearch.errors import IndexDamagedError, StoreError
from bindsearch.files import atomic_write
from bindsearch.generation import Generation
from bindsearch.indexes.base import Form, IndexManifest, IndexParameters, IndexWishes, OperatingPoint, UnitCosts
from bindsearch.indexes.gpu import GpuIndex
from bindsearch.indexes.ivf_pq import IvfPqIndex, build_index
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.placement import Gpus, build_codes, code_parameters
from bindsearch.indexes.storage import INDEXES, publish_index, remove_indexes
from bindsearch.indexes.tuning import KEPT, fill_missing, inside_cosine, measure_points
from bindsearch.items import Modality
from bindsearch.partition import Partition
from bindsearch.space import partition_statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAIL_ELEMENTS = 2048 * 1024
"""A tail of so many numbers takes 0.2 ms to scan: beyond it, and beyond `TAIL_SHARE`, it is added to the index."""

TAIL_SHARE = 0.02

GROWTH_TRAINED = 2.0
GROWTH_TUNED = 1.25
"""An index is trained anew when it holds so many times the rows it was trained on; its operating points are measured
anew when it holds so many times the rows they were measured on."""

WORSE_CODES = 1.15
WORSE_BALANCE = 2.0
"""New rows whose codes err so many times more, or lists so many times more uneven, mean that the data has drifted."""

DEAD_SHARE = 0.2
"""An index with more dead rows than this is built anew without them."""

QUERIES = 300
"""Stored vectors of a modality that are run as queries to measure operating points."""

TUNE_SECONDS = 30.0
"""For each partition."""

STATISTICS_SAMPLE = 4096
DRIFT_SAMPLE = 2048
WISHES_FILE = "wishes.json"

APPEND_ROWS = 32768

OnStage = Callable[[str], None]


def ignore_stage(_stage: str) -> None:
    """Shows nothing."""


class Work(StrEnum):
    """What a partition needs."""

    NOTHING = "nothing"
    DROP = "drop"
    TUNE = "tune"
    APPEND = "append"
    BUILD = "build"


@dataclass(frozen=True)
class Need:
    """What a partition needs, and why."""

    work: Work
    reason: str


@dataclass(frozen=True)
class IndexState:
    """What decides: `rows` and `living` of the partition, rows that the index covers, `dead` ones that it holds;
    `wanted`: what the rows call for today; `sources`: modalities that queries can be taken from; `wants_codes`: for a
    GPU, where the rows themselves do not fit."""

    rows: int
    living: int
    covered: int
    dead: int
    dim: int
    wanted: IndexParameters
    wishes: IndexWishes
    sources: frozenset[str]
    manifest: IndexManifest | None
    trouble: str | None
    wants_codes: bool = False


def decide(state: IndexState) -> Need:
    """What a partition needs; pure."""
    manifest = state.manifest
    if state.living == 0 or state.wanted.form is Form.EXACT:
        if manifest is None and state.trouble is None:
            return Need(Work.NOTHING, "few rows: scanned exactly")
        return Need(Work.DROP, "exact scans do: few rows, or asked for")
    if state.trouble is not None:
        return Need(Work.BUILD, f"the index is damaged ({state.trouble})")
    if manifest is None:
        return Need(Work.BUILD, f"{state.living:,} rows have none")
    if manifest.wishes != state.wishes or manifest.parameters.form is not state.wanted.form:
        return Need(Work.BUILD, "other options are wished")
    if state.wants_codes and manifest.gpu_parameters is None:
        return Need(Work.BUILD, "it has no codes for the GPU")
    if state.dead > DEAD_SHARE * manifest.n:
        return Need(Work.BUILD, f"{state.dead:,} of its {manifest.n:,} rows are deleted")
    if state.living > GROWTH_TRAINED * manifest.trained_rows:
        return Need(Work.BUILD, f"{state.living:,} rows, trained on {manifest.trained_rows:,}")
    tail = state.rows - state.covered
    if tail * state.dim > TAIL_ELEMENTS and tail > TAIL_SHARE * state.covered:
        return Need(Work.APPEND, f"{tail:,} rows are newer than the index")
    if missing := sorted(state.sources.difference(manifest.queried)):
        return Need(Work.TUNE, f"not measured for queries of {', '.join(missing)}")
    return Need(Work.NOTHING, "it is good")


@dataclass(frozen=True)
class Optimized:
    """What was done to one partition, and why; `index`: folder and manifest digest of the new index."""

    modality: Modality
    need: Need
    index: tuple[str, str] | None


def read_wishes(store: Path) -> IndexWishes:
    """What was last asked of the indexes of a store; the defaults where nothing was.

    Raises:
        StoreError: the file is damaged.
    """
    path = store / INDEXES / WISHES_FILE
    try:
        data = json.loads(path.read_text())
        form = None if data["form"] is None else Form(data["form"])
        memory = None if data["memory_bytes"] is None else int(data["memory_bytes"])
        overrides = {str(name): int(value) for name, value in data["overrides"].items()}
        return IndexWishes(form, memory, float(data["recall"]), overrides or None)
    except FileNotFoundError:
        return IndexWishes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}): remove it, and give the options again") from error


def write_wishes(store: Path, wishes: IndexWishes) -> None:
    """Remember what is asked of the indexes of a store."""
    (store / INDEXES).mkdir(parents=True, exist_ok=True)
    with atomic_write(store / INDEXES / WISHES_FILE) as file:
        file.write(json.dumps({**asdict(wishes), "overrides": dict(wishes.overrides or {})}).encode())


class Optimizer:
    """Makes the indexes of one generation. The caller holds the writer's lock and publishes what is returned."""

    def __init__(
        self,
        store: Path,
        generation: Generation,
        wishes: IndexWishes,
        encoder_modalities: frozenset[Modality],
        captions: Callable[[], NDArray[np.float32]] | None,
        costs: Callable[[], UnitCosts],
        gpus: Gpus,
        on_stage: OnStage,
    ) -> None:
        """`encoder_modalities`: what queries may come in; `captions`: vectors of generic texts float32 (m, d), for
        a store without texts; they and `costs` are asked for only where an index is made. `gpus`: where the store
        will be searched; the generation itself is one for the CPU."""
        self._store = store
        self._generation = generation
        self._wishes = wishes
        self._modalities = encoder_modalities
        self._captions = captions
        self._measure_costs = costs
        self._gpus = gpus
        self._on_stage = on_stage
        self._queries: dict[Modality, NDArray[np.float32]] | None = None

    def run(self, *, force: bool) -> Iterator[Optimized]:
        """Do what each partition needs, one after the other; `force` builds every index anew."""
        for partition in self._generation.partitions.values():
            done = self._optimize(partition, force=force)
            if done is not None:
                yield done

    def needs(self, *, force: bool) -> dict[Modality, Need]:
        """What each partition needs."""
        return {modality: self._need(place, force=force) for modality, place in self._generation.partitions.items()}

    def _need(self, partition: Partition, *, force: bool) -> Need:
        state = self._state(partition)
        need = decide(state)
        if force and need.work in (Work.TUNE, Work.APPEND, Work.NOTHING) and state.manifest is not None:
            return Need(Work.BUILD, "asked for")
        if need.work in (Work.APPEND, Work.TUNE) and partition.moved:
            return Need(Work.BUILD, "deleted rows have gone from the files it was made from")
        if need.work is Work.APPEND and (drift := self._drift(partition)) is not None:
            return Need(Work.BUILD, drift)
        return need

    def _optimize(self, partition: Partition, *, force: bool) -> Optimized | None:
        need = self._need(partition, force=force)
        if need.work is Work.NOTHING:
            return None
        self._on_stage(f"{partition.modality}: {need.work} ({need.reason})")
        if need.work is Work.DROP:
            return Optimized(partition.modality, need, None)
        index = self._index(partition, need, self._state(partition).wanted)
        codes = self._gpu_codes(partition, need)
        return Optimized(partition.modality, need, self._publish(partition, need, index, codes))

    def _state(self, partition: Partition) -> IndexState:
        opened = partition.index
        covered, wants_codes = partition.covered, self._wants_codes(partition)
        living = covered if partition.alive is None else int(partition.alive.kept[:covered].sum())
        return IndexState(
            rows=partition.n,
            living=partition.living,
            covered=covered,
            dead=0 if opened is None else opened.manifest.n - living,
            dim=partition.dim,
            wanted=choose_parameters(max(partition.living, 1), partition.dim, self._wishes),
            wishes=self._wishes,
            sources=self._measurable(),
            manifest=None if opened is None else opened.manifest,
            trouble=partition.trouble or (self._held_codes(partition)[1] if wants_codes else None),
            wants_codes=wants_codes,
        )

    def _wants_codes(self, partition: Partition) -> bool:
        """Whether it is to be searched on GPUs, and its rows do not fit there as they are."""
        rows = {modality.value: place.n for modality, place in self._generation.partitions.items()}
        return bool(self._gpus.devices) and not self._gpus.holds_exact(partition.modality.value, rows, partition.dim)

    @staticmethod
    def _held_codes(partition: Partition) -> tuple[IvfPqIndex | None, str | None]:
        """The published codes for GPUs, or why they cannot be used."""
        if partition.index is None or partition.index.manifest.gpu_parameters is None:
            return None, None
        try:
            return partition.open_gpu_codes(), None
        except IndexDamagedError as error:
            return None, str(error)

    def _measurable(self) -> frozenset[str]:
        present = {m.value for m, partition in self._generation.partitions.items() if partition.living}
        text = {Modality.TEXT.value} if self._captions is not None else set()
        return frozenset(present | text)

    def _drift(self, partition: Partition) -> str | None:
        """Why new rows should not be added to codes trained on old ones; None where they may."""
        assert partition.index is not None
        assert partition.index.index is not None
        trained = partition.index.manifest.quality
        tail = np.arange(partition.covered, partition.n)
        chosen = tail[np.linspace(0, len(tail) - 1, min(len(tail), DRIFT_SAMPLE)).astype(np.int64)]
        now = partition.index.index.quality(partition.rows.gather(chosen))
        if trained is not None and now.code_error > WORSE_CODES * trained.code_error:
            return f"the codes of new rows err {now.code_error / trained.code_error:.2f} times as much as at training"
        if trained is not None and now.imbalance > WORSE_BALANCE * trained.imbalance:
            return f"the lists are {now.imbalance / trained.imbalance:.1f} times as uneven as at training"
        return None

    def _index(self, partition: Partition, need: Need, parameters: IndexParameters) -> IvfPqIndex:
        """The index that is to be published. One that readers search is never touched: an appended one is a copy."""
        if need.work is Work.BUILD:
            return build_index(partition.blocks, parameters, self._rows_done(partition, need))
        opened = partition.index
        assert opened is not None
        assert opened.index is not None
        return opened.index if need.work is Work.TUNE else self._grown(partition, need, opened.index)

    def _gpu_codes(self, partition: Partition, need: Need) -> IvfPqIndex | None:
        """The codes for GPUs that are to be published beside; those there are grow on a machine without GPUs too."""
        if need.work is Work.BUILD:
            if not self._wants_codes(partition):
                return None
            parameters = code_parameters(partition.living, partition.dim, self._wishes)
            return build_codes(partition.blocks, parameters, self._gpus.devices, self._rows_done(partition, need))
        codes, _ = self._held_codes(partition)  # damaged ones that nobody wants here are left out
        return codes if codes is None or need.work is Work.TUNE else self._grown(partition, need, codes)

    def _grown(self, partition: Partition, need: Need, index: IvfPqIndex) -> IvfPqIndex:
        """A copy of the index that holds the tail too."""
        rows_done = self._rows_done(partition, need)
        grown = index.copy_for_append()
        for start in range(partition.covered, partition.n, APPEND_ROWS):
            stop = min(start + APPEND_ROWS, partition.n)
            grown.add(partition.rows.gather(np.arange(start, stop)))
            rows_done(stop)
        return grown

    def _rows_done(self, partition: Partition, need: Need) -> Callable[[int], None]:
        return lambda rows: self._on_stage(f"{partition.modality}: {need.work} ({rows:,} of {partition.n:,} rows)")

    def _publish(
        self, partition: Partition, need: Need, index: IvfPqIndex, codes: IvfPqIndex | None
    ) -> tuple[str, str]:
        """Measure the index, write it under a new name, and remove those that no reader is sent to any more."""
        statistics = partition_statistics(self._sample(partition, STATISTICS_SAMPLE)[1], n=partition.living)
        old = None if partition.index is None or need.work is Work.BUILD else partition.index.manifest
        tuned = old is not None and index.n < GROWTH_TUNED * old.tuned_rows and need.work is Work.APPEND
        if old is not None and tuned:
            points, inside, tuned_rows, queried = old.points, old.inside_cosine, old.tuned_rows, old.queried
        else:
            self._on_stage(f"{partition.modality}: measuring the index")
            points, inside = self._points(partition, index), self._inside_cosine(partition, statistics.mu)
            tuned_rows, queried = index.n, tuple(sorted(self._measurable()))
        gpu_points = () if old is None or codes is None else old.gpu_points
        if codes is not None and self._gpus.devices and not tuned:
            gpu_points = ()
            with suppress(RuntimeError):  # FAISS's, where it gets no memory: searched with all lists then, if at all
                gpu_points = self._points(partition, self._gpus.on_codes(codes))
        quality = index.quality(partition.rows.gather(self._sample(partition, DRIFT_SAMPLE)[0]))
        manifest = IndexManifest(
            modality=partition.modality.value,
            generation=next_generation(self._store, partition.modality),
            n=index.n,
            last_vector_id=int(partition.vector_ids[index.n - 1]),
            dim=partition.dim,
            parameters=index.parameters,
            wishes=self._wishes,
            trained_rows=index.n if old is None else old.trained_rows,
            tuned_rows=tuned_rows,
            queried=queried,
            quality=quality if old is None else old.quality,
            inside_cosine=inside,
            points=points,
            files={},
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            gpu_parameters=None if codes is None else codes.parameters,
            gpu_points=gpu_points,
        )
        vector_ids = partition.vector_ids[: index.n]
        folder, digest = publish_index(self._store, manifest, index, vector_ids, statistics.to_arrays(), codes)
        held = self._generation.manifest.indexes.get(partition.modality)
        remove_indexes(self._store, partition.modality, {folder} if held is None else {folder, held[0]})
        return folder, digest

    def _points(self, partition: Partition, index: IvfPqIndex | GpuIndex) -> tuple[OperatingPoint, ...]:
        """Operating points for queries of every modality that may come; on a GPU over all rows, dead ones included."""
        own, members = self._sample(partition, QUERIES)
        queries = {source.value: rows for source, rows in self._source_queries().items()}
        queries[partition.modality.value] = members
        on_gpu = isinstance(index, GpuIndex)
        measured = cast("IvfPqIndex", index)  # a GpuIndex is one in all that is asked of it without filters
        points = measure_points(
            measured,
            partition.rows,
            queries,
            modality=partition.modality.value,
            own=own,
            alive=None if on_gpu else partition.alive,
            recall=self._wishes.recall,
            kept=(1.0,) if on_gpu else KEPT,
            budget_s=TUNE_SECONDS,
            costs=self._costs,
        )
        sources = [modality.value for modality in self._modalities]
        return fill_missing(points, sources, partition.modality.value, measured, self._costs)

    def _inside_cosine(self, partition: Partition, mu: NDArray[np.float32]) -> float:
        """The cosine to the mean that tells queries that lie among the vectors."""
        strangers = [rows for source, rows in self._source_queries().items() if source != partition.modality]
        return inside_cosine(self._sample(partition, STATISTICS_SAMPLE)[1], mu, strangers)

    @cached_property
    def _costs(self) -> UnitCosts:
        return self._measure_costs()

    def _source_queries(self) -> dict[Modality, NDArray[np.float32]]:
        """Queries (nq, d) of each modality that the store holds, and of text in any case where it can be encoded."""
        if self._queries is None:
            partitions = self._generation.partitions.values()
            self._queries = {p.modality: self._sample(p, QUERIES)[1] for p in partitions if p.living}
            if self._captions is not None:
                self._queries[Modality.TEXT] = self._captions()
        return self._queries

    @staticmethod
    def _sample(partition: Partition, n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At most n living rows (m,), evenly spread, and their vectors (m, d)."""
        living = np.arange(partition.n) if partition.alive is None else partition.alive.positions
        rows = living[np.linspace(0, len(living) - 1, min(len(living), n)).astype(np.int64)]
        return rows, partition.rows.embeddings(rows)


def next_generation(store: Path, modality: Modality) -> int:
    """The number of the next index of a modality: greater than that of any folder there is."""
    place = store / INDEXES / modality
    numbers = [int(folder.name) for folder in place.iterdir() if folder.name.isdigit()] if place.is_dir() else []
    return max(numbers, default=0) + 1
