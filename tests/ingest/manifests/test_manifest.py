from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bindsearch.errors import MediaError
from bindsearch.ingest.manifests.manifest import (
    MAX_CAPTIONS,
    ManifestContent,
    ManifestEntry,
    is_manifest,
    manifest_paths,
    read_manifest,
)
from bindsearch.ingest.manifests.rows import MAX_LINE_BYTES, ListLimits, Problems, rows
from bindsearch.types import Metadata, Modality

MIB = 1 << 20


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, content: str | bytes) -> ManifestContent:
    """Return the content of a manifest, whose folder is the root."""
    write(path, content)
    assert is_manifest(path)
    return read_manifest(path, path.parent)


def captions(content: ManifestContent) -> dict[str, tuple[str, ...]]:
    return {name: listed.captions for name, listed in content.entries.items()}


@pytest.mark.parametrize(("name", "content"), [
    ("a.csv", "path,caption\na.jpg,A dog.\n"), ("a.tsv", "Image\tCaption\nx/a.jpg\tA dog.\n"),
    ("a.csv", "file_name;text\na.jpg;A dog\n"), ("a.csv", "path,label\na.jpg,dog\n"), ("a.csv", "path,caption\n"),
    ("a.CSV", "\ufeffpath,caption\r\na.jpg,x\r\n"), ("a.csv", "path\na.jpg\n"),
    ("a.jsonl", '{"file_name": "a.jpg", "text": "A dog."}\n'), ("a.ndjson", '{"path": "a/b"}\n'),
    ("a.csv", "path," + ",".join(f"column_{n}" for n in range(800)) + "\na.jpg" + "," * 800 + "\n"),
])  # fmt: skip
def test_a_table_with_a_column_of_paths_is_a_list(tmp_path: Path, name: str, content: str) -> None:
    assert is_manifest(write(tmp_path / name, content))


@pytest.mark.parametrize(("name", "content"), [
    ("a.txt", "path,caption\na.jpg,A dog.\n"), ("a.json", '{"path": "a.jpg"}'), ("a.csv", "caption,label\nA dog,dog\n"),
    ("a.csv", "file,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\na.b,1,2,3,4,5,6\n"), ("a.csv", "1,2,3\n4,5,6\n"),
    ("a.csv", "image,caption\n17,A dog\n"), ("a.csv", "file,caption\n1.5,A dog\n"), ("a.csv", ""), ("a.csv", "\n\n"),
    ("a.csv", b"path,caption\0\0\0\0\0\0"), ("a.csv", b"PK\3\4path,caption\n"), ("a.jsonl", "path,caption\n"),
    ("a.jsonl", '["path"]\n'), ("a.jsonl", '{"path": 5}\n'), ("a.jsonl", ""), ("a.parquet", b"PAR1 no parquet PAR1"),
    ("a.parquet", b""), ("a.jsonl", '{"path": "' + "x" * (1 << 17) + '.jpg"}\n'),
])  # fmt: skip
def test_other_tables_and_files_are_none(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert not is_manifest(write(tmp_path / name, content))


def test_only_the_head_of_a_list_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "path,caption\n" + "a.jpg,A dog.\n" * 1000)
    with path.open("ab") as file:
        file.truncate(1 << 33)
    start = time.perf_counter()
    assert is_manifest(path)
    assert time.perf_counter() - start < 1
    with pytest.raises(MediaError, match="8589934592 bytes, the maximum is 1073741824"):
        read_manifest(path, tmp_path)


def test_a_csv_says_captions_columns_metadata_and_modality(tmp_path: Path) -> None:
    content = read(
        tmp_path / "a.csv",
        "Path,caption,Label,rating,score,indoor,code,title,taken,modality,note\n"
        'x/a.jpg," A dog, ""big"".",dog,4,0.5,true,007,1984,2024-05-01T12:00:00,Thermal,\n'
        'b.jpg,"two\nlines",cat,5,1e3,false,8,,,,seen\n'
        "c.jpg,,,,,,,,,,\n",
    )
    assert content.problems == ()
    assert content.entries == {
        "x/a.jpg": ManifestEntry(
            Modality.THERMAL,
            ('A dog, "big".',),
            {"label": "dog", "rating": 4, "score": 0.5, "indoor": True, "code": "007"},
            Metadata(title="1984", taken=datetime(2024, 5, 1, 12)),
        ),
        "b.jpg": ManifestEntry(
            None,
            ("two\nlines",),
            {"label": "cat", "rating": 5, "score": 1000.0, "indoor": False, "code": "8", "note": "seen"},
            Metadata(),
        ),
        "c.jpg": ManifestEntry(None, (), {}, Metadata()),
    }


