"""Vectors that other shards have: files that were moved or copied to another shard are not embedded again.

Each shard writes the fingerprints of its items into a small sorted file beside the shards. They are only where to look:
what they point to is read from the newest generation of that shard, and compared there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.atomic import atomic_write, make_folder
from bindsearch.errors import BindSearchError
from bindsearch.ingest.dedup import as_rows
from bindsearch.ingest.scan.target import FoundVectors
from bindsearch.media import SegmentOf
from bindsearch.operations.exchange.exchange_format import check_space, open_generation
from bindsearch.results import may_be_there
from bindsearch.search.generation import Generation
from bindsearch.storage.config import StoreConfig, read_config
from bindsearch.types import FACT_COLUMNS, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINGERPRINTS = "fingerprints"
"""Folder of a sharded store with the fingerprints of each shard."""

_ROW = np.dtype([("key", "<u8"), ("item_id", "<i8")])
"""First 8 bytes of the fingerprint of an item, and its id in the shard; sorted by key."""

_HEX_DIGITS = 32
"""Length of a fingerprint; items whose vectors are lost have none."""

MAX_COPIES = 16
"""Items of one fingerprint in a shard that are looked at."""


def fingerprints_path(root: Path, number: int, n: int) -> Path:
    """Return the file of the fingerprints of a shard."""
    return root / FINGERPRINTS / f"{number:05d}-of-{n:05d}.npy"


def write_fingerprints(path: Path, shard: Path) -> None:
    """Write the fingerprints of the newest generation of a shard, 16 bytes for each item; the file is replaced."""
    import pyarrow.compute as pc

    items = open_generation(shard)[1].snapshot.live_tables()[0].select(["fingerprint", "item_id"])
    items = items.filter(pc.equal(pc.binary_length(items.column("fingerprint")), _HEX_DIGITS))
    table = np.empty(items.num_rows, _ROW)
    table["key"] = _keys(as_rows(items.column("fingerprint").to_pylist()))
    table["item_id"] = items.column("item_id").to_numpy()
    table.sort(order="key")
    make_folder(path.parent, path.parent.parent)
    with atomic_write(path) as file:
        np.save(file, table, allow_pickle=False)


def _keys(rows: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of fingerprints, S16 (n,), as numbers: uint64 (n,)."""
    return np.ascontiguousarray(rows).view("<u8").reshape(-1, 2)[:, 0] if len(rows) else np.zeros(0, np.uint64)


@dataclass
class OtherShards:
    """Shards that are asked for vectors, and opened when a fingerprint points to them; for one thread at a time."""

    own: Path  # folder of the shard that asks
    others: Mapping[Path, Path]  # fingerprints file of each other shard, by the shard's folder
    notices: Callable[[str], None]  # called with a line about each shard that cannot be asked
    _known: dict[Path, NDArray[np.void]] | None = None
    _opened: dict[Path, Generation | None] = field(default_factory=dict)
    _config: StoreConfig | None = None
    _taken: set[tuple[Path, int]] = field(default_factory=set)

    def find(self, fingerprint: str) -> FoundVectors | None:
        """Return the vectors of a fingerprint; None if no other shard has them or they cannot be read.

        Of several items, one whose file is gone comes first, and each of them is moved once.
        """
        if self._known is None:
            self._known = {shard: known for shard, path in self.others.items() if len(known := _load(path))}
        key = _keys(as_rows([fingerprint]))[0]
        copy: FoundVectors | None = None
        for shard, known in self._known.items():
            keys = known["key"]
            first = int(np.searchsorted(keys, key))
            same = keys[first : first + MAX_COPIES] == key
            for item_id in known["item_id"][first : first + MAX_COPIES][same].tolist():
                found = self._read(shard, item_id, fingerprint)
                if found is not None and found.is_gone and (shard, item_id) not in self._taken:
                    self._taken.add((shard, item_id))
                    return found
                copy = copy or found
        return copy if copy is None else FoundVectors(copy.segments, copy.facts, is_gone=False)

    def _read(self, shard: Path, item_id: int, fingerprint: str) -> FoundVectors | None:
        """Return the vectors of an item if it still has the fingerprint; a shard that fails is not asked again."""
        try:
            if shard not in self._opened:
                self._config = self._config or read_config(self.own)
                config, self._opened[shard] = open_generation(shard)
                check_space(self._config, self.own, config, shard)
            generation = self._opened[shard]
            return None if generation is None else _vectors_of(generation, item_id, fingerprint)
        except (BindSearchError, OSError) as error:
            self._opened[shard] = None
            effect = "and files that were moved from it are embedded again"
            self.notices(f"the shard {shard} cannot be asked for vectors, {effect}: {error}")
            return None


def _load(path: Path) -> NDArray[np.void]:
    """Return the mapped fingerprints of a shard, none if there is no such file or it is damaged."""
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.zeros(0, _ROW)
    return table if table.dtype == _ROW and table.ndim == 1 else np.zeros(0, _ROW)


def _vectors_of(generation: Generation, item_id: int, fingerprint: str) -> FoundVectors | None:
    """Return the vectors of an item with this fingerprint; None if there is none any more."""
    snapshot = generation.snapshot
    row = int(snapshot.item_rows(np.array([item_id]))[0])
    if row < 0:
        return None
    item = snapshot.items.slice(row, 1).to_pylist()[0]
    segments = snapshot.segments.take(snapshot.segments_of(item_id)).to_pylist()
    if item["fingerprint"] != fingerprint or not segments:
        return None
    staged = []
    for segment in segments:
        modality = Modality(segment["modality"])
        partition = generation.partitions[modality]
        vector = partition.rows.embeddings(partition.rows_of_vectors(np.array([segment["vector_id"]])))[0]
        staged.append(SegmentOf(modality, vector, segment["start_s"], segment["end_s"], segment["text"]))
    path = Path(snapshot.manifest.collections[item["collection_id"]], item["rel_path"])
    facts = {name: item[name] for name in FACT_COLUMNS}
    return FoundVectors(tuple(staged), facts, is_gone=not may_be_there(path))
