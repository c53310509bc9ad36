"""Maintenance of a store's indexes: build, extend, tune or drop the index of each partition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import shown
from bindsearch.environment import check_libraries
from bindsearch.errors import IndexDamagedError, UsageError
from bindsearch.indexes.cost_model import costs_path, load_costs, measure_costs, save_costs
from bindsearch.indexes.gpu.index import GpuIndex
from bindsearch.indexes.gpu.placement import build_codes, code_parameters
from bindsearch.indexes.index_files import INDEXES, publish_index, remove_indexes
from bindsearch.indexes.ivf_pq import IvfPqIndex, build_index
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.source_classifier import find_regions
from bindsearch.indexes.tuning import MIN_QUERIES, SELECTIVITIES, fill_missing, in_distribution_cosine, measure_points
from bindsearch.indexes.types import IndexManifest, IndexParameters, IndexSettings, OperatingPoint, UnitCosts
from bindsearch.operations.context import StoreContext
from bindsearch.operations.index_policy import (
    GROWTH_TUNED,
    IndexAction,
    IndexActionKind,
    IndexState,
    choose_action,
    drift_reason,
    read_index_settings,
    write_index_settings,
)
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.search.generation import Generation
from bindsearch.search.partition import STATISTICS_SAMPLE, Partition
from bindsearch.search.scoring.calibration import partition_statistics
from bindsearch.search.words.index import write_words
from bindsearch.storage.config import read_config
from bindsearch.storage.probe_captions import caption_vectors
from bindsearch.storage.session import open_writer
from bindsearch.storage.snapshot import open_snapshot, read_manifest
from bindsearch.storage.writer import Writer
from bindsearch.types import Modality

QUERIES = 300
"""Number of stored vectors per modality that are run as queries to measure operating points."""

TUNE_SECONDS = 90.0
"""Time budget for measuring operating points, per partition."""

DRIFT_SAMPLE = 2048
APPEND_ROWS = 32768


@dataclass(frozen=True)
class OptimizeResult:
    """Result of the maintenance of one partition.

    Attributes:
        modality: Modality of the partition.
        need: The action, with its reason.
        index: Folder and manifest digest of the published index; None if there is none.
    """

    modality: Modality
    need: IndexAction
    index: tuple[str, str] | None


@dataclass
class Optimizer:
    """Builder of the indexes of one generation; the caller holds the writer's lock and publishes the results.

    `captions` returns vectors of generic texts, float32 (m, d), for a store with few texts; None if the store has
    enough texts or the encoder embeds none. It is called only when an index is built or tuned.
    """

    context: StoreContext
    generation: Generation  # opened for the CPU
    settings: IndexSettings
    captions: Callable[[], NDArray[np.float32]] | None
    on_stage: OnStage

    def needs(self, *, force: bool) -> dict[Modality, IndexAction]:
        """Return the action that each partition needs; `force` rebuilds all indexes."""
        return {modality: self._need(one, force=force) for modality, one in self.generation.partitions.items()}

    def run(self, needs: Mapping[Modality, IndexAction]) -> Iterator[OptimizeResult]:
        """Do what the partitions need, and yield the result of each that needed an action."""
        partitions, published = self.generation.partitions, self.generation.manifest.indexes
        for modality, need in needs.items():
            if need.work is IndexActionKind.NOTHING:
                continue
            self.on_stage(f"{modality}: {need.work} ({need.reason})")
            index = None
            if need.work is IndexActionKind.REFUSED:
                index = published.get(modality)
            elif need.work is not IndexActionKind.DROP:
                index = self._publish(partitions[modality], need)
            yield OptimizeResult(modality, need, index)
        for modality in published.keys() - partitions.keys():
            yield OptimizeResult(modality, IndexAction(IndexActionKind.DROP, "no rows are left"), None)

    def _need(self, partition: Partition, *, force: bool) -> IndexAction:
        """Return the action that a partition needs."""
        state = self._state(partition)
        need = choose_action(state)
        is_extended = need.work in (IndexActionKind.APPEND, IndexActionKind.TUNE)
        if force and state.manifest is not None and (is_extended or need.work is IndexActionKind.NOTHING):
            return IndexAction(IndexActionKind.BUILD, "requested")
        if is_extended and partition.moved:
            return IndexAction(IndexActionKind.BUILD, "its vector files were rewritten without deleted rows")
        if need.work is IndexActionKind.APPEND and (drift := self._drift(partition)) is not None:
            return IndexAction(IndexActionKind.BUILD, drift)
        return need

    def _state(self, partition: Partition) -> IndexState:
        """Return the state that the action for a partition is chosen by."""
        opened = partition.index
        indexed_rows, wants_codes = partition.indexed_rows, self._wants_codes(partition)
        live_indexed_rows = indexed_rows if partition.alive is None else int(partition.alive.flags[:indexed_rows].sum())
        wanted: IndexParameters | str
        try:
            wanted = choose_parameters(max(partition.live_rows, 1), partition.dim, self.settings)
        except UsageError as error:
            wanted = str(error)
        return IndexState(
            rows=partition.n,
            live_rows=partition.live_rows,
            indexed_rows=indexed_rows,
            dead=0 if opened is None else opened.manifest.n - live_indexed_rows,
            dim=partition.dim,
            wanted=wanted,
            settings=self.settings,
            sources=self._measurable(),
            manifest=None if opened is None else opened.manifest,
            index_error=partition.index_error or (self._published_codes(partition)[1] if wants_codes else None),
            wants_codes=wants_codes,
        )

    def _wants_codes(self, partition: Partition) -> bool:
        """Return whether a partition will be searched on GPUs and its raw rows do not fit into GPU memory."""
        rows = {modality.value: other.n for modality, other in self.generation.partitions.items()}
        gpus = self.context.gpus
        return bool(gpus.devices) and not gpus.holds_exact(partition.modality.value, rows, partition.dim)

    @staticmethod
    def _published_codes(partition: Partition) -> tuple[IvfPqIndex | None, str | None]:
        """Return the published codes for GPUs, or None with the reason why they cannot be used."""
        if partition.index is None or partition.index.manifest.gpu_parameters is None:
            return None, None
        try:
            return partition.open_gpu_codes(), None
        except IndexDamagedError as error:
            return None, str(error)

    def _measurable(self) -> frozenset[str]:
        """Return the modalities that queries for measurements can be taken from."""
        partitions = self.generation.partitions.items()
        present = {modality.value for modality, partition in partitions if partition.live_rows >= MIN_QUERIES}
        return frozenset(present if self.captions is None else present | {Modality.TEXT.value})

    def _drift(self, partition: Partition) -> str | None:
        """Return why the tail should not be added to codes trained on older rows; None if it can be added."""
        assert partition.index is not None
        assert partition.index.index is not None
        trained = partition.index.manifest.quality
        tail = np.arange(partition.indexed_rows, partition.n)
        sample = tail[np.linspace(0, len(tail) - 1, min(len(tail), DRIFT_SAMPLE)).astype(np.int64)]
        now = partition.index.index.quality(partition.rows.gather(sample), added=len(tail))
        return None if trained is None else drift_reason(trained, now)

    def _index(self, partition: Partition, need: IndexAction) -> IvfPqIndex:
        """Return the index to publish; an index that readers search is not modified: rows are appended to a copy."""
        if need.work is IndexActionKind.BUILD:
            parameters = choose_parameters(partition.live_rows, partition.dim, self.settings)
            return build_index(partition.blocks, parameters, self._rows_done(partition, need))
        assert partition.index is not None
        index = partition.index.index
        assert index is not None
        return index if need.work is IndexActionKind.TUNE else self._append_tail(partition, need, index)

    def _gpu_codes(self, partition: Partition, need: IndexAction) -> IvfPqIndex | None:
        """Return the codes for GPUs to publish with the index; existing codes are extended on any machine."""
        if need.work is IndexActionKind.BUILD:
            if not self._wants_codes(partition):
                return None
            parameters = code_parameters(partition.live_rows, partition.dim, self.settings)
            devices = self.context.gpus.devices
            return build_codes(partition.blocks, parameters, devices, self._rows_done(partition, need))
        codes, _ = self._published_codes(partition)  # damaged codes are dropped if this machine does not need them
        if codes is None or need.work is IndexActionKind.TUNE:
            return codes
        return self._append_tail(partition, need, codes)

    def _append_tail(self, partition: Partition, need: IndexAction, index: IvfPqIndex) -> IvfPqIndex:
        """Return a copy of the index with the tail appended."""
        rows_done = self._rows_done(partition, need)
        extended = index.clone()
        for start in range(partition.indexed_rows, partition.n, APPEND_ROWS):
            stop = min(start + APPEND_ROWS, partition.n)
            extended.add(partition.rows.gather(np.arange(start, stop)))
            rows_done(stop)
        return extended

    def _rows_done(self, partition: Partition, need: IndexAction) -> Callable[[int], None]:
        """Return a function that reports the number of rows done."""
        return lambda rows: self.on_stage(f"{partition.modality}: {need.work} ({rows:,} of {partition.n:,} rows)")

    def _publish(self, partition: Partition, need: IndexAction) -> tuple[str, str]:
        """Measure the new index, write it to a new folder, and remove indexes that readers no longer use."""
        index, codes, store = self._index(partition, need), self._gpu_codes(partition, need), self.context.path
        statistics = partition_statistics(partition.sample(STATISTICS_SAMPLE)[1], n=partition.live_rows)
        old = None if partition.index is None or need.work is IndexActionKind.BUILD else partition.index.manifest
        keep_tuning = False
        if old is not None and index.n < GROWTH_TUNED * old.tuned_rows and need.work is IndexActionKind.APPEND:
            keep_tuning = True
            points, in_distribution = old.points, old.in_distribution_cosine
            tuned_rows, measured_sources = old.tuned_rows, old.measured_sources
        else:
            self.on_stage(f"{partition.modality}: measuring the index")
            points = self._points(partition, index)
            foreign = [rows for source, rows in self._queries.items() if source != partition.modality]
            in_distribution = in_distribution_cosine(partition.sample(STATISTICS_SAMPLE)[1], statistics.mu, foreign)
            tuned_rows, measured_sources = index.n, tuple(sorted(self._measurable()))
        gpu_points = () if old is None or codes is None else old.gpu_points
        if codes is not None and self.context.gpus.devices and not keep_tuning:
            gpu_points = ()
            # FAISS raises RuntimeError if GPU memory is short; without points, all lists are searched.
            with suppress(RuntimeError):
                gpu_points = self._points(partition, self.context.gpus.on_codes(codes))
        quality = index.quality(partition.rows.gather(partition.sample(DRIFT_SAMPLE)[0]))
        manifest = IndexManifest(
            modality=partition.modality.value,
            generation=next_generation(store, partition.modality),
            n=index.n,
            last_vector_id=int(partition.vector_ids[index.n - 1]),
            dim=partition.dim,
            parameters=index.parameters,
            settings=self.settings,
            trained_rows=index.n if old is None else old.trained_rows,
            tuned_rows=tuned_rows,
            measured_sources=measured_sources,
            quality=quality if old is None else old.quality,
            in_distribution_cosine=in_distribution,
            points=points,
            files={},
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            gpu_parameters=None if codes is None else codes.parameters,
            gpu_points=gpu_points,
        )
        arrays = {**statistics.to_arrays(), **find_regions(self._queries, partition.dim).to_arrays()}
        folder, digest = publish_index(store, manifest, index, partition.vector_ids[: index.n], arrays, codes)
        published = self.generation.manifest.indexes.get(partition.modality)
        remove_indexes(store, partition.modality, {folder} if published is None else {folder, published[0]})
        return folder, digest

    def _points(self, partition: Partition, index: IvfPqIndex | GpuIndex) -> tuple[OperatingPoint, ...]:
        """Return operating points for queries of each modality; on a GPU over all rows, including deleted ones."""
        modality = partition.modality.value
        own, members = partition.sample(QUERIES)
        enough = len(members) >= MIN_QUERIES
        queries = {**self._queries, modality: members} if enough else self._queries
        on_gpu = isinstance(index, GpuIndex)
        measured = cast("IvfPqIndex", index)  # without filters, a GpuIndex has the same methods
        points = measure_points(
            measured,
            partition.rows,
            queries,
            modality=modality,
            own=own if enough else None,
            alive=None if on_gpu else partition.alive,
            recall=self.settings.recall,
            selectivities=(1.0,) if on_gpu else SELECTIVITIES,
            budget_s=TUNE_SECONDS,
            costs=self._costs,
        )
        sources = [modality.value for modality in self.context.encoder.modalities]
        return fill_missing(points, sources, modality, measured, self._costs)

    @cached_property
    def _costs(self) -> UnitCosts:
        """Unit costs of a search on this machine; they are measured once and cached."""
        if (costs := load_costs(costs_path())) is None:
            costs = measure_costs()
            with suppress(OSError):  # the cache cannot be written: the next run measures again
                save_costs(costs_path(), costs)
        return costs

    @cached_property
    def _queries(self) -> dict[str, NDArray[np.float32]]:
        """Queries (nq, d) of each modality with enough stored vectors, and of text if it can be encoded."""
        partitions = self.generation.partitions.values()
        queries = {p.modality.value: p.sample(QUERIES)[1] for p in partitions if p.live_rows >= MIN_QUERIES}
        return queries if self.captions is None else {**queries, Modality.TEXT.value: self.captions()}


def next_generation(store: Path, modality: Modality) -> int:
    """Return the number of the next index of a modality: greater than that of any existing folder."""
    parent = store / INDEXES / modality
    numbers = [int(folder.name) for folder in parent.iterdir() if folder.name.isdecimal()] if parent.is_dir() else []
    return max(numbers, default=0) + 1


def optimize(
    context: StoreContext, writer: Writer, settings: IndexSettings | None, *, force: bool, on_stage: OnStage
) -> list[OptimizeResult]:
    """Build, extend, tune or drop the indexes that need it, and publish them.

    Args:
        context: Store, encoder and GPUs that the store will be searched on.
        writer: Writer of the store; its lock is held.
        settings: New index settings; None: the stored ones.
        force: Rebuild all indexes.
        on_stage: Called with the name of each stage.

    Returns:
        One result for each partition that needed an action.

    Raises:
        UsageError: the given settings cannot be met.
    """
    store = context.path
    previous = read_index_settings(store)
    is_given, settings = settings is not None, settings or previous
    optimizer = _optimizer(context, settings, on_stage)
    needs = optimizer.needs(force=force)
    if is_given and (refused := [need.reason for need in needs.values() if need.work is IndexActionKind.REFUSED]):
        raise UsageError(refused[0])
    if settings != previous:
        write_index_settings(store, settings)
    if any(need.work is IndexActionKind.BUILD for need in needs.values()):
        writer.compact()  # an index is built over vector files that are not rewritten later
        optimizer = _optimizer(context, settings, on_stage)
        needs = optimizer.needs(force=force)
    results = []
    for optimized in optimizer.run(needs):
        published = writer.indexes.get(optimized.modality)
        writer.set_indexes({optimized.modality: optimized.index})
        if optimized.index is None:  # a reader may be opening the old index: the next run removes it
            remove_indexes(store, optimized.modality, set() if published is None else {published[0]})
        results.append(optimized)
    newest = read_manifest(store)
    assert newest is not None
    write_words(store, newest, on_stage)
    return results


def _optimizer(context: StoreContext, settings: IndexSettings, on_stage: OnStage) -> Optimizer:
    """Return an Optimizer of the current generation."""
    manifest = read_manifest(context.path)
    assert manifest is not None  # the writer has made one
    generation = Generation(context.path, open_snapshot(context.path, manifest), read_config(context.path).dim)
    texts = generation.partitions.get(Modality.TEXT)
    has_texts = texts is not None and texts.live_rows >= MIN_QUERIES
    captions = None
    if not has_texts and Modality.TEXT in context.encoder.modalities:
        captions = partial(caption_vectors, context.encoder, context.path)
    return Optimizer(context, generation, settings, captions, on_stage)


CHECKED_ROWS = 1_000_000
"""Number of rows of the hypothetical partition that settings are checked for."""


def check_index_settings(settings: IndexSettings | None, dim: int) -> None:
    """Check index settings before anything is written.

    Raises:
        UsageError: they are no IndexSettings, or a parameter is unknown, out of range or does not fit another.
    """
    if settings is not None:
        if not isinstance(settings, IndexSettings):
            raise UsageError(f"index_settings is {shown(settings)}: give an IndexSettings")
        choose_parameters(CHECKED_ROWS, dim, replace(settings, memory_bytes=None))


def optimize_store(
    context: StoreContext,
    settings: IndexSettings | None = None,
    *,
    force: bool = False,
    on_stage: OnStage = ignore_stage,
) -> list[OptimizeResult]:
    """Bring the indexes of a store up to date with its vectors; see `Store.optimize`.

    Args:
        context: Store, encoder and GPUs.
        settings: New index settings; None: the stored ones.
        force: Rebuild all indexes.
        on_stage: Called with the name of each stage.

    Returns:
        One result for each partition that needed an action.

    Raises:
        UsageError: the settings cannot be met.
        StoreLockedError: another process is writing.
    """
    check_libraries(("faiss",))
    context.gpus.check()
    check_index_settings(settings, context.encoder.dim)
    with open_writer(context.path, context.encoder, context.segments) as (_, _, writer):
        writer.compact()
        return optimize(context, writer, settings, force=force, on_stage=on_stage)
