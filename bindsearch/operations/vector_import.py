"""Intake: ready vectors on their way into a store, each item in its place and committed in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bindsearch.encoders.base import Encoder
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import UsageError
from bindsearch.former_names import former_fields
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.ingest.media.options import DecodeOptions, decode_options
from bindsearch.operations.context import StoreContext, load_store_encoder
from bindsearch.operations.exchange_format import BLOCK_ROWS, Columns
from bindsearch.storage.batch import StagedBatch, StagedItem, StagedSegment
from bindsearch.storage.catalog import Catalog, Failure
from bindsearch.storage.config import STORE_FILE, StoreConfig, new_config, read_config
from bindsearch.storage.file_state import UNKNOWN_STATE, FileState
from bindsearch.storage.writer import Writer
from bindsearch.types import METADATA_COLUMNS, Metadata, Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.operations.optimize import OptimizeResult


_KNOWN = ("item_id", "collection_id", "rel_path", "mtime_ns", "content_hash", "fingerprint")
"""Columns that are compared with those of items that are there."""


@former_fields(kept="unchanged")
@dataclass(slots=True)
class ImportReport:
    """Report of an import or a merge: items that are new, took the place of others, or were left out as those that
    were there stay; vectors of them; failures that were recorded; what was done to the indexes."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    vectors: int = 0
    failures: int = 0
    notices: list[str] = field(default_factory=list)
    optimized: Sequence[OptimizeResult] = ()
    took_s: float = 0.0


class ItemSlot(NamedTuple):
    """Place of an item, and what is there: the item's id (None: none is), its content hash and modification time,
    and whether the file has failed."""

    collection_id: int
    rel_path: str
    item_id: int | None
    content_hash: str
    mtime_ns: int
    failed: bool


class _CollectionMatch(NamedTuple):
    """The collection that holds a root: its id, the root within it ("" or with a slash at its end), and collections
    inside the root: where within it (with a slash), and their ids."""

    collection_id: int
    prefix: str
    inner: tuple[tuple[str, int], ...]


@contextmanager
def import_context(
    path: Path,
    like: StoreConfig | None,
    *,
    encoder: str | Encoder | None,
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    device: str,
) -> Iterator[tuple[StoreContext, StoreConfig]]:
    """The store at `path` and what it was made with, or will be: a new one is made like another one.

    Raises:
        UsageError: it is new, and neither `like` nor `encoder` says what its space is.
        StoreError: it was made with another encoder.
        EncoderError: there is no such encoder, or its model is not here.
    """
    exists = (path / STORE_FILE).is_file()
    if not exists and like is None and encoder is None:
        raise UsageError(f"{path} would be a new store: say which encoder made the vectors (--encoder NAME)")
    if not exists and like is not None and encoder is None:
        encoder, encoder_options = like.encoder, encoder_options or like.encoder_options
    loaded = load_store_encoder(path, encoder, encoder_options or {}, Runtime(device=device))
    lengths = DecodeOptions() if exists or like is None else decode_options(like, None)
    made = read_config(path) if exists else new_config(loaded, lengths)
    gpus = GpuResidency(device)
    try:
        yield StoreContext(path, loaded, decode_options(made, None), gpus), made
    finally:
        gpus.close()


def segment_from_row(facts: Columns, row: int, embedding: NDArray[np.float32]) -> StagedSegment:
    """The segment in a row of facts, with its embedding (d,)."""
    modality = Modality(facts["modality"][row])
    text = facts["text"][row] if modality is Modality.TEXT else None
    return StagedSegment(modality, embedding, facts["start_s"][row], facts["end_s"][row], text)


def _digest(segments: Sequence[StagedSegment]) -> str:
    """Equal for equal segments alone."""
    import xxhash

    digest = xxhash.xxh3_128()
    for segment in segments:
        digest.update(repr((segment.modality.value, segment.start_s, segment.end_s, segment.text)).encode())
        digest.update(segment.embedding.tobytes())
    return str(digest.hexdigest())


