"""Manifests: csv, tsv, jsonl and parquet files with metadata of other files, one row per file.

A manifest has a column of paths (PATH_COLUMNS, letter case ignored), relative to the manifest's folder, no motion
columns, and, unless the user names it, a path of a file of the collection. CAPTION_COLUMNS are indexed with the file,
`modality` sets its modality, FACT_NAMES tell how it is read, and all other columns are the user's own (or metadata,
such as `title` and `taken`), as in a sidecar. If a file has several rows, it gets the captions of all of them, and
everything else from the first.
"""

from __future__ import annotations

import itertools
import json
import os
import posixpath
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bindsearch.errors import MediaError
from bindsearch.ingest.archives.samples import archive_above
from bindsearch.ingest.manifests.rows import (
    CAPTION_COLUMNS,
    DEFAULT_LIMITS,
    MANIFEST_NAMES,
    MODALITY_COLUMN,
    ListLimits,
    Problems,
    Row,
    head_row,
    path_column,
    rows,
)
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.sidecar import (
    EVERYDAY_WORDS,
    FACT_NAMES,
    MAX_COLUMNS,
    MAX_SIDECAR_BYTES,
    Scalar,
    parse_columns,
)
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.types import FACT_COLUMNS, METADATA_COLUMNS, Metadata, Modality

MAX_CAPTIONS = 64
MAX_CHECKED_ROWS = 10_000
"""A table whose first rows name no file is no manifest."""

_NO_COLUMNS: Mapping[str, Scalar] = {}
_NO_METADATA = Metadata()
"""Shared by all files without such metadata: there may be millions."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """A manifest's entry for a file.

    Attributes:
        modality: its modality; None: the file decides.
        captions: texts about it.
        columns: the user's own, names in lower case; those of EVERYDAY_WORDS count unless the file uses them as facts.
        metadata: values under the names of metadata.
        facts: names among FACT_NAMES with their cells, as written.
        source: the row of the facts, for errors: "list.csv, row 3".
    """

    modality: Modality | None
    captions: tuple[str, ...]
    columns: Mapping[str, Scalar]
    metadata: Metadata
    facts: tuple[tuple[str, object], ...] = ()
    source: str = ""

    @property
    def stamp(self) -> int:
        """A hash from 1 to 2^63 - 1, equal for equal entries on all machines."""
        import xxhash

        metadata = [getattr(self.metadata, name) for name in METADATA_COLUMNS if name not in FACT_COLUMNS]
        facts = (dict(self.facts),) if self.facts else ()
        content = (self.modality, self.captions, dict(self.columns), metadata, *facts)
        text = json.dumps(content, sort_keys=True, default=str)
        return int(xxhash.xxh3_64_intdigest(text.encode())) >> 1 or 1


@dataclass(frozen=True, slots=True)
class ManifestContent:
    """Content of a manifest: entries by path inside the root, and up to 20 lines on unusable rows or values."""

    entries: Mapping[str, ManifestEntry]
    problems: tuple[str, ...]


_NO_ENTRY = ManifestEntry(None, (), _NO_COLUMNS, _NO_METADATA)
"""Shared by all files that are listed but not there."""


def is_manifest(path: Path) -> bool:
    """Return whether a csv, tsv, jsonl or parquet file is a manifest, by its header alone.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix.lower() not in MANIFEST_NAMES:
        return False
    try:
        row = head_row(path)
    except MediaError:
        return False
    column = path_column(row)
    if column is None or find_columns(list(row)) is not None:
        return False
    # A column "file" or "image" may contain anything; None if the file has a header but no rows.
    value = row[column]
    is_path = isinstance(value, str) and ("." in value or "/" in value) and not value.replace(".", "").isdigit()
    return value is None or is_path