def test_columns_of_a_csv_have_one_kind(tmp_path: Path) -> None:
    content = read(tmp_path / "a.csv", "path,mixed,whole,caption\na.b,1,1,5\nb.b,x,-2,6\nc.b,,,\n")
    assert [listed.columns for listed in content.entries.values()] == [
        {"mixed": "1", "whole": 1}, {"mixed": "x", "whole": -2}, {},
    ]  # fmt: skip
    assert captions(content) == {"a.b": ("5",), "b.b": ("6",), "c.b": ()}


def test_a_file_listed_several_times_gets_all_its_captions(tmp_path: Path) -> None:
    content = read(
        tmp_path / "a.csv",
        "path,caption,n,modality\na.jpg,One.,1,image\na.jpg,Two.,2,thermal\n./a.jpg,One.,,\nx/../a.jpg,Three.,,image\n",
    )
    assert content.entries["a.jpg"] == ManifestEntry(Modality.IMAGE, ("One.", "Two.", "Three."), {"n": 1}, Metadata())
    assert content.problems == ("row 3: modality differs from a previous row, thermal: the first one is used",)
    many = "".join(f"a.jpg,{n} dogs\n" for n in range(MAX_CAPTIONS + 5))
    content = read(tmp_path / "a.csv", "path,caption\n" + many)
    assert len(content.entries["a.jpg"].captions) == MAX_CAPTIONS
    assert len(content.problems) == 5


def test_every_column_of_text_gives_a_caption(tmp_path: Path) -> None:
    line = {"file_name": "a.jpg", "caption": "One.", "text": "Two.", "description": "One.", "captions": ["Three.", " "]}
    content = read(tmp_path / "a.jsonl", json.dumps(line) + "\n")
    assert captions(content) == {"a.jpg": ("One.", "Two.", "Three.")}


def test_paths_count_from_the_folder_of_the_list_and_stay_in_the_root(tmp_path: Path) -> None:
    path = write(
        tmp_path / "root" / "lists" / "a.csv",
        "path,caption\n"
        f"a.jpg,1\n../b.jpg,2\n../../c.jpg,3\n{tmp_path}/root/d.jpg,4\n/etc/passwd,5\nhttps://x/e.jpg,6\n"
        "..,7\n,8\nna\0me.jpg,9\n../x//y/./f.jpg,10\n",
    )
    content = read_manifest(path, tmp_path / "root")
    assert captions(content) == {
        "lists/a.jpg": ("1",), "b.jpg": ("2",), "d.jpg": ("4",), "x/y/f.jpg": ("10",),
    }  # fmt: skip
    assert [problem.split(":")[0] for problem in content.problems] == [f"row {n}" for n in (4, 6, 7, 8, 9, 10)]
    assert content.problems[0] == f"row 4: the path '../../c.jpg' is outside {tmp_path}/root/"
    assert content.problems[4] == "row 9: no path"


def test_a_list_names_its_files_for_a_run_of_their_own(tmp_path: Path) -> None:
    text = "path,caption\na.jpg,1\n../b.jpg,2\na.jpg,3\n/etc/x.jpg,4\nhttps://x/e.jpg,5\n,6\n"
    path = write(tmp_path / "x" / "a.csv", text)
    assert manifest_paths(path) == [str(tmp_path / "x/a.jpg"), str(tmp_path / "b.jpg"), "/etc/x.jpg"]
    with pytest.raises(MediaError, match="no column of paths among a, b"):
        manifest_paths(write(tmp_path / "b.csv", "a,b\n1,2\n"))


