"""Stores with something of everything, for tests of export, import and merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bindsearch as bs
from bindsearch.encoders import load_encoder
from bindsearch.hashing import fingerprint_of
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import SegmentOf
from bindsearch.operations.exchange.exchange_format import (
    complete_items,
    live_segment_rows,
    open_generation,
    read_blocks,
)
from bindsearch.storage.batch import Embedded, StagedBatch, StagedItem
from bindsearch.storage.catalog import Failure
from bindsearch.storage.file_state import UNKNOWN_STATE, FileState
from bindsearch.storage.session import open_writer
from bindsearch.storage.snapshot import open_snapshot, read_manifest
from bindsearch.types import Metadata, Modality

ROOT = "/media/collection"
DIM = 64


@dataclass(frozen=True)
class File:
    """A file to put into a store: its path below `root`; `content` decides its vectors, `copy` shares them."""

    rel_path: str
    modality: Modality
    content: str
    root: str = ROOT
    copy: bool = False
    mtime_ns: int = 1_700_000_000_123_456_789


def unit(seed: str) -> NDArray[np.float32]:
    """Return a random direction (d,) that fp16 represents exactly."""
    row = np.random.default_rng(list(seed.encode())).standard_normal(DIM)
    return (row / np.linalg.norm(row)).astype(np.float16).astype(np.float32)


def files(n: int) -> list[File]:
    """Pictures, videos with sound, texts of several passages, sounds, and copies of pictures; n of each."""
    found = []
    for number in range(n):
        found += [
            File(f"pictures/{number}.jpg", Modality.IMAGE, f"picture {number}"),
            File(f"videos/{number}.mp4", Modality.VIDEO, f"video {number}"),
            File(f"{number} notes.md", Modality.TEXT, f"text {number}"),
            File(f"bird {number}.wav", Modality.AUDIO, f"sound {number}", root="/media/sounds"),
            File(f"copies/{number}.jpg", Modality.IMAGE, f"picture {number}", copy=True),
        ]
    return found


def segments_of(file: File) -> tuple[Embedded, ...]:
    """Return the segments of a file, with their vectors."""

    def segment(modality: Modality, name: str, *facts: Any) -> Embedded:
        return SegmentOf(modality, unit(f"{file.content} {name}"), *facts)

    match file.modality:
        case Modality.VIDEO:
            spans = [(float(start), start + 10.0) for start in range(0, 30, 10)]
            pictures = [segment(Modality.VIDEO, f"v{start}", start, end, None) for start, end in spans]
            return (*pictures, *(segment(Modality.AUDIO, f"a{start}", start, end, None) for start, end in spans))
        case Modality.TEXT:
            return tuple(segment(Modality.TEXT, word, None, None, f"{file.content}: {word}") for word in "ab")
        case Modality.AUDIO:
            return (segment(Modality.AUDIO, "all", 0.0, 2.5, None),)
    return (segment(file.modality, "all", None, None, None),)


def staged(file: File, collection_id: int) -> StagedItem:
    """Return a file as indexing stages it."""
    return StagedItem(
        item_id=None,
        collection_id=collection_id,
        rel_path=file.rel_path,
        modality=file.modality,
        state=FileState(len(file.content), file.mtime_ns, 0),
        content_hash=fingerprint_of(file.content),
        fingerprint=fingerprint_of(file.content, "", file.modality.value),
        segments=None if file.copy else segments_of(file),
        columns='{"rating": 4, "place": "Österbotten"}' if "1" in file.rel_path else None,
        metadata=Metadata(taken=datetime(2024, 5, 1, 12, 30, 1, 250), latitude=63.1, title="Tïtle", width_px=640)
        if file.modality is Modality.IMAGE
        else Metadata(),
    )


def write_store(store: Path, wanted: Sequence[File], failures: Sequence[tuple[str, str]] = ()) -> Path:
    """Put files and failures (relative path and reason) into a store of the null encoder."""
    with open_writer(store, load_encoder("null"), DecodeOptions()) as (_, catalog, writer):
        known = {str(root): key for key, root in catalog.collections().items()}
        for root in dict.fromkeys([*(file.root for file in wanted), *([ROOT] if failures else [])]):
            known.setdefault(root, 0)
            known[root] = known[root] or catalog.add_collection(Path(root))
        batch = StagedBatch(items=[staged(file, known[file.root]) for file in wanted])
        batch.failures = [Failure(known[ROOT], path, UNKNOWN_STATE, reason) for path, reason in failures]
        writer.commit(batch)
    return store


def contents(store: Path) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Facts, without ids, and vector of each segment by path, modality, start and text."""
    _, generation = open_generation(store)
    rows = live_segment_rows(generation.snapshot)
    found = {}
    for block in read_blocks(generation, rows, complete_items(generation.snapshot, rows)):
        for facts, vector in zip(block.facts.drop_columns("item_id").to_pylist(), block.vectors, strict=True):
            key = (facts["path"], facts["modality"], facts["start_s"], facts["text"])
            assert key not in found, key
            found[key] = (vector.tobytes(), *facts.items())
    return found


def vectors_held(store: Path) -> int:
    """Return the number of vectors in the files of a store."""
    manifest = read_manifest(store)
    assert manifest is not None
    return sum(file.rows for held in manifest.vectors.values() for file in held)


def failures(store: Path) -> dict[str, str]:
    """Reason of each failure by relative path."""
    manifest = read_manifest(store)
    assert manifest is not None
    found = open_snapshot(store, manifest).failures
    return {} if found is None else {row["rel_path"]: row["reason"] for row in found.to_pylist()}


def answers(store: Path, queries: int = 5) -> list[list[tuple[Any, ...]]]:
    """Hits of some vectors near to what is there, without the ids of items."""
    rng = np.random.default_rng(7)
    found = []
    with bs.connect(store) as opened:
        for number in range(queries):
            for seed in (f"picture {number} all", f"video {number} a10.0", f"text {number} b"):
                query = unit(seed) + 0.1 * rng.standard_normal(DIM)
                for rank in ("cosine", "calibrated"):
                    hits = opened.search(query, k=8, ranking=rank)
                    found.append(
                        [(hit.path, hit.collection, hit.modality, hit.start_s, hit.text, hit.score) for hit in hits]
                    )
    return found
