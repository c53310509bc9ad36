"""Checks of the files of a store (vectors, snapshot parts, indexes, unreferenced files), and of the indexed files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import shell_command
from bindsearch.atomic import TEMPORARY_SUFFIX, is_there
from bindsearch.errors import IndexDamagedError, SnapshotDamagedError, StoreError, VectorFileLostError
from bindsearch.hashing import hash_file
from bindsearch.indexes.exact import decode, one_thread
from bindsearch.indexes.index_files import INDEXES, check_index
from bindsearch.indexes.words import check_postings
from bindsearch.operations.verify.findings import REPAIR_THEN_INDEX, Finding, FindingKind, Repair, finding
from bindsearch.search.words.index import NAME, WORDS, words_path
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.file_state import FileState, file_state
from bindsearch.storage.snapshot import Snapshot
from bindsearch.storage.snapshot_checks import REMEDY as SNAPSHOT_REMEDY
from bindsearch.storage.snapshot_checks import Checks
from bindsearch.storage.snapshot_format import SNAPSHOTS, Manifest, open_class_columns, open_failures, open_part
from bindsearch.storage.vector_files import VECTORS, VectorFile, VectorFileEntry, open_vectors, vector_files_in
from bindsearch.storage.writer import END_OF_IDS, LEFT_OUT
from bindsearch.types import Modality

BLOCK_ROWS = 1024

MAKE_READABLE = "make it readable (permissions, disk), then verify again; nothing is given up meanwhile"

STORED_TOLERANCE = 2e-3
"""Tolerance of a stored vector's length: 1e-3 that is accepted on input, plus 1e-3 for rounding to float16."""


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Vector file as listed in the catalog or in CURRENT."""

    modality: Modality
    path: Path
    n: int  # number of rows
    first_id: int
    end_id: int  # upper bound of the vector ids, exclusive
    digest: str  # "" if unknown


def stored_vectors(store: Path, files: Mapping[Modality, Sequence[VectorFileEntry]]) -> list[StoredVectors]:
    """Return the vector files of a store, as the catalog or CURRENT lists them by modality, smallest ids first."""
    stored = []
    for modality, entries in files.items():
        ends = [*(entry.first_id for entry in entries[1:]), END_OF_IDS]
        for entry, end in zip(entries, ends, strict=True):
            path = store / VECTORS / modality / entry.name
            stored.append(StoredVectors(modality, path, entry.rows, entry.first_id, end, entry.digest))
    return stored


def vector_file_findings(file: StoredVectors, dim: int) -> Iterator[Finding]:
    """Read all bytes of a vector file, and yield the findings; `dim`: dimension d of the store."""
    path, problem = file.path, ""
    try:
        if not is_there(path):
            raise FileNotFoundError(path)
        opened = open_vectors(path, dim)
        if file.digest and hash_file(path) != file.digest:
            problem = "has changed since it was written"
        elif not _ids_match(opened, file):
            problem = "does not hold the vectors that the catalog lists"
        else:
            opened.checked_embeddings()
    except VectorFileLostError:
        problem = "is truncated or damaged"
    except FileNotFoundError:  # or a writer has merged it meanwhile
        yield finding(FindingKind.VECTOR_FILE_MISSING, f"vector file {path} is missing", Repair.INDEX, [path])
        return
    except (StoreError, OSError) as error:
        yield unreadable(path, error)
        return
    if problem:
        what = f"vector file {path} {problem}"
        yield finding(FindingKind.VECTOR_FILE_DAMAGED, what, Repair.COMPACT, [path], way_out=REPAIR_THEN_INDEX)
    elif n := _count_invalid_rows(opened.embeddings):
        what = f"vector file {path} holds {n} vectors that are not finite or not of unit length"
        yield finding(FindingKind.VECTORS_UNFIT, what, Repair.COMPACT, [path], count=n, way_out=REPAIR_THEN_INDEX)


def unreadable(path: Path, error: Exception) -> Finding:
    """Return the finding for a file that cannot be read now, which says nothing about its content."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error).partition(": ")[0]
    what = f"{path} cannot be read ({reason})"
    return finding(FindingKind.FILE_UNREADABLE, what, Repair.BY_HAND, [path], way_out=MAKE_READABLE)


