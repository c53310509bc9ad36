"""Use a damaged store as its messages say, and print what was seen as JSON.

python damaged.py STORE MEDIA GOOD SMALL_FILE_BYTES

GOOD: an undamaged copy of the store, from which files are restored that only a copy can restore.
SMALL_FILE_BYTES: size of the files of a snapshot that are checked before they are parsed, not beside.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

import bindsearch as bs
from bindsearch.errors import BindSearchError
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.operations.verify.findings import FindingKind, Repair
from bindsearch.storage import snapshot_checks

SETTINGS = IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 4})
MAX_ROUNDS = 5


def connect(store: Path) -> bs.Store:
    return bs.connect(store, encoder="null", decode="thread")


def searches(store: Path) -> list[Any]:
    """Return the hits of searches over everything, or the message of the error, and what was told beside."""
    with connect(store) as opened:
        answers = [
            opened.answer(bs.make_query("text number 7", k=9)),
            opened.answer(bs.make_query("two dogs", to="image", k=5, filter=bs.make_filter(where="width_px > 0"))),
            opened.answer(bs.make_query("text number 7", to="text", k=400)),
        ]
        hits = [[(str(hit.path), hit.start_s, round(hit.cosine, 4), hit.text) for hit in one.hits] for one in answers]
        return [hits, sorted({notice for one in answers for notice in one.notices})]


def attempt(action: Any) -> list[Any]:
    """Return what an action returns, or the error's message."""
    try:
        return ["done", action()]
    except BindSearchError as error:
        return ["told", str(error)]


def vectors(store: Path) -> dict[str, list[str]]:
    """Return the vectors of each item by its path."""
    found: dict[str, list[str]] = {}
    with connect(store) as opened:
        generation = opened._reader.current()
        for modality, partition in generation.partitions.items():
            ids, rows = generation.snapshot.partition_segments(modality)
            stored = partition.rows.gather(partition.rows_of_vectors(ids))
            for fact, row in zip(generation.snapshot.facts(rows), np.asarray(stored), strict=True):
                found.setdefault(str(fact.path), []).append(f"{fact.modality} {fact.start_s} {row.tobytes().hex()}")
    return {path: sorted(held) for path, held in sorted(found.items())}


def mend(store: Path, media: Path, good: Path) -> list[Any]:
    """Follow the findings of verify until there are none; return what was done."""
    done: list[Any] = []
    for _ in range(MAX_ROUNDS):
        with connect(store) as opened:
            report = opened.verify()
            if not report.findings:
                return done
            finding = min(report.findings, key=lambda one: ORDER.index(one.repair))
            done.append([finding.kind.value, finding.repair.value])
            if finding.repair is Repair.BY_HAND:
                restore(store, good, finding.kind, finding.where)
            elif finding.repair is Repair.RECOVER:
                done.append(attempt(lambda: opened.recover().source))
            elif finding.repair is Repair.COMPACT:
                done.append(attempt(lambda: len(opened.compact().repaired)))
            elif finding.repair is Repair.INDEX:
                done.append(attempt(lambda: opened.index(media).changed))
            else:
                done.append(attempt(lambda: len(opened.optimize(force=True))))
    raise AssertionError(f"not mended: {done}, {[one.message for one in report.findings]}")


ORDER = (Repair.BY_HAND, Repair.RECOVER, Repair.COMPACT, Repair.INDEX, Repair.OPTIMIZE, Repair.FORGET)


def restore(store: Path, good: Path, kind: FindingKind, where: tuple[str, ...]) -> None:
    """Put a file back from the copy, or remove the settings, as the findings say."""
    path = Path(where[0])
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if kind is not FindingKind.INDEX_SETTINGS:
        shutil.copy(good / path.relative_to(store), path)


def main() -> None:
    store, media, good = map(Path, sys.argv[1:4])
    snapshot_checks.SMALL_FILE_BYTES = int(sys.argv[4])
    told: dict[str, Any] = {"search": attempt(lambda: searches(store))}
    with connect(store) as opened:
        told["verify"] = [[one.kind.value, one.message] for one in opened.verify().findings]
    held = (path.relative_to(store) for path in store.rglob("*") if not path.name.startswith("writer."))
    told["files"] = sorted(map(str, held))
    told["index"] = attempt(lambda: index(store, media))
    told["mended"] = mend(store, media, good)
    told["index again"] = attempt(lambda: index(store, media))
    told["search again"] = attempt(lambda: searches(store))
    told["vectors"] = vectors(store)
    sys.stdout.write(json.dumps(told))


def index(store: Path, media: Path) -> list[Any]:
    with connect(store) as opened:
        report = opened.index(media)
        return [report.added, report.changed, report.removed, report.failed, report.notices]


if __name__ == "__main__":
    main()
