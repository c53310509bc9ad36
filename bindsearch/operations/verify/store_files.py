"""Checks of a store's own files: vectors, snapshot parts, indexes, and what nobody refers to. Block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.atomic import TEMPORARY_SUFFIX
from bindsearch.errors import IndexDamagedError, StoreError
from bindsearch.hashing import hash_file
from bindsearch.indexes.exact import decode
from bindsearch.indexes.omp_threads import one_thread
from bindsearch.indexes.storage import INDEXES, check_index
from bindsearch.operations.verify.findings import REPAIR_THEN_INDEX, Finding, FindingKind, Repair, finding
from bindsearch.storage.snapshot_format import SNAPSHOTS, Manifest, check_part
from bindsearch.storage.vector_files import VECTORS, VectorFile, open_vectors
from bindsearch.storage.writer import END_OF_IDS, KEPT_GENERATIONS
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_ROWS = 1024

STORED_TOLERANCE = 2e-3
"""Tolerance of a stored vector's length: what was let in (1e-3), and as much for the rounding to fp16."""


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """A vector file as the catalog or CURRENT knows it: n rows with ids first_id..end_id-1; `digest` "": not known."""

    modality: Modality
    path: Path
    n: int
    first_id: int
    end_id: int
    digest: str


def stored_vectors(
    store: Path,
    files: Mapping[Modality, Sequence[tuple[str, int]]],
    digests: Mapping[tuple[Modality, str], str],
) -> list[StoredVectors]:
    """The vector files of these names and row counts, oldest ids first, by modality."""
    stored = []
    for modality, named in files.items():
        firsts = [int(name.split("-")[0]) for name, _ in named]
        for (name, n), first, end in zip(named, firsts, [*firsts[1:], END_OF_IDS], strict=True):
            path = store / VECTORS / modality / name
            stored.append(StoredVectors(modality, path, n, first, end, digests.get((modality, name), "")))
    return stored


def vector_file_findings(file: StoredVectors, dim: int) -> Iterator[Finding]:
    """Yield what is wrong with a vector file; every byte of it is read."""
    path = file.path
    if not path.is_file():
        yield finding(FindingKind.VECTOR_FILE_MISSING, f"vector file {path} is missing", Repair.INDEX, [path])
        return
    try:
        opened = open_vectors(path, dim)
    except StoreError:
        what = f"vector file {path} is truncated or damaged"
        yield finding(FindingKind.VECTOR_FILE_DAMAGED, what, Repair.COMPACT, [path], way_out=REPAIR_THEN_INDEX)
        return
    problem = ""
    if file.digest and hash_file(path) != file.digest:
        problem = "is not what was written"
    elif not _ids_fit(opened, file):
        problem = f"does not hold the {file.n} vectors that it should"
    if problem:
        what = f"vector file {path} {problem}"
        yield finding(FindingKind.VECTOR_FILE_DAMAGED, what, Repair.COMPACT, [path], way_out=REPAIR_THEN_INDEX)
    elif n := _unfit_rows(opened.embeddings):
        what = f"vector file {path} holds {n} vectors that are not finite or not of unit length"
        yield finding(FindingKind.VECTORS_UNFIT, what, Repair.COMPACT, [path], count=n, way_out=REPAIR_THEN_INDEX)


def lost_vectors(
    files: Iterable[StoredVectors],
    modality: Modality,
    dim: int,
    live: Callable[[Modality, int, int], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Ids of vectors of a modality that segments refer to and no file holds: int64 (m,).

    Those of files that cannot be opened are left out. `live` gives the ids first..last that segments refer to.
    """
    own = [file for file in files if file.modality is modality]
    before = own[0].first_id if own else END_OF_IDS
    lost = [live(modality, 0, before - 1)]
    for file in own:
        try:
            held = open_vectors(file.path, dim).vector_ids
        except StoreError:
            continue
        lost.append(np.setdiff1d(live(modality, file.first_id, file.end_id - 1), held))
    return np.concatenate(lost)


def snapshot_findings(store: Path, manifest: Manifest) -> Iterator[Finding]:
    """Yield what is wrong with the parts that a generation is made of."""
    parts = [(number, False) for number in manifest.parts]
    if manifest.failures is not None and manifest.failures not in manifest.parts:
        parts.append((manifest.failures, True))
    for number, failures in parts:
        try:
            check_part(store, number, failures=failures)
        except StoreError as error:
            what = str(error).split(": run")[0]
            yield finding(FindingKind.SNAPSHOT, what, Repair.COMPACT, [store / SNAPSHOTS / str(number)])


def index_findings(store: Path, manifest: Manifest) -> Iterator[Finding]:
    """Yield what is wrong with the indexes that a generation is searched by."""
    for modality, (folder, digest) in manifest.indexes.items():
        try:
            check_index(store, modality, folder, digest)
        except IndexDamagedError as error:
            what = str(error).split("; run")[0]
            yield finding(FindingKind.INDEX, what, Repair.OPTIMIZE, [store / INDEXES / modality / folder])


def find_orphans(store: Path, manifest: Manifest, files: Iterable[StoredVectors]) -> list[Path]:
    """Files and folders that nobody refers to. Ask under the writer's lock: a writer makes such as it goes.

    What readers may still be sent to is none: the last snapshots, and the last index of a partition beside its own.
    """
    known = {file.path for file in files}
    orphans = [path for path in store.glob(f".*{TEMPORARY_SUFFIX}") if path.is_file()]
    used = {*manifest.parts, manifest.failures}
    for folder in _entries(store / SNAPSHOTS):
        number = int(folder.name) if folder.name.isdigit() else -1
        if number not in used and number < manifest.generation - KEPT_GENERATIONS:
            orphans.append(folder)
        else:
            orphans += folder.glob(f".*{TEMPORARY_SUFFIX}")
    for modality in Modality:
        orphans += [path for path in _entries(store / VECTORS / modality) if path not in known]
        published = manifest.indexes.get(modality, ("", ""))[0]
        others = [path for path in _entries(store / INDEXES / modality) if path.name != published]
        numbered = sorted((path for path in others if path.name.isdigit()), key=lambda path: int(path.name))
        orphans += [path for path in others if path not in numbered[-1:]]
    return sorted(orphans)


def named_paths(store: Path, manifest: Manifest) -> set[Path]:
    """The vector files, snapshot folders and index folders of a generation."""
    vectors = {store / VECTORS / modality / name for modality, files in manifest.vectors.items() for name, _ in files}
    parts = {store / SNAPSHOTS / str(number) for number in (*manifest.parts, manifest.failures)}
    indexes = {store / INDEXES / modality / folder for modality, (folder, _) in manifest.indexes.items()}
    return vectors | parts | indexes


def _ids_fit(opened: VectorFile, file: StoredVectors) -> bool:
    ids = opened.vector_ids
    inside = len(ids) == file.n and file.n > 0 and ids[0] == file.first_id and ids[-1] < file.end_id
    return bool(inside and np.all(ids[1:] > ids[:-1]))


def _unfit_rows(embeddings: NDArray[np.float16]) -> int:
    """Number of rows (n, d) that are not finite or not of unit length."""
    unfit = 0
    with one_thread(), np.errstate(over="ignore", invalid="ignore"):  # several wait for one another on a busy machine
        for start in range(0, len(embeddings), BLOCK_ROWS):
            rows = decode(embeddings[start : start + BLOCK_ROWS])
            lengths = np.sqrt(np.vecdot(rows, rows))
            unfit += int(np.count_nonzero(~(np.abs(lengths - 1.0) <= STORED_TOLERANCE)))
    return unfit


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