def names_files(path: Path, root: Path, scanned: Collection[str], limits: ListLimits = DEFAULT_LIMITS) -> bool:
    """Return whether any of the first MAX_CHECKED_ROWS paths of a manifest is that of a file inside `root`.

    Tables of other things, such as contacts or a log, may have a column `path` or `file`, too.

    Args:
        path: the manifest.
        root: folder of the files.
        scanned: relative paths of files that are known to be there; others are looked up.
        limits: limits of manifests.

    Raises:
        MediaError: as for `read_manifest`.
    """
    slashed_root = _slashed(root)
    return any(
        rel_path is not None and (rel_path in scanned or _is_there(slashed_root + rel_path, slashed_root))
        for rel_path in itertools.islice(_located(path, slashed_root, limits), MAX_CHECKED_ROWS)
    )


def _is_there(path: str, root: str) -> bool:
    """Return whether there is a file at a path below `root`, or an archive above it."""
    while len(path) > len(root):
        with suppress(OSError, ValueError):  # no name that a file could have
            if os.path.isfile(path):  # noqa: PTH113  (a Path per row is too slow)
                return True
            if os.path.isdir(path):  # noqa: PTH112
                return False
        path = path.rpartition("/")[0]
    return False


def read_manifest(
    path: Path, root: Path, limits: ListLimits = DEFAULT_LIMITS, scanned: Collection[str] | None = None
) -> ManifestContent:
    """Read the entries of the manifest at `path` for files inside `root`, existing or not; unusable rows are problems.

    Args:
        path: the manifest.
        root: folder that the paths of entries are relative to.
        limits: limits of manifests.
        scanned: paths of the files whose entries are needed, members of archives among them included; those of others
            are empty (None: all are needed).

    Raises:
        MediaError: damaged, too large, or without a column of paths.
    """
    reader = _ManifestReader(path.name, _slashed(path.parent), _slashed(root), scanned)
    for row in rows(path, reader.problems, reader.is_used, limits):
        reader.add(row)
    return ManifestContent(reader.entries, reader.problems.lines())


def manifest_paths(path: Path, limits: ListLimits = DEFAULT_LIMITS) -> list[str]:
    """Return the absolute paths of all files in the manifest at `path`, without repetition, existing or not.

    Raises:
        MediaError: as for `read_manifest`.
    """
    return list(dict.fromkeys(f"/{rel_path}" for rel_path in _located(path, "/", limits) if rel_path is not None))


def _located(path: Path, root: str, limits: ListLimits) -> Iterator[str | None]:
    """Yield the path in each row of a manifest, relative to `root`; None where it is none or outside."""
    folder = _slashed(path.parent)
    for row in rows(path, Problems(), lambda _name: False, limits):
        try:
            rel_path = _locate(row.path, folder, root)
        except MediaError:
            rel_path = None
        yield rel_path


def _slashed(root: Path) -> str:
    return root.absolute().as_posix().rstrip("/") + "/"


def _locate(value: object, folder: str, root: str) -> str:
    """Return the path in a row, relative to `root`, or raise MediaError; both folders end with a slash."""
    if value is None or value == "":
        raise MediaError("no path")
    if not isinstance(value, str):
        raise MediaError(f"the path is {_abbreviate(value)}: expected a string")
    if "\0" in value or "://" in value:
        raise MediaError(f"the path {_abbreviate(value)} is not valid: expected a local file")
    path = posixpath.normpath(value if value.startswith("/") else folder + value)
    if not path.startswith(root) or path == root:
        raise MediaError(f"the path {_abbreviate(value)} is outside {root}")
    return path[len(root) :].encode(errors="replace").decode() if not path.isascii() else path[len(root) :]


def _abbreviate(value: object) -> str:
    return normalize_text(repr(value)[:80]) or "?"


