"""Findings of a check of a store: each says what is wrong, where, and what repairs it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from bindsearch.former_names import former_fields

MAX_EXAMPLES = 20
"""Paths or ids that a finding names; `count` tells of how many there are."""


class FindingKind(StrEnum):
    """Kind of a finding."""

    CONFIG = "config"
    CATALOG = "catalog"
    CURRENT = "current"
    SNAPSHOT = "snapshot"
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
    """The command that repairs it, or comes first of those that do."""

    COMPACT = "bindsearch compact"
    INDEX = "bindsearch index"
    OPTIMIZE = "bindsearch optimize --force"
    FORGET = "bindsearch forget"
    BY_HAND = "by hand"


REPAIR_HINT = {
    Repair.COMPACT: "run `bindsearch compact`",
    Repair.INDEX: "run `bindsearch index` on its collection",
    Repair.OPTIMIZE: "run `bindsearch optimize --force`",
}

REPAIR_THEN_INDEX = "run `bindsearch compact`, then `bindsearch index` on its collection"


@former_fields(mend="repair")
@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong. `message` ends with the way out, `repair` is its first command; `where`: the paths or ids it is
    about, the first of `count`."""

    kind: FindingKind
    message: str
    repair: Repair
    where: tuple[str, ...] = ()
    count: int = 1


def finding_record(finding: Finding) -> dict[str, object]:
    """Return a finding as `--json` gives it; the keys are the documented ones."""
    return {
        "kind": finding.kind.value,
        "message": finding.message,
        "mend": finding.repair.value,
        "where": list(finding.where),
        "count": finding.count,
    }


@dataclass(frozen=True, slots=True)
class Report:
    """Report of a check; `unchecked` tells what it could not look at, and why; `read_bytes`: what it has read."""

    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    read_bytes: int
    took_s: float

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
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
    """A finding whose message is `what` with the way out, where none is given that of `repair`."""
    places = tuple(str(place) for place in where)
    n = max(len(places), 1) if count is None else count
    return Finding(kind, f"{what}: {way_out or REPAIR_HINT[repair]}", repair, places[:MAX_EXAMPLES], n)
