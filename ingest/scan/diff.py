"""Comparison of a scan with the catalog: files to inspect, unchanged files, missing files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.ingest.inspect.rules import Rule, rule_for
from bindsearch.ingest.scan.ignore import PathFilter
from bindsearch.ingest.scan.walk import Scan
from bindsearch.storage.file_state import IndexedFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """Result of the comparison.

    Attributes:
        work: rows of the scan to inspect, int64.
        settled: rows of the known files that are up to date, int64.
        missing: rows of the known files that are missing, int64.
    """

    work: NDArray[np.int64]
    settled: NDArray[np.int64]
    missing: NDArray[np.int64]


@dataclass(frozen=True)
class RecheckRules:
    """Rules by which an unchanged file is inspected again.

    Attributes:
        rules: the current classification rules.
        retry_failed: failed files are processed again.
    """

    rules: Sequence[Rule]
    retry_failed: bool


def compare(scan: Scan, known: IndexedFiles, narrowing: PathFilter, recheck: RecheckRules) -> Comparison:
    """Compare by path and state; files outside of `narrowing` are in none of the results."""
    rows = known.rows_of(scan.rel_paths)
    is_known = rows >= 0
    unchanged = np.zeros(len(rows), np.bool_)
    unchanged[is_known] = _same_state(scan.states[is_known], known.states[rows[is_known]])
    work = ~unchanged | _needs_recheck(known, rows, recheck)
    included = _included(scan.rel_paths, narrowing)
    is_missing = np.ones(known.n, np.bool_)
    is_missing[rows[is_known]] = False
    missing = np.flatnonzero(is_missing)
    if narrowing.is_active:
        missing = np.array([row for row in missing.tolist() if narrowing.includes(known.rel_path(row))], np.int64)
    return Comparison(np.flatnonzero(work & included), rows[~work & included], missing)


def reclassified_by_rule(known: IndexedFiles, row: int, rules: Sequence[Rule]) -> bool:
    """Return whether a rule gives a known file another modality than it has."""
    rule = rule_for(known.rel_path(row), rules)
    return rule is not None and rule.modality is not known.modality(row)


def _same_state(states: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether states are equal in all fields (n, 4); an inode of 0 is unknown."""
    same = states == known
    same[:, 3] |= known[:, 3] == 0
    return np.asarray(same.all(axis=1))


def _needs_recheck(known: IndexedFiles, rows: NDArray[np.int64], recheck: RecheckRules) -> NDArray[np.bool_]:
    """Return which known files are inspected although they are unchanged, bool (n,)."""
    needs_recheck = np.zeros(len(rows), np.bool_)
    known_rows = np.flatnonzero(rows >= 0)
    has_item = known.item_ids[rows[known_rows]] >= 0  # an unchanged item that failed recently is inspected again
    retried = has_item | recheck.retry_failed | known.failed_by_installation[rows[known_rows]]
    needs_recheck[known_rows] = known.failed[rows[known_rows]] & retried
    if recheck.rules:
        for row in np.flatnonzero(rows >= 0).tolist():
            needs_recheck[row] |= reclassified_by_rule(known, int(rows[row]), recheck.rules)
    return needs_recheck


def _included(rel_paths: Sequence[str], narrowing: PathFilter) -> NDArray[np.bool_]:
    """Return which paths are part of the run, bool (n,)."""
    if not narrowing.is_active:
        return np.ones(len(rel_paths), np.bool_)
    return np.array([narrowing.includes(path) for path in rel_paths], np.bool_)
