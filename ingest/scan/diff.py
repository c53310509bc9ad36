"""Comparison of a walk with the catalog: which files need a look, which are settled, which are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.ingest.inspect.classify import Rule, rule_for
from bindsearch.ingest.scan.ignore import PathFilter
from bindsearch.ingest.scan.walk import Scan
from bindsearch.storage.file_state import IndexedFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """Rows of a scan and of the known files: `work` needs a look, `settled` does not (known rows), `gone` is no more
    (known rows)."""

    work: NDArray[np.int64]
    settled: NDArray[np.int64]
    gone: NDArray[np.int64]


@dataclass(frozen=True)
class RecheckRules:
    """Rules by which a known file is inspected although it has not changed.

    `rules`: what they say now. `retry_failed`: files that failed are tried again.
    """

    rules: Sequence[Rule]
    retry_failed: bool


def compare(found: Scan, known: IndexedFiles, narrowing: PathFilter, doubts: RecheckRules) -> Comparison:
    """Compare by path and state. Files outside of `narrowing` are neither found nor gone."""
    rows = known.rows_of(found.rel_paths)
    here = rows >= 0
    same = np.zeros(len(rows), np.bool_)
    same[here] = _same_state(found.states[here], known.states[rows[here]])
    work = ~same | _doubtful(known, rows, doubts)
    taken = _taken(found.rel_paths, narrowing)
    missing = np.ones(known.n, np.bool_)
    missing[rows[here]] = False
    gone = np.flatnonzero(missing)
    if narrowing.is_active:
        gone = np.array([row for row in gone.tolist() if narrowing.includes(known.rel_path(row))], np.int64)
    return Comparison(np.flatnonzero(work & taken), rows[~work & taken], gone)


def reclassified_by_rule(known: IndexedFiles, row: int, rules: Sequence[Rule]) -> bool:
    """Return whether a rule takes a known file for something else than it was taken for."""
    rule = rule_for(known.rel_path(row), rules)
    return rule is not None and rule.modality is not known.modality(row)


def _same_state(found: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Equal in all fields (n, 4); an inode of 0 is one that was not known."""
    same = found == known
    same[:, 3] |= known[:, 3] == 0
    return np.asarray(same.all(axis=1))


def _doubtful(known: IndexedFiles, rows: NDArray[np.int64], doubts: RecheckRules) -> NDArray[np.bool_]:
    doubtful = np.zeros(len(rows), np.bool_)
    here = np.flatnonzero(rows >= 0)
    held = known.item_ids[rows[here]] >= 0  # an item that could not be read of late, and is as it was, is looked at
    again = held | doubts.retry_failed | known.failed_by_installation[rows[here]]
    doubtful[here] = known.failed[rows[here]] & again
    if doubts.rules:
        for place in np.flatnonzero(rows >= 0).tolist():
            doubtful[place] |= reclassified_by_rule(known, int(rows[place]), doubts.rules)
    return doubtful


def _taken(rel_paths: Sequence[str], narrowing: PathFilter) -> NDArray[np.bool_]:
    if not narrowing.is_active:
        return np.ones(len(rel_paths), np.bool_)
    return np.array([narrowing.includes(path) for path in rel_paths], np.bool_)
