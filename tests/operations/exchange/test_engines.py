"""Export to Qdrant and PostgreSQL: real engines hold the same vectors and values, and find what exact search finds."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.operations.exchange.engines import engine as engine_module
from bindsearch.operations.exchange.engines import pgvector
from bindsearch.operations.exchange.engines import qdrant as qdrant_engine
from bindsearch.types import DOCUMENTED_COLUMNS, Modality
from helpers.command import run_command
from helpers.engine_store import GapStore, K, write_gap_store
from helpers.postgres import running_postgres
from helpers.qdrant_http import QdrantServer, running_qdrant
from helpers.stores import connect
from helpers.transfer_store import contents, files, write_store

psycopg = pytest.importorskip("psycopg", reason="the extra [pgvector] is not installed")
qdrant = pytest.importorskip("qdrant_edge", reason="the extra [qdrant] is not installed")

HALF = 2.0**-10
"""Largest error of a component that was normalised again and rounded to half precision."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run PostgreSQL; yields its URI."""
    with running_postgres(tmp_path_factory.mktemp("pg")) as uri:
        yield uri


@pytest.fixture
def database(server: str) -> Iterator[Any]:
    """Yield a connection to an empty schema."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        yield connection


@pytest.fixture
def http() -> Iterator[QdrantServer]:
    with running_qdrant() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "store", files(6))


@pytest.fixture(scope="module")
def gap_store(tmp_path_factory: pytest.TempPathFactory) -> GapStore:
    return write_gap_store(tmp_path_factory.mktemp("gap"), 3000)


@pytest.fixture(scope="module")
def columns_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store of texts with columns of every type, and a column of classes."""
    media = tmp_path_factory.mktemp("columns") / 'it\'s "media"'
    media.mkdir()
    for number in range(4):
        (media / f"{number}.txt").write_text(f"text number {number}")
        columns = {
            "rating": number,
            "indoor": number % 2 == 0,
            "ratio": number / 2,
            "huge": 2**62 + number,
            "mixed": number if number % 2 else "even",
            "size_class": "größe 🐕",
        }
        (media / f"{number}.txt.json").write_text(json.dumps({"columns": columns}))
    with connect(media.parent / "store", encoder="null") as opened:
        opened.index(media)
        opened.classify(["a", "b"], column="kind", probability_column="sure")
    return media.parent / "store"


def vectors_of(store: Path) -> dict[tuple[str, str, float | None, str | None], Any]:
    """Return the stored vectors by path, modality, start and text."""
    return {cast(Any, key): np.frombuffer(value[0], np.float16) for key, value in contents(store).items()}


def open_shard(folder: Path) -> Any:
    return qdrant.EdgeShard.load(str(folder))


def points_of(shard: Any, limit: int = 100_000) -> list[Any]:
    return cast(list[Any], shard.scroll(qdrant.ScrollRequest(limit=limit, with_payload=True, with_vector=True))[0])


def names_of_tables(database: Any) -> list[str]:
    rows = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def test_postgres_holds_each_segment_with_its_vector_and_an_index_a_modality(
    store: Path, server: str, database: Any
) -> None:
    from pgvector.psycopg import register_vector

    seen: list[tuple[int, int]] = []
    stages: list[str] = []
    report = bs.export_vectors(
        store, f"pgvector:{server}", on_progress=lambda *counts: seen.append(counts), on_stage=stages.append
    )
    wanted = vectors_of(store)
    assert report.vectors == {Modality.TEXT: 12, Modality.IMAGE: 12, Modality.VIDEO: 18, Modality.AUDIO: 24}
    assert (sum(report.vectors.values()), seen[-1], report.name) == (len(wanted), (66, 66), "bindsearch")
    assert "building the index of audio" in stages
    assert report.size_bytes is not None
    assert report.size_bytes > 66 * 64 * 2
    register_vector(database)
    rows = database.execute("SELECT path, modality, start_s, text, embedding FROM bindsearch").fetchall()
    assert {tuple(key): half.to_numpy().astype(np.float16).tobytes() for *key, half in rows} == {
        key: row.tobytes() for key, row in wanted.items()
    }
    indexes = database.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'bindsearch'").fetchall()
    partial = [
        re.findall(r"hnsw \(embedding halfvec_cosine_ops\) WHERE \(modality = '(\w+)'", one) for (one,) in indexes
    ]
    assert sorted(name for names in partial for name in names) == ["audio", "image", "text", "video"]
    taken, title = database.execute("SELECT taken, title FROM bindsearch WHERE modality = 'image' LIMIT 1").fetchone()
    assert (taken, title) == (datetime(2024, 5, 1, 12, 30, 1, 250), "Tïtle")


