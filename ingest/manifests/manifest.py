"""Lists: csv, tsv, jsonl and parquet files that say things about other files, a row a file.

A list has a column of paths (PATH_COLUMNS, letter case ignored), which count from the list's own folder, and no motion
columns. CAPTION_COLUMNS are indexed with the file, `modality` says what it is taken for, and all other columns are the
user's own (or metadata, such as `title` and `taken`), as in a sidecar. A file may have several rows: it gets all their
captions, and of the rest what its first row says.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bindsearch.errors import MediaError
from bindsearch.ingest.manifests.rows import (
    CAPTION_COLUMNS,
    LIST_NAMES,
    MODALITY_COLUMN,
    Problems,
    Row,
    head_row,
    path_column,
    rows,
)
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.sidecar import MAX_COLUMNS, MAX_SIDECAR_BYTES, Scalar, parse_columns
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.types import METADATA_COLUMNS, Metadata, Modality

MAX_CAPTIONS = 64
_NO_COLUMNS: Mapping[str, Scalar] = {}
_NO_METADATA = Metadata()
"""One for all files that nothing of the kind is said of: there may be millions."""


@dataclass(frozen=True, slots=True)
class ListEntry:
    """Entry of a list for a file; `columns`: facts of the user's own, names in lower case."""

    modality: Modality | None
    captions: tuple[str, ...]
    columns: Mapping[str, Scalar]
    metadata: Metadata

    @property
    def stamp(self) -> int:
        """A number from 1 to 2^63 - 1, the same for the same facts wherever it is computed."""
        import xxhash

        metadata = [getattr(self.metadata, name) for name in METADATA_COLUMNS]
        said = (self.modality, self.captions, dict(self.columns), metadata)
        text = json.dumps(said, sort_keys=True, default=str)
        return int(xxhash.xxh3_64_intdigest(text.encode())) >> 1 or 1


@dataclass(frozen=True, slots=True)
class ListContent:
    """Content of a list, by path inside the root, and up to 20 lines on rows or values that cannot be used."""

    entries: Mapping[str, ListEntry]
    problems: tuple[str, ...]


