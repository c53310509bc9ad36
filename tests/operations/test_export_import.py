"""Export and import: what goes out comes back as it was, and files of other programs come in or are refused clearly."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import bindsearch as bs
from bindsearch.cli.main import app
from bindsearch.encoders.null import NullEncoder
from bindsearch.operations.exchange import exchange_format, export, import_, vector_import, vector_sources
from bindsearch.operations.exchange.import_ import place_items
from bindsearch.storage.config import read_config, write_config
from bindsearch.types import Modality
from helpers import media_files
from helpers.command import Run
from helpers.stores import connect
from helpers.transfer_store import DIM, answers, contents, files, unit, vectors_held, write_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "store", files(6))


def write_parquet(file: Path, n: int = 3, **columns: Any) -> Path:
    """Write a Parquet file like another program: path, vector, and the given columns; None omits a column."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [unit(f"row {row}") for row in range(n)]
    every = {"path": [f"/data/{row}.jpg" for row in range(n)], "vector": rows, **columns}
    table = {name: values for name, values in every.items() if values is not None}
    pq.write_table(pa.table(table), file)
    return file


def small_blocks(monkeypatch: pytest.MonkeyPatch, rows: int, shard_rows: int) -> None:
    for module in (import_, vector_import, vector_sources, exchange_format):
        monkeypatch.setattr(module, "BLOCK_ROWS", rows)
    monkeypatch.setattr(export, "SHARD_ROWS", shard_rows)


