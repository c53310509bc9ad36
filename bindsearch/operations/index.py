"""Indexing folders and files into a store: what is asked for, and one run of it."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bindsearch.errors import StoreLockedError, UsageError
from bindsearch.indexes.types import IndexSettings
from bindsearch.ingest.archives.samples import ArchiveLimits
from bindsearch.ingest.dry_run import plan_collection
from bindsearch.ingest.inspect.classify import parse_rule, read_folder_rules
from bindsearch.ingest.media.options import DecodeOptions, decode_options
from bindsearch.ingest.pipeline import Indexer
from bindsearch.ingest.scan.collection import IndexOptions, ScanTarget
from bindsearch.ingest.scan.ignore import make_narrowing
from bindsearch.ingest.scan.watch import watch_changes
from bindsearch.ingest.targets import changed_targets, failed_targets, plan_targets
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.operations.context import StoreContext
from bindsearch.operations.index_policy import IndexActionKind
from bindsearch.operations.optimize import optimize
from bindsearch.reports import IndexReport, OnProgress, OnStage, PlannedFile, ignore_progress, ignore_stage
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.config import STORE_FILE
from bindsearch.storage.session import open_writer

LOCKED_SECONDS = 0.5
"""Between two tries to write beside another writer."""

SPOOL = "spool"
"""Folder in a store for copies of members of archives while they are taken in."""


@dataclass(frozen=True)
class IndexRequest:
    """Request of an indexing run; see `Store.index`."""

    rules: Iterable[str] = ()
    imu_rate_hz: float | None = None
    retry_failed: bool = False
    include: Iterable[str] = ()
    exclude: Iterable[str] = ()
    prune: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)

    def options(self, decode: DecodeOptions) -> IndexOptions:
        """The same for the pipeline; `decode`: as the store was made.

        Raises:
            UsageError: a rule, a glob or a limit is wrong.
        """
        decode, archives = _limited(decode, self.limits)
        return IndexOptions(
            rules=tuple(parse_rule(rule) for rule in self.rules),
            decode=decode,
            retry_failed=self.retry_failed,
            narrowing=make_narrowing(tuple(self.include), tuple(self.exclude)),
            prune=self.prune,
            archives=archives,
        )


def _limited(decode: DecodeOptions, limits: Mapping[str, float]) -> tuple[DecodeOptions, ArchiveLimits]:
    """The caps on what a file may ask of the machine, those in `limits` other than they are by default; a name may go
    without its unit, `max_array` for `max_array_bytes`."""
    archives = ArchiveLimits()
    caps = {entry.name: options for options in (decode, archives) for entry in fields(options)}
    caps = {name: options for name, options in caps.items() if name.startswith("max_")}
    given: dict[str, Any] = {}
    for asked, value in limits.items():
        wanted = f"max_{asked.removeprefix('max_')}"
        name = next((cap for cap in caps if wanted in (cap, re.sub("_(bytes|s)$", "", cap))), None)
        if name is None:
            known = ", ".join(re.sub("^max_|_(bytes|s)$", "", cap) for cap in caps)
            raise UsageError(f"unknown limit {asked.removeprefix('max_')!r}: choose from {known}")
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"the limit {asked.removeprefix('max_')} is {value:g}: expected a number above 0")
        given[name] = type(getattr(caps[name], name))(value)
    of_files = {name: value for name, value in given.items() if caps[name] is decode}
    of_archives = {name: value for name, value in given.items() if caps[name] is archives}
    return replace(decode, **of_files), replace(archives, **of_archives)


FindTargets = Callable[[Catalog], Iterable[ScanTarget]]
"""Targets to index, found once the catalog is open; a root that is new may be added to it."""


def index_targets(
    context: StoreContext,
    find_targets: FindTargets,
    request: IndexRequest,
    decoders: Decoders,
    settings: IndexSettings | None = None,
    on_progress: OnProgress = ignore_progress,
    on_stage: OnStage = ignore_stage,
) -> IndexReport:
    """One run, and what the indexes need after it.

    Raises:
        UsageError: the request is wrong, or the settings cannot be met.
        StoreLockedError: another process is writing.
        InstallationError: a library that decoding or embedding needs cannot be loaded.
    """
    started = time.monotonic()
    request.options(DecodeOptions())  # what is wrong is said before anything is made
    if not (context.path / STORE_FILE).is_file():
        decoders.check_libraries()
    with open_writer(context.path, context.encoder, context.segments) as (config, catalog, writer):
        options = request.options(decode_options(config, request.imu_rate_hz))
        indexer = Indexer(catalog, writer, context.encoder, decoders, context.path / SPOOL, on_progress)
        for target in find_targets(catalog):
            rules = (*options.rules, *read_folder_rules(target.root))  # those asked for come first
            indexer.index(target, replace(options, rules=rules))
        done = optimize(
            context.path, config.dim, writer, context.encoder, settings, context.gpus, force=False, on_stage=on_stage
        )
    report = indexer.report
    refused = [one for one in done if one.need.work is IndexActionKind.REFUSED]
    report.notices.extend(f"the {one.modality} index stays as it is: {one.need.reason}" for one in refused)
    report.took_s = time.monotonic() - started
    return report


def at_paths(paths: Sequence[Path], store: Path) -> FindTargets:
    """All at and under these paths (absolute)."""
    return lambda catalog: plan_targets(paths, catalog.collections(), catalog.add_collection, store)


def at_failures(store: Path) -> FindTargets:
    """All files that have failed."""

    def find(catalog: Catalog) -> list[ScanTarget]:
        rows = catalog.failures_table().to_pylist()
        return failed_targets([(row["collection_id"], row["rel_path"]) for row in rows], catalog.collections(), store)

    return find


def watch_paths(
    context: StoreContext,
    paths: Sequence[Path],
    request: IndexRequest,
    on_report: Callable[[IndexReport], None],
    stop: threading.Event,
    *,
    rescan_s: float,
    polling: bool,
) -> None:
    """Index folders, then what changes in them, until `stop` is set; `on_report` hears of each run.

    While another process is writing, changes wait.
    """
    with Decoders(context.encoder, context.decode) as decoders:
        decoders.check_libraries()
        changes = watch_changes(
            paths, stop=stop, skipped_folders=frozenset({context.path.resolve()}), rescan_s=rescan_s, polling=polling
        )
        with closing(changes):
            for change in changes:
                find = at_paths([path for path in paths if path.is_dir()], context.path)
                if not change.rescan:
                    find = _at_changes(change.paths, context.path)
                while not stop.is_set():
                    try:
                        on_report(index_targets(context, find, request, decoders))
                    except StoreLockedError:
                        stop.wait(LOCKED_SECONDS)
                        continue
                    except UsageError as error:  # such as an ignore file that is being written
                        on_report(IndexReport(notices=[str(error)]))
                    break


def _at_changes(paths: Sequence[Path], store: Path) -> FindTargets:
    return lambda catalog: changed_targets(paths, catalog.collections(), store)


def plan_paths(
    store: Path, paths: Iterable[Path], collections: Mapping[int, Path], request: IndexRequest
) -> list[PlannedFile]:
    """Return what each file would be taken for, and why; writes nothing."""
    options = request.options(DecodeOptions(imu_rate_hz=request.imu_rate_hz))
    planned: list[PlannedFile] = []
    for target in plan_targets(paths, collections, lambda _root: -1, store):
        rules = (*options.rules, *read_folder_rules(target.root))
        planned.extend(plan_collection(target, replace(options, rules=rules)))
    return planned