def test_what_is_wrong_in_a_row_is_told_and_the_rest_is_used(tmp_path: Path) -> None:
    content = read(
        tmp_path / "a.csv",
        "path,caption,bad name,name,latitude,modality,label,Label\n"
        "a.jpg,One.,1,n,95,picture,x,y\n"
        "b.jpg,Two.,1,n\n"
        "\n"
        "c.jpg,Three.,1,n,5,image,x,y,z\n"
        "d.jpg,Four.,1,n,5.5,image,z,\n",
    )
    assert content.entries == {
        "a.jpg": ManifestEntry(None, ("One.",), {"label": "x"}, Metadata()),
        "d.jpg": ManifestEntry(Modality.IMAGE, ("Four.",), {"label": "z"}, Metadata(latitude=5.5)),
    }
    told = "\n".join(sorted(content.problems))
    for expected in (
        "row 1: columns has the name 'bad name'", "row 1: columns has the name 'name', which is reserved",
        "row 2: column latitude is 95.0: expected degrees", "row 2: unknown modality 'picture': expected one of text,",
        "row 1: column 'Label' appears twice", "row 3: 4 values, but the header has 8",
        "row 5: 9 values, but the header has 8",
    ):  # fmt: skip
        assert expected in told
    assert len(content.problems) == 7


def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path: Path) -> None:
    content = read(tmp_path / "a.csv", 'path,caption\na.jpg,"two\nlines"\n\nb.jpg,x,y\nc.jpg,x,y\n/d.jpg,x\n\n')
    assert [problem.split(":")[0] for problem in content.problems] == ["row 4", "row 5", "row 6"]


def test_no_more_than_twenty_problems_are_told(tmp_path: Path) -> None:
    content = read(tmp_path / "a.jsonl", '{"path": "a.jpg"}\n' + "broken\n" * 150)
    assert len(content.problems) == 21
    assert content.problems[0].startswith("row 2: no JSON object")
    assert content.problems[-1] == "and 130 more"


def test_a_csv_with_a_mark_carriage_returns_zero_bytes_and_a_huge_cell(tmp_path: Path) -> None:
    content = read(tmp_path / "a.csv", "\ufeffpath,caption\r\na.jpg,Caf\u00e9\r\nb.jpg,ze\0ro\r\n")
    assert captions(content) == {"a.jpg": ("Café",), "b.jpg": ()}
    assert content.problems[0].startswith("row 3: the caption")
    content = read(tmp_path / "a.csv", "path,caption\na.jpg," + "x" * (2 * MIB) + "\nb.jpg,B.\n")
    assert captions(content) == {"a.jpg": (), "b.jpg": ("B.",)}
    write(tmp_path / "a.csv", "path,caption\na.jpg," + "x" * (40 * MIB) + "\nb.jpg,B.\n")
    with pytest.raises(MediaError, match=r"^cannot read the manifest; a row has more than \d+ characters: "):
        read_manifest(tmp_path / "a.csv", tmp_path)


def test_a_csv_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "path,caption\na.jpg,Café\n".encode("latin-1"))
    with pytest.raises(MediaError, match="line 2 is not UTF-8"):
        read_manifest(path, tmp_path)


def test_a_jsonl_with_broken_lines(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"PATH": "a.jpg", "caption": "A.", "n": 4, "list": [1], "when": null}', b"", b"{broken", b"[1]",
        b'{"caption": "no path"}', b'{"path": "b.jpg", "caption": 5, "n": "text", "n2": NaN, "half": "\\ud800"}',
        b'{"path": "\xff.jpg"}', b'{"path": "' + b"x" * (3 * MAX_LINE_BYTES) + b'"}', b"[" * 100_000,
        b'{"path": 5}', b'{"path": "c\\ud800.jpg", "n": 123456789012345678901234567890}', b'{"path": "d.jpg"}',
    ]  # fmt: skip
    content = read(tmp_path / "a.jsonl", b"\r\n".join(lines))
    assert content.entries == {
        "a.jpg": ManifestEntry(None, ("A.",), {"n": 4}, Metadata()),
        "b.jpg": ManifestEntry(None, (), {"n": "text", "half": "?"}, Metadata()),
        "c?.jpg": ManifestEntry(None, (), {"n": 123456789012345678901234567890.0}, Metadata()),
        "d.jpg": ManifestEntry(None, (), {}, Metadata()),
    }
    assert [problem.split(":")[0] for problem in content.problems] == [
        f"row {n}" for n in (1, 3, 4, 5, 6, 6, 7, 8, 9, 10)
    ]


