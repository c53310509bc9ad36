from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import pytest

from bindsearch.errors import MediaError
from bindsearch.ingest.media.sidecar import (
    MAX_SIDECAR_BYTES,
    Sidecar,
    decode_facts,
    merge_sidecars,
    parse_columns,
)
from bindsearch.ingest.media.sidecar_file import parse_sidecar, read_sidecar, sidecar_path
from bindsearch.storage.snapshot import open_snapshot, read_manifest
from bindsearch.types import FACT_COLUMNS, METADATA_COLUMNS, Metadata
from helpers.stores import connect


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
        captions=("A hall.",),
        columns={"rating": 4},
    )


def test_how_recordings_and_pictures_are_read() -> None:
    facts = {"layout": "Phyphox", "time": 0, "frame": "iOS", "invalid": [65535, 0, 65535], "rotate": 0}
    sidecar = parse_sidecar(json.dumps({**facts, "temperature_unit": "kelvin/100", "palette": "iron"}).encode())
    assert sidecar == Sidecar(
        layout="phyphox",
        time=0,
        frame="ios",
        invalid=(0.0, 65535.0),
        rotate=0,
        temperature_unit="kelvin/100",
        palette="iron",
    )
    assert json.loads(decode_facts(sidecar))["rotate"] == 0
    assert parse_sidecar(b'{"rotate": 90}').rotate == 90
    assert parse_sidecar(b'{"time": "2024-05-01", "frame": 7, "id": 3}').time is None  # another program's


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rotate": 45}', "rotate is 45: expected 0, 90, 180 or 270 degrees, clockwise"),
        ('{"rotate": true}', "rotate is True: expected"),
        ('{"frame": "mars"}', "frame is mars: expected one of android, enu, ios, ned"),
        ('{"invalid": ["x"]}', "invalid is .* expected a number, or a list of numbers"),
        ('{"invalid": [NaN]}', "invalid is .* expected a number"),
        ('{"time": -1}', "time is -1: expected a column name, or its number from 0"),
        ('{"layout": ""}', "layout is '': expected a name"),
    ],
)
def test_wrong_facts_about_reading_are_refused(text: str, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        parse_sidecar(text.encode())


def test_columns_hold_scalars_under_names_in_lower_case() -> None:
    facts = {"Lens": "X100", "rating": 4, "_score2": 0.5, "indoor": True, "none": None, "big": 10**30}
    found = parse_sidecar(json.dumps({"columns": facts}).encode()).columns
    assert found == {"lens": "X100", "rating": 4, "_score2": 0.5, "indoor": True, "none": None, "big": 1e30}
    assert type(found["indoor"]) is bool
    assert type(found["big"]) is float
    assert parse_sidecar(b'{"columns": {"half": "a\\ud800"}}').columns == {"half": "a?"}
    assert parse_sidecar(b'{"columns": {}}') == parse_sidecar(b'{"columns": null}') == Sidecar()
    assert len(parse_sidecar(json.dumps({"columns": {f"c{n}": n for n in range(64)}}).encode()).columns) == 64


def test_columns_of_metadata_are_kept_apart() -> None:
    facts = {
        "Taken": "2024-06-01T14:30:00+02:00", "latitude": -33.5, "longitude": 180, "camera": "  Leica\nM6 ",
        "title": "a\u0000b \ud800", "artist": "", "length_s": 0, "width_px": 640.0, "height_px": None, "rating": 4,
    }  # fmt: skip
    found = parse_sidecar(json.dumps({"columns": facts}).encode())
    assert found.columns == {"rating": 4}
    assert found.metadata == Metadata(
        taken=datetime(2024, 6, 1, 12, 30),
        latitude=-33.5,
        longitude=180.0,
        camera="Leica M6",
        title="a b ?",
        length_s=0.0,
        width_px=640,
    )
    assert type(found.metadata.width_px) is int


def test_every_column_of_metadata_takes_a_value_of_its_type() -> None:
    samples = {"timestamp[us]": "2024-06-01", "float64": 1.5, "large_string": "4711", "int64": 7}
    values = {name: samples[kind] for name, kind in METADATA_COLUMNS.items()}
    columns, metadata = parse_columns(values)
    assert columns == dict.fromkeys(FACT_COLUMNS, 1.5)
    assert asdict(metadata) == {**values, "taken": datetime(2024, 6, 1), **dict.fromkeys(FACT_COLUMNS)}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-06-01", datetime(2024, 6, 1)),
        ("2024-06-01 12:30", datetime(2024, 6, 1, 12, 30)),
        ("20240601T123000.25Z", datetime(2024, 6, 1, 12, 30, 0, 250_000)),
        ("2024-06-01T00:30-02:00", datetime(2024, 6, 1, 2, 30)),
    ],
)
def test_the_time_taken_is_utc_where_it_names_a_zone(text: str, moment: datetime) -> None:
    assert parse_columns({"taken": text}) == ({}, Metadata(taken=moment))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("taken", "last summer", "column taken is last summer: expected a time such as 2024-05-01T12:30:00"),
        ("Taken", 2024, "column taken is 2024: expected a time"),
        ("taken", "0001-01-01T00:00+02:00", "expected a time"),
        ("latitude", 90.5, "column latitude is 90.5: expected degrees from -90 to 90"),
        ("longitude", "2.3 E", "column longitude is 2.3 E: expected degrees from -180 to 180"),
        ("longitude", True, "column longitude is True: expected degrees"),
        ("latitude", float("nan"), "column latitude is nan: expected degrees"),
        ("camera", 100, "column camera is 100: expected a string"),
        ("title", ["a"], r"column title is \['a'\]: expected a string"),
        ("length_s", -1, "column length_s is -1: expected seconds, 0 or more"),
        ("length_s", 10**400, "column length_s is a huge number: expected seconds"),
        ("width_px", 0, "column width_px is 0: expected an integer number of pixels above 0"),
        ("height_px", 2.5, "column height_px is 2.5: expected an integer number of pixels"),
        ("height_px", 2**63, "expected an integer number of pixels"),
        ("Rate_Hz", "fast", "column rate_hz is fast: expected a finite number"),
        ("depth_median_m", float("inf"), "column depth_median_m is inf: expected a finite number"),
    ],
)
def test_metadata_of_the_wrong_kind_is_refused(name: str, value: object, expected: str) -> None:
    with pytest.raises(MediaError, match=expected):
        parse_columns({name: value})