@pytest.mark.parametrize("layout", ["npy", "parquet"])
@pytest.mark.parametrize("blocks", [None, (4, 10)])
def test_what_is_exported_comes_back_with_the_same_facts_hits_and_scores(
    tmp_path: Path, store: Path, layout: str, blocks: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks is not None:
        small_blocks(monkeypatch, *blocks)
    done: list[tuple[int, int]] = []
    report = bs.export_vectors(store, tmp_path / "out", layout=layout, on_progress=lambda *counts: done.append(counts))
    n = len(contents(store))
    assert sum(report.vectors.values()) == n
    assert done[-1] == (n, n)
    taken = bs.import_vectors(tmp_path / "copy", tmp_path / "out")
    assert (taken.added, taken.replaced, taken.vectors, taken.notices) == (30, 0, n, [])
    assert contents(tmp_path / "copy") == contents(store)
    assert answers(tmp_path / "copy") == answers(store)
    assert replace(read_config(tmp_path / "copy"), created="") == replace(read_config(store), created="")


def test_deleted_items_are_not_exported(tmp_path: Path, store: Path) -> None:
    from bindsearch.encoders import load_encoder
    from bindsearch.ingest.media.options import DecodeOptions
    from bindsearch.storage.batch import StagedBatch
    from bindsearch.storage.session import open_writer

    with open_writer(store, load_encoder("null"), DecodeOptions()) as (_, _, writer):
        writer.commit(StagedBatch(removed=[2]))
    assert bs.export_vectors(store, tmp_path / "out").vectors[Modality.VIDEO] == 3 * 5


def test_the_npy_layout_is_that_of_clip_retrieval(tmp_path: Path, store: Path) -> None:
    bs.export_vectors(store, tmp_path / "out", layout="npy", modalities=["image", "text", "audio"])
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert found == [
        "_export.json",
        "audio_emb/audio_emb_0.npy",
        "audio_metadata/audio_metadata_0.parquet",
        "img_emb/img_emb_0.npy",
        "metadata/metadata_0.parquet",
        "text_emb/text_emb_0.npy",
        "text_metadata/text_metadata_0.parquet",
    ]
    rows = np.load(tmp_path / "out/img_emb/img_emb_0.npy")
    facts = pq.read_table(tmp_path / "out/metadata/metadata_0.parquet").to_pylist()
    assert rows.dtype == np.float16
    expected = {key[0]: value[0] for key, value in contents(store).items() if key[1] == "image"}
    assert {fact["image_path"]: row.tobytes() for fact, row in zip(facts, rows, strict=True)} == expected
    captions = pq.read_table(tmp_path / "out/text_metadata/text_metadata_0.parquet").column("caption").to_pylist()
    assert captions[:2] == ["text 0: a", "text 0: b"]
    bs.export_vectors(store, tmp_path / "texts", layout="npy", modalities="text")
    assert (tmp_path / "texts/metadata/metadata_0.parquet").is_file()


def test_shards_are_numbered_with_as_many_digits_as_sort_them(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, 1, 1)
    bs.export_vectors(store, tmp_path / "out", layout="npy", modalities="image")
    names = sorted(path.name for path in (tmp_path / "out/img_emb").iterdir())
    assert names == [f"img_emb_{number:02d}.npy" for number in range(12)]


def test_the_parquet_layout_says_what_space_it_is_and_other_programs_read_it(tmp_path: Path, store: Path) -> None:
    import duckdb

    bs.export_vectors(store, tmp_path / "out", filter="modality = 'image'")
    schema = pq.read_schema(tmp_path / "out/vectors-00000.parquet")
    assert schema.field("vector").type.value_type == pa.float16()
    assert schema.field("vector").type.list_size == DIM
    space = json.loads(schema.metadata[b"bindsearch.space"])
    assert (space["encoder"], space["weights_digest"], space["dim"]) == ("null", "null-1", DIM)
    query = "SELECT count(*), avg(width_px), max(len(vector)) FROM read_parquet(?)"
    with duckdb.connect() as connection:
        found = connection.execute(query, [str(tmp_path / "out/vectors-00000.parquet")]).fetchall()
    assert found == [(12, 640.0, DIM)]


def test_an_item_of_which_vectors_are_left_out_loses_its_fingerprint(tmp_path: Path, store: Path) -> None:
    bs.export_vectors(store, tmp_path / "out", modalities="audio")
    rows = pq.read_table(tmp_path / "out/vectors-00000.parquet").to_pylist()
    lacking = {row["item_modality"]: row["fingerprint"] is None for row in rows}
    assert lacking == {"video": True, "audio": False}  # a later `index` must embed the videos' pictures


def test_what_cannot_be_exported_is_said(tmp_path: Path, store: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(bs.UsageError, match="full is not an empty folder"):
        bs.export_vectors(store, tmp_path / "full")
    with pytest.raises(bs.UsageError, match="unknown layout 'csv': choose from npy, parquet"):
        bs.export_vectors(store, tmp_path / "out", layout="csv")
    with pytest.raises(bs.UsageError, match="nothing to export"):
        bs.export_vectors(store, tmp_path / "out", modalities="depth")
    with pytest.raises(bs.StoreNotFoundError, match="no store at"):
        bs.export_vectors(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_incomplete_export_is_refused(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    small_blocks(monkeypatch, 5, 20)
    out = tmp_path / "out"
    bs.export_vectors(store, out)
    assert pq.read_table(out).num_rows == len(contents(store))  # readers skip the list of files
    listed = json.loads((out / "_export.json").read_text())
    assert sorted(listed["files"]) == sorted(path.name for path in out.glob("*.parquet"))

    def refused(message: str, change: Any) -> None:
        shutil.rmtree(tmp_path / "changed", ignore_errors=True)
        shutil.copytree(out, tmp_path / "changed")
        change(tmp_path / "changed")
        with pytest.raises(bs.UsageError, match=message):
            bs.import_vectors(tmp_path / "copy", tmp_path / "changed")
        assert not (tmp_path / "copy").exists()

    refused(r"changed is an incomplete export, without _export\.json: export again", lambda folder: (
        (folder / "_export.json").unlink()
    ))  # fmt: skip
    refused(r"an incomplete export, vectors-00001\.parquet is missing", lambda folder: (
        (folder / "vectors-00001.parquet").unlink()
    ))  # fmt: skip
    refused(r"_export\.json cannot be read", lambda folder: (folder / "_export.json").write_text("{}"))
    refused("files of several exports", lambda folder: (
        (folder / "_export.json").write_text(json.dumps({**listed, "id": "0"}))
    ))  # fmt: skip
    wrong = {name: size + 1 for name, size in listed["files"].items()}
    refused("is of [0-9]+ bytes in place of", lambda folder: (
        (folder / "_export.json").write_text(json.dumps({**listed, "files": wrong}))
    ))  # fmt: skip
    assert bs.import_vectors(tmp_path / "copy", *sorted(out.glob("*.parquet"))).added == 30


def test_importing_twice_replaces_and_doubles_nothing(tmp_path: Path, store: Path) -> None:
    bs.export_vectors(store, tmp_path / "out")
    before = contents(store)
    taken = bs.import_vectors(store, tmp_path / "out", tmp_path / "out")
    assert (taken.added, taken.replaced) == (0, 30)
    assert contents(store) == before
    assert vectors_held(store) == len(before) - 6  # copies share theirs, and dead ones have been dropped


def test_items_of_one_fingerprint_share_vectors_only_where_these_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, 2, 100)
    write_store(tmp_path / "store", [file for file in files(2) if file.modality is Modality.IMAGE])
    bs.export_vectors(tmp_path / "store", tmp_path / "out")
    table = pq.read_table(tmp_path / "out/vectors-00000.parquet")
    vectors = table.column("vector").to_pylist()
    for changed, held in ((None, 2), (0, 3), (1, 3), (2, 3)):
        edited = [unit("new").astype(np.float16) if row == changed else vector for row, vector in enumerate(vectors)]
        column = pa.array(edited, table.schema.field("vector").type)
        file = tmp_path / f"{changed}.parquet"
        pq.write_table(table.set_column(table.schema.get_field_index("vector"), "vector", column), file)
        bs.import_vectors(tmp_path / f"copy {changed}", file)
        found = [value[0] for value in contents(tmp_path / f"copy {changed}").values()]
        assert sorted(found) == sorted(np.asarray(vector, np.float16).tobytes() for vector in edited)
        assert vectors_held(tmp_path / f"copy {changed}") == held


def test_imported_files_are_looked_at_again_and_not_embedded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_files.write_every_modality(tmp_path / "media")
    with connect(tmp_path / "store", encoder="null") as indexed:
        indexed.index(tmp_path / "media")
    bs.export_vectors(tmp_path / "store", tmp_path / "out")
    bs.import_vectors(tmp_path / "copy", tmp_path / "out")
    before = contents(tmp_path / "copy")
    with connect(tmp_path / "copy") as copy:
        with monkeypatch.context() as patched:
            patched.delattr(NullEncoder, "encode")
            report = copy.index(tmp_path / "media")
        assert (report.added, report.changed, report.removed, report.failed) == (0, 0, 0, 0)
        assert report.unchanged > 0
        assert contents(tmp_path / "copy") == before
        changed = next((tmp_path / "media").rglob("*.txt"))
        changed.write_text("something else altogether")
        assert copy.index(tmp_path / "media").changed == 1


def test_a_root_moves_an_export_and_holds_relative_paths(tmp_path: Path, store: Path) -> None:
    bs.export_vectors(store, tmp_path / "out", modalities=["image"])
    bs.import_vectors(tmp_path / "moved", tmp_path / "out", root=tmp_path / "elsewhere")
    assert (str(tmp_path / "elsewhere/pictures/0.jpg"), "image", None, None) in contents(tmp_path / "moved")
    relative = write_parquet(tmp_path / "relative.parquet", path=["a/1.jpg", "./a/2.jpg", "b//3.jpg"])
    bs.import_vectors(tmp_path / "new", relative, encoder="null", modality="image", root="/data")
    assert sorted(key[0] for key in contents(tmp_path / "new")) == ["/data/a/1.jpg", "/data/a/2.jpg", "/data/b/3.jpg"]


def test_items_go_into_the_collection_that_holds_them(tmp_path: Path, store: Path) -> None:
    path = "/media/collection/pictures/0.jpg"
    file = write_parquet(tmp_path / "one.parquet", n=1, path=[path])
    taken = bs.import_vectors(store, file, modality="image")
    assert (taken.added, taken.replaced) == (0, 1)
    assert contents(store)[(path, "image", None, None)][0] == unit("row 0").astype(np.float16).tobytes()


def test_place_items() -> None:
    assert place_items(["/a/b/1", "/a/c/2"], [None, None], None) == [("/a", "b/1"), ("/a", "c/2")]
    assert place_items(["/a/b/1", "/x/2"], ["/a", None], None) == [("/a", "b/1"), ("/x", "2")]
    assert place_items(["/a/b/1"], ["/other"], None) == [("/a/b", "1")]
    assert place_items(["/1"], ["/"], None) == [("/", "1")]
    assert place_items(["b/1", "/r/2", "/a/3"], [None, None, "/a"], "/r") == [("/r", "b/1"), ("/r", "2"), ("/r", "3")]
    with pytest.raises(bs.UsageError, match="'b/1' is relative: give the folder that it is relative to"):
        place_items(["b/1"], [None], None)
    for outside in ("/a/1", "../1", "x/../../1"):
        with pytest.raises(bs.UsageError, match="is outside of /r"):
            place_items([outside], [None], "/r")
    for nothing in ("", ".", "/", "a/.."):
        with pytest.raises(bs.UsageError, match="is not the path of a file"):
            place_items([nothing], [None], "/r")
    with pytest.raises(bs.UsageError, match="several collections cannot move to /r: /a, /b"):
        place_items(["/a/1", "/b/1"], ["/a", "/b"], "/r")


def test_pictures_and_captions_of_clip_retrieval_become_one_item_each(tmp_path: Path) -> None:
    facts = {"image_path": ["/data/x.jpg", "/data/y.jpg"], "caption": ["a fox", "an owl"], "NSFW": ["no", None]}
    for folder in ("img_emb", "text_emb"):
        (tmp_path / "laion" / folder).mkdir(parents=True)
        rows = np.stack([unit(f"{folder} {row}") for row in range(2)])
        np.save(tmp_path / "laion" / folder / f"{folder}_0.npy", rows.astype(np.float32) * 3)
    write_parquet(tmp_path / "laion/metadata/metadata_0.parquet", n=2, path=None, vector=None, **facts)
    taken = bs.import_vectors(tmp_path / "store", tmp_path / "laion", encoder="null")
    assert (taken.added, taken.vectors) == (2, 4)
    assert taken.notices == ["4 vectors did not have unit length and were normalised"]
    with connect(tmp_path / "store") as opened:
        (hit,) = opened.search(unit("text_emb 1"), k=1, to="text")
        assert (str(hit.path), hit.text) == ("/data/y.jpg", "an owl")
        (hit,) = opened.search(unit("img_emb 1"), k=1, to="image", filter="nsfw = 'no'")
        assert (str(hit.path), hit.text) == ("/data/x.jpg", None)
        assert opened.status().items == {Modality.IMAGE: 2}


def test_rows_of_one_path_in_several_files_become_one_item_as_in_a_folder(tmp_path: Path) -> None:
    paths = [f"/m/{i}.jpg" for i in range(3)]
    for name in ("image", "text"):
        write_parquet(tmp_path / "both" / f"{name}.parquet", path=paths, modality=[name] * 3)
    apart = write_parquet(
        tmp_path / "apart.parquet", path=[f"/other/{i}.jpg" for i in range(3)], modality=["image"] * 3
    )
    sources = [tmp_path / "both" / "image.parquet", tmp_path / "both" / "text.parquet", apart]
    report = bs.import_vectors(tmp_path / "files", *sources, encoder="null")
    assert (report.added, report.replaced, report.vectors) == (6, 0, 9)
    bs.import_vectors(tmp_path / "folder", tmp_path / "both", encoder="null")
    with connect(tmp_path / "files", encoder="null") as files, connect(tmp_path / "folder", encoder="null") as folder:
        assert files.status().collections == (Path("/m"), Path("/other"))
        for opened, images in ((files, 6), (folder, 3)):
            rows = {partition.modality: partition.rows for partition in opened.status().partitions}
            assert rows == {Modality.IMAGE: images, Modality.TEXT: 3}
    again = bs.import_vectors(tmp_path / "files", *reversed(sources), encoder="null")
    assert (again.added, again.replaced, again.vectors) == (0, 6, 9)


def test_an_item_in_two_exports_is_refused(tmp_path: Path, store: Path) -> None:
    with connect(store, encoder="null") as opened:
        for name in ("one", "two"):
            opened.export(tmp_path / name)
    with pytest.raises(bs.UsageError, match=r"is in two exports, .*one and .*two: import one after the other"):
        bs.import_vectors(tmp_path / "new", tmp_path / "one", tmp_path / "two")
    both = [*(tmp_path / "one").glob("*.parquet")]
    assert (
        bs.import_vectors(tmp_path / "new", *both).added == bs.import_vectors(tmp_path / "new2", tmp_path / "one").added
    )


def test_whole_numbers_beyond_53_bits_are_exact_from_import_to_export(tmp_path: Path) -> None:
    numbers = [2**53 + 1, 2**53, 2**53 + 2]
    write_parquet(tmp_path / "big.parquet", path=[f"/m/{i}.jpg" for i in range(3)], modality=["image"] * 3, uid=numbers)
    bs.import_vectors(tmp_path / "a", tmp_path / "big.parquet", encoder="null")
    with connect(tmp_path / "a", encoder="null") as opened:
        opened.export(tmp_path / "out")
    bs.import_vectors(tmp_path / "b", tmp_path / "out")
    for name in ("a", "b"):
        with connect(tmp_path / name, encoder="null") as opened:
            for number, value in enumerate(numbers):
                (hit,) = opened.search(np.ones(DIM), to="image", filter=f"uid = {value}")
                assert hit.path == Path(f"/m/{number}.jpg")


def test_columns_of_other_programs_are_taken_where_they_fit(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "data.parquet",
        modality=["image", "image", "audio"],
        latitude=[1.5, float("nan"), None],
        modified=pa.array([1_700_000_000_000, None, None], pa.timestamp("ms", "UTC")),
        stars=[5, 4, None],
        fingerprint=["mine", "mine", "mine"],
        columns=["no json", None, None],
        **cast(Any, {"not a name": [1, 2, 3], "nested": [{"a": 1}] * 3}),
    )
    bs.import_vectors(tmp_path / "store", file, encoder="null")
    found = [dict(value[1:]) for value in contents(tmp_path / "store").values()]
    assert [fact["latitude"] for fact in found] == [1.5, None, None]
    assert [fact["columns"] for fact in found] == ['{"stars": 5}', '{"stars": 4}', None]
    assert {fact["fingerprint"] for fact in found} == {None}
    with connect(tmp_path / "store") as opened:
        assert len(opened.search(unit("row 0"), filter="stars > 4")) == 1
        assert len(opened.search(unit("row 0"), filter="modified > '2023-11-01'")) == 1


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), DIM)])
def test_every_kind_of_float_list_is_a_vector(tmp_path: Path, kind: pa.DataType) -> None:
    rows = pa.array([unit(f"row {row}").astype(np.float16) for row in range(3)], pa.list_(pa.float16())).cast(kind)
    file = write_parquet(tmp_path / "data.parquet", vector=rows)
    bs.import_vectors(tmp_path / "store", file, encoder="null", modality="depth")
    held = [value[0] for value in contents(tmp_path / "store").values()]
    assert held == [unit(f"row {row}").astype(np.float16).tobytes() for row in range(3)]