def test_columns_have_the_types_and_values_of_filters(
    columns_store: Path, server: str, database: Any, tmp_path: Path
) -> None:
    names = {*DOCUMENTED_COLUMNS, "kind", "sure", "rating", "indoor", "ratio", "huge", "mixed", "size_class"}
    bs.export_vectors(columns_store, f"pgvector:{server}")
    cursor = database.execute("SELECT * FROM bindsearch ORDER BY path")
    found = [dict(zip([column.name for column in cursor.description], row, strict=True)) for row in cursor.fetchall()]
    assert {*found[0]} == names | {"segment_id", "embedding"}
    assert [(row["rating"], row["indoor"], row["ratio"], int(row["huge"]), row["mixed"]) for row in found] == [
        (number, number % 2 == 0, number / 2, 2**62 + number, str(number) if number % 2 else "even")
        for number in range(4)
    ]
    bs.export_vectors(columns_store, f"qdrant:{tmp_path / 'edge'}")
    shard = open_shard(tmp_path / "edge")
    payloads = {record.id: record.payload for record in points_of(shard)}
    for row in found:
        expected = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in row.items()
            if value is not None and name not in ("segment_id", "embedding")
        }
        expected["huge"] = int(expected["huge"])
        assert payloads[row["segment_id"]] == expected
    kinds = {name: str(info.data_type).rpartition(".")[2] for name, info in shard.info().payload_schema.items()}
    assert (kinds["modality"], kinds["rating"], kinds["ratio"], kinds["modified"], kinds["indoor"]) == (
        *("Keyword", "Integer", "Float", "Datetime", "Bool"),
    )
    assert (kinds["size_class"], kinds["kind"], "text" in kinds) == ("Keyword", "Keyword", False)
    query = qdrant.Query.Nearest([1.0] * 64)
    small = qdrant.FieldCondition(key="size_class", match=qdrant.MatchValue("größe 🐕"))
    assert len(shard.query(qdrant.QueryRequest(limit=9, query=query, filter=qdrant.Filter(must=[small])))) == 4
    shard.close()


def test_qdrant_edge_holds_each_segment_with_its_vector(store: Path, tmp_path: Path) -> None:
    report = bs.export_vectors(store, f"qdrant:{tmp_path / 'edge'}")
    assert (report.target, report.files) == (f"qdrant:{tmp_path / 'edge'}", None)
    shard = open_shard(tmp_path / "edge")
    wanted = vectors_of(store)
    points = points_of(shard)
    shard.close()
    assert len(points) == len(wanted)
    for point in points:
        facts = point.payload
        key = (facts["path"], facts["modality"], facts.get("start_s"), facts.get("text"))
        assert np.abs(np.array(point.vector) - wanted[key].astype(np.float32)).max() < HALF
    recorded = json.loads((tmp_path / "edge" / "bindsearch.json").read_text())
    assert (recorded["space"]["encoder"], recorded["vectors"]["audio"]) == ("null", 24)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edge", "store"]


def test_a_qdrant_server_gets_a_complete_collection_under_an_alias(store: Path, http: QdrantServer) -> None:
    from qdrant_client import QdrantClient, models

    report = bs.export_vectors(store, f"qdrant:{http.url}", name="media")
    assert (report.target, report.name, report.size_bytes) == (f"qdrant:{http.url}", "media", None)
    assert http.calls[-1][1] == "/collections/aliases"  # the first to show it
    first = [one.name for one in http.client.get_collections().collections]
    wanted = vectors_of(store)
    client = QdrantClient(url=http.url, check_compatibility=False)
    image = models.FieldCondition(key="modality", match=models.MatchValue(value="image"))
    path, row = next((key[0], row) for key, row in wanted.items() if key[1] == "image")
    found = client.query_points("media", row.tolist(), query_filter=models.Filter(must=[image]), limit=2).points
    client.close()
    assert path in [one.payload["path"] for one in found if one.payload]
    assert found[0].score == pytest.approx(1, abs=1e-3)
    indexed = {body["field_name"]: body["field_schema"] for _, path, body in http.calls if path.endswith("/index")}
    assert (indexed["modality"], indexed["item_id"], indexed["taken"]) == ("keyword", "integer", "datetime")
    order = [path.rpartition("/")[2] for _, path, _ in http.calls]
    assert max(n for n, part in enumerate(order) if part == "index") < order.index("points") < order.index("count")
    bs.export_vectors(store, f"qdrant:{http.url}", name="media", replace=True, modalities="audio")
    second = [one.name for one in http.client.get_collections().collections]
    assert (len(second), second != first, http.client.count("media").count) == (1, True, 24)