def test_duckdb_drops_what_is_wrong_in_a_jsonl_where_this_reader_reports_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"path": "a.png", "n": 1}\n{broken\n{"path": "b.png", "n": "x"}\n')
    problems = Problems()
    found = list(rows(path, problems, lambda _name: True))
    assert [(row.number, row.path, row.others) for row in found] == [(1, "a.png", {"n": 1}), (3, "b.png", {"n": "x"})]
    assert problems.lines()[0].startswith("row 2: no JSON object: ")
    read_json = f"FROM read_json('{path}', format = 'newline_delimited', ignore_errors = true)"
    assert duckdb.execute(read_json).fetchall() == [("a.png", "1"), (None, None), ("b.png", '"x"')]


def test_keys_of_a_jsonl_that_are_ever_new_do_not_pile_up(tmp_path: Path) -> None:
    lines = [json.dumps({"path": f"{n}.jpg", f"key_{n}": n, f"bad {n}": n}) for n in range(5000)]
    content = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert len(content.entries) == 5000
    assert sum(bool(listed.columns) for listed in content.entries.values()) == 64


def test_a_parquet_file(tmp_path: Path) -> None:
    table = pa.table(
        {
            "path": ["a.jpg", "b.jpg", None, "a.jpg"],
            "caption": pa.array(["A.", None, "x", "A too."]).dictionary_encode(),
            "captions": [["One."], [], None, None],
            "n": [1, 2, 3, None],
            "x": [0.5, float("nan"), 1.0, None],
            "ok": [True, False, None, None],
            "taken": pa.array([datetime(2024, 5, 1, 12, tzinfo=UTC), None, None, None], pa.timestamp("us", "UTC")),
            "price": [Decimal("1.25"), None, None, None],
            "embedding": [[0.1, 0.2]] * 4,
            "image": [{"bytes": b"x"}] * 4,
        }
    )
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path)
    assert is_manifest(path)
    content = read_manifest(path, tmp_path)
    assert content.entries == {
        "a.jpg": ManifestEntry(
            None,
            ("A.", "One.", "A too."),
            {"n": 1, "x": 0.5, "ok": True, "price": 1.25},
            Metadata(taken=datetime(2024, 5, 1, 12)),
        ),
        "b.jpg": ManifestEntry(None, (), {"n": 2, "ok": False}, Metadata()),
    }
    assert sorted(problem.split(":")[0] + problem.split(":")[1][:20] for problem in content.problems) == [
        "row 1 column 'embedding' ", "row 1 column 'image' is s", "row 2 column x is nan", "row 3 no path",
    ]  # fmt: skip
    assert manifest_paths(path) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]


def test_a_parquet_file_of_pictures_or_of_motion_is_no_list(tmp_path: Path) -> None:
    for name, table in {
        "pictures": pa.table({"image": [{"bytes": b"x", "path": "a.jpg"}], "caption": ["A."]}),
        "motion": pa.table({"file": ["a.b"], **{f"{s}_{a}": [0.5] for s in ("acc", "gyro") for a in "xyz"}}),
        "other": pa.table({"path": [1, 2]}),
    }.items():
        parquet.write_table(table, tmp_path / f"{name}.parquet")
        assert not is_manifest(tmp_path / f"{name}.parquet")


def test_a_damaged_parquet_file_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table(
        {"path": [f"{n}.jpg" for n in range(5000)], "caption": [f"picture {n * 7919}" for n in range(5000)]}
    )
    parquet.write_table(table, path)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    assert not is_manifest(path)
    with pytest.raises(MediaError, match="damaged parquet file"):
        read_manifest(path, tmp_path)
    path.write_bytes(good[:1000] + b"\xff" * 4000 + good[5000:])
    with pytest.raises(MediaError, match="damaged parquet file"):
        read_manifest(path, tmp_path)


