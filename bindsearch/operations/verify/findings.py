"""Findings of a check of a store: what is wrong, where, and how to repair it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from bindsearch.former_names import former_fields

MAX_EXAMPLES = 20
"""Maximum number of paths or ids in a finding; its `count` is the total."""


class FindingKind(StrEnum):
    """Kind of a finding."""

    CONFIG = "config"
    INDEX_SETTINGS = "index-settings"
    CATALOG = "catalog"
    CURRENT = "current"
    SNAPSHOT = "snapshot"
    FILE_UNREADABLE = "file-unreadable"
    VECTOR_FILE_MISSING = "vector-file-missing"
    VECTOR_FILE_DAMAGED = "vector-file-damaged"
    VECTORS_UNFIT = "vectors-unfit"
    VECTORS_LOST = "vectors-lost"
    INDEX = "index"
    ITEMS_TO_EMBED = "items-to-embed"
    ITEMS_WITHOUT_SEGMENTS = "items-without-segments"
    ITEMS_WITHOUT_COLLECTION = "items-without-collection"
    SEGMENTS_WITHOUT_ITEM = "segments-without-item"
    ITEMS_TWICE = "items-twice"
    COUNTERS = "counters"
    ORPHANS = "orphans"
    FILES_CHANGED = "files-changed"
    FILES_GONE = "files-gone"


class Repair(StrEnum):
    """Command that repairs a finding, or the first of several commands."""

    COMPACT = "bindsearch compact"
    INDEX = "bindsearch index"
    OPTIMIZE = "bindsearch optimize --force"
    FORGET = "bindsearch forget"
    RECOVER = "bindsearch recover"
    BY_HAND = "by hand"


REPAIR_HINT = {
    Repair.COMPACT: "run `bindsearch compact`",
    Repair.INDEX: "run `bindsearch index` on its collection",
    Repair.RECOVER: "run `bindsearch recover` to rebuild the catalog from the snapshot",
    Repair.OPTIMIZE: "run `bindsearch optimize --force`",
}

REPAIR_THEN_INDEX = "run `bindsearch compact`, then `bindsearch index` on its collection"


@former_fields(mend="repair")
@dataclass(frozen=True, slots=True)
class Finding:
    """Fault that a check found.

    Attributes:
        kind: Kind of the fault.
        message: Description; it ends with the way to repair it.
        repair: First command of the repair.
        where: Paths or ids of the fault, at most MAX_EXAMPLES of them.
        count: Number of paths or ids in all.
    """

    kind: FindingKind
    message: str
    repair: Repair
    where: tuple[str, ...] = ()
    count: int = 1


def finding_record(finding: Finding) -> dict[str, object]:
    """Return a finding as printed by `--json`, with the documented keys."""
    kind, repair, where = finding.kind.value, finding.repair.value, list(finding.where)
    return {"kind": kind, "message": finding.message, "mend": repair, "where": where, "count": finding.count}


@dataclass(frozen=True, slots=True)
class Report:
    """Report of a check.

    Attributes:
        findings: Faults that were found.
        unchecked: What could not be checked, and why.
        read_bytes: Number of bytes read.
        took_s: Duration in seconds.
    """

    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    read_bytes: int
    took_s: float

    @property
    def is_clean(self) -> bool:
        """Return whether the check found no fault."""
        return not self.findings


def finding(
    kind: FindingKind,
    what: str,
    repair: Repair,
    where: Iterable[object] = (),
    *,
    count: int | None = None,
    way_out: str = "",
) -> Finding:
    """Return a finding whose message is `what` and the way to repair it.

    Args:
        kind: Kind of the fault.
        what: Description of the fault.
        repair: First command of the repair.
        where: Paths or ids of the fault.
        count: Number of paths or ids in all; None: as in `where`, at least 1.
        way_out: How to repair it; "": the hint for `repair`.
    """
    locations = tuple(str(location) for location in where)
    n = max(len(locations), 1) if count is None else count
    return Finding(kind, f"{what}: {way_out or REPAIR_HINT[repair]}", repair, locations[:MAX_EXAMPLES], n)
