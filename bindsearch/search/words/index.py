"""Word index of a generation: the fields of each part of the snapshot, from a file or in memory.

The fields of a part with n items are numbered: [0, n) the paths of its items, [n, 2n) their metadata and user columns,
from 2n on the texts of its segments. A part never changes, so its postings do not either; deleted items are filtered by
the live rows of the snapshot.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bindsearch.atomic import make_folder
from bindsearch.errors import IndexDamagedError
from bindsearch.indexes.index_files import INDEXES
from bindsearch.indexes.words import (
    Postings,
    check_postings,
    open_postings,
    postings_of,
    tokens_of,
    tokens_of_path,
    write_postings,
)
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.storage.snapshot import Manifest, Snapshot, open_snapshot
from bindsearch.storage.snapshot_format import Part

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

logger = logging.getLogger("bindsearch")

Found = TypeVar("Found")

WORDS = "words"
"""Folder in `indexes` with a file for each part of the snapshot."""

NAME = re.compile(r"[0-9]+\.words", re.ASCII)
DESCRIBING = ("title", "artist", "camera")
"""Metadata columns with words."""

TAIL_BYTES = 4 << 20
"""Most bytes of names and texts without a file that are read into memory: about half a second, once."""

MANY_ROWS = 20_000
"""Items and segments from which indexing their words takes seconds."""

ROWS = 4096
REMEDY = "run `bindsearch optimize` to build their word index"


def words_path(store: Path, number: int) -> Path:
    """Return the path of the word index of a part."""
    return store / INDEXES / WORDS / f"{number}.words"


def write_words(store: Path, manifest: Manifest, on_stage: OnStage = ignore_stage) -> None:
    """Write the word index of each part that has none, or a damaged one, and remove those of parts that are gone.

    The caller holds the writer's lock.

    Args:
        store: Folder of the store.
        manifest: Content of CURRENT.
        on_stage: Called with the name of each stage.
    """
    numbers = [number for number in manifest.parts if not _is_sound(store, number, manifest.part_digests.get(number))]
    if numbers:
        parts = dict(zip(manifest.parts, open_snapshot(store, manifest).parts, strict=True))
        make_folder(store / INDEXES / WORDS, store)
    for number in numbers:
        n = len(parts[number].item_ids) + len(parts[number].segment_items)
        if n >= MANY_ROWS:
            on_stage(f"words: build (names and texts of {n:,} items and segments)")
        path = words_path(store, number)
        if path.is_dir():
            shutil.rmtree(path)
        write_postings(path, manifest.part_digests[number], token_sets(parts[number]))
    used = {words_path(store, number) for number in manifest.parts}
    for path in (store / INDEXES / WORDS).glob("*.words"):
        if path not in used and NAME.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)


def _is_sound(store: Path, number: int, digest: str | None) -> bool:
    try:
        return digest is None or check_postings(words_path(store, number), digest)
    except IndexDamagedError:
        return False


def token_sets(part: Part) -> Iterator[Collection[str]]:
    """Yield the tokens of each field of a part."""
    for path in _values(part.rel_paths):
        yield tokens_of_path(path)
    names = [name for name in DESCRIBING if name in part.items.schema.names]
    for *values, columns in zip(*(_values(part.items.column(name)) for name in (*names, "columns")), strict=True):
        texts = [*filter(None, values), *([] if columns is None else _texts_in(json.loads(columns)))]
        yield set(tokens_of(" ".join(texts))) if texts else ()
    for text in _values(part.texts):
        yield set(tokens_of(text)) if text else ()


def _values(column: pa.Array) -> Iterator[Any]:
    for start in range(0, len(column), ROWS):
        yield from column.slice(start, ROWS).to_pylist()


def _texts_in(value: object) -> list[str]:
    """Return the texts and numbers in a JSON value."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [text for one in inner for text in _texts_in(one)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


