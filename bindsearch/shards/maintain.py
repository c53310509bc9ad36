"""Maintenance of sharded stores: what is done for each shard, and the sum of what came of it.

Each function raises StoreNotFoundError if there is no sharded store, and the BindSearchError of shards that have
failed, which it names; it is done for the others.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import numpy as np

from bindsearch.arguments import to_path_text
from bindsearch.errors import StoreError, UsageError
from bindsearch.ingest.left_out import read_left_out
from bindsearch.operations.classify.column import ColumnReport, ColumnStatus
from bindsearch.operations.compact import CompactReport, compact_store
from bindsearch.operations.exchange.exchange_format import open_generation
from bindsearch.operations.exchange.export import ExportReport, NothingToExportError, check_target
from bindsearch.operations.exchange.object_store import below, to_place
from bindsearch.operations.forget import forget, known_to
from bindsearch.operations.optimize import OptimizeResult
from bindsearch.operations.relocate import RelocateReport, check_found, relocate
from bindsearch.operations.verify.check import verify
from bindsearch.operations.verify.findings import Report
from bindsearch.operations.verify.recover import RecoverReport, recover_store
from bindsearch.reports import LeftOutFile
from bindsearch.results import PartitionStatus, Status
from bindsearch.shards.each import RunEach, counted, joined, results_of, run_each_here, totals
from bindsearch.shards.fingerprints import fingerprints_path
from bindsearch.shards.layout import ShardMap, local_id, read_shard_map
from bindsearch.storage.config import STORE_FILE
from bindsearch.storage.faults import store_faults
from bindsearch.store import Store
from bindsearch.types import Item, Modality, PathLike

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.zero_shot import ClassNames
    from bindsearch.indexes.types import IndexSettings

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def call_each(
    root: Path,
    call: Callable[Concatenate[Path, Arguments], Result],
    run_each: RunEach[Result],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> dict[int, Result]:
    """Call a function with the folder of each shard that is there.

    Args:
        root: Folder of the sharded store.
        call: Function of a module, which can be sent to another process.
        run_each: Calls a function for each shard.
        *arguments: Further arguments of the function.
        **options: Its options.

    Returns:
        Its result for each shard; a shard that never had a file has none.
    """
    shards = read_shard_map(root)
    task = partial(_call_one, root, shards, partial(call, **options), arguments)
    return results_of(run_each(task, [*present(root, shards)]), shards)


def _call_one(
    root: Path, shards: ShardMap, call: Callable[..., Result], arguments: Sequence[object], number: int
) -> Result:
    folder = shards.paths(root)[number]
    with store_faults(folder):
        return call(folder, *arguments)


def present(root: Path, shards: ShardMap) -> dict[int, Path]:
    """Return the folders of the shards that are there, by number; one that never had a file is not.

    Raises:
        StoreError: one that had files is missing.
    """
    folders = {}
    for number, folder in enumerate(shards.paths(root)):
        if (folder / STORE_FILE).is_file():
            folders[number] = folder
        elif fingerprints_path(root, number, shards.n).exists():
            raise StoreError(f"the shard {folder} is missing: mount or restore its disk")
    return folders


def sum_status(root: Path, parts: Sequence[Status]) -> Status:
    """Return the sum of the status of shards."""
    partitions: dict[Modality, list[PartitionStatus]] = {}
    for partition in (partition for part in parts for partition in part.partitions):
        partitions.setdefault(partition.modality, []).append(partition)
    columns: dict[str, list[ColumnStatus]] = {}
    for column in joined(parts, "columns")["columns"]:
        columns.setdefault(column.name, []).append(column)
    return replace(
        parts[0],
        path=root,
        **totals(parts, "generation", "size_bytes"),
        **joined(parts, "failures", "without_content"),
        collections=tuple(dict.fromkeys(path for part in parts for path in part.collections)),
        items=dict(counted(parts, "items")),
        segments=dict(counted(parts, "segments")),
        partitions=tuple(map(_sum_partitions, partitions.values())),
        left_out=dict(counted(parts, "left_out").most_common()),
        columns=tuple(replace(same[0], **totals(same, "items", "missing")) for same in columns.values()),
    )


def _sum_partitions(parts: Sequence[PartitionStatus]) -> PartitionStatus:
    sums = totals(parts, "rows", "deleted", "indexed_rows", "index_bytes")
    form = Counter(part.form for part in parts).most_common(1)[0][0]
    error = next((part.index_error for part in parts if part.index_error is not None), None)
    return replace(parts[0], **sums, form=form, parameters=None, points=(), index_error=error)


def verify_shards(
    root: Path, *, check_media: bool = False, hash_media: bool = False, run_each: RunEach[Report] = run_each_here
) -> Report:
    """Check all shards as `Store.verify`; changes nothing."""
    started = time.monotonic()
    reports = [*call_each(root, verify, run_each, check_media=check_media, hash_media=hash_media).values()]
    unchecked = tuple(dict.fromkeys(text for report in reports for text in report.unchecked))
    sums = {**joined(reports, "findings"), **totals(reports, "read_bytes")}
    return Report(**sums, unchecked=unchecked, took_s=time.monotonic() - started)


def optimize_shards(
    root: Path,
    index_settings: IndexSettings | None = None,
    force: bool = False,
    device: str = "auto",
    run_each: RunEach[list[OptimizeResult]] = run_each_here,
) -> dict[int, list[OptimizeResult]]:
    """Bring the indexes of all shards up to date as `Store.optimize`; return what was done for each shard."""
    return call_each(root, _optimize, run_each, index_settings, force, device)


def _optimize(folder: Path, settings: IndexSettings | None, force: bool, device: str) -> list[OptimizeResult]:
    with Store(folder, device=device) as store:
        return store.optimize(index_settings=settings, force=force)


def compact_shards(root: Path, *, run_each: RunEach[CompactReport] = run_each_here) -> CompactReport:
    """Repair, shrink and tidy all shards as `Store.compact`."""
    reports = call_each(root, compact_store, run_each).values()
    return CompactReport(**totals(reports, "before_bytes", "after_bytes"), **joined(reports, "repaired", "remaining"))


def recover_shards(root: Path, *, run_each: RunEach[RecoverReport] = run_each_here) -> RecoverReport:
    """Rebuild damaged catalogs of shards from their snapshots as `Store.recover`; lines name the shard."""
    reports = call_each(root, recover_store, run_each)
    reason = "; ".join(f"shard {number}: {report.reason}" for number, report in reports.items() if report.reason)
    source = " and ".join(sorted({report.source for report in reports.values() if report.source}))
    losses = tuple(f"shard {number}: {loss}" for number, report in reports.items() for loss in report.losses)
    return RecoverReport(reason, source, **totals(reports.values(), "items", "segments"), losses=losses)


def forget_in_shards(
    root: Path, paths: Sequence[str], item_ids: Sequence[int] = (), *, run_each: RunEach[int] = run_each_here
) -> int:
    """Remove items by path, and by number over all shards, as `Store.forget`; return how many.

    Raises:
        UsageError: nothing is given, nothing is indexed at a path, or there is no such item; nothing is changed.
    """
    if not paths and not item_ids:
        raise UsageError("nothing to forget: give a path or an item id")
    shards = read_shard_map(root)
    ids: dict[int, list[int]] = {}
    for number in item_ids:
        local, shard = local_id(number, shards.n)
        ids.setdefault(shard, []).append(local)
    there = present(root, shards)
    known = {number: known_to(folder, paths, ids.get(number, ())) for number, folder in there.items()}
    for position, path in enumerate(paths):
        if not any(position in found.paths for found in known.values()):
            raise UsageError(f"{path} is not in the store: nothing at or below it was indexed")
    for item in item_ids:
        local, shard = local_id(item, shards.n)
        if shard not in known or local not in known[shard].item_ids:
            raise UsageError(f"no item has the id {item}: `bindsearch search --json` prints ids")
    wanted = {
        number: ([paths[position] for position in sorted(found.paths)], ids.get(number, []))
        for number, found in known.items()
        if found.paths or found.item_ids
    }
    removed = results_of(run_each(partial(_forget, root, shards, wanted), [*wanted]), shards)
    return sum(removed.values())


def _forget(root: Path, shards: ShardMap, wanted: Mapping[int, tuple[list[str], list[int]]], number: int) -> int:
    folder = shards.paths(root)[number]
    with store_faults(folder):
        return forget(folder, *wanted[number])


def relocate_shards(root: Path, old: str, new: str) -> RelocateReport:
    """Give the collections below a folder that was moved their new roots in all shards, as `Store.relocate`.

    All shards are checked first; if it is interrupted between two of them, the same call does the rest.

    Raises:
        UsageError: `old` is not a collection, or `new` does not contain the files; nothing is changed.
    """
    shards = read_shard_map(root)
    checked: dict[int, RelocateReport] = {}
    errors: list[UsageError] = []
    for number, folder in present(root, shards).items():
        try:
            checked[number] = relocate(folder, old, new, dry_run=True)
        except UsageError as error:  # a shard that an interrupted call has done, or that was made later
            errors.append(error)
    if not checked:
        raise errors[0]
    check_found(old, new, _sum_relocated([*checked.values()]))
    return _sum_relocated([relocate(shards.paths(root)[number], old, new, is_checked=True) for number in checked])


def _sum_relocated(reports: Sequence[RelocateReport]) -> RelocateReport:
    roots = {before: after for report in reports for before, after in report.collections.items()}
    return RelocateReport(roots, **totals(reports, "items", "sampled", "found"))


def left_out_of_shards(root: Path, start: int, most: int) -> list[LeftOutFile]:
    """Return files and folders that were not indexed, `most` of them from number `start` on, by collection and path."""
    lists = []
    for folder in present(root, read_shard_map(root)).values():
        roots = open_generation(folder)[1].manifest.collections
        rows = [(path, *row.values()) for key, path in roots.items() for row in read_left_out(folder, key).to_pylist()]
        lists.append(sorted(rows))
    merged = islice(heapq.merge(*lists), start, start + most)
    return [LeftOutFile(Path(collection) / rel_path, reason) for collection, rel_path, reason in merged]


def duplicates_of_shards(
    root: Path, *, run_each: RunEach[tuple[NDArray[np.bytes_], NDArray[np.int64]]] = run_each_here
) -> list[tuple[Item, ...]]:
    """Return groups of items with the same bytes, the largest first; ids of items are numbers over all shards."""
    shards = read_shard_map(root)
    found = call_each(root, content_hashes, run_each)
    if not found:
        return []
    hashes = np.concatenate([hashes for hashes, _ in found.values()])
    ids = np.concatenate([local * shards.n + number for number, (_, local) in found.items()])
    order = np.lexsort((ids, hashes))
    hashes, ids = hashes[order], ids[order]
    groups = [group for group in np.split(ids, np.flatnonzero(hashes[1:] != hashes[:-1]) + 1) if len(group) > 1]
    wanted = np.concatenate([np.zeros(0, np.int64), *groups])
    items: dict[int, Item] = {}
    for number in found:
        snapshot = open_generation(shards.paths(root)[number])[1].snapshot
        for number_of_item in wanted[wanted % shards.n == number].tolist():
            item = snapshot.item(local_id(number_of_item, shards.n)[0])
            if item is not None:  # it was removed meanwhile
                items[number_of_item] = replace(item, item_id=number_of_item)
    complete = [tuple(items[key] for key in group.tolist() if key in items) for group in groups]
    return sorted((group for group in complete if len(group) > 1), key=lambda group: (-len(group), group[0].item_id))


def content_hashes(folder: Path) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """Return content hashes, S32 (m,), and ids, int64 (m,), of the items of a shard that have a hash."""
    items = open_generation(folder)[1].snapshot.live_tables()[0]
    hashes = np.array(items.column("content_hash").to_pylist(), "S32")
    known = hashes != b""
    return hashes[known], items.column("item_id").to_numpy()[known]


def classify_shards(
    root: Path,
    labels: ClassNames | Path | Sequence[str] | None,
    *,
    device: str = "auto",
    run_each: RunEach[ColumnReport] = run_each_here,
    **options: object,
) -> ColumnReport:
    """Write a column with the class of each item in all shards as `Store.classify`, whose options are the same.

    Raises:
        UsageError: labels, templates or a name are invalid.
    """
    started = time.monotonic()
    reports = [*call_each(root, _classify, run_each, labels, device, options).values()]
    if not reports:
        raise StoreError(f"nothing is indexed yet in {root}: run `bindsearch index FOLDER --store {root}`")
    counts = dict(counted(reports, "counts").most_common())
    sums = totals(reports, "items", "classified", "without_vectors", "cancelled")
    replaced, took_s = any(report.replaced for report in reports), time.monotonic() - started
    return replace(reports[0], **sums, replaced=replaced, counts=counts, took_s=took_s)


def _classify(
    folder: Path, labels: ClassNames | Path | Sequence[str] | None, device: str, options: Mapping[str, object]
) -> ColumnReport:
    with Store(folder, device=device) as store:
        return store.classify(labels, **options)  # type: ignore[arg-type]


def remove_column_of_shards(root: Path, column: str, *, run_each: RunEach[bool] = run_each_here) -> None:
    """Remove a column that `classify` wrote from all shards.

    Raises:
        UsageError: no shard has such a column.
    """
    if not any(call_each(root, _remove_column, run_each, column).values()):
        raise UsageError(f"the store has no column {column!r:.80} that `classify` has written")


def _remove_column(folder: Path, column: str) -> bool:
    """Remove a column of a shard; return whether it had one."""
    stored = open_generation(folder)[1].snapshot.class_columns
    if stored is None or all(one.name != column.lower() for one in stored.columns.values()):
        return False
    with Store(folder, device="cpu") as store:
        store.remove_column(column)
    return True


def export_shards(
    root: Path, target: PathLike, *, run_each: RunEach[ExportReport | None] = run_each_here, **options: object
) -> ExportReport:
    """Export each shard to a folder of its own in a folder or URI, as `Store.export`; `import` takes all of them.

    Raises:
        UsageError: a folder is not empty, or an option is invalid.
    """
    started = time.monotonic()
    shards = read_shard_map(root)
    numbers = [*present(root, shards)]
    place = to_place(target)
    check_target(place)
    shared: Path | str = place if isinstance(place, Path) else to_path_text(target)
    results = results_of(run_each(partial(_export, root, shards, shared, options), numbers), shards)
    reports = [report for report in results.values() if report is not None]
    if not reports:
        raise NothingToExportError
    return ExportReport(
        target=place if isinstance(place, Path) else place.name,
        vectors=dict(counted(reports, "vectors")),
        files=sum(report.files or 0 for report in reports),
        size_bytes=sum(report.size_bytes or 0 for report in reports),
        took_s=time.monotonic() - started,
    )


def _export(
    root: Path, shards: ShardMap, target: Path | str, options: Mapping[str, object], number: int
) -> ExportReport | None:
    """Export a shard; None: nothing of it matches."""
    with Store(shards.paths(root)[number], device="cpu") as store:
        try:
            return store.export(below(target, f"shard-{number:04d}"), **options)  # type: ignore[arg-type]
        except NothingToExportError:
            return None
