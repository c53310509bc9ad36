"""Two folders that change, a store of what they were, and what a store of them should hold; for tests of kills."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

import bindsearch as bs
from bindsearch.indexes.types import IndexSettings
from bindsearch.operations.verify.check import verify
from bindsearch.storage import writer
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.catalog_file import LOST, UNKNOWN
from bindsearch.storage.snapshot import read_manifest
from bindsearch.types import Modality
from helpers.children import indexing
from helpers.forked import LIBRARIES, Forked
from helpers.media_files import two_tone
from helpers.stores import connect

CHILD = Path(indexing.__file__)
LOADED = (
    *LIBRARIES,
    *("bindsearch.store", "bindsearch.cli.main", "bindsearch.cli.index", "bindsearch.operations.optimize"),
    *("bindsearch.ingest.media.decode", "bindsearch.ingest.media.file_tags", "bindsearch.ingest.media.pictures.exif"),
    *("bindsearch.search.engine", "bindsearch.encoders.null", "bindsearch.indexes.ivf_pq", "bindsearch.indexes.tuning"),
)
"""What a run loads before it does anything that a kill might interrupt."""
ORPHANS = (
    "vectors/text/000000000000-orphan.arrow",
    "vectors/audio/.orphan.arrow.1.tmp",
    "snapshots/1/.orphan.1.tmp",
    ".CURRENT.1.tmp",
)


@dataclass(frozen=True)
class World:
    """Two folders as they are now, a store that was made when they were different, and what it should hold now."""

    folders: tuple[Path, Path]
    old: Path
    expected: Mapping[str, Any]


def child(store: Path, *folders: Path, options: tuple[str, ...] = ()) -> Forked:
    return Forked([CHILD, store, *folders, *options], modules=LOADED)


def write_zip(path: Path, numbers: range) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for n in numbers:
            archive.writestr(f"inner/{n}.txt", f"member number {n}")


def write_sound(path: Path, seed: int) -> None:
    """25 s: three segments."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 50_000)
    soundfile.write(path, samples.astype(np.float32), 2_000, subtype="PCM_16")