def test_metadata_counts_among_the_columns() -> None:
    with pytest.raises(MediaError, match="columns has the name 'camera' twice"):
        parse_columns({"Camera": None, "camera": "X100"})
    with pytest.raises(MediaError, match="has 65 names"):
        parse_columns({"camera": "X100"} | {f"c{n}": n for n in range(64)})
    with pytest.raises(MediaError, match="unknown key 'metadata'"):
        parse_sidecar(b'{"metadata": {}, "fx": 1}')


def test_only_facts_that_decide_what_is_embedded_are_decode_facts() -> None:
    assert decode_facts(Sidecar()) == decode_facts(parse_sidecar(b'{"columns": {"camera": "X100", "a": 1}}')) == ""
    several = parse_sidecar(b'{"units": {"gyroscope": "deg/s", "accelerometer": "g"}, "fx": 500}')
    assert decode_facts(several) == '{"fx": 500.0, "units": {"accelerometer": "g", "gyroscope": "deg/s"}}'
    again = parse_sidecar(b'{"fx": 500, "units": {"accelerometer": "g", "gyroscope": "deg/s"}, "columns": {"b": 2}}')
    assert decode_facts(again) == decode_facts(several)
    facts = [{"fx": 1}, {"baseline_m": 1}, {"depth_unit": "mm"}, {"sample_rate_hz": 1}, {"axes": [*range(6)]},
             {"axes": list("012345")}, {"units": {"gyroscope": "deg/s"}}, {"caption": "a \ud800"}]  # fmt: skip
    assert len({decode_facts(parse_sidecar(json.dumps(fact).encode())) for fact in facts}) == len(facts)


def test_a_sidecar_counts_before_a_list() -> None:
    own = parse_sidecar(b'{"fx": 5, "caption": "mine", "columns": {"a": 1, "camera": "X100"}}')
    listed = Metadata(camera="X200", title="theirs")
    both = merge_sidecars(own, Sidecar(captions=("theirs",), columns={"a": 2, "b": 3}, metadata=listed))
    assert both == Sidecar(
        fx=5.0, captions=("mine",), columns={"a": 1, "b": 3}, metadata=Metadata(camera="X100", title="theirs")
    )
    assert merge_sidecars(Sidecar(), Sidecar(captions=("theirs",), metadata=listed)) == Sidecar(
        captions=("theirs",), metadata=listed
    )
    assert merge_sidecars(own, Sidecar()) == merge_sidecars(own) == own


