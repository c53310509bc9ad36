"""`embed_files`: the vectors and facts of `index`, as a table that `import` reads; no file is left out silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.operations.exchange.exchange_format import FACTS
from helpers import media_files
from helpers.crashing_encoder import CrashingEncoder
from helpers.stores import connect
from helpers.transfer_store import contents


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collection with files of every modality, one with a sidecar, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("media")
    media_files.write_every_modality(folder, copies=1)
    (folder / "notes.md").write_text("A dog in the snow.\n")
    (folder / "notes.md.json").write_text('{"title": "Winter", "columns": {"stars": 5}}')
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    return folder


def paths_of(folder: Path) -> list[str]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".json"]
    return [path.relative_to(folder).as_posix() for path in found]


def batch_of(paths: list[str], **columns: Any) -> pa.Table:
    return pa.table({"path": paths, **columns})


@pytest.fixture(scope="module")
def indexed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store in which `index` has put the files of `folder`."""
    path = tmp_path_factory.mktemp("indexed") / "store"
    with connect(path, encoder="mini") as store:
        assert store.index(folder).failed == 1
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_and_facts_are_those_of_index(folder: Path, indexed: Path, tmp_path: Path, dtype: str) -> None:
    names = paths_of(folder)
    table = bs.embed_files(batch_of(names), root=folder, dtype=dtype)
    assert table.schema.field("vector").type == pa.list_(pa.type_for_alias(dtype), bs.load_encoder("mini").dim)
    assert list(dict.fromkeys(table.column("path").to_pylist())) == [str(folder / name) for name in names]
    failed = table.filter(table.column("error").is_valid())
    assert failed.column("path").to_pylist() == [str(folder / "broken.png")]
    pq.write_table(table, tmp_path / "part.parquet")
    with connect(tmp_path / "store") as store:
        report = store.import_vectors(tmp_path / "part.parquet")
        assert (report.failures, report.notices) == (1, [])
    ours, theirs = contents(tmp_path / "store"), contents(indexed)
    assert ours.keys() == theirs.keys()
    assert {key[1] for key in ours} == set(bs.Modality)
    for key, (vector, *facts) in ours.items():
        expected, *others = theirs[key]
        np.testing.assert_allclose(np.frombuffer(vector, np.float16), np.frombuffer(expected, np.float16), atol=1e-3)
        assert facts == others


def test_a_later_index_finds_all_files_unchanged(folder: Path, tmp_path: Path) -> None:
    pq.write_table(bs.embed_files(batch_of(paths_of(folder)), root=folder), tmp_path / "part.parquet")
    with connect(tmp_path / "store") as store:
        added = store.import_vectors(tmp_path / "part.parquet").added
        report = store.index(folder)
    assert (report.segments, report.unchanged, report.added, report.changed, report.removed) == (0, added, 0, 0, 0)


def test_vectors_are_those_of_the_encoder_to_1e_4(folder: Path) -> None:
    encoder = bs.load_encoder("mini")
    rows = bs.embed_files(batch_of([str(folder / "notes.md")]), encoder=encoder).to_pylist()
    from bindsearch.media import Passage

    expected = bs.encode_media(encoder, [Passage(rows[0]["text"])])
    np.testing.assert_allclose([rows[0]["vector"]], expected, atol=1e-4)


def test_every_file_that_is_not_embedded_has_a_row_with_the_reason(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "empty.txt").touch()
    paths = [str(tmp_path / "none.txt"), str(tmp_path / "page.zip"), str(tmp_path / "empty.txt")]
    paths += [str(folder / "broken.png"), str(tmp_path)]
    rows = bs.embed_files(batch_of(paths), encoder=NullEncoder()).to_pylist()
    assert [row["path"] for row in rows] == paths
    assert all(row["error"] and not any(row["vector"]) and row["modality"] is None for row in rows)
    assert "No such file" in rows[0]["error"]


def test_contents_are_embedded_under_their_names(tmp_path: Path) -> None:
    names = ["a/hello.txt", "b/hello.txt", "../up.txt", "none.txt"]
    batch = pa.table({"name": names, "bytes": [b"A dog.", b"A cat.", b"A bird.", None]})
    rows = bs.embed_files(batch, encoder=NullEncoder()).to_pylist()
    assert [row["path"] for row in rows] == names
    assert [row["text"] for row in rows] == ["A dog.", "A cat.", "A bird.", None]
    assert rows[3]["error"] == "the content is None: give bytes"
    assert not any(row["mtime_ns"] for row in rows)
    pq.write_table(bs.embed_files(batch.slice(0, 2), encoder=NullEncoder()), tmp_path / "part.parquet")
    with connect(tmp_path / "store") as store:
        assert store.import_vectors(tmp_path / "part.parquet", root=tmp_path / "root").added == 2


def test_the_modality_of_a_row_and_rules_decide(tmp_path: Path) -> None:
    path = str(media_files.write_picture(tmp_path / "map.png", media_files.half_and_half(32, 24)))
    encoder = NullEncoder()
    assert bs.embed_files(batch_of([path]), encoder=encoder).column("modality").to_pylist() == ["image"]
    given = bs.embed_files(batch_of([path] * 2, modality=["thermal", None]), encoder=encoder)
    assert given.column("modality").to_pylist() == ["thermal", "image"]
    ruled = bs.embed_files(batch_of([path]), encoder=encoder, rules=["thermal=*.png"])
    assert ruled.column("modality").to_pylist() == ["thermal"]