def write_old(media: Path, notes: Path) -> None:
    for place in (media / "texts", media / "sounds", notes):
        place.mkdir(parents=True)
    for n in range(70):
        (media / "texts" / f"{n:03d}.txt").write_text(f"text number {n}")
    for n in range(8):
        write_sound(media / "sounds" / f"{n:02d}.wav", n)
    for n in range(4):
        Image.fromarray(two_tone(8, 40 * n)).save(media / f"{n}.png")
    (media / "captions.csv").write_text("path,caption\n0.png,a caption\n1.png,one more\ntexts/065.txt,said of a text\n")
    (media / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    write_zip(media / "album.zip", range(25))
    for n in range(10):
        (notes / f"{n}.txt").write_text(f"note number {n}")


def change(media: Path, notes: Path) -> None:
    """Add, change, touch, move, copy, swap and delete."""
    texts, sounds = media / "texts", media / "sounds"
    for n in range(70, 120):
        (texts / f"{n:03d}.txt").write_text(f"text number {n}")
    for n in range(8, 20):
        write_sound(sounds / f"{n:02d}.wav", n)
    for n in range(10, 15):
        (texts / f"{n:03d}.txt").write_text(f"another text {n}")
    write_sound(sounds / "03.wav", 103)
    (texts / "060.txt.json").write_text(json.dumps({"columns": {"rating": 5}}))
    for n in range(40, 43):
        os.utime(texts / f"{n:03d}.txt", (n, n))
    (media / "moved").mkdir()
    for n in range(10):
        (texts / f"{n:03d}.txt").rename(media / "moved" / f"{n:03d}.txt")
    (sounds / "04.wav").rename(media / "moved" / "04.wav")
    for n in range(20, 25):
        shutil.copy(texts / f"{n:03d}.txt", notes / f"copy of {n}.txt")
    shutil.copy(sounds / "05.wav", media / "copy.wav")
    for n in range(3):  # of one that is new
        shutil.copy(sounds / "15.wav", notes / f"copy {n}.wav")
    (texts / "050.txt").rename(texts / "x")
    (texts / "051.txt").rename(texts / "050.txt")
    (texts / "x").rename(texts / "051.txt")
    for n in range(30, 40):
        (texts / f"{n:03d}.txt").unlink()
    (sounds / "07.wav").unlink()
    (notes / "3.txt").unlink()
    (media / "captions.csv").write_text("path,caption\n0.png,a caption\n1.png,other words\ntexts/066.txt,of a text\n")
    (media / "worse.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture at all")
    shutil.copy(media / "worse.png", notes / "worse.png")
    write_zip(media / "album.zip", range(5, 50))


def run(store: Path, *folders: Path, settings: IndexSettings | None = None) -> bs.IndexReport:
    with connect(store, encoder="null") as opened:
        return opened.index(*folders, index_settings=settings)


def stored(store: Path) -> dict[str, Any]:
    """Return everything except the ids.

    Items with all their metadata, their segments with vectors, which vectors are shared, failures, containers, and the
    results of some queries.
    """
    with Catalog(store / "catalog.duckdb") as catalog:
        roots = {key: root.name for key, root in catalog.collections().items()}
        items = {item["item_id"]: item for item in catalog.items_table().to_pylist()}
        segments = catalog.segments_table().to_pylist()
        failures = [(roots[row["collection_id"]], row["rel_path"]) for row in catalog.failures_table().to_pylist()]
        containers = {roots[key]: catalog.containers(key) for key in roots}
    paths = {key: f"{roots[item.pop('collection_id')]}/{item['rel_path']}" for key, item in items.items()}
    sharing: dict[int, set[str]] = {}
    rows = []
    with connect(store, encoder="null") as opened:
        generation = opened._reader.current()
        for segment in segments:
            partition = generation.partitions[Modality(segment["modality"])]
            row = partition.rows_of_vectors(np.array([segment["vector_id"]]))
            assert partition.vector_ids[row[0]] == segment["vector_id"]
            path, vector = paths[segment["item_id"]], partition.rows.embeddings(row)[0].tobytes()
            sharing.setdefault(segment["vector_id"], set()).add(path)
            rows.append((path, segment["start_s"] or 0.0, segment["end_s"], segment["text"] or "", vector))
        hits = [
            hit
            for query, target in (("text number 7", "text"), ("text number 23", "text"), ("other words", "audio"))
            for hit in opened.search(query, to=target, ranking="cosine", k=5, copies=True)
        ]
    return {
        "items": sorted(str({"path": paths[key]} | item | {"item_id": 0}) for key, item in items.items()),
        "segments": sorted(rows),
        "sharing": sorted(sorted(group) for group in sharing.values()),
        "failures": sorted(failures),
        "containers": containers,
        "answers": sorted((-round(hit.cosine, 4), str(hit.path)) for hit in hits),
    }


def assert_tidy(store: Path) -> None:
    """Nothing is damaged, and nothing lies about that nobody refers to."""
    assert verify(store).findings == ()
    left = {str(path.relative_to(store)) for path in store.rglob("*") if "orphan" in path.name or ".tmp" in path.name}
    assert left <= {f"{LOST}/{UNKNOWN}/{ORPHANS[0]}"}  # vectors that the catalog does not know are kept
    manifest = read_manifest(store)
    assert manifest is not None
    with Catalog(store / "catalog.duckdb") as catalog:
        held = {modality: {file.name for file in files} for modality, files in catalog.vector_files().items()}
    on_disk = {Modality(path.name): {file.name for file in path.iterdir()} for path in (store / "vectors").iterdir()}
    assert {modality: names for modality, names in on_disk.items() if names} == held
    young = {str(n) for n in range(manifest.generation - writer.KEPT_GENERATIONS, manifest.generation + 1)}
    parts = {path.name for path in (store / "snapshots").iterdir()}
    assert parts - young <= {str(number) for number in (*manifest.parts, manifest.failures)}
    expected = {"store.json", "catalog.duckdb", "catalog.duckdb.wal", "vectors", "snapshots", "CURRENT", "indexes"}
    assert {path.name for path in store.iterdir()} <= expected | {"writer.lock", LOST}


def assert_searchable(store: Path) -> None:
    """Readers find what was committed, without anything being mended first."""
    before = (store / "CURRENT").read_bytes()
    with connect(store, encoder="null") as opened:
        assert opened.search("text number 23", to="text", k=1)[0].path.name.endswith("23.txt")
        assert len(opened.search("text number 23", k=1000)) >= 100
    assert (store / "CURRENT").read_bytes() == before


def assert_as_undisturbed(store: Path, world: World) -> None:
    found = stored(store)
    for name, expected in world.expected.items():
        if found[name] != expected:
            lacks, adds = (
                [repr(one)[:200] for one in a if one not in b]
                for a, b in ((expected, found[name]), (found[name], expected))
            )
            raise AssertionError(f"{name}: lacks {lacks[:5]}, adds {adds[:5]}")
    assert_tidy(store)


def litter(store: Path) -> None:
    """Write files that a killed run may have left."""
    for name in ORPHANS:
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(b"half")