class VectorImporter:
    """Stages items for a writer. Places are looked up once: have one for each source of items."""

    def __init__(self, catalog: Catalog, writer: Writer, report: ImportReport, *, trusted: bool) -> None:
        """`trusted`: equal fingerprints mean equal vectors, so that an item shares those of any other; else only those
        of one that was staged here with the very same ones."""
        self._catalog = catalog
        self._writer = writer
        self._report = report
        self._trusted = trusted
        self._batch = StagedBatch()
        self._staged = 0
        self._holders: dict[str, _CollectionMatch] = {}
        items = catalog.items_table().select(list(_KNOWN)).combine_chunks()
        self._items = {name: items.column(name) for name in _KNOWN}
        self._rows: dict[int, dict[str, int]] = {key: {} for key in catalog.collections()}
        owners, paths = (self._items[name].to_pylist() for name in ("collection_id", "rel_path"))
        for row, (key, path) in enumerate(zip(owners, paths, strict=True)):
            self._rows[key][path] = row
        self._prints = Counter(filter(None, self._items["fingerprint"].to_pylist()))
        self._first: dict[str, tuple[str, int]] = {}
        self._batches = 0
        failures = catalog.failures_table()
        names = (failures.column(name).to_pylist() for name in ("collection_id", "rel_path"))
        self._failed = set(zip(*names, strict=True))

    def locate(self, root: str, rel_path: str) -> ItemSlot:
        """The place of a file below `root`: in the deepest collection that holds it, a new one where none does."""
        holder = self._holders.get(root)
        if holder is None:
            holder = self._holders[root] = self._hold(Path(root))
        for prefix, key in holder.inner:
            if rel_path.startswith(prefix):
                return self._place(key, rel_path[len(prefix) :])
        return self._place(holder.collection_id, holder.prefix + rel_path)

    def add(self, place: ItemSlot, facts: Columns, row: int, segments: Sequence[StagedSegment]) -> None:
        """Stage the item whose facts are in a row, in the stead of what is there; commits when much is staged."""
        fingerprint = facts["fingerprint"][row] or ""
        if place.failed:
            self._batch.forgotten_failures.append((place.collection_id, place.rel_path))
        if self._trusted and place.item_id is not None:
            old = self._rows[place.collection_id][place.rel_path]
            self._prints[self._items["fingerprint"][old].as_py()] -= 1
        if not fingerprint:
            shared = False
        elif self._trusted:
            shared = self._prints[fingerprint] > 0
            self._prints[fingerprint] += 1
        else:
            shared = self._was_staged(fingerprint, segments)
        self._batch.items.append(
            StagedItem(
                item_id=place.item_id,
                collection_id=place.collection_id,
                rel_path=place.rel_path,
                modality=Modality(facts["item_modality"][row] or segments[0].modality),
                state=_state(facts["size_bytes"][row], facts["mtime_ns"][row]),
                content_hash=facts["content_hash"][row] or "",
                fingerprint=fingerprint,
                segments=None if shared else tuple(segments),
                columns=facts["columns"][row],
                metadata=Metadata(**{name: facts[name][row] for name in METADATA_COLUMNS}),
            )
        )
        self._report.vectors += len(segments)
        self._report.added += place.item_id is None
        self._report.replaced += place.item_id is not None
        self._staged += len(segments)
        if self._staged >= BLOCK_ROWS:
            self.flush()

    def add_failure(self, place: ItemSlot, reason: str) -> None:
        """Record a file that could not be indexed; the next `index` tries it again."""
        self._batch.failures.append(Failure(place.collection_id, place.rel_path, UNKNOWN_STATE, reason))
        self._report.failures += 1

    def flush(self) -> None:
        """Commit what is staged."""
        if not self._batch.is_empty:
            self._writer.commit(self._batch)
        self._batch = StagedBatch()
        self._batches += 1
        self._staged = 0

    def _place(self, key: int, rel_path: str) -> ItemSlot:
        failed = (key, rel_path) in self._failed
        row = self._rows[key].get(rel_path)
        if row is None:
            return ItemSlot(key, rel_path, None, "", -1, failed)
        item_id, content_hash, mtime_ns = (
            self._items[name][row].as_py() for name in ("item_id", "content_hash", "mtime_ns")
        )
        return ItemSlot(key, rel_path, item_id, content_hash, mtime_ns, failed)

    def _was_staged(self, fingerprint: str, segments: Sequence[StagedSegment]) -> bool:
        """Return whether the first item of this fingerprint had the same vectors, and the writer will find those."""
        digest = _digest(segments)
        first, batch = self._first.get(fingerprint, (None, -1))
        if first not in (None, digest):
            if first:  # the writer goes by the fingerprint alone: those that share are not to meet this item
                self.flush()
            self._first[fingerprint] = ("", -1)  # from now on each brings its own
            return False
        if first is not None and (batch == self._batches or fingerprint not in self._prints):
            return True
        self._first[fingerprint] = (digest, self._batches)
        return False

    def _hold(self, root: Path) -> _CollectionMatch:
        roots = self._catalog.collections()
        if not any(root.is_relative_to(other) for other in roots.values()):
            key = self._catalog.add_collection(root)
            roots[key] = root
            self._rows[key] = {}
        around = {key: other for key, other in roots.items() if root.is_relative_to(other)}
        key = max(around, key=lambda one: len(around[one].parts))
        inside = {one: other for one, other in roots.items() if other.is_relative_to(root) and one != key}
        deepest_first = sorted(inside, key=lambda one: -len(inside[one].parts))
        return _CollectionMatch(
            key, _below(root, roots[key]), tuple((_below(inside[one], root), one) for one in deepest_first)
        )


def _below(path: Path, root: Path) -> str:
    return "" if path == root else f"{path.relative_to(root).as_posix()}/"


def _state(size_bytes: int | None, mtime_ns: int | None) -> FileState:
    """As far as it is known; the stamp is no file's, so that the next `index` looks at the file again."""
    unknown = UNKNOWN_STATE
    return FileState(
        unknown.size_bytes if size_bytes is None else size_bytes,
        unknown.mtime_ns if mtime_ns is None else mtime_ns,
        unknown.sidecar_version,
    )