def test_null_is_absent_and_a_blank_caption_none() -> None:
    assert parse_sidecar(b'{"fx": null, "axes": null, "caption": "  "}') == Sidecar()


def test_a_number_of_metres_is_a_unit() -> None:
    assert parse_sidecar(b'{"depth_unit": 0.0002}').depth_unit == "0.0002 m"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"fx": 1', "no JSON object"),
        (b'\xff {"depth_unit": "mm"}', "no JSON object"),
        (b'{"axes": ' + b"[" * 100_000, "no JSON object"),
        (b'{"focal": 1, "fx": 2}', "unknown key 'focal': expected depth_unit, fx"),
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
        (b'{"axes": [1, 1, 1, 1, 1, 1]}', "without repetition"),
        (b'{"units": "g"}', "units is g: expected"),
        (b'{"units": {"accelerometer": 1}}', "units is"),
        (b'{"caption": 3}', "caption is 3: expected a string"),
        (b'{"columns": [1]}', r"columns is \[1\]: expected an object such as"),
        (b'{"columns": {"a b": 1}}', "columns has the name 'a b': expected a letter or _"),
        (b'{"columns": {"": 1}}', "columns has the name .*: expected a letter"),
        (b'{"columns": {"\xc3\xa4": 1}}', "columns has the name '\xe4': expected a letter"),
        (b'{"columns": {"' + b"x" * 65 + b'": 1}}', "at most 64 in total"),
        (b'{"columns": {"Path": 1}}', "columns has the name 'Path', which is reserved: choose another"),
        (b'{"columns": {"a": 1, "A": 2}}', "columns has the name 'A' twice: names are case-insensitive"),
        (b'{"columns": {"a": [1]}}', r"column a is \[1\]: expected a string, a number, true, false or null"),
        (b'{"columns": {"a": NaN}}', "column a is nan: expected a finite number"),
        (b'{"columns": {"a": 1' + b"0" * 400 + b"}}", "column a is a huge number: expected a finite number"),
        (
            json.dumps({"columns": {f"c{n}": n for n in range(65)}}).encode(),
            "columns has 65 names: expected at most 64",
        ),
        (b'{"fx": ' + b"1" * 4400 + b"}", "no JSON object"),
    ],
)
def test_what_is_wrong_is_named_on_one_short_line(raw: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        parse_sidecar(raw)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_message_names_the_sidecar(tmp_path: Path) -> None:
    (tmp_path / "a.png.json").write_text('{"fx": 1}]')
    with pytest.raises(MediaError, match=r"sidecar a\.png\.json: no JSON object"):
        read_sidecar(tmp_path / "a.png")


def test_a_huge_or_unreadable_one_fails(tmp_path: Path) -> None:
    (tmp_path / "a.png.json").write_bytes(b'{"fx": 1' + b" " * MAX_SIDECAR_BYTES + b"}")
    with pytest.raises(MediaError, match="larger than"):
        read_sidecar(tmp_path / "a.png")
    (tmp_path / "b.png.json").symlink_to(tmp_path / "b.png.json")
    with pytest.raises(MediaError, match=r"cannot read sidecar b\.png\.json: Too many levels"):
        read_sidecar(tmp_path / "b.png")


def test_columns_are_indexed_with_the_file_and_follow_its_sidecar(tmp_path: Path) -> None:
    folder, store = tmp_path / "media", tmp_path / "store"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(f"some words of {name}")
    (folder / "a.txt.json").write_text('{"columns": {"Lens": "X100", "rating": 4}}')
    assert indexed_columns(store, folder) == ['{"lens": "X100", "rating": 4}', None]
    (folder / "a.txt.json").write_text('{"columns": {"Lens": "X100", "rating": 5, "note": "new \u00e4"}}')
    assert indexed_columns(store, folder) == ['{"lens": "X100", "rating": 5, "note": "new \u00e4"}', None]


def indexed_columns(store: Path, folder: Path) -> list[str | None]:
    with connect(store, encoder="null") as opened:
        opened.index(folder)
    manifest = read_manifest(store)
    assert manifest is not None
    items = open_snapshot(store, manifest).live_tables()[0].select(["rel_path", "columns"]).to_pylist()
    return [item["columns"] for item in sorted(items, key=lambda item: item["rel_path"])]