def recall_of_edge(folder: Path, gap_store: GapStore, modality: str, ef: int) -> float:
    shard = open_shard(folder)
    condition = qdrant.FieldCondition(key="modality", match=qdrant.MatchValue(modality))
    answers = []
    for query in gap_store.queries.tolist():
        request = qdrant.QueryRequest(
            limit=K,
            query=qdrant.Query.Nearest(query),
            filter=qdrant.Filter(must=[condition]),
            params=qdrant.SearchParams(hnsw_ef=ef),
            with_payload=["path"],
        )
        answers.append([point.payload["path"] for point in shard.query(request)])
    shard.close()
    return gap_store.recall(modality, answers)


def test_qdrant_edge_finds_the_nearest_of_a_modality(gap_store: GapStore, tmp_path: Path) -> None:
    bs.export_vectors(gap_store.path, f"qdrant:{tmp_path / 'edge'}")
    assert recall_of_edge(tmp_path / "edge", gap_store, "image", 128) >= 0.99  # few vectors: an exact scan
    config = qdrant.EdgeConfig(
        vectors=qdrant.EdgeVectorParams(64, qdrant.Distance.Cosine, datatype=qdrant.VectorStorageDatatype.Float16),
        optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=100),
        hnsw_config=qdrant.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10),
    )
    shard = qdrant.EdgeShard.load(str(tmp_path / "edge"), config)
    assert shard.optimize()
    assert shard.info().indexed_vectors_count == 6000
    shard.close()
    assert recall_of_edge(tmp_path / "edge", gap_store, "image", 400) >= 0.97
    assert recall_of_edge(tmp_path / "edge", gap_store, "text", 400) >= 0.97


def test_postgres_finds_the_nearest_of_a_modality_with_its_index(
    gap_store: GapStore, server: str, database: Any
) -> None:
    bs.export_vectors(gap_store.path, f"pgvector:{server}")
    search = "SELECT path FROM bindsearch WHERE modality = '{}' ORDER BY embedding <=> %s::halfvec LIMIT {}"
    database.execute("SET hnsw.ef_search = 400")
    database.execute("SET enable_seqscan = off")
    for modality in ("image", "text"):
        statement = search.format(modality, K)
        plan = "\n".join(row[0] for row in database.execute(f"EXPLAIN {statement}", [str([1] * 64)]).fetchall())
        assert f"Index Scan using bindsearch_{modality}_" in plan
        answers = [
            [row[0] for row in database.execute(statement, [str(query)]).fetchall()]
            for query in gap_store.queries.tolist()
        ]
        assert gap_store.recall(modality, answers) >= 0.97


def test_modalities_and_filters_choose_what_is_exported(
    store: Path, server: str, database: Any, tmp_path: Path
) -> None:
    report = bs.export_vectors(store, f"pgvector:{server}", modalities="image", filter="path like '%copies%'")
    assert report.vectors == {Modality.IMAGE: 6}
    assert database.execute("SELECT DISTINCT folder, modality FROM bindsearch").fetchall() == [
        ("/media/collection/copies", "image")
    ]
    with pytest.raises(bs.UsageError, match="nothing to export"):
        bs.export_vectors(store, f"qdrant:{tmp_path / 'edge'}", modalities="depth")
    assert not (tmp_path / "edge").exists()


def test_an_export_replaces_only_an_earlier_one(
    store: Path, server: str, database: Any, tmp_path: Path, http: QdrantServer
) -> None:
    for place, taken in (
        (f"pgvector:{server}", "the table bindsearch holds an export already: add --replace, or another --name"),
        (f"qdrant:{tmp_path / 'edge'}", "edge holds an export already: add --replace, or choose another folder"),
        (f"qdrant:{http.url}", "the collection bindsearch holds an export already: add --replace, or another --name"),
    ):
        bs.export_vectors(store, place)
        with pytest.raises(bs.UsageError, match=taken):
            bs.export_vectors(store, place, modalities="audio")
        bs.export_vectors(store, place, modalities="audio", replace=True)
    assert database.execute("SELECT DISTINCT modality FROM bindsearch").fetchall() == [("audio",)]
    assert http.client.count("bindsearch").count == 24
    shard = open_shard(tmp_path / "edge")
    assert shard.info().points_count == 24
    shard.close()
    database.execute("CREATE TABLE customers (name text)")
    http.client.create_collection("customers", qdrant_server_vectors())
    (tmp_path / "own").mkdir()
    (tmp_path / "own/bindsearch.json").write_text("[]")
    for place, reason in (
        (f"pgvector:{server}", "the table customers is not an export of BindSearch: choose another --name"),
        (f"qdrant:{http.url}", "the collection customers is not an export of BindSearch: choose another --name"),
        (f"qdrant:{tmp_path / 'own'}", "own is not an empty folder"),
    ):
        with pytest.raises(bs.UsageError, match=reason):
            bs.export_vectors(store, place, name="customers", replace=True)
    assert names_of_tables(database) == ["bindsearch", "customers"]