def lost_vectors(
    catalog: Catalog, files: Sequence[StoredVectors], dim: int
) -> Iterator[tuple[Modality, NDArray[np.int64]]]:
    """Yield the ids of vectors of a modality that segments refer to but that are in no file: int64 (m,), m >= 1.

    Ids in the range of a file that cannot be opened are left out.

    Args:
        catalog: Catalog with the segments.
        files: Vector files of the store.
        dim: Dimension d of the vectors.
    """
    for modality in Modality:
        own = [file for file in files if file.modality is modality]
        first_stored_id = own[0].first_id if own else END_OF_IDS
        lost = [catalog.live_vector_ids(modality, 0, first_stored_id - 1)]
        for file in own:
            try:
                stored_ids = open_vectors(file.path, dim).vector_ids
            except StoreError:
                continue
            live = catalog.live_vector_ids(modality, file.first_id, file.end_id - 1)
            lost.append(np.setdiff1d(live, stored_ids))
        if any(map(len, lost)):
            yield modality, np.concatenate(lost)


OpenFiles = Callable[[Path, int, str | None, Checks], object]


def snapshot_findings(store: Path, manifest: Manifest) -> Iterator[Finding]:
    """Check the snapshot parts of a generation, and yield the findings."""
    parts: list[tuple[int | None, OpenFiles]] = [(part, open_part) for part in manifest.parts]
    parts += [(manifest.failures, open_failures), (manifest.class_columns, open_class_columns)]
    for number, open_files in parts:
        if number is None:
            continue
        path = store / SNAPSHOTS / str(number)
        try:
            with Checks() as checks:
                open_files(store, number, manifest.part_digests.get(number), checks)
        except SnapshotDamagedError as error:
            yield finding(FindingKind.SNAPSHOT, str(error).removesuffix(f": {SNAPSHOT_REMEDY}"), Repair.COMPACT, [path])
        except (StoreError, OSError) as error:
            yield unreadable(path, error)


def index_findings(store: Path, manifest: Manifest) -> Iterator[Finding]:
    """Check the indexes of a generation, those of words too, and yield the findings."""
    for number in manifest.parts:
        path = words_path(store, number)
        try:
            check_postings(path, manifest.part_digests.get(number, ""))
        except IndexDamagedError as error:
            yield finding(FindingKind.INDEX, str(error).split("; run")[0], Repair.OPTIMIZE, [path])
    for modality, (folder, digest) in manifest.indexes.items():
        path = store / INDEXES / modality / folder
        try:
            check_index(store, modality, folder, digest)
        except IndexDamagedError as error:
            yield finding(FindingKind.INDEX, str(error).split("; run")[0], Repair.OPTIMIZE, [path])
        except OSError as error:
            yield unreadable(path, error)


def find_orphans(store: Path, manifest: Manifest, files: Iterable[StoredVectors]) -> list[Path]:
    """Return unreferenced files and folders, sorted.

    The caller holds the writer's lock, since a writer creates files before it refers to them. Not included are unused
    parts of snapshots, which the next writer removes, their word indexes, which `optimize` removes, and what readers
    may still open: the previous index of each partition.

    Args:
        store: Folder of the store.
        manifest: Contents of CURRENT.
        files: Vector files in the catalog.
    """
    vector_paths = {file.path for file in files}
    orphans = [path for path in store.glob(f".*{TEMPORARY_SUFFIX}*") if path.is_file()]
    for folder in _entries(store / SNAPSHOTS):
        if folder.name.isdecimal():
            orphans += folder.glob(f".*{TEMPORARY_SUFFIX}")
        else:
            orphans.append(folder)
    for modality in Modality:
        orphans += [path for path in vector_files_in(store / VECTORS / modality) if path not in vector_paths]
        published = manifest.indexes.get(modality, ("", ""))[0]
        others = [path for path in _entries(store / INDEXES / modality) if path.name != published]
        numbered = sorted((path for path in others if path.name.isdecimal()), key=lambda path: int(path.name))
        orphans += [path for path in others if path not in numbered[-1:]]
    orphans += [path for path in _entries(store / INDEXES / WORDS) if not NAME.fullmatch(path.name)]
    orphans += (store / LEFT_OUT).glob(f".*{TEMPORARY_SUFFIX}")
    return sorted(orphans)


def named_paths(store: Path, manifest: Manifest) -> set[Path]:
    """Return the vector files, snapshot folders and index folders of a generation."""
    vectors = {store / VECTORS / modality / name for modality, files in manifest.vectors.items() for name, *_ in files}
    parts = {store / SNAPSHOTS / str(number) for number in manifest.folders}
    indexes = {store / INDEXES / modality / folder for modality, (folder, _) in manifest.indexes.items()}
    return vectors | parts | indexes | {words_path(store, number) for number in manifest.parts}


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
    """Return the entries of a folder, sorted; none if it is missing or behind a link."""
    is_own = folder.is_dir() and not folder.is_symlink() and not folder.parent.is_symlink()
    return sorted(folder.iterdir()) if is_own else []