@pytest.mark.parametrize("stated", [36, 38])
def test_a_parquet_file_that_states_another_number_of_rows_fails(tmp_path: Path, stated: int) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"path": [f"{n}.jpg" for n in range(37)], "caption": ["a"] * 37}), path)
    data = path.read_bytes()
    # Thrift's compact protocol: a field with a 64-bit number (0x16), the number in zigzag code, then a list (0x19).
    at = data.index(bytes([0x16, 2 * 37, 0x19]))
    path.write_bytes(data[: at + 1] + bytes([2 * stated]) + data[at + 2 :])
    with pytest.raises(MediaError, match="damaged parquet file: "):
        read_manifest(path, tmp_path)


def test_a_text_that_repeats_in_a_parquet_file_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = 5000  # of 100 kB each: half a GB, were they copies
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["dog " * 25_000]))
    parquet.write_table(pa.table({"path": [f"{n}.jpg" for n in range(rows)], "caption": text}), path)
    content = read_manifest(path, tmp_path)
    assert len(content.entries) == rows
    assert len(content.entries["5.jpg"].captions[0]) == 99_999


def test_too_many_rows_fail(tmp_path: Path) -> None:
    lines = [f"{n}.jpg" for n in range(11)]
    parquet.write_table(pa.table({"path": lines}), tmp_path / "a.parquet")
    write(tmp_path / "a.csv", "path\n" + "\n".join(lines))
    write(tmp_path / "a.jsonl", "\n".join(json.dumps({"path": line}) for line in lines))
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        with pytest.raises(MediaError, match="more than 10 rows: split it, or give a larger --limit list-rows=N"):
            read_manifest(tmp_path / name, tmp_path, ListLimits(max_list_rows=10))
        assert len(read_manifest(tmp_path / name, tmp_path, ListLimits(max_list_rows=11)).entries) == 11


def test_a_stamp_tells_apart_what_is_said_and_nothing_else() -> None:
    listed = ManifestEntry(Modality.IMAGE, ("a", "b"), {"n": 1, "m": True}, Metadata(taken=datetime(2024, 5, 1)))
    same = ManifestEntry(Modality.IMAGE, ("a", "b"), {"m": True, "n": 1}, Metadata(taken=datetime(2024, 5, 1)))
    assert listed.stamp == same.stamp == 1559799847748777367
    others = [
        ManifestEntry(None, ("a", "b"), {"n": 1, "m": True}, Metadata(taken=datetime(2024, 5, 1))),
        ManifestEntry(Modality.IMAGE, ("a b",), {"n": 1, "m": True}, Metadata(taken=datetime(2024, 5, 1))),
        ManifestEntry(Modality.IMAGE, ("a", "b"), {"n": 1, "m": 1}, Metadata(taken=datetime(2024, 5, 1))),
        ManifestEntry(Modality.IMAGE, ("a", "b"), {"n": 1, "m": True}, Metadata(taken=datetime(2024, 5, 2))),
        ManifestEntry(None, (), {}, Metadata()),
    ]
    stamps = {each.stamp for each in (listed, *others)}
    assert len(stamps) == 6
    assert all(0 < stamp < 1 << 63 for stamp in stamps)


def test_a_long_list_is_read_in_seconds(tmp_path: Path) -> None:
    count = 100_000  # a million take a few seconds
    rows = "".join(f"images/{n:07d}.jpg,a picture of thing number {n} on the beach\n" for n in range(count))
    path = write(tmp_path / "a.csv", "path,caption\n" + rows)
    start = time.process_time()
    assert len(read_manifest(path, tmp_path).entries) == count
    assert time.process_time() - start < 3