@dataclass(frozen=True)
class WordPart:
    """A part of the snapshot with its postings.

    Attributes:
        part: The part.
        first_item: Row in the snapshot of its first item.
        first_segment: Row in the snapshot of its first segment.
        postings: Postings of its fields.
        is_stored: Whether the postings are from a file.
    """

    part: Part
    first_item: int
    first_segment: int
    postings: Postings
    is_stored: bool

    def owners_of(self, fields: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row in the part of the item of each field, and of its segment, -1 without one: int64 (m,) each."""
        items, numbers = len(self.part.item_ids), fields.astype(np.int64)
        segments = np.where(numbers < 2 * items, -1, numbers - 2 * items)
        owners = np.where(segments < 0, numbers % max(items, 1), -1)
        owners[segments >= 0] = self.part.item_of_segments[segments[segments >= 0]]
        return owners, segments


_Key = tuple[int, str | None]
_Opened = tuple[Postings, bool]


class WordIndex:
    """The word index of a generation; thread-safe. Files are opened on first use."""

    def __init__(self, store: Path, snapshot: Snapshot, before: WordIndex | None = None) -> None:
        """Prepare the word index.

        Args:
            store: Folder of the store.
            snapshot: Snapshot of the generation.
            before: The word index of an older generation, whose postings are used again.
        """
        self._store = store
        self._parts = snapshot.parts
        self._lock = threading.Lock()
        digests = snapshot.manifest.part_digests
        self._keys: list[_Key] = [(number, digests.get(number)) for number in snapshot.manifest.parts]
        known: dict[_Key, _Opened] = {} if before is None else before._opened
        self._opened: dict[_Key, _Opened] = {
            key: known[key] for key in self._keys if key in known and key[1] is not None
        }
        self._errors: dict[_Key, str] = {}
        self._left_out: dict[_Key, int] = {}
        self._found: list[WordPart] | None = None

    @property
    def problems(self) -> list[str]:
        """Lines on damaged files, and on what the last search left out."""
        with self._lock:
            damaged = [f"word index not used: {error}" for error in self._errors.values()]
            n = sum(self._left_out.values())
            return [*damaged, *([f"names and texts of {n:,} items were not searched by words: {REMEDY}"] if n else [])]

    def search(self, run: Callable[[Sequence[WordPart]], Found]) -> Found:
        """Return the result of a search over the parts; if a file proves damaged, it is left out, and `run` repeated.

        Args:
            run: Searches the parts: those with a file, and the others as long as they are small.
        """
        while True:
            try:
                return run(self._open_parts())
            except IndexDamagedError as error:
                self._leave_out_damaged(error)

    def _open_parts(self) -> list[WordPart]:
        """Return the parts to search; opened once, and again while one is left out, whose file may come."""
        found = []
        first_item = first_segment = 0
        with self._lock:
            if self._found is not None and not self._left_out:
                return self._found
            self._left_out.clear()
            room = TAIL_BYTES
            for key, part in zip(self._keys, self._parts, strict=True):
                opened = self._opened.get(key) or self._open_file(key)
                if opened is None or not opened[1]:
                    room -= _text_bytes(part)
                    if opened is None and room >= 0:
                        opened = (postings_of(token_sets(part)), False)
                if opened is None:
                    self._left_out[key] = len(part.item_ids)
                else:
                    self._opened[key] = opened
                    found.append(WordPart(part, first_item, first_segment, *opened))
                first_item += len(part.item_ids)
                first_segment += len(part.segment_items)
            self._found = found
        return found

    def _open_file(self, key: _Key) -> _Opened | None:
        number, digest = key
        if digest is None or key in self._errors:
            return None
        try:
            postings = open_postings(words_path(self._store, number), digest)
        except IndexDamagedError as error:
            self._set_error(key, error)
            return None
        return None if postings is None else (postings, True)

    def _leave_out_damaged(self, error: IndexDamagedError) -> None:
        """Close the damaged files; all of them if each proves sound now."""
        with self._lock:
            self._found = None
            stored = [key for key, (_, is_stored) in self._opened.items() if is_stored]
            damaged: dict[_Key, IndexDamagedError] = {}
            for key in stored:
                try:
                    check_postings(words_path(self._store, key[0]), key[1] or "")
                except IndexDamagedError as again:
                    damaged[key] = again
            for key, found in (damaged or dict.fromkeys(stored, error)).items():
                del self._opened[key]
                self._set_error(key, found)

    def _set_error(self, key: _Key, error: IndexDamagedError) -> None:
        logger.warning("a word index is not used: %s", error)
        self._errors[key] = str(error)


def _text_bytes(part: Part) -> int:
    return int(part.rel_paths.nbytes + part.texts.nbytes + part.items.column("columns").nbytes)
