"""Import of precomputed vectors into a store: items are assigned to collections and committed in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bindsearch.arguments import shell_command
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import UsageError
from bindsearch.former_names import former_fields
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.ingest.media.options import DecodeOptions, decode_options
from bindsearch.media import SegmentOf
from bindsearch.operations.classify.column import missing_notices
from bindsearch.operations.context import StoreContext
from bindsearch.operations.exchange.exchange_format import BLOCK_ROWS, Columns
from bindsearch.operations.optimize import OptimizeResult, optimize_store
from bindsearch.reports import OnStage
from bindsearch.search.generation import Reader
from bindsearch.storage.batch import Embedded, StagedBatch, StagedItem
from bindsearch.storage.catalog import Catalog, Failure
from bindsearch.storage.config import STORE_FILE, StoreConfig, load_store_encoder, new_config, read_config
from bindsearch.storage.file_state import UNKNOWN_STATE
from bindsearch.storage.writer import Writer
from bindsearch.types import METADATA_COLUMNS, Metadata, Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_ITEM_COLUMNS = ("item_id", "collection_id", "rel_path", "mtime_ns", "content_hash", "fingerprint")
"""Columns of existing items that new items are compared with."""


@former_fields(kept="unchanged")
@dataclass(slots=True)
class ImportReport:
    """Report of an import or a merge.

    Attributes:
        added: Number of new items.
        replaced: Number of items that replaced existing ones.
        unchanged: Number of items that were skipped because the existing ones stay.
        vectors: Number of vectors of the added and replaced items.
        failures: Number of failures that were recorded.
        notices: Notices for the user.
        optimized: Results of the index maintenance.
        took_s: Duration in seconds.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    vectors: int = 0
    failures: int = 0
    notices: list[str] = field(default_factory=list)
    optimized: Sequence[OptimizeResult] = ()
    took_s: float = 0.0


class ItemSlot(NamedTuple):
    """Collection and path of an item, and the existing item there."""

    collection_id: int
    rel_path: str  # below the root of the collection
    item_id: int | None  # of the existing item; None if there is none
    content_hash: str  # of the existing item, "" if unknown
    mtime_ns: int  # of the existing item, in nanoseconds since 1970, -1 if unknown
    failed: bool  # whether a failure is recorded for the path


class _CollectionMatch(NamedTuple):
    """Collection that contains a root, and the collections inside of that root, deepest first."""

    collection_id: int
    prefix: str  # path of the root in the collection, "" or with a trailing slash
    inner: tuple[tuple[str, int], ...]  # path below the root with a trailing slash, and id


@contextmanager
def import_context(
    path: Path,
    like: StoreConfig | None,
    *,
    encoder: str | Encoder | None,
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    device: str,
) -> Iterator[tuple[StoreContext, StoreConfig]]:
    """Yield the context of an import, and the configuration that the store has or will have.

    Args:
        path: Folder of the store.
        like: Configuration that a new store takes encoder, options and segment lengths from; None: unknown.
        encoder: Encoder as in `connect`.
        encoder_options: Preprocessing options as in `connect`.
        device: Device as in `connect`.

    Yields:
        Context and configuration; GPU memory is released on exit.

    Raises:
        UsageError: the store is new, and neither `like` nor `encoder` is given.
        StoreError: the store was created with another encoder.
        EncoderError: there is no such encoder, or its model is not installed.
    """
    exists = (path / STORE_FILE).is_file()
    if not exists and like is None and encoder is None:
        raise UsageError(f"{path} is a new store: give the encoder that made the vectors (--encoder NAME)")
    if not exists and like is not None and encoder is None:
        encoder, encoder_options = like.encoder, encoder_options or like.encoder_options
    loaded = load_store_encoder(path, encoder, encoder_options or {}, Runtime(device=device))
    lengths = DecodeOptions() if exists or like is None else decode_options(like, None)
    made = read_config(path) if exists else new_config(loaded, lengths)
    with closing(GpuResidency(device)) as gpus:
        yield StoreContext(path, loaded, decode_options(made, None), gpus), made