@pytest.mark.parametrize(("name", "count", "captioned"), [
    ("images_flickr8k/captions.csv", 750, 5), ("audio_esc10/labels.csv", 240, 0), ("video_clips/labels.csv", 14, 1),
])  # fmt: skip
def test_the_lists_of_real_data_name_files_that_are_there(
    shared_data: Path, name: str, count: int, captioned: int
) -> None:
    path = shared_data / name
    assert is_manifest(path)
    content = read_manifest(path, shared_data)
    assert len(content.entries) == count
    assert all((shared_data / place).is_file() for place in content.entries)
    assert all(len(listed.captions) <= captioned for listed in content.entries.values())
    assert sorted(manifest_paths(path)) == sorted(str(shared_data.absolute() / place) for place in content.entries)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_wide_list_is_read_in_no_time(tmp_path: Path, suffix: str) -> None:
    names = ["path", *(f"c{n}" for n in range(10_000))]
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.table({name: ["a.jpg"] for name in names}), path)
    elif suffix == "jsonl":
        path.write_text(json.dumps(dict.fromkeys(names, "a.jpg")))
    else:
        delimiter = "," if suffix == "csv" else "\t"
        path.write_text(delimiter.join(names) + "\n" + delimiter.join(["a.jpg"] * len(names)) + "\n")
    started = time.process_time()
    assert is_manifest(path) or suffix == "jsonl"  # its first row is longer than what is searched for a path
    content = read_manifest(path, tmp_path)
    assert time.process_time() - started < 2
    assert [*content.entries["a.jpg"].columns] == [f"c{n}" for n in range(64)]
    assert content.problems[-1] == f"and {10_000 - 64 - 20} more"


def test_a_list_of_absurd_width_is_refused_with_one_line(tmp_path: Path) -> None:
    names = ["path", *(f"c{n}" for n in range(1_000_000))]
    path = write(tmp_path / "a.csv", ",".join(names) + "\n")
    started = time.process_time()
    with pytest.raises(MediaError, match="more than 20000 columns"):
        read_manifest(path, tmp_path)
    parquet.write_table(pa.table({name: ["a.jpg"] for name in names[:20_001]}), tmp_path / "a.parquet")
    with pytest.raises(MediaError, match="more than 20000 columns"):
        read_manifest(tmp_path / "a.parquet", tmp_path)
    assert time.process_time() - started < 15


def write_bomb(path: Path, kind: str) -> None:
    """Write a parquet file of some kilobytes that unpacks to gigabytes.

    It is plain, or repeats a text of a dictionary, also in lists, or has a list of 20 million nulls.
    """
    if kind == "plain":
        table = pa.table({"path": ["a.jpg"] * 100, "caption": ["x" * 1_000_000] * 100})
        with parquet.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=False) as writer:
            for _ in range(30):
                writer.write_table(table)
        return
    text, count = ("x" * 900_000, 3334) if kind == "dictionary" else ("x" * 100_000, 30_000)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [text])
    if kind == "list":
        column = pa.FixedSizeListArray.from_arrays(column, 30).cast(pa.list_(column.type))
    if kind == "nulls":
        nulls = pa.DictionaryArray.from_arrays(pa.nulls(20_000_000, pa.int32()), [text])
        column = pa.ListArray.from_arrays(pa.array([0, len(nulls)], pa.int32()), nulls)
    table = pa.table({"path": [f"{n}.jpg" for n in range(len(column))], "caption": column})
    parquet.write_table(table, path, compression="zstd", store_schema=False)


