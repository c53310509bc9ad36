from __future__ import annotations

import json
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.errors import MediaError
from bindsearch.ingest.sidecar import MAX_SIDECAR_BYTES, Sidecar, parse_sidecar, read_sidecar, sidecar_path
from bindsearch.snapshot import open_snapshot, read_manifest


def test_there_need_not_be_one(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path / "a.png") == Sidecar()


def test_it_lies_next_to_the_file_under_its_full_name(tmp_path: Path) -> None:
    assert sidecar_path(Path("x/a.tar.PNG")) == Path("x/a.tar.PNG.json")
    (tmp_path / "a.png.json").write_text('{"fx": 519}')
    assert read_sidecar(tmp_path / "a.png").fx == 519


def test_every_key_is_read() -> None:
    facts = {
        "fx": 500, "baseline_m": 0.1, "depth_unit": "cm", "sample_rate_hz": 50.5, "axes": list("abcdef"),
        "units": {"accelerometer": "g", "gyroscope": "deg/s"}, "caption": "A hall.", "columns": {"rating": 4},
    }  # fmt: skip
    sidecar = parse_sidecar(json.dumps(facts).encode())
    assert sidecar == Sidecar(
        500.0,
        0.1,
        "cm",
        50.5,
        ("a", "b", "c", "d", "e", "f"),
        {"accelerometer": "g", "gyroscope": "deg/s"},
        "A hall.",
        {"rating": 4},
    )


def test_columns_hold_scalars_under_names_in_lower_case() -> None:
    facts = {"Camera": "X100", "rating": 4, "_score2": 0.5, "indoor": True, "none": None, "big": 10**30}
    found = parse_sidecar(json.dumps({"columns": facts}).encode()).columns
    assert found == {"camera": "X100", "rating": 4, "_score2": 0.5, "indoor": True, "none": None, "big": 1e30}
    assert type(found["indoor"]) is bool
    assert type(found["big"]) is float
    assert parse_sidecar(b'{"columns": {"half": "a\\ud800"}}').columns == {"half": "a?"}
    assert parse_sidecar(b'{"columns": {}}') == parse_sidecar(b'{"columns": null}') == Sidecar()
    assert len(parse_sidecar(json.dumps({"columns": {f"c{n}": n for n in range(64)}}).encode()).columns) == 64


def test_null_is_absent_and_a_blank_caption_none() -> None:
    assert parse_sidecar(b'{"fx": null, "axes": null, "caption": "  "}') == Sidecar()


def test_a_number_of_metres_is_a_unit() -> None:
    assert parse_sidecar(b'{"depth_unit": 0.0002}').depth_unit == "0.0002 m"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "expected an object, found list"),
        (b'{"focal": 1, "fx": 2}', "unknown key 'focal': expected fx, baseline_m"),
        (b'{"fx": "wide"}', "fx is wide: expected a number"),
        (b'{"fx": true}', "fx is True: expected a number"),
        (b'{"fx": 0}', "fx is 0: expected a number above 0"),
        (b'{"fx": NaN}', "fx is nan: expected a number above 0"),
        (b'{"fx": 1e999}', "fx is inf"),
        (b'{"fx": 1' + b"0" * 400 + b"}", "fx is a huge number"),
        (b'{"baseline_m": -1}', "baseline_m is -1"),
        (b'{"sample_rate_hz": [50]}', r"sample_rate_hz is \[50\]: expected a number"),
        (b'{"depth_unit": {}}', "depth_unit is"),
        (b'{"axes": ["x"]}', "axes is .*expected six column names"),
        (b'{"axes": [1, 2, 3, 4, 5, "f"]}', "axes is"),
        (b'{"axes": [1, 1, 1, 1, 1, 1]}', "each once"),
        (b'{"units": "g"}', "units is g: expected"),
        (b'{"units": {"accelerometer": 1}}', "units is"),
        (b'{"caption": 3}', "caption is 3: expected a text"),
        (b'{"columns": [1]}', r"columns is \[1\]: expected an object such as"),
        (b'{"columns": {"a b": 1}}', "columns has the name 'a b': expected a letter or _"),
        (b'{"columns": {"": 1}}', "columns has the name .*: expected a letter"),
        (b'{"columns": {"\xc3\xa4": 1}}', "columns has the name '\xe4': expected a letter"),
        (b'{"columns": {"' + b"x" * 65 + b'": 1}}', "at most 64 in all"),
        (b'{"columns": {"Path": 1}}', "columns has the name 'Path', which every item has already: choose another"),
        (b'{"columns": {"a": 1, "A": 2}}', "columns has the name 'A' twice: case makes no difference"),
        (b'{"columns": {"a": [1]}}', r"column a is \[1\]: expected a text, a number, true, false or null"),
        (b'{"columns": {"a": NaN}}', "column a is nan: expected a finite number"),
        (b'{"columns": {"a": 1' + b"0" * 400 + b"}}", "column a is a huge number: expected a finite number"),
        (
            json.dumps({"columns": {f"c{n}": n for n in range(65)}}).encode(),
            "columns holds 65 names: expected at most 64",
        ),
        (b'{"caption": ' + b"1" * 4400 + b"}", "not JSON"),
    ],
)
def test_what_is_wrong_is_named_on_one_short_line(raw: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        parse_sidecar(raw)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_message_names_the_sidecar(tmp_path: Path) -> None:
    (tmp_path / "a.png.json").write_text("{}]")
    with pytest.raises(MediaError, match=r"sidecar a\.png\.json: not JSON"):
        read_sidecar(tmp_path / "a.png")


def test_a_huge_or_unreadable_one_fails(tmp_path: Path) -> None:
    (tmp_path / "a.png.json").write_bytes(b" " * (MAX_SIDECAR_BYTES + 1))
    with pytest.raises(MediaError, match="larger than"):
        read_sidecar(tmp_path / "a.png")
    (tmp_path / "b.png.json").mkdir()
    with pytest.raises(MediaError, match="cannot be read: Is a directory"):
        read_sidecar(tmp_path / "b.png")


def test_another_programs_json_is_no_sidecar() -> None:
    assert parse_sidecar(b'{"title": "IMG_1.jpg", "description": "my dog", "creationTime": {}}') == Sidecar()


def test_columns_are_indexed_with_the_file_and_follow_its_sidecar(tmp_path: Path) -> None:
    folder, store = tmp_path / "media", tmp_path / "store"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(f"some words of {name}")
    (folder / "a.txt.json").write_text('{"columns": {"Camera": "X100", "rating": 4}}')
    assert indexed_columns(store, folder) == ['{"camera": "X100", "rating": 4}', None]
    (folder / "a.txt.json").write_text('{"columns": {"Camera": "X100", "rating": 5, "note": "new \u00e4"}}')
    assert indexed_columns(store, folder) == ['{"camera": "X100", "rating": 5, "note": "new \u00e4"}', None]


def indexed_columns(store: Path, folder: Path) -> list[str | None]:
    with bs.connect(store, encoder="null") as opened:
        opened.index(folder)
    manifest = read_manifest(store)
    assert manifest is not None
    items = open_snapshot(store, manifest).living()[0].select(["rel_path", "columns"]).to_pylist()
    return [item["columns"] for item in sorted(items, key=lambda item: item["rel_path"])]