def qdrant_server_vectors() -> Any:
    from qdrant_client import models

    return models.VectorParams(size=4, distance=models.Distance.DOT)


@pytest.mark.parametrize("engine", ["pgvector", "qdrant"])
def test_a_killed_export_leaves_what_was_there(
    server: str, database: Any, tmp_path: Path, engine: str, store: Path
) -> None:
    place = f"pgvector:{server}" if engine == "pgvector" else f"qdrant:{tmp_path / 'edge'}"
    bs.export_vectors(store, place, modalities="audio")
    program = (
        "import os, signal, sys, bindsearch as bs\n"
        "kill = lambda done, total: done >= 30 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "bs.export_vectors(sys.argv[1], sys.argv[2], replace=True, on_progress=kill)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(store), place], check=False)
    assert done.returncode == -signal.SIGKILL
    if engine == "pgvector":
        wait_for_end_of_others(database)
        assert names_of_tables(database) == ["bindsearch"]
        assert database.execute("SELECT count(*) FROM bindsearch").fetchone() == (24,)
    else:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["edge", "edge.incomplete", "store"]
        shard = open_shard(tmp_path / "edge")
        assert shard.info().points_count == 24
        shard.close()
    assert sum(bs.export_vectors(store, place, replace=True).vectors.values()) == 66
    assert not (tmp_path / "edge.incomplete").exists()