READ = """
import resource, sys
from pathlib import Path
from bindsearch.errors import MediaError
from bindsearch.ingest.manifests.manifest import read_manifest
import pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_manifest(Path(sys.argv[1]), Path("/"))
except MediaError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("plain", "3000[0-9]+ bytes uncompressed, the maximum is 1073741824: .* --limit list=N"),
        ("dictionary", "the values of the manifest exceed 1073741824 bytes: .* --limit list=N"),
        ("nulls", "the values of the manifest exceed 1073741824 bytes: .* --limit list=N"),
        ("list", "the values of the manifest exceed 1073741824 bytes: .* --limit list=N"),
    ],
)
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_in_little_memory(
    tmp_path: Path, kind: str, message: str
) -> None:
    path = tmp_path / "a.parquet"
    write_bomb(path, kind)
    assert path.stat().st_size < 250_000
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    line, megabytes = done.stdout.splitlines()
    assert re.search(message, line)
    assert int(megabytes) < 200


def test_limits_of_bytes_and_time_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "path,caption\n" + "a.jpg,a picture\n" * 50)
    with pytest.raises(MediaError, match=r"the manifest has .* bytes, the maximum is 10: .* --limit list=N"):
        read_manifest(path, tmp_path, ListLimits(max_list_bytes=10))
    with pytest.raises(MediaError, match=r"takes more than 1e-09 s: .* --limit list-time=N"):
        read_manifest(path, tmp_path, ListLimits(max_list_time_s=1e-9))
    assert manifest_paths(path, ListLimits(max_list_bytes=1000)) == [str(tmp_path / "a.jpg")]


@pytest.mark.parametrize("line", ["a.jpg,,\n", ",\n", "\n"])
@pytest.mark.parametrize("columns", ["path,caption", "path,n"])
def test_rows_that_are_skipped_count_too(tmp_path: Path, columns: str, line: str) -> None:
    path = write(tmp_path / "a.csv", f"{columns}\n" + line * 300)
    with pytest.raises(MediaError, match=r"more than 200 rows: .* --limit list-rows=N"):
        read_manifest(path, tmp_path, ListLimits(max_list_rows=200))
    with pytest.raises(MediaError, match=r"takes more than 1e-09 s: .* --limit list-time=N"):
        read_manifest(path, tmp_path, ListLimits(max_list_time_s=1e-9))
    assert read_manifest(path, tmp_path, ListLimits(max_list_rows=300)).entries == {}


def test_files_that_are_not_there_share_one_entry(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "path,caption,n\na.jpg,A.,1\nb.jpg,B.,2\na.jpg,C.,3\nc.jpg,C.,x\n")
    everything = read_manifest(path, tmp_path)
    content = read_manifest(path, tmp_path, scanned={"a.jpg"})
    assert content.entries["a.jpg"] == everything.entries["a.jpg"]
    assert [*content.entries] == [*everything.entries]
    assert content.entries["b.jpg"] is content.entries["c.jpg"]
    assert content.entries["b.jpg"].captions == ()


def test_a_csv_that_is_given_up_while_it_is_read_ahead_ends_no_process(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'path,caption\na.jpg,"' + "a.jpg,x\n" * (12 * MIB))
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot read the manifest; a row has more than")
    assert done.stderr == ""


@pytest.mark.parametrize("listed", [False, True])
def test_a_text_that_is_not_utf_8_is_named_by_row_and_column(tmp_path: Path, listed: bool) -> None:
    raw = pa.array([b"good", b"bad \xff"], pa.binary()).view(pa.string())
    column = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), raw) if listed else raw
    parquet.write_table(pa.table({"path": ["a.jpg", "b.jpg"], "caption": column}), tmp_path / "a.parquet")
    with pytest.raises(MediaError, match=r"^row 2, column 'caption' is not UTF-8: save it as UTF-8$"):
        read_manifest(tmp_path / "a.parquet", tmp_path)
    (tmp_path / "a.csv").write_bytes(b"path,caption\na.jpg,good\nb.jpg,bad \xff\n")
    with pytest.raises(MediaError, match=r"^line 3 is not UTF-8: save the manifest as UTF-8$"):
        read_manifest(tmp_path / "a.csv", tmp_path)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "1", "-2", "2.5", "true", "007", "x", "1e400"]), st.integers(0, 2)), max_size=12
    )
)
def test_types_follow_from_all_values_however_the_file_is_split(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("lists") / "a.csv"
    lines = [f"{n}.jpg,{cell}{',' * extra}" for n, (cell, extra) in enumerate(cells)]
    path.write_text("\n".join(["path,value", *lines]) + "\n")
    content = read_manifest(path, path.parent)
    values = [cell for cell, extra in cells if not extra and cell]
    found = [entry.columns["value"] for entry in content.entries.values() if "value" in entry.columns]
    skipped = sum(extra > 0 for _, extra in cells)
    if values and all(re.fullmatch("-?[0-9]+", cell) for cell in values) and "007" not in values:
        assert found == [int(cell) for cell in values]
    elif any(cell in ("x", "007") for cell in values):
        assert found == values
    assert len(content.entries) == len(cells) - skipped
    numbers = [
        int(re.findall("row ([0-9]+)", problem)[0]) for problem in content.problems if "but the header" in problem
    ]
    assert numbers == [row for row, (_, extra) in enumerate(cells, start=2) if extra][:20]