def is_list(path: Path) -> bool:
    """Return whether a csv, tsv, jsonl or parquet file is a list, by its header alone.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix.lower() not in LIST_NAMES:
        return False
    try:
        row = head_row(path)
    except MediaError:
        return False
    column = path_column(row)
    if column is None or find_columns(list(row)) is not None:
        return False
    # A column "file" or "image" may hold anything; None where a header comes without rows.
    return row[column] is None or _is_path(row[column])


def read_list(path: Path, root: Path) -> ListContent:
    """Return what the list at `path` says of files inside `root`, there or not. Rows that say nothing usable are
    problems.

    Raises:
        MediaError: damaged, too large, or without a column of paths.
    """
    reading = _Reading(_slashed(path.parent), _slashed(root))
    for row in rows(path, reading.problems):
        reading.add(row)
    return ListContent(reading.entries, reading.problems.lines())


def list_paths(path: Path) -> list[Path]:
    """Absolute paths of all files that the list at `path` names, each once, there or not.

    Raises:
        MediaError: as `read_list`.
    """
    folder = _slashed(path.parent)
    found: dict[str, None] = {}
    for row in rows(path, Problems()):
        try:
            found["/" + _locate(row.path, folder, "/")] = None
        except MediaError:
            continue
    return [Path(name) for name in found]


def _slashed(root: Path) -> str:
    return root.absolute().as_posix().rstrip("/") + "/"


def _is_path(value: object) -> bool:
    return isinstance(value, str) and ("." in value or "/" in value) and not value.replace(".", "").isdigit()


def _locate(value: object, folder: str, root: str) -> str:
    """The path that a row names, relative to `root`; both folders end with a slash.

    Raises:
        MediaError: no path, or outside the root.
    """
    if value is None or value == "":
        raise MediaError("no path")
    if not isinstance(value, str):
        raise MediaError(f"the path is {_shown(value)}: expected a text")
    if "\0" in value or "://" in value:
        raise MediaError(f"the path {_shown(value)} is none: expected one of a file here")
    place = posixpath.normpath(value if value.startswith("/") else folder + value)
    if not place.startswith(root) or place == root:
        raise MediaError(f"the path {_shown(value)} is outside {root}")
    return place[len(root) :].encode(errors="replace").decode() if not place.isascii() else place[len(root) :]


def _shown(value: object) -> str:
    return normalize_text(repr(value)[:80]) or "?"


@dataclass
class _Reading:
    """Entries and problems so far. `names`: a column's name as written, and as it is kept, or None to leave it out."""

    folder: str
    root: str
    entries: dict[str, ListEntry] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    names: dict[str, str | None] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take what a row says."""
        try:
            place = _locate(row.path, self.folder, self.root)
        except MediaError as error:
            self.problems.add(row.number, str(error))
            return
        modality: Modality | None = None
        captions: list[str] = []
        own: dict[str, object] = {}
        for name, value in row.others.items():
            if value is None:
                continue
            key = self.names[name] if name in self.names else self._name(name, row.number)
            if key in CAPTION_COLUMNS:
                captions += self._captions(value, row.number)
            elif key == MODALITY_COLUMN:
                modality = self._modality(value, row.number)
            elif key is not None:
                own[key] = value
        columns, metadata = self._columns(own, row.number) if own else (_NO_COLUMNS, _NO_METADATA)
        listed = ListEntry(modality, tuple(dict.fromkeys(captions)), columns, metadata)
        before = self.entries.get(place)
        self.entries[place] = listed if before is None else self._joined(before, listed, row.number)

    def _name(self, name: str, number: int) -> str | None:
        """Decide once about a column."""
        key: str | None = name.strip().lower()
        try:
            if key not in (*CAPTION_COLUMNS, MODALITY_COLUMN):
                parse_columns({str(key): None})
            if key in self.names.values():
                raise MediaError(f"column {_shown(name)} comes twice: the first counts")
            if sum(kept is not None for kept in self.names.values()) >= MAX_COLUMNS:
                raise MediaError(f"column {_shown(name)} is one more than the {MAX_COLUMNS} that are read")
        except MediaError as error:
            self.problems.add(number, str(error))
            key = None
        if len(self.names) < 64 * MAX_COLUMNS:  # rows of JSON may have ever new keys
            self.names[name] = key
        return key

    def _captions(self, value: object, number: int) -> list[str]:
        found = []
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                self.problems.add(number, f"the caption is {_shown(text)}: expected a text")
            elif "\0" in text or len(text) > MAX_SIDECAR_BYTES:
                self.problems.add(number, f"the caption {_shown(text)} holds zero bytes, or is too long")
            elif stripped := text.strip():
                found.append(stripped if stripped.isascii() else stripped.encode(errors="replace").decode())
        return found

    def _modality(self, value: object, number: int) -> Modality | None:
        try:
            return Modality(str(value).strip().lower())
        except ValueError:
            self.problems.add(number, f"no modality {_shown(value)}: expected one of {', '.join(Modality)}")
            return None

    def _columns(self, own: Mapping[str, object], number: int) -> tuple[Mapping[str, Scalar], Metadata]:
        try:
            return parse_columns(own)
        except MediaError as error:
            columns: dict[str, Scalar] = {}
            metadata = Metadata()
            if len(own) == 1:
                self.problems.add(number, str(error))
                return columns, metadata
        for name, value in own.items():  # all but the one at fault
            column, fact = self._columns({name: value}, number)
            columns.update(column)
            metadata = metadata.merge_over(fact)
        return columns, metadata

    def _joined(self, first: ListEntry, other: ListEntry, number: int) -> ListEntry:
        """Two rows about one file."""
        if first.modality and other.modality and first.modality is not other.modality:
            self.problems.add(number, f"another modality than in a row before, {other.modality}: the first counts")
        captions = tuple(dict.fromkeys((*first.captions, *other.captions)))
        if len(captions) > MAX_CAPTIONS:
            self.problems.add(number, f"one caption more than the {MAX_CAPTIONS} a file can have")
            captions = captions[:MAX_CAPTIONS]
        columns = {**other.columns, **first.columns}
        metadata = first.metadata.merge_over(other.metadata)
        return ListEntry(first.modality or other.modality, captions, columns, metadata)
