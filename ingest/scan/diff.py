"""Comparison of a scan with the catalog: files to inspect, unchanged, deleted, and those that may be there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.ingest.inspect.rules import Rule, rule_for
from bindsearch.ingest.scan.default_ignores import PREFIX
from bindsearch.ingest.scan.target import IndexOptions, ScanTarget
from bindsearch.ingest.scan.walk import Scan
from bindsearch.storage.file_state import IndexedFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

_PERMISSION_FAULTS = (os.strerror(errno.EACCES), os.strerror(errno.EPERM))


def compare(scan: Scan, known: IndexedFiles, options: IndexOptions) -> tuple[Rows, Rows, Rows]:
    """Compare by path and state; files outside of the run's narrowing are in none of the results.

    Returns:
        Rows of the scan to inspect, then rows of the known files that are up to date, and those that are missing.
    """
    rows = known.rows_of(scan.rel_paths)
    is_known = rows >= 0
    unchanged = np.zeros(len(rows), np.bool_)
    same = scan.states[is_known] == known.states[rows[is_known]]
    same[:, 3] |= known.states[rows[is_known], 3] == 0  # the inode is unknown
    unchanged[is_known] = same.all(axis=1)
    work = ~unchanged | _needs_recheck(known, rows, options)
    included = np.ones(len(rows), np.bool_)
    is_missing = np.ones(known.n, np.bool_)
    is_missing[rows[is_known]] = False
    missing = np.flatnonzero(is_missing)
    if options.narrowing.is_active:
        includes = options.narrowing.includes
        included = np.array([includes(path) for path in scan.rel_paths], np.bool_)
        missing = np.array([row for row in missing.tolist() if includes(known.rel_path(row))], np.int64)
    return np.flatnonzero(work & included), rows[~work & included], missing


def reclassified_by_rule(known: IndexedFiles, row: int, rules: Sequence[Rule]) -> bool:
    """Return whether a rule gives a known file another modality than it has."""
    rule = rule_for(known.rel_path(row), rules)
    return rule is not None and rule.modality is not known.modality(row)


def _needs_recheck(known: IndexedFiles, rows: Rows, options: IndexOptions) -> NDArray[np.bool_]:
    """Return which known files are inspected although they are unchanged, bool (n,)."""
    needs_recheck = np.zeros(len(rows), np.bool_)
    known_rows = np.flatnonzero(rows >= 0)
    has_item = known.item_ids[rows[known_rows]] >= 0  # an unchanged item that failed recently is inspected again
    retried = has_item | options.retries_failed | known.failed_by_installation[rows[known_rows]]
    needs_recheck[known_rows] = known.failed[rows[known_rows]] & retried
    for row in known_rows.tolist() if options.rules else ():
        needs_recheck[row] |= reclassified_by_rule(known, int(rows[row]), options.rules)
    return needs_recheck


@dataclass
class GoneFiles:
    """Rows of the indexed files to be removed, int64 (n,); if confirmed, whatever was not found is deleted."""

    rows: Rows
    notices: list[str] = field(default_factory=list)
    is_confirmed: bool = True


def find_gone(
    missing: Rows, scan: Scan, known: IndexedFiles, target: ScanTarget, *, found: bool, prune: bool
) -> GoneFiles:
    """Return which missing files are to be removed.

    What is left out now is removed. Nothing is removed at or below a path that could not be read or may be on a disk
    that is not mounted, nor, without `prune`, all of a folder at once: such a disk looks like an empty folder.

    Args:
        missing: rows of the known files that the scan lacks, int64 (m,).
        scan: the scan.
        known: the indexed files.
        target: what was scanned.
        found: the scan has any file, manifests aside.
        prune: missing files are removed even if a whole folder disappeared.
    """
    gone = GoneFiles(missing)
    _keep(gone, known, scan.failed)
    by_reason: dict[str, list[str]] = {}
    for path, reason in scan.unreadable.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in by_reason.items():
        what = f"{len(paths)} files and folders, such as " * (len(paths) > 1) + f"{target.root / paths[0]} ({reason})"
        advice = "check the permissions" if reason in _PERMISSION_FAULTS else "run again when it can be read"
        stay = f"the {_keep(gone, known, paths)} files indexed there stay in the store"
        gone.notices.append(f"cannot read {what}: {stay}; {advice}")
    ignored = _rows_of(known, (path.rstrip("/") for path in scan.left_out if path not in scan.unmounted))
    ignored = gone.rows[np.isin(gone.rows, ignored)]
    gone.rows = np.setdiff1d(gone.rows, ignored, assume_unique=True)
    if not prune:
        _keep_unmounted(gone, scan, known, target)
        if not target.deletions_confirmed:
            _keep_disappeared(gone, scan, known, target, found=found)
    gone.rows = np.union1d(gone.rows, ignored)
    _tell_ignored(gone, scan, known, target)
    return gone


def _tell_ignored(gone: GoneFiles, scan: Scan, known: IndexedFiles, target: ScanTarget) -> None:
    """Add a notice on files that were indexed before they were ignored by default."""
    if not len(gone.rows):
        return
    listed = (path for path, reason in scan.left_out.items() if reason.startswith(PREFIX))
    counts = {path: int(np.isin(gone.rows, _rows_of(known, [path.rstrip("/")])).sum()) for path in listed}
    path = next((path for path, n in counts.items() if n), None)
    if path is not None:
        name = path.rstrip("/").rpartition("/")[2] + "/" * path.endswith("/")
        gone.notices.append(
            f"{sum(counts.values())} indexed files are in {target.root / path} and the like, which are ignored by "
            f"default now: they leave the store (to keep them, write !{name} into .bindsearchignore)"
        )


def _keep_unmounted(gone: GoneFiles, scan: Scan, known: IndexedFiles, target: ScanTarget) -> None:
    """Keep files at or below links to a disk that may not be mounted."""
    if kept := _keep(gone, known, scan.unmounted):
        path, end = next(iter(scan.unmounted.items()))
        what = f"a link to nothing, {target.root / path} to {end}"
        if len(scan.unmounted) > 1:
            what = f"{len(scan.unmounted)} links to nothing, such as {target.root / path} to {end}"
        gone.notices.append(
            f"{what}: the {kept} files indexed there stay in the store, since a disk may not be mounted; mount it, or "
            "run again with --prune"
        )


def _keep_disappeared(gone: GoneFiles, scan: Scan, known: IndexedFiles, target: ScanTarget, *, found: bool) -> None:
    """Keep files of folders whose files disappeared all at once."""
    if not len(gone.rows):
        return
    start, root = target.start, target.root
    if not found and (start.is_dir() or start == root or not root.is_dir()):
        gone.notices.append(_disappearance(start if root.is_dir() else root, len(gone.rows)))
        gone.rows, gone.is_confirmed = gone.rows[:0], False
        return
    for path in scan.empty:
        if kept := _keep(gone, known, [path]):
            gone.notices.append(_disappearance(root / path, kept))


def _disappearance(path: Path, n: int) -> str:
    """Return the notice on a folder whose files disappeared all at once."""
    return (
        f"{path} is {'empty' if path.is_dir() else 'missing'}: its {n} indexed files stay in the store; "
        "if they are really deleted, run again with --prune"
    )


def _keep(gone: GoneFiles, known: IndexedFiles, paths: Iterable[str]) -> int:
    """Take the files at or below paths from those to be removed; return their number."""
    before = len(gone.rows)
    gone.rows = gone.rows[~np.isin(gone.rows, _rows_of(known, paths))]
    return before - len(gone.rows)


def _rows_of(known: IndexedFiles, paths: Iterable[str]) -> Rows:
    """Return the rows of the files at or below paths, int64 (n,)."""
    return np.concatenate([np.zeros(0, np.int64), *(known.rows_at_or_below(path) for path in paths if known.n)])