def test_a_bare_npy_file_takes_its_facts_from_the_parquet_file_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([unit(str(row)) for row in range(3)]))
    with pytest.raises(bs.UsageError, match=r"a\.npy needs a\.parquet in its folder"):
        bs.import_vectors(tmp_path / "store", tmp_path / "a.npy", encoder="null", modality="image")
    write_parquet(tmp_path / "a.parquet", vector=None)
    bs.import_vectors(tmp_path / "store", tmp_path / "a.npy", encoder="null", modality="image")
    assert len(contents(tmp_path / "store")) == 3
    write_parquet(tmp_path / "a.parquet", n=2, vector=None)
    with pytest.raises(bs.UsageError, match=r"a\.npy has 3 rows and .*a\.parquet 2"):
        bs.import_vectors(tmp_path / "store", tmp_path / "a.npy", modality="image")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": None}, "has no column path"),
        ({"path": ["/a", None, "/b"]}, "row 1 has no path"),
        ({"modality": None}, "the modality of the vectors of .* is unknown"),
        ({"modality": ["image", "smell", "image"]}, "unknown modality 'smell'"),
        ({"vector": None}, "has 0 columns of floating-point lists"),
        ({"other": [[1.0]] * 3}, r"has 2 columns of floating-point lists \(vector, other\)"),
        ({"vector": [unit("a"), None, unit("b")]}, "row 1 holds no vector"),
        ({"vector": [unit("a"), unit("b"), [1.0, 2.0]]}, "row 2 holds a vector of 2 dimensions"),
        ({"vector": [unit("a"), 0 * unit("b"), unit("c")]}, "the vector in row 1 is zero"),
        ({"vector": [unit("a"), unit("b"), np.nan * unit("c")]}, "the vector in row 2 holds NaN"),
        ({"vector": [unit("a"), np.float32(1e30) * unit("b"), unit("c")]}, "the vector in row 1 holds NaN"),
        ({"size_bytes": ["a", "b", "c"]}, "the column size_bytes holds string, not int64"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    file = write_parquet(tmp_path / "data.parquet", **{"modality": ["image"] * 3, **columns})
    with pytest.raises(bs.BindSearchError, match=message):
        bs.import_vectors(tmp_path / "store", file, encoder="null")


@pytest.mark.parametrize(
    ("place", "stated"), [("file", 1), ("file", 36), ("file", 38), ("file", 60), ("row group", 1), ("row group", 36)]
)
@pytest.mark.parametrize("blocks", [5, 50])
def test_a_parquet_file_that_states_another_number_of_rows_is_refused(
    tmp_path: Path, place: str, stated: int, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, blocks, 100)
    path = write_parquet(tmp_path / "data.parquet", n=37)
    data = path.read_bytes()
    # Thrift's compact protocol: a field with a 64-bit number (0x16), and the number in zigzag code. The number of
    # rows of the file comes first in the footer, before a list (0x19); the last one is that of the row group.
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    number = bytes([0x16, 2 * 37])
    at = data.index(number + b"\x19", footer) if place == "file" else data.rindex(number, footer)
    path.write_bytes(data[: at + 1] + bytes([2 * stated]) + data[at + 2 :])
    with pytest.raises(bs.UsageError, match=r"data\.parquet (is damaged|cannot be read as Parquet): "):
        bs.import_vectors(tmp_path / "store", path, encoder="null", modality="image")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(bs.BindSearchError, match=message):
            bs.import_vectors(tmp_path / "store", path, encoder="null", modality="image")

    refused(tmp_path / "nothing", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no vectors")
    (tmp_path / "text.parquet").write_text("no parquet at all")
    refused(tmp_path / "text.parquet", "cannot be read as Parquet")
    write_parquet(tmp_path / "b/b.parquet", vector=None)
    np.save(tmp_path / "b/b.npy", np.array([{}, {}, {}], object), allow_pickle=True)
    refused(tmp_path / "b/b.npy", "pickled objects")
    np.save(tmp_path / "b/b.npy", np.ones((3, DIM), np.int32))
    refused(tmp_path / "b/b.npy", "not rows of floating-point numbers")
    np.save(tmp_path / "b/b.npy", np.ones((3, DIM), np.float32))
    (tmp_path / "b/b.npy").write_bytes((tmp_path / "b/b.npy").read_bytes()[:-50])
    refused(tmp_path / "b/b.npy", "cannot be read")
    np.save(tmp_path / "b/b.npy", np.ones((3, 7), np.float32))
    refused(tmp_path / "b/b.npy", "holds vectors of 7 dimensions, those of null have 64")
    (tmp_path / "c/img_emb").mkdir(parents=True)
    np.save(tmp_path / "c/img_emb/img_emb_0.npy", np.ones((3, DIM), np.float32))
    refused(tmp_path / "c", "metadata_0.parquet with the paths of its rows")
    assert not (tmp_path / "store").exists()


def test_vectors_of_another_space_are_refused_by_name(tmp_path: Path, store: Path) -> None:
    bs.export_vectors(store, tmp_path / "out")
    write_store(tmp_path / "other", files(1))
    write_config(tmp_path / "other", replace(read_config(store), weights_digest="older"))
    bs.export_vectors(tmp_path / "other", tmp_path / "old")
    with pytest.raises(bs.StoreError, match="weights of digest older there, null-1 here"):
        bs.import_vectors(store, tmp_path / "old")
    with pytest.raises(bs.StoreError, match="weights of digest older there, null-1 here"):
        bs.import_vectors(tmp_path / "new", tmp_path / "old")
    with pytest.raises(bs.UsageError, match="is a new store: give the encoder"):
        bs.import_vectors(tmp_path / "new", write_parquet(tmp_path / "data.parquet"), modality="image")
    assert not (tmp_path / "new").exists()


def test_the_commands(tmp_path: Path, store: Path, bindsearch_command: Run) -> None:
    exported = bindsearch_command(["export", tmp_path / "out", "--layout", "npy", "--to", "image,audio", "--json"])
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["vectors"] == {"image": 12, "audio": 24}
    again = bindsearch_command(["export", tmp_path / "out"])
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    imported = bindsearch_command(["import", tmp_path / "out", "--store", tmp_path / "copy", "--json"])
    assert imported.returncode == 0, imported.stderr
    assert {**json.loads(imported.stdout), "took_s": 0, "indexes": []} == {
        "schema": 1,
        "added": 24,
        "replaced": 0,
        "kept": 0,
        "vectors": 36,
        "failures": 0,
        "notices": [],
        "indexes": [],
        "took_s": 0,
    }
    plain = bindsearch_command(["import", tmp_path / "out", "--store", tmp_path / "copy"])
    assert plain.stdout.startswith("0 added, 24 replaced, 0 kept: 36 vectors in")
    for command in ("export", "import", "merge"):
        assert f"bindsearch {command}" in CliRunner().invoke(app, [command, "--help"]).stdout


@pytest.mark.parametrize("name", ["path", "text", "note"])
def test_texts_that_unpack_to_gigabytes_are_refused_before_they_do(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_sources, "MAX_TEXT_BYTES", 1 << 20)
    monkeypatch.setattr(vector_sources, "MAX_PATH_BYTES", 1 << 20)
    columns: dict[str, Any] = {name: ["/" + "q" * 400_000] * 3}
    file = write_parquet(tmp_path / "a.parquet", **columns)
    assert file.stat().st_size < 100_000
    with pytest.raises(bs.UsageError, match=rf"column {name} in rows 0 to 2 have 1200003 bytes: the maximum is 1"):
        bs.import_vectors(tmp_path / "store", file, modality="text", encoder="null")


def test_huge_texts_are_refused_by_the_metadata_alone(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", text=["q" * 9_000_000] * 3)
    with pytest.raises(bs.UsageError, match=r"the texts of the column text have 3[0-9]+ bytes on average"):
        bs.import_vectors(tmp_path / "store", file, modality="text", encoder="null")


@pytest.mark.parametrize("name", ["path", "text", "note"])
def test_a_text_that_is_not_utf_8_is_named_by_row_and_column(tmp_path: Path, name: str) -> None:
    texts = pa.array([b"/data/a", None if name == "text" else b"/data/b", b"/\xff"], pa.binary()).view(pa.string())
    file = write_parquet(tmp_path / "a.parquet", **{name: texts})
    with pytest.raises(bs.UsageError, match=rf"a\.parquet: row 2, column {name} is not UTF-8: save it as UTF-8$"):
        bs.import_vectors(tmp_path / "store", file, modality="text", encoder="null")


def test_an_import_of_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(bs.UsageError, match="not a regular file"):
        bs.import_vectors(tmp_path / "store", tmp_path, encoder="null")
    for name in ("img_emb", "metadata"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "img_emb" / "img_emb_0.npy")
    write_parquet(tmp_path / "metadata" / "metadata_0.parquet")
    with pytest.raises(bs.UsageError, match=r"img_emb_0\.npy cannot be read: .*not a regular file"):
        bs.import_vectors(tmp_path / "store", tmp_path, encoder="null")


def test_an_imported_item_as_the_query_finds_others_though_their_contents_are_unknown(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in" / "rows.parquet", 4, modality=["image"] * 4)
    with connect(tmp_path / "store", encoder=NullEncoder()) as opened:
        opened.import_vectors(path)
        answer = opened.answer(bs.make_query(bs.parse_query("like:1")))
        assert sorted(hit.item_id for hit in answer.hits) == [2, 3, 4]
        assert answer.notices == ()
        answer = opened.answer(bs.make_query(bs.parse_query("like:1 + like:2")))
        assert sorted(hit.item_id for hit in answer.hits) == [3, 4]
        assert answer.notices == ()
