"""Text tables: preambles, comments, delimiters, decimal commas, units, repeated headers, cut lines, gzip."""

from __future__ import annotations

import gzip
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.imu.tables import column_names, read_table
from bindsearch.ingest.media.imu.text_table import find_structure, read_text_table
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.types import Modality

NAMES = ("time", "acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
VALUES = np.round(np.random.default_rng(1).normal(0, 3, (30, 7)), 4)
VALUES[:, 0] = np.arange(30) * 0.02
PREAMBLES = ("", "sep={d}\n", "# made by a logger\n", "// start 12\n% x\n\n", "Serial Number: 7\nEpoch 0\n", "﻿")


def text(delimiter: str, decimal: str, names: tuple[str, ...] = NAMES, mark: str = "") -> list[str]:
    rows = [delimiter.join(f"{value:.4f}".replace(".", decimal) for value in row) for row in VALUES]
    return [mark + delimiter.join(names), *rows]


def read(path: Path) -> tuple[list[str], np.ndarray, str]:
    table = read_table(path, DecodeOptions())
    return list(table.columns), np.column_stack(list(table.columns.values())), "; ".join(table.notes)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(
        [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", "."), ("  ", "."), (" ", ",")]
    ),
    st.sampled_from(PREAMBLES),
    st.sampled_from(["", "#", "# ", "//", "%"]),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(0, 3),
)
def test_the_same_numbers_in_any_dress(
    tmp_path_factory: pytest.TempPathFactory,
    style: tuple[str, str],
    preamble: str,
    mark: str,
    has_units: bool,
    newline: str,
    comments: int,
) -> None:
    delimiter, decimal = style
    rows = text(delimiter, decimal, mark=mark)
    if has_units:
        rows.insert(1, delimiter.join(["s", *["m/s^2"] * 3, *["rad/s"] * 3]))
    for i in range(comments):
        rows.insert(12 + 5 * i, "# a note")
    content = preamble.format(d=delimiter) if len(delimiter) == 1 else preamble.format(d=" ")
    path = tmp_path_factory.mktemp("dress") / "walk.csv"
    path.write_bytes((content + "\n".join(rows) + "\n").replace("\n", newline).encode())

    names, values, notes = read(path)

    assert [name.split(" ")[0] for name in names] == list(NAMES)
    np.testing.assert_array_equal(values, VALUES)
    assert (f"{comments} line" in notes) == (comments > 0)
    assert has_units == ("units" in notes)
    assert [name.split(" ")[0] for name in column_names(path)] == list(NAMES)


def test_repeated_headers_and_a_cut_line_are_counted(tmp_path: Path) -> None:
    rows = text(",", ".")
    path = tmp_path / "walk.csv"
    path.write_text("\n".join([*rows[:11], rows[0], *rows[11:21], rows[0], *rows[21:], "0.6000,1.5,2."]))

    _, values, notes = read(path)

    np.testing.assert_array_equal(values, VALUES)
    assert "2 repeated headers left out" in notes
    assert "the last line is cut: left out" in notes


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    rows = text(",", ".")
    rows[21] = rows[21].replace(rows[21].split(",")[2], "oops", 1)
    path = tmp_path / "walk.csv"
    path.write_text("\n".join(rows))

    table = read_table(path, DecodeOptions())

    assert table.texts == {"acc_y": (21, "oops")}
    assert np.isnan(table.columns["acc_y"][20])
    assert np.isfinite(np.delete(table.columns["acc_y"], 20)).all()


def test_nanoseconds_stay_whole_beside_a_repeated_header(tmp_path: Path) -> None:
    stamps = [1_700_000_000_000_000_001, 1_700_000_000_020_000_003]
    path = tmp_path / "walk.csv"
    path.write_text(f"time,ax\n{stamps[0]},1\ntime,ax\n{stamps[1]},2\n" + f"{stamps[1] + 5},3\n" * 3)

    assert read_table(path, DecodeOptions()).columns["time"][:2].tolist() == stamps


def test_gzip_is_read_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "walk.csv.gz"
    path.write_bytes(gzip.compress("\n".join(text(",", ".")).encode()))
    bomb = tmp_path / "bomb.csv.gz"
    bomb.write_bytes(gzip.compress(b"1,2,3,4,5,6\n" * 2_000_000))

    assert classify(path, "walk.csv.gz", []).modality is Modality.IMU
    np.testing.assert_array_equal(read(path)[1], VALUES)
    with pytest.raises(MediaError, match="more than 1000000 are not read"):
        read_text_table(bomb, 1_000_000)


def test_damaged_gzip_fails_by_one_line(tmp_path: Path) -> None:
    path = tmp_path / "walk.csv.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00" + b"\xff" * 60)

    with pytest.raises(MediaError, match="damaged gzip data"):
        read_table(path, DecodeOptions())


@pytest.mark.parametrize(
    ("content", "modality", "why"),
    [
        ("A walk along the river, 3 km, then home at 5.\n" * 5, Modality.TEXT, "extension .txt"),
        ("42", Modality.TEXT, "extension .txt"),
        ("0 0.5 0.5 0.2 0.3\n1 0.1 0.9 0.1 0.1\n", None, "numbers, not prose"),
        (" 9.8e-01  1.0e+00  1.1e+00\n" * 8, None, "numbers, not prose"),
        ("t ax ay az gx gy gz\n" + "0.02 1 2 3 4 5 6\n" * 40, Modality.IMU, "accelerometer and gyroscope columns"),
        ("t x y z\n" + "0.02 1 2 3\n" * 40, None, "numbers, not prose"),
    ],
)
def test_numbers_in_a_txt_are_no_prose(tmp_path: Path, content: str, modality: Modality | None, why: str) -> None:
    path = tmp_path / "note.txt"
    path.write_text(content)

    verdict = classify(path, path.name, [])

    assert verdict.modality is modality
    assert why in verdict.why


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(alphabet="0123456789.,;|\t -+eE#/%\"'azX\n", max_size=30), max_size=12))
def test_no_text_breaks_the_search_for_a_structure(texts: list[str]) -> None:
    structure = find_structure("\n".join(texts).split("\n"))

    assert structure is None or structure.width >= 1


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="0123456789.,;|\t -+eE#/%\"'azX\n", max_size=200))
def test_no_text_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text(content)
    with suppress(MediaError):
        table = read_text_table(path, 1 << 20)
        assert len({len(column) for column in table.columns.values()}) <= 1