def update_indexes(context: StoreContext, report: ImportReport, *, optimize: bool, on_stage: OnStage) -> None:
    """Bring the indexes up to date after an import, or add a notice that they are not; notice columns of classes."""
    if optimize:
        report.optimized = optimize_store(context, on_stage=on_stage)
    elif report.vectors:
        until = shell_command("optimize", "--store", context.path)
        fault = f"the indexes are unchanged: {report.vectors} new vectors are scanned exactly"
        report.notices.append(f"{fault} until `{until}`")
    report.notices += missing_notices(Reader(context.path).current().snapshot)


def segment_from_row(facts: Columns, row: int, embedding: NDArray[np.float32]) -> Embedded:
    """Return the segment in a row of the metadata, with its embedding, float32 (d,)."""
    modality = Modality(facts["modality"][row])
    text = facts["text"][row] if modality is Modality.TEXT else None
    return SegmentOf(modality, embedding, facts["start_s"][row], facts["end_s"][row], text)


def _digest(segments: Sequence[Embedded]) -> str:
    """Return a digest of segments: modality, span, text and vector of each."""
    import xxhash

    digest = xxhash.xxh3_128()
    for segment in segments:
        digest.update(repr((segment.modality.value, segment.start_s, segment.end_s, segment.text)).encode())
        digest.update(segment.payload.tobytes())
    return str(digest.hexdigest())