def test_an_empty_batch_gives_the_schema(folder: Path) -> None:
    empty = bs.embed_files(batch_of([]).cast(pa.schema([("path", pa.string())])), encoder="null")
    assert empty.num_rows == 0
    assert empty.schema.names == [*FACTS, "vector", "error", "space"]
    some = bs.embed_files(pa.RecordBatch.from_pydict({"path": [str(folder / "notes.md")]}), encoder="null")
    assert some.schema == empty.schema


def test_an_encoder_given_by_name_is_loaded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bindsearch.encoders

    loaded = []
    load = bindsearch.encoders.load_encoder

    def counted(*arguments: Any, **options: Any) -> Any:
        loaded.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(bindsearch.encoders, "load_encoder", counted)
    for _ in range(3):
        bs.embed_files(batch_of([str(folder / "notes.md")]), encoder="null", device="cpu")
    assert len(loaded) <= 1


def test_a_crash_in_a_decoder_process_is_the_error_of_one_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.txt", "crash.txt", "c.txt")]
    for path in paths:
        path.write_text("crash" if path.name == "crash.txt" else "A dog.")
    table = bs.embed_files(
        batch_of([str(path) for path in paths]), encoder=CrashingEncoder(tmp_path / "log"), decode="process"
    )
    errors = table.column("error").to_pylist()
    assert [bool(error) for error in errors] == [False, True, False], errors


def test_metadata_of_the_schema_may_be_lost(folder: Path, tmp_path: Path) -> None:
    table = bs.embed_files(batch_of(paths_of(folder)), root=folder, encoder="null")
    lists = table.column("vector").cast(pa.list_(pa.float32()))
    plain = table.set_column(table.schema.names.index("vector"), "vector", lists).replace_schema_metadata(None)
    pq.write_table(plain, tmp_path / "part-0.parquet")
    report = bs.import_vectors(tmp_path / "store", tmp_path / "part-0.parquet")
    assert report.failures == 1
    again = bs.import_vectors(tmp_path / "store", tmp_path / "part-0.parquet")
    assert (again.added, again.replaced, again.failures) == (0, report.added, 0)
    other = plain.set_column(plain.schema.names.index("space"), "space", pa.array(["{}"] * plain.num_rows))
    pq.write_table(pa.concat_tables([plain, other]), tmp_path / "part-0.parquet")
    with pytest.raises(bs.UsageError, match="contains vectors of several encoders or options: import them apart"):
        bs.import_vectors(tmp_path / "store", tmp_path / "part-0.parquet")


def test_a_file_with_vectors_and_an_error_keeps_its_vectors(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("A dog.")
    good = bs.embed_files(batch_of([str(path)]), encoder="null")
    path.write_bytes(b"")
    bad = bs.embed_files(batch_of([str(path)]), encoder="null")
    pq.write_table(pa.concat_tables([bad, good, bad]), tmp_path / "part.parquet")
    report = bs.import_vectors(tmp_path / "store", tmp_path / "part.parquet")
    assert (report.added, report.failures) == (1, 0)
    assert report.notices == ["1 files could not be read, and keep the vectors that they have"]


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        ([{"path": "x"}], {}, "give a pyarrow Table or RecordBatch"),
        (
            pa.table({"file": ["x"]}),
            {},
            "the batch has no column path: give path, or bytes and name; its columns: file",
        ),
        (pa.table({"bytes": [b"x"]}), {}, "the batch has no column name"),
        (pa.table({"path": ["x", None]}), {}, "row 1 of the batch has no path of a file: None"),
        (pa.table({"name": [""], "bytes": [b"x"]}), {}, "row 0 of the batch has no name of a file: ''"),
        (pa.table({"name": [".."], "bytes": [b"x"]}), {}, "'..' is not the name of a file"),
        (pa.table({"path": ["x"], "modality": ["smell"]}), {}, "unknown modality 'smell'"),
        (pa.table({"path": ["/other/x"]}), {"root": "/media"}, "/other/x is outside of /media: give a root that"),
        (pa.table({"path": [1]}), {}, "the column path contains 1: give texts"),
        (pa.table({"path": ["x"]}), {"dtype": "int8"}, "unknown dtype 'int8': choose from float32, float16"),
        (pa.table({"path": ["x"]}), {"decode": "here"}, "unknown decode 'here'"),
        (pa.table({"path": ["x"]}), {"rules": ["smell=*"]}, "smell"),
        (pa.table({"path": ["x"]}), {"segment_s": {"audio": 0}}, "audio_segment_s"),
    ],
)
def test_what_cannot_be_used_is_said(batch: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(bs.UsageError, match=message):
        bs.embed_files(batch, encoder="null", **options)


def test_relative_paths_are_below_the_root(folder: Path, tmp_path: Path) -> None:
    rows = bs.embed_files(batch_of(["none.txt", "notes.md"]), encoder="null", root=folder)
    assert rows.column("path").to_pylist() == [str(folder / "none.txt"), str(folder / "notes.md")]
    pq.write_table(rows, tmp_path / "part.parquet")
    report = bs.import_vectors(tmp_path / "store", tmp_path / "part.parquet")
    assert (report.added, report.failures) == (1, 1)
    (tmp_path / "link").symlink_to(folder)
    linked = bs.embed_files(batch_of([str(tmp_path / "link" / "notes.md")]), encoder="null", root=tmp_path / "link")
    assert linked.column("path").to_pylist() == [str(folder / "notes.md")]
    given = pa.table({"name": ["notes.md"], "bytes": [b"A dog."]})
    assert bs.embed_files(given, encoder="null", root=folder).column("path").to_pylist() == [str(folder / "notes.md")]