COLUMNS = ("collection_id", "rel_path", "size_bytes", "mtime_ns", "content_hash")
BATCH_ROWS = 65_536

Containers = Mapping[int, Mapping[str, FileState]]
"""State of each archive when it was indexed, by collection and relative path."""


@dataclass
class MediaCheck:
    """State of a check of the media files of a snapshot."""

    snapshot: Snapshot
    containers: Containers
    hash_media: bool  # whether files that seem unchanged are read and hashed
    read_bytes: int = 0
    members: int = 0  # number of items inside archives; only the archive itself is checked
    _found: dict[tuple[int, str], list[Path]] = field(default_factory=lambda: defaultdict(list))
    _is_archive: dict[Path, bool] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """Check every file, and yield the findings; with `hash_media`, files that seem unchanged are read."""
        roots = {key: Path(root) for key, root in self.snapshot.manifest.collections.items()}
        existing = {key: root for key, root in roots.items() if root.is_dir()}
        for key, states in self.containers.items():
            for rel_path, state in states.items():
                if key in existing:
                    self._check_file(key, existing[key] / rel_path, state.size_bytes, state.mtime_ns, "")
        for key, rel_path, size_bytes, mtime_ns, content_hash in self._items():
            if key in existing and size_bytes >= 0:  # below 0: to be embedded again, reported elsewhere
                self._check_file(key, existing[key] / rel_path, size_bytes, mtime_ns, content_hash)
        for key in roots.keys() - existing.keys():
            what = f"the collection {roots[key]} does not exist"
            relocate, forget = shell_command("relocate", roots[key], "NEW"), shell_command("forget", roots[key])
            way_out = f"mount or restore it, run `{relocate}` if it was moved, or run `{forget}`"
            yield finding(FindingKind.FILES_GONE, what, Repair.FORGET, [roots[key]], way_out=way_out)
        for key, root in existing.items():
            yield from self._of_collection(key, root)

    def _of_collection(self, key: int, root: Path) -> Iterator[Finding]:
        """Yield the findings of one collection."""
        run_index = f"run `{shell_command('index', root)}`"
        restore = f"restore the original files, or `touch` them and {run_index}"
        same_stat = f"other content in {root} than indexed, with the same size and modification time"
        gone, changed = FindingKind.FILES_GONE, FindingKind.FILES_CHANGED
        for state, kind, what, repair, way_out in (
            ("missing", gone, f"disappeared from {root}", Repair.INDEX, run_index),
            ("changed", changed, f"changed in {root} since indexing", Repair.INDEX, run_index),
            ("unreadable", gone, f"become unreadable in {root}", Repair.BY_HAND, "check their permissions"),
            ("same_stat", changed, same_stat, Repair.BY_HAND, restore),
        ):
            if paths := self._found.get((key, state)):
                files = "1 file has" if len(paths) == 1 else f"{len(paths)} files have"
                yield finding(kind, f"{files} {what}", repair, paths, way_out=way_out)

    def _items(self) -> Iterator[tuple[int, str, int, int, str]]:
        """Yield COLUMNS of each live item."""
        items, alive = self.snapshot.items.select(list(COLUMNS)), self.snapshot.item_alive
        for start in range(0, items.num_rows, BATCH_ROWS):
            rows = items.slice(start, BATCH_ROWS)
            live = rows if alive is None else rows.filter(alive[start : start + BATCH_ROWS])
            yield from zip(*(column.to_pylist() for column in live.columns), strict=True)

    def _check_file(self, key: int, path: Path, size_bytes: int, mtime_ns: int, content_hash: str) -> None:
        """Compare one file with its state when it was indexed."""
        try:
            state = file_state(path.stat())
        except (FileNotFoundError, NotADirectoryError):
            if self._in_archive(path):
                self.members += 1
            else:
                self._found[key, "missing"].append(path)
            return
        except OSError:
            self._found[key, "unreadable"].append(path)
            return
        if (state.size_bytes, state.mtime_ns) != (size_bytes, mtime_ns):
            self._found[key, "changed"].append(path)
        elif self.hash_media and content_hash:
            self.read_bytes += state.size_bytes
            try:
                if hash_file(path) != content_hash:
                    self._found[key, "same_stat"].append(path)
            except OSError:
                self._found[key, "unreadable"].append(path)

    def _in_archive(self, path: Path) -> bool:
        """Return whether a parent of the path is a file, such as an archive."""
        folder = path.parent
        if folder not in self._is_archive:
            self._is_archive[folder] = folder.is_file() or (not folder.is_dir() and self._in_archive(folder))
        return self._is_archive[folder]