@dataclass
class _ManifestReader:
    """Entries and problems so far; `names`: the key of each column name as written, None to leave it out."""

    name: str
    folder: str
    root: str
    scanned: Collection[str] | None = None
    entries: dict[str, ManifestEntry] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    names: dict[str, str | None] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    def is_used(self, name: str) -> bool:
        """Return whether a column of a table is used; if not, the reason is a problem of the header."""
        return self._name(name, 1) is not None

    def add(self, row: Row) -> None:
        """Add the entry of a row."""
        try:
            path = _locate(row.path, self.folder, self.root)
        except MediaError as error:
            self.problems.add(row.number, str(error))
            return
        modality: Modality | None = None
        captions: list[str] = []
        own: dict[str, object] = {}
        facts: dict[str, object] = {}
        for name, value in row.others.items():
            if value is None:
                continue
            key = self._name(name, row.number)
            if key in CAPTION_COLUMNS:
                captions += self._captions(value, row.number)
            elif key == MODALITY_COLUMN:
                modality = self._modality(value, row.number)
            elif key in FACT_NAMES:
                facts[key] = value
                if key in EVERYDAY_WORDS and not isinstance(value, list | Mapping):
                    own[key] = value
            elif key is not None:
                own[key] = value
        columns, metadata = self._columns(own, row.number) if own else (_NO_COLUMNS, _NO_METADATA)
        source = f"{self.name}, row {row.number}" if facts else ""
        unique = tuple(dict.fromkeys(captions))
        listed = ManifestEntry(modality, unique, columns, metadata, (*facts.items(),), source)
        if self.scanned is not None and path not in self.scanned and archive_above(path, self.scanned) is None:
            listed = _NO_ENTRY
        previous = self.entries.get(path)
        self.entries[path] = listed if previous is None else self._merge_entries(previous, listed, row.number)

    def _name(self, name: str, number: int) -> str | None:
        """Return the key of a column; None: it is left out. Each name is decided once."""
        if name in self.names:
            return self.names[name]
        key: str | None = name.strip().lower()
        try:
            if key not in (*CAPTION_COLUMNS, MODALITY_COLUMN):
                parse_columns({str(key): None})
            if key in self.keys:
                raise MediaError(f"column {_abbreviate(name)} appears twice: the first one is used")
            if len(self.keys) >= MAX_COLUMNS:
                raise MediaError(f"column {_abbreviate(name)} exceeds the limit of {MAX_COLUMNS} columns")
            self.keys.add(str(key))
        except MediaError as error:
            self.problems.add(number, str(error))
            key = None
        if key is not None or len(self.names) < 64 * MAX_COLUMNS:  # each row of JSON may have other keys
            self.names[name] = key
        return key

    def _captions(self, value: object, number: int) -> list[str]:
        captions = []
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                self.problems.add(number, f"the caption is {_abbreviate(text)}: expected a string")
            elif "\0" in text or len(text) > MAX_SIDECAR_BYTES:
                self.problems.add(number, f"the caption {_abbreviate(text)} contains zero bytes or is too long")
            elif stripped := text.strip():
                captions.append(stripped if stripped.isascii() else stripped.encode(errors="replace").decode())
        return captions

    def _modality(self, value: object, number: int) -> Modality | None:
        try:
            return Modality(str(value).strip().lower())
        except ValueError:
            self.problems.add(number, f"unknown modality {_abbreviate(value)}: expected one of {', '.join(Modality)}")
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
        for name, value in own.items():  # all but the invalid one
            column, parsed_metadata = self._columns({name: value}, number)
            columns.update(column)
            metadata = metadata.merge_over(parsed_metadata)
        return columns, metadata

    def _merge_entries(self, first: ManifestEntry, second: ManifestEntry, number: int) -> ManifestEntry:
        """Return the combined entry of two rows for one file."""
        if first.modality and second.modality and first.modality is not second.modality:
            self.problems.add(number, f"modality differs from a previous row, {second.modality}: the first one is used")
        captions = tuple(dict.fromkeys((*first.captions, *second.captions)))
        if len(captions) > MAX_CAPTIONS:
            self.problems.add(number, f"more than {MAX_CAPTIONS} captions for one file")
            captions = captions[:MAX_CAPTIONS]
        columns = {**second.columns, **first.columns}
        metadata = first.metadata.merge_over(second.metadata)
        facts = (*{**dict(second.facts), **dict(first.facts)}.items(),)
        source = first.source or second.source
        return ManifestEntry(first.modality or second.modality, captions, columns, metadata, facts, source)
