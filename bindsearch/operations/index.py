"""Indexing of folders and files into a store: the request of a run, and the run itself."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bindsearch.arguments import did_you_mean, shown, to_number, to_texts
from bindsearch.atomic import is_there
from bindsearch.errors import UsageError
from bindsearch.indexes.types import IndexSettings
from bindsearch.ingest.archives.samples import ArchiveLimits
from bindsearch.ingest.dry_run import plan_collection
from bindsearch.ingest.inspect.folder_settings import read_folder_settings
from bindsearch.ingest.inspect.rules import parse_rule
from bindsearch.ingest.manifests.rows import ListLimits
from bindsearch.ingest.media.options import DecodeOptions, decode_options
from bindsearch.ingest.pipeline import Indexer
from bindsearch.ingest.scan.ignore import make_narrowing
from bindsearch.ingest.scan.target import WHOLE, IndexOptions, ScanTarget, Share
from bindsearch.ingest.targets import archive_of, failed_targets, plan_targets
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.operations.context import StoreContext
from bindsearch.operations.index_policy import IndexActionKind
from bindsearch.operations.optimize import optimize
from bindsearch.operations.relocate import move_gone_collections
from bindsearch.reports import (
    IndexReport,
    OnProgress,
    OnRows,
    OnStage,
    PlannedFile,
    ignore_progress,
    ignore_rows,
    ignore_stage,
)
from bindsearch.search.generation import Reader
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.config import STORE_FILE
from bindsearch.storage.session import open_writer
from bindsearch.storage.writer import collected_losses


@dataclass(frozen=True)
class IndexRequest:
    """Options of an indexing run; see `Store.index`.

    Attributes:
        rules: Rules MODALITY=GLOB that override the detected modality.
        imu_rate_hz: Sampling rate in Hz of IMU recordings that do not give one; None: it must be in the file.
        retry_failed: Whether files that failed before are tried again.
        include: Globs; only matching files are processed.
        exclude: Globs; matching files are not processed.
        prune: Whether items are removed even if a whole folder disappeared.
        limits: Limits on the resources per file by name, such as `max_pixels`.
        share: Files that belong to the store, if it is a shard.
    """

    rules: Iterable[str] = ()
    imu_rate_hz: float | None = None
    retry_failed: bool = False
    include: Iterable[str] = ()
    exclude: Iterable[str] = ()
    prune: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    share: Share = WHOLE

    def options(self, decode: DecodeOptions) -> IndexOptions:
        """Return the options of the pipeline; `decode`: decoding options of the store.

        Raises:
            UsageError: a rule, a glob or a limit is invalid.
        """
        decode, archives, lists = _apply_limits(decode, self.limits)
        rules = tuple(parse_rule(rule) for rule in to_texts(self.rules, "rules"))
        narrowing = make_narrowing(to_texts(self.include, "include"), to_texts(self.exclude, "exclude"))
        return IndexOptions(
            rules=rules,
            decode=decode,
            retry_failed=self.retry_failed,
            narrowing=narrowing,
            prune=self.prune,
            archives=archives,
            lists=lists,
            share=self.share,
        )


def _apply_limits(
    decode: DecodeOptions, limits: Mapping[str, float]
) -> tuple[DecodeOptions, ArchiveLimits, ListLimits]:
    """Return options and limits with the given ones applied; `array` is short for `max_array_bytes`, and so on."""
    if not isinstance(limits, Mapping) or not all(isinstance(name, str) for name in limits):
        raise UsageError(f'limits is {shown(limits)}: give numbers by name, such as {{"pixels": 1e8}}')
    limited = decode, ArchiveLimits(), ListLimits()
    caps = {entry.name: options for options in limited for entry in fields(options)}
    caps = {name: options for name, options in caps.items() if name.startswith("max_")}
    overrides: dict[str, Any] = {}
    for cap_name, value in limits.items():
        given = cap_name.removeprefix("max_")
        name = next((cap for cap in caps if f"max_{given}" in (cap, re.sub("_(bytes|s)$", "", cap))), None)
        if name is None:
            known = [re.sub("^max_|_(bytes|s)$", "", cap) for cap in caps]
            raise UsageError(f"unknown limit {given!r}: {did_you_mean(given, known)}choose from {', '.join(known)}")
        number = to_number(value, f"the limit {given}", "expected a number above 0", lowest=math.ulp(0.0))
        overrides[name] = math.ceil(number) if isinstance(getattr(caps[name], name), int) else number
    chosen = [{name: value for name, value in overrides.items() if caps[name] is options} for options in limited]
    return replace(limited[0], **chosen[0]), replace(limited[1], **chosen[1]), replace(limited[2], **chosen[2])


def _with_settings(options: IndexOptions, root: Path) -> IndexOptions:
    """Return options with the settings of a collection; rules of the request come first."""
    settings = read_folder_settings(root)
    return replace(options, rules=(*options.rules, *settings.rules), settings=settings)


FindTargets = Callable[[Catalog, ListLimits], Iterable[ScanTarget]]
"""Function that returns the targets to index once the catalog is open; it may add new roots to the catalog."""


def index_targets(
    context: StoreContext,
    find_targets: FindTargets,
    request: IndexRequest,
    decoders: Decoders,
    settings: IndexSettings | None = None,
    on_progress: OnProgress = ignore_progress,
    on_stage: OnStage = ignore_stage,
    moved_to: Sequence[Path] = (),
) -> IndexReport:
    """Run one indexing run and the index maintenance after it.

    Args:
        context: Store, encoder and GPUs.
        find_targets: Returns the targets once the catalog is open.
        request: Options of the run.
        decoders: Workers that decode files.
        settings: New index settings; None: the stored ones.
        on_progress: Called with the progress of the run.
        on_stage: Called with the name of each stage of the index maintenance.
        moved_to: Folders that the files of collections whose folder is gone may be in now.

    Returns:
        Numbers of items and files, failures and notices.

    Raises:
        UsageError: the request is invalid, or the settings cannot be met.
        StoreLockedError: another process is writing.
        InstallationError: a library that decoding or embedding needs cannot be loaded.
    """
    started = time.monotonic()
    request.options(DecodeOptions())  # invalid options raise before anything is created
    if not (context.path / STORE_FILE).is_file():
        decoders.check_libraries()
    with (
        collected_losses() as losses,
        open_writer(context.path, context.encoder, context.segments, losses.append) as (config, catalog, writer),
    ):
        options = request.options(decode_options(config, request.imu_rate_hz))
        indexer = Indexer(catalog, writer, context.encoder, decoders, context.path, on_progress)
        indexer.report.notices += move_gone_collections(moved_to, catalog, writer)
        for target in find_targets(catalog, options.lists):
            indexer.index(target, _with_settings(options, target.root))
        writer.discard_lost_files()
        results = optimize(context, writer, settings, force=False, on_stage=on_stage)
        has_columns = bool(indexer.report.items and catalog.class_records())
    report = indexer.report
    if request.share is WHOLE:
        report.notices += report.unused_facts
    if has_columns:
        from bindsearch.operations.classify.column import missing_notices

        report.notices += missing_notices(Reader(context.path).current().snapshot)
    report.losses = len(losses)
    report.notices[:0] = losses
    refusals = [result for result in results if result.need.work is IndexActionKind.REFUSED]
    report.notices.extend(f"the {result.modality} index is unchanged: {result.need.reason}" for result in refusals)
    report.took_s = time.monotonic() - started
    return report


def at_paths(paths: Sequence[Path], store: Path) -> FindTargets:
    """Return a function that finds all targets at and below these absolute paths.

    It raises UsageError for one that is neither there nor known: a mistyped path.
    """

    def find(catalog: Catalog, lists: ListLimits) -> Iterator[ScanTarget]:
        collections = catalog.collections()
        for path in paths:
            _check_is_known(path, collections, catalog)
        return plan_targets(paths, collections, catalog.add_collection, store, lists)

    return find


def _check_is_known(path: Path, collections: Mapping[int, Path], catalog: Catalog) -> None:
    if is_there(path) or archive_of(path) != path:
        return
    for key, root in collections.items():
        if path.is_relative_to(root):
            rel_path = path.relative_to(root).as_posix()
            if catalog.known_files(key, (rel_path,)).n or rel_path in catalog.containers(key):
                return
    raise mistyped(path)


def mistyped(path: Path) -> UsageError:
    """Return the error for a path that is neither there nor known."""
    try:
        near = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        near = ""
    return UsageError(f"{path} does not exist, and nothing of it is indexed: {near}give a folder or a file")


def at_failures(store: Path) -> FindTargets:
    """Return a function that finds all files with a recorded failure."""

    def find(catalog: Catalog, _: ListLimits) -> list[ScanTarget]:
        rows = catalog.failures_table().to_pylist()
        return failed_targets([(row["collection_id"], row["rel_path"]) for row in rows], catalog.collections(), store)

    return find


def plan_paths(
    store: Path,
    paths: Iterable[Path],
    collections: Mapping[int, Path],
    request: IndexRequest,
    on_rows: OnRows = ignore_rows,
) -> list[PlannedFile]:
    """Return how each file would be classified and read, and why; nothing is written.

    Args:
        store: Folder of the store; it is skipped.
        paths: Files and folders.
        collections: Root of each collection by id.
        request: Options of the run.
        on_rows: Called with the number of files of a collection that are done, and their total.
    """
    options = request.options(DecodeOptions(imu_rate_hz=request.imu_rate_hz))
    planned: list[PlannedFile] = []
    for target in plan_targets(paths, collections, lambda _root: -1, store, options.lists):
        planned.extend(plan_collection(target, _with_settings(options, target.root), on_rows))
    return planned
