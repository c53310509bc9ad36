"""Indexing of sharded stores: each shard indexes its own files, in a job that can be sent to another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.atomic import is_there
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import BindSearchError, StoreError, StoreLockedError
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.ingest.left_out import at_or_below
from bindsearch.ingest.manifests.rows import ListLimits
from bindsearch.ingest.media.options import DecodeOptions, decode_options, segment_lengths
from bindsearch.ingest.scan.target import ScanTarget, Share
from bindsearch.ingest.targets import archive_of, changed_targets, failed_targets, plan_targets, resolve_paths
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.operations.context import StoreContext
from bindsearch.operations.index import IndexRequest, index_targets, mistyped
from bindsearch.operations.optimize import check_index_settings
from bindsearch.reports import IndexReport, OnProgress, OnStage, ignore_progress, ignore_stage
from bindsearch.shards.each import ProgressSum, results_of, run_each_here, sum_reports
from bindsearch.shards.fingerprints import OtherShards, fingerprints_path, write_fingerprints
from bindsearch.shards.layout import ShardMap, read_shard_map, shard_of
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.config import STORE_FILE, load_store_encoder, read_config
from bindsearch.storage.faults import store_faults
from bindsearch.storage.snapshot import open_snapshot, read_manifest
from bindsearch.types import DecodeIn

if TYPE_CHECKING:
    from bindsearch.encoders.base import Encoder
    from bindsearch.indexes.types import IndexSettings
    from bindsearch.storage.config import SegmentLengths

LOCK_PAUSE_S = 0.2


@dataclass(frozen=True)
class ShardOptions:
    """Options of the stores of all shards; see `connect`.

    Attributes:
        encoder: Name of the encoder, or an encoder (None: that of the shards, `mini` for new ones).
        encoder_options: Preprocessing options of the encoder.
        device: Device for towers and indexes.
        compile: Whether towers are compiled.
        segment_s: Lengths of segments in seconds of new shards.
        decode: Where files are decoded.
        workers: Number of decoders of a job (None: one for each usable core).
        lock_wait_s: Time in seconds to wait for another writer of a shard, such as a lost worker that is ending.
    """

    encoder: str | Encoder | None = None
    encoder_options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    device: str = "auto"
    compile: bool = False
    segment_s: Mapping[str, float] = field(default_factory=dict)
    decode: DecodeIn = DecodeIn.PROCESS
    workers: int | None = None
    lock_wait_s: float = 0.0


@dataclass(frozen=True)
class ShardJob:
    """Job to index the files of one shard; plain data, which can be sent to another process."""

    root: Path
    number: int
    n: int
    paths: tuple[Path, ...]  # absolute paths to index; none: the files that failed before
    request: IndexRequest
    options: ShardOptions
    index_settings: IndexSettings | None = None  # settings of the indexes (None: the stored ones)
    keeps_missing: bool = False  # missing files stay until the other shards have looked for their vectors
    has_changes: bool = False  # the paths were seen to change: missing ones are deleted


OnShardProgress = Callable[[int], OnProgress]
"""Function that returns the callback for the progress of a shard."""

RunJobs = Callable[[Sequence[ShardJob], OnShardProgress], Mapping[int, "IndexReport | BindSearchError"]]
"""Function that runs jobs, in whatever processes, and returns the report or the error of each shard."""


LoadEncoder = Callable[[Path, "str | Encoder | None", Mapping[str, str | int | float | bool], Runtime], "Encoder"]
"""Function that loads the encoder of a store, such as `load_store_encoder`."""


@dataclass(frozen=True)
class Tools:
    """Tools that the jobs of a process share: the encoder, segment lengths of new shards, decoders and GPUs."""

    encoder: Encoder
    segments: SegmentLengths
    decoders: Decoders
    gpus: GpuResidency


@contextmanager
def open_tools(job: ShardJob, load: LoadEncoder = load_store_encoder) -> Iterator[Tools]:
    """Load what jobs like this one need; new shards get the encoder and the segment lengths of those that are there.

    Args:
        job: One of the jobs.
        load: Loads the encoder of a store.

    Raises:
        StoreError: the shards were created with another encoder.
        EncoderError: the encoder is unknown, or its model is not installed.
        UsageError: an option is invalid.
    """
    options = job.options
    folders = read_shard_map(job.root).paths(job.root)
    like = next((path for path in folders if (path / STORE_FILE).is_file()), None)
    runtime = Runtime(device=options.device, compile=options.compile)
    encoder = load(like or folders[0], options.encoder, options.encoder_options, runtime)
    lengths = segment_lengths(options.segment_s, encoder.wants)
    if like is not None:
        lengths = decode_options(read_config(like), None)
    with closing(GpuResidency(options.device)) as gpus, Decoders(encoder, options.decode, options.workers) as decoders:
        yield Tools(encoder, lengths, decoders, gpus)


def index_shard(
    job: ShardJob, tools: Tools, on_progress: OnProgress = ignore_progress, on_stage: OnStage = ignore_stage
) -> IndexReport:
    """Index the files of one shard, and return the report of the run; the store is created on first use.

    Raises:
        StoreLockedError: another process is writing to the shard.
        StoreError: the shard is damaged or missing, or has another encoder.
    """
    shards = read_shard_map(job.root)
    if shards.n != job.n:
        raise StoreError(f"{job.root} has {shards.n} shards now, not {job.n}: run again")
    folders = shards.paths(job.root)
    folder = folders[job.number]
    prints = [fingerprints_path(job.root, number, shards.n) for number in range(shards.n)]
    if prints[job.number].exists() and not (folder / STORE_FILE).exists():
        way_out = f"if it is lost, delete {prints[job.number]}, and its files are embedded again"
        raise StoreError(f"the shard {folder} is missing: mount or restore its disk; {way_out}")
    notices: list[str] = []
    prints_of_others = {path: prints[key] for key, path in enumerate(folders) if key != job.number}
    others = OtherShards(folder, prints_of_others, notices.append)
    share = Share(partial(_belongs, job.number, shards.n), others.find, job.keeps_missing)
    context = StoreContext(folder, tools.encoder, tools.segments, tools.gpus, job.options.decode)
    find = partial(_targets, job, frozenset(path.resolve() for path in (job.root, *folders)))
    arguments = context, find, replace(job.request, share=share), tools.decoders, job.index_settings
    moved_to = () if job.has_changes else job.paths
    deadline = time.monotonic() + job.options.lock_wait_s
    with store_faults(folder):
        while True:
            try:
                report = index_targets(*arguments, on_progress, on_stage, moved_to=moved_to)
                break
            except StoreLockedError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(LOCK_PAUSE_S)
        if report.items or report.removed or not prints[job.number].exists():
            write_fingerprints(prints[job.number], folder)
    report.notices += notices
    return report


def _belongs(number: int, n: int, rel_path: str) -> bool:
    return shard_of(rel_path, n) == number


def _targets(job: ShardJob, skipped: frozenset[Path], catalog: Catalog, lists: ListLimits) -> Iterator[ScanTarget]:
    """Yield the targets of a job, no shard among them; raise StoreError if the number of shards has changed."""
    if (n := read_shard_map(job.root).n) != job.n:
        raise StoreError(f"{job.root} has {n} shards now, not {job.n}: run again")
    targets: Iterable[ScanTarget]
    if job.has_changes:
        targets = changed_targets(job.paths, catalog.collections(), job.root)
    elif job.paths:
        targets = plan_targets(job.paths, catalog.collections(), catalog.add_collection, job.root, lists)
    else:
        failures = catalog.failures_table().to_pylist()
        failed = [(row["collection_id"], row["rel_path"]) for row in failures]
        targets = failed_targets(failed, catalog.collections(), job.root)
    for target in targets:
        yield replace(target, skipped_folders=target.skipped_folders | (skipped - {target.root}))


def run_here(jobs: Sequence[ShardJob], progress_of: OnShardProgress) -> dict[int, IndexReport | BindSearchError]:
    """Run jobs in this process, one after the other; the encoder is loaded once, or its error is raised."""
    if not jobs:
        return {}
    with open_tools(jobs[0]) as tools:
        return run_with(tools, jobs, progress_of)


def run_with(
    tools: Tools, jobs: Sequence[ShardJob], progress_of: OnShardProgress
) -> dict[int, IndexReport | BindSearchError]:
    """Run jobs in this process with tools that are open; the error of one does not end the others."""
    tools.gpus.check()
    by_number = {job.number: job for job in jobs}
    return run_each_here(lambda number: index_shard(by_number[number], tools, progress_of(number)), [*by_number])


def index_shards(
    root: Path,
    paths: Sequence[str | Path],
    request: IndexRequest,
    options: ShardOptions,
    *,
    index_settings: IndexSettings | None = None,
    run: RunJobs = run_here,
    on_progress: OnProgress = ignore_progress,
    on_stage: OnStage = ignore_stage,
) -> IndexReport:
    """Update all shards from folders or files, as `Store.index` updates a store.

    Missing files are removed after all shards have looked for the vectors of new ones, so that files that are renamed
    into another shard are not embedded again.

    Args:
        root: Folder of the sharded store.
        paths: Folders or files that exist, or that were deleted from a collection.
        request: Options of the run; its share is not used.
        options: Options of the stores.
        index_settings: Settings of the indexes (None: the stored ones).
        run: Runs jobs, here or in other processes.
        on_progress: Called with the sum of the progress of the shards.
        on_stage: Called with the name of each stage.

    Returns:
        Counts, failures and notices of all shards.

    Raises:
        StoreNotFoundError: there is no sharded store.
        UsageError: a path does not exist, or a rule, glob or limit is invalid.
        BindSearchError: shards have failed, which are named; the others are indexed.
    """
    shards = read_shard_map(root)
    known = known_files(root, shards)
    resolved = resolve_paths(paths, known.roots)
    for path in resolved:
        known.check(path)
    if index_settings is not None:
        with open_tools(ShardJob(root, 0, shards.n, (), request, options)) as tools:  # raises before anything is made
            check_index_settings(index_settings, tools.encoder.dim)
    request.options(DecodeOptions())  # invalid options raise before anything is created
    job = ShardJob(root, 0, shards.n, tuple(resolved), request, options, index_settings)
    jobs = [replace(job, number=number) for number in range(shards.n)]
    report = index_jobs(jobs, shards, run=run, on_progress=on_progress, on_stage=on_stage)
    seen = (report.items, report.unchanged, report.removed, report.failures, report.without_content, report.notices)
    if not any(seen):
        report.notices.append("no indexable files found")
    return report


def retry_shards(
    root: Path,
    request: IndexRequest,
    options: ShardOptions,
    *,
    run: RunJobs = run_here,
    on_progress: OnProgress = ignore_progress,
    on_stage: OnStage = ignore_stage,
) -> IndexReport:
    """Process only the files that failed before, of all shards; see `index_shards`.

    Raises:
        StoreNotFoundError: there is no sharded store.
        BindSearchError: shards have failed, which are named.
    """
    shards = read_shard_map(root)
    request = replace(request, retry_failed=True)
    request.options(DecodeOptions())
    there = [number for number, folder in enumerate(shards.paths(root)) if (folder / STORE_FILE).is_file()]
    jobs = [ShardJob(root, number, shards.n, (), request, options) for number in there]
    return index_jobs(jobs, shards, run=run, on_progress=on_progress, on_stage=on_stage)


def index_jobs(
    jobs: Sequence[ShardJob],
    shards: ShardMap,
    *,
    run: RunJobs = run_here,
    on_progress: OnProgress = ignore_progress,
    on_stage: OnStage = ignore_stage,
) -> IndexReport:
    """Run jobs of shards, then those of shards with missing files once more; sum their reports.

    Raises:
        BindSearchError: shards have failed, which are named.
    """
    started = time.monotonic()
    by_number = {job.number: replace(job, keeps_missing=True) for job in jobs}
    progress = ProgressSum(on_progress)
    on_stage(f"indexing {len(jobs)} shards")
    reports = results_of(run([*by_number.values()], progress.of), shards)
    with_missing = [number for number, report in reports.items() if report.kept_missing]
    swept: Mapping[int, IndexReport] = {}
    if with_missing:
        on_stage(f"removing missing files from {len(with_missing)} shards")
        again = [replace(by_number[number], keeps_missing=False) for number in with_missing]
        swept = results_of(run(again, lambda _: ignore_progress), shards)
    report = sum_reports(reports, swept)
    report.took_s = time.monotonic() - started
    return report


@dataclass(frozen=True)
class KnownFiles:
    """Collections of the shards, and the snapshots to look for files in."""

    roots: tuple[Path, ...]
    folders: tuple[Path, ...]

    def shards_that_know(self, path: Path) -> set[int]:
        """Return the shards that have anything at or below a path."""
        return {number for number, folder in enumerate(self.folders) if _knows(folder, path)}

    def check(self, path: Path) -> None:
        """Check that a path is there or anything at or below it is indexed.

        Raises:
            UsageError: it is a mistyped path.
        """
        if not is_there(path) and archive_of(path) == path and not self.shards_that_know(path):
            raise mistyped(path)


def known_files(root: Path, shards: ShardMap) -> KnownFiles:
    """Return the collections of all shards that can be read now."""
    folders = tuple(shards.paths(root))
    roots: dict[Path, None] = {}
    for folder in folders:
        with suppress(BindSearchError):
            manifest = read_manifest(folder)
            roots.update(dict.fromkeys(map(Path, {} if manifest is None else manifest.collections.values())))
    return KnownFiles(tuple(roots), folders)


def _knows(folder: Path, path: Path) -> bool:
    """Return whether a shard has an item or a failure at or below a path."""
    import pyarrow.compute as pc

    with suppress(BindSearchError):
        manifest = read_manifest(folder)
        if manifest is None:
            return False
        snapshot = open_snapshot(folder, manifest)
        for key, root in manifest.collections.items():
            if not path.is_relative_to(root):
                continue
            rel_path = path.relative_to(root).as_posix()
            for table in filter(None, (snapshot.items, snapshot.failures)):
                paths = table.filter(pc.equal(table.column("collection_id"), key)).column("rel_path")
                if pc.any(at_or_below(paths, [rel_path])).as_py():
                    return True
    return False