class VectorImporter:
    """Importer that stages items for a writer; it reads the catalog once, so create one for each source of items."""

    def __init__(self, catalog: Catalog, writer: Writer, report: ImportReport, *, trusted: bool) -> None:
        """Read the existing items of the catalog.

        Args:
            catalog: Catalog of the store.
            writer: Writer of the store.
            report: Report to count in.
            trusted: Whether equal fingerprints mean equal vectors. If so, an item shares the vectors of any item with
                its fingerprint; else only those of an item staged by this importer with identical vectors.
        """
        self._catalog, self._writer, self._report, self._trusted = catalog, writer, report, trusted
        self._batch = StagedBatch()
        self._staged = 0
        self._matches: dict[str, _CollectionMatch] = {}
        items = catalog.items_table().select(list(_ITEM_COLUMNS)).combine_chunks()
        self._items = {name: items.column(name) for name in _ITEM_COLUMNS}
        self._rows: dict[int, dict[str, int]] = {key: {} for key in catalog.collections()}
        owners, paths = (self._items[name].to_pylist() for name in ("collection_id", "rel_path"))
        for row, (key, path) in enumerate(zip(owners, paths, strict=True)):
            self._rows[key][path] = row
        self._fingerprints = Counter(filter(None, self._items["fingerprint"].to_pylist()))
        self._first: dict[str, tuple[str, int]] = {}
        self._batches = 0
        failures = catalog.failures_table()
        names = (failures.column(name).to_pylist() for name in ("collection_id", "rel_path"))
        self._failed = set(zip(*names, strict=True))

    def locate(self, root: str, rel_path: str) -> ItemSlot:
        """Return the slot of a file below `root`, in the deepest collection that contains it.

        If no collection contains it, `root` becomes a new one.
        """
        match = self._matches.get(root)
        if match is None:
            match = self._matches[root] = self._match_collection(Path(root))
        for prefix, key in match.inner:
            if rel_path.startswith(prefix):
                return self._slot(key, rel_path[len(prefix) :])
        return self._slot(match.collection_id, match.prefix + rel_path)

    def add(self, slot: ItemSlot, facts: Columns, row: int, segments: Sequence[Embedded]) -> None:
        """Stage an item; it replaces the existing one. A batch is committed after BLOCK_ROWS segments.

        Args:
            slot: Slot of the item, from `locate`.
            facts: Metadata of a block.
            row: Row of the item in the metadata.
            segments: All segments of the item.
        """
        fingerprint = facts["fingerprint"][row] or ""
        if slot.failed:
            self._batch.forgotten_failures.append((slot.collection_id, slot.rel_path))
        if self._trusted and slot.item_id is not None:
            old = self._rows[slot.collection_id][slot.rel_path]
            self._fingerprints[self._items["fingerprint"][old].as_py()] -= 1
        if not fingerprint:
            shared = False
        elif self._trusted:
            shared = self._fingerprints[fingerprint] > 0
            self._fingerprints[fingerprint] += 1
        else:
            shared = self._was_staged(fingerprint, segments)
        size_bytes, mtime_ns = facts["size_bytes"][row], facts["mtime_ns"][row]
        # as far as it is known; the sidecar version makes the next `index` inspect the file
        known = {"size_bytes": size_bytes, "mtime_ns": mtime_ns}
        state = replace(UNKNOWN_STATE, **{name: value for name, value in known.items() if value is not None})
        self._batch.items.append(
            StagedItem(
                item_id=slot.item_id,
                collection_id=slot.collection_id,
                rel_path=slot.rel_path,
                modality=Modality(facts["item_modality"][row] or segments[0].modality),
                state=state,
                content_hash=facts["content_hash"][row] or "",
                fingerprint=fingerprint,
                segments=None if shared else tuple(segments),
                columns=facts["columns"][row],
                metadata=Metadata(**{name: facts[name][row] for name in METADATA_COLUMNS}),
            )
        )
        self._report.vectors += len(segments)
        self._report.added += slot.item_id is None
        self._report.replaced += slot.item_id is not None
        self._count(len(segments))

    def add_failure(self, slot: ItemSlot, reason: str) -> None:
        """Record a file that could not be indexed; the next `index` retries it."""
        self._batch.failures.append(Failure(slot.collection_id, slot.rel_path, UNKNOWN_STATE, reason))
        self._failed.add((slot.collection_id, slot.rel_path))
        self._report.failures += 1
        self._count(1)

    def _count(self, n: int) -> None:
        self._staged += n
        if self._staged >= BLOCK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Commit the staged items and failures."""
        if not self._batch.is_empty:
            self._writer.commit(self._batch)
        self._batch = StagedBatch()
        self._batches += 1
        self._staged = 0

    def _slot(self, key: int, rel_path: str) -> ItemSlot:
        """Return the slot of a path in a collection."""
        failed = (key, rel_path) in self._failed
        row = self._rows[key].get(rel_path)
        if row is None:
            return ItemSlot(key, rel_path, None, "", -1, failed)
        item_id, content_hash, mtime_ns = (self._items[name][row].as_py() for name in ItemSlot._fields[2:5])
        return ItemSlot(key, rel_path, item_id, content_hash, mtime_ns, failed)

    def _was_staged(self, fingerprint: str, segments: Sequence[Embedded]) -> bool:
        """Return whether an item with this fingerprint and the same vectors was staged, and the writer will find it."""
        digest = _digest(segments)
        first, batch = self._first.get(fingerprint, (None, -1))
        if first not in (None, digest):
            if first:  # the writer compares fingerprints only: commit the items that share vectors first
                self.flush()
            self._first[fingerprint] = ("", -1)  # from now on each item has its own vectors
            return False
        if first is not None and (batch == self._batches or fingerprint not in self._fingerprints):
            return True
        self._first[fingerprint] = (digest, self._batches)
        return False

    def _match_collection(self, root: Path) -> _CollectionMatch:
        """Return the collection that contains `root`; add `root` as a collection if there is none."""
        roots = self._catalog.collections()
        if not any(root.is_relative_to(folder) for folder in roots.values()):
            key = self._catalog.add_collection(root)
            roots[key] = root
            self._rows[key] = {}
        deepest_first = sorted(roots.items(), key=lambda entry: -len(entry[1].parts))
        key = next(key for key, folder in deepest_first if root.is_relative_to(folder))
        prefix = "" if root == roots[key] else f"{root.relative_to(roots[key]).as_posix()}/"
        inside = [(other, folder) for other, folder in deepest_first if other != key and folder.is_relative_to(root)]
        inner = [(f"{folder.relative_to(root).as_posix()}/", other) for other, folder in inside]
        return _CollectionMatch(key, prefix, tuple(inner))
