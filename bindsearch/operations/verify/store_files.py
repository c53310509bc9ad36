"""Checks of the files of a store: vectors, snapshot parts, indexes, and unreferenced files."""

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
from bindsearch.indexes.index_files import INDEXES, check_index
from bindsearch.indexes.omp_threads import one_thread
from bindsearch.operations.verify.findings import REPAIR_THEN_INDEX, Finding, FindingKind, Repair, finding
from bindsearch.storage.snapshot_format import SNAPSHOTS, Manifest, check_part
from bindsearch.storage.vector_files import VECTORS, VectorFile, open_vectors
from bindsearch.storage.writer import END_OF_IDS, KEPT_GENERATIONS
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_ROWS = 1024

STORED_TOLERANCE = 2e-3
"""Tolerance of a stored vector's length: 1e-3 that is accepted on input, plus 1e-3 for rounding to float16."""


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Vector file as listed in the catalog or in CURRENT.

    Attributes:
        modality: Modality of the vectors.
        path: Path of the file.
        n: Number of rows.
        first_id: Smallest vector id.
        end_id: Upper bound of the vector ids, exclusive.
        digest: Digest of the file, "" if unknown.
    """

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
    """Return the vector files of a store, those of a modality together, smallest ids first.

    Args:
        store: Folder of the store.
        files: Names and row counts of the files of each modality.
        digests: Digests by modality and name; those of other files are unknown.
    """
    stored = []
    for modality, names_and_counts in files.items():
        firsts = [int(name.split("-")[0]) for name, _ in names_and_counts]
        for (name, n), first, end in zip(names_and_counts, firsts, [*firsts[1:], END_OF_IDS], strict=True):
            path = store / VECTORS / modality / name
            stored.append(StoredVectors(modality, path, n, first, end, digests.get((modality, name), "")))
    return stored


def vector_file_findings(file: StoredVectors, dim: int) -> Iterator[Finding]:
    """Read all bytes of a vector file, and yield the findings; `dim`: dimension d of the store."""
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
        problem = "has changed since it was written"
    elif not _ids_match(opened, file):
        problem = f"does not hold the expected {file.n} vectors"
    if problem:
        what = f"vector file {path} {problem}"
        yield finding(FindingKind.VECTOR_FILE_DAMAGED, what, Repair.COMPACT, [path], way_out=REPAIR_THEN_INDEX)
    elif n := _count_invalid_rows(opened.embeddings):
        what = f"vector file {path} holds {n} vectors that are not finite or not of unit length"
        yield finding(FindingKind.VECTORS_UNFIT, what, Repair.COMPACT, [path], count=n, way_out=REPAIR_THEN_INDEX)


def lost_vectors(
    files: Iterable[StoredVectors],
    modality: Modality,
    dim: int,
    live: Callable[[Modality, int, int], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Return the ids of vectors that segments refer to but that are in no file.

    Ids in the range of a file that cannot be opened are left out.

    Args:
        files: Vector files of the store.
        modality: Modality of the vectors.
        dim: Dimension d of the vectors.
        live: Returns the ids between a first and a last one that segments refer to.

    Returns:
        Vector ids, int64 (m,).
    """
    own = [file for file in files if file.modality is modality]
    first_stored_id = own[0].first_id if own else END_OF_IDS
    lost = [live(modality, 0, first_stored_id - 1)]
    for file in own:
        try:
            stored_ids = open_vectors(file.path, dim).vector_ids
        except StoreError:
            continue
        lost.append(np.setdiff1d(live(modality, file.first_id, file.end_id - 1), stored_ids))
    return np.concatenate(lost)


def snapshot_findings(store: Path, manifest: Manifest) -> Iterator[Finding]:
    """Check the snapshot parts of a generation, and yield the findings."""
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
    """Check the indexes of a generation, and yield the findings."""
    for modality, (folder, digest) in manifest.indexes.items():
        try:
            check_index(store, modality, folder, digest)
        except IndexDamagedError as error:
            what = str(error).split("; run")[0]
            yield finding(FindingKind.INDEX, what, Repair.OPTIMIZE, [store / INDEXES / modality / folder])


def find_orphans(store: Path, manifest: Manifest, files: Iterable[StoredVectors]) -> list[Path]:
    """Return unreferenced files and folders, sorted.

    The caller holds the writer's lock, since a writer creates files before it refers to them. Files that readers may
    still open are not included: the last snapshots, and the previous index of each partition.

    Args:
        store: Folder of the store.
        manifest: Contents of CURRENT.
        files: Vector files in the catalog.
    """
    vector_paths = {file.path for file in files}
    orphans = [path for path in store.glob(f".*{TEMPORARY_SUFFIX}") if path.is_file()]
    used = {*manifest.parts, manifest.failures}
    for folder in _entries(store / SNAPSHOTS):
        number = int(folder.name) if folder.name.isdigit() else -1
        if number not in used and number < manifest.generation - KEPT_GENERATIONS:
            orphans.append(folder)
        else:
            orphans += folder.glob(f".*{TEMPORARY_SUFFIX}")
    for modality in Modality:
        orphans += [path for path in _entries(store / VECTORS / modality) if path not in vector_paths]
        published = manifest.indexes.get(modality, ("", ""))[0]
        others = [path for path in _entries(store / INDEXES / modality) if path.name != published]
        numbered = sorted((path for path in others if path.name.isdigit()), key=lambda path: int(path.name))
        orphans += [path for path in others if path not in numbered[-1:]]
    return sorted(orphans)


def named_paths(store: Path, manifest: Manifest) -> set[Path]:
    """Return the vector files, snapshot folders and index folders of a generation."""
    vectors = {store / VECTORS / modality / name for modality, files in manifest.vectors.items() for name, _ in files}
    parts = {store / SNAPSHOTS / str(number) for number in (*manifest.parts, manifest.failures)}
    indexes = {store / INDEXES / modality / folder for modality, (folder, _) in manifest.indexes.items()}
    return vectors | parts | indexes


def _ids_match(opened: VectorFile, file: StoredVectors) -> bool:
    """Return whether the ids of a file are ascending and in its range."""
    ids = opened.vector_ids
    in_range = len(ids) == file.n and file.n > 0 and ids[0] == file.first_id and ids[-1] < file.end_id
    return bool(in_range and np.all(ids[1:] > ids[:-1]))


def _count_invalid_rows(embeddings: NDArray[np.float16]) -> int:
    """Return the number of rows, float16 (n, d), that are not finite or not of unit length."""
    invalid = 0
    # Several threads would slow each other down on a busy machine.
    with one_thread(), np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(embeddings), BLOCK_ROWS):
            rows = decode(embeddings[start : start + BLOCK_ROWS])
            lengths = np.sqrt(np.vecdot(rows, rows))
            invalid += int(np.count_nonzero(~(np.abs(lengths - 1.0) <= STORED_TOLERANCE)))
    return invalid


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted; none if it is missing."""
    return sorted(folder.iterdir()) if folder.is_dir() else []