def wait_for_end_of_others(database: Any) -> None:
    """Wait until the server has seen that its other clients are gone."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bindsearch'"
    deadline = time.monotonic() + 20
    while database.execute(others).fetchone() != (0,):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failed_upload_publishes_nothing_and_the_next_removes_its_rest(
    store: Path, http: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_engine, "RETRY_AFTER_S", (0.0,))
    bs.export_vectors(store, f"qdrant:{http.url}")
    before = http.client.get_aliases()
    calls = [path for _, path, _ in http.calls]
    http.calls.clear()
    http.fail_after = next(n for n, path in enumerate(calls) if path.endswith("/points")) + 1
    with pytest.raises(bs.StoreError, match=r"cannot export to http://127.*500.*disk full.*nothing was published"):
        bs.export_vectors(store, f"qdrant:{http.url}", replace=True)
    assert http.client.get_aliases() == before
    assert len(http.client.get_collections().collections) == 2  # the server refused the removal, too
    http.fail_after = None
    bs.export_vectors(store, f"qdrant:{http.url}", replace=True)
    assert len(http.client.get_collections().collections) == 1
    assert http.client.count("bindsearch").count == 66


def test_two_exports_at_once_are_refused(store: Path, server: str, database: Any, tmp_path: Path) -> None:
    for place in (f"pgvector:{server}", f"qdrant:{tmp_path / 'edge'}"):
        refused: list[str] = []

        def export_again(done: int, total: int, place: str = place, refused: list[str] = refused) -> None:
            if done == 0:
                with pytest.raises(bs.UsageError, match="another process exports to") as raised:
                    bs.export_vectors(store, place)
                refused.append(str(raised.value))

        bs.export_vectors(store, place, on_progress=export_again)
        assert len(refused) == 1
    assert database.execute("SELECT count(*) FROM bindsearch").fetchone() == (66,)


def test_a_text_with_a_nul_is_written_without_it_and_counted(tmp_path: Path, server: str, database: Any) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.txt").write_text("some text")
    (media / "a.txt.json").write_text(json.dumps({"columns": {"note": "a\0b"}}))
    with connect(tmp_path / "nul", encoder="null") as opened:
        opened.index(media)
        report = opened.export(f"pgvector:{server}")
    assert report.notices == ("texts with a NUL, which PostgreSQL cannot hold, written without it: 1",)
    assert database.execute("SELECT note FROM bindsearch").fetchone() == ("ab",)


@pytest.mark.parametrize(
    ("place", "options", "message"),
    [
        ("qdrant:", {}, r"invalid target 'qdrant:': write qdrant:FOLDER or qdrant:http://HOST:6333"),
        ("qdrant://host", {}, "invalid target"),
        ("qdrant:ftp://host", {}, "invalid target"),
        ("postgresql://me:secret@host/db", {}, "needs the engine before it: write pgvector:postgresql://USER@HOST/"),
        ("http://host:6333", {}, "needs the engine before it: write qdrant:http://HOST:6333"),
        ("pgvector:what secret", {}, r"the connection string after pgvector: is invalid: write pgvector:postgresql"),
        ("pgvector:", {"name": "a b"}, "invalid name 'a b': up to 40 letters, digits, _ and -"),
        ("pgvector:", {"name": "a" * 41}, "invalid name"),
        ("pgvector:", {"layout": "npy"}, "the layout npy is for folders: leave it out for pgvector"),
        ("out", {"replace": True}, "only exports to qdrant: and pgvector: are replaced"),
    ],
)
def test_what_cannot_be_a_target_is_said(store: Path, place: str, options: Any, message: str) -> None:
    with pytest.raises(bs.UsageError, match=message) as raised:
        bs.export_vectors(store, place, **options)
    assert "secret" not in str(raised.value)


def test_a_server_that_does_not_answer_is_named_without_the_password(store: Path) -> None:
    for place in (
        "pgvector:postgresql://me:secret@127.0.0.1:1/db",
        "pgvector:host=127.0.0.1 port=1 password=secret",
        "qdrant:http://me:secret@127.0.0.1:1",
    ):
        with pytest.raises(bs.StoreError, match=r"cannot export to .*127\.0\.0\.1.*refused.*nothing was") as raised:
            bs.export_vectors(store, place)
        assert "secret" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_missing_extra_is_named(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda module: None)
    for place, extra in (
        (f"qdrant:{tmp_path / 'edge'}", "qdrant"),
        ("qdrant:http://host:1", "qdrant"),
        ("pgvector:", "pgvector"),
    ):
        with pytest.raises(bs.InstallationError) as raised:
            bs.export_vectors(store, place)
        assert str(raised.value).endswith(f"needs the extra [{extra}]: pip install 'bindsearch[{extra}]'")


def test_what_a_table_cannot_hold_is_said(
    store: Path, server: str, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgvector, "MAX_DIMENSIONS", 63)
    with pytest.raises(bs.UsageError, match=r"vectors of 64 dimensions cannot be indexed by pgvector.* at most 63"):
        bs.export_vectors(store, f"pgvector:{server}")
    monkeypatch.undo()
    for name in ("segment_id", "a" * 64):
        media = tmp_path / name[:3]
        media.mkdir()
        (media / "a.txt").write_text("some text")
        (media / "a.txt.json").write_text(json.dumps({"columns": {name: 1}}))
        with connect(media / "store", encoder="null") as own:
            own.index(media)
            with pytest.raises(bs.UsageError, match="a table of PostgreSQL cannot have your column"):
                own.export(f"pgvector:{server}")
    assert names_of_tables(database) == []


def test_vectors_of_4000_dimensions_are_indexed_and_no_more(server: str, database: Any) -> None:
    database.execute("CREATE EXTENSION vector")
    statement = "CREATE TABLE t{0} (v halfvec({0})); CREATE INDEX ON t{0} USING hnsw (v halfvec_cosine_ops)"
    database.execute(statement.format(pgvector.MAX_DIMENSIONS))
    with pytest.raises(psycopg.Error, match="cannot have more than 4000 dimensions for hnsw index"):
        database.execute(statement.format(pgvector.MAX_DIMENSIONS + 1))


def test_the_command_reports_an_export(store: Path, server: str, database: Any, tmp_path: Path) -> None:
    done = run_command(["export", f"pgvector:{server}", "--to", "image", "--name", "media", "--store", store])
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"12 image in pgvector:postgres at \S+, media, [\d.]+ KB, [\d.]+ s\n", done.stdout)
    done = run_command(["export", f"qdrant:{tmp_path / 'edge'}", "--json", "--store", store])
    report = json.loads(done.stdout)
    assert (report["engine"], report["vectors"]["audio"]) == (f"qdrant:{tmp_path / 'edge'}", 24)
    done = run_command(["export", "--to", f"pgvector:{server}", "--store", store])
    assert done.returncode == 2
    assert f"--to is for modalities: bindsearch export pgvector:{server}" in done.stderr


def test_blocks_of_any_size_hold_the_same(
    store: Path, server: str, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for size in (1000, 5):
        monkeypatch.setattr(engine_module, "MAX_BLOCK_ROWS", size)
        bs.export_vectors(store, f"pgvector:{server}", name=f"blocks_{size}")
        found.append(database.execute(f"SELECT * FROM blocks_{size} ORDER BY segment_id").fetchall())
    assert found[0] == found[1]
    assert len(found[0]) == 66
