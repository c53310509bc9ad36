"""Facts of many files: in a sidecar, else in a list, else by glob in `.bindsearch.toml`."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.inspect.declared import parse_facts
from bindsearch.ingest.inspect.find_file import find_file
from bindsearch.ingest.inspect.folder_settings import FolderFacts, read_folder_settings
from bindsearch.ingest.inspect.globs import glob_matches, globs_below, matching_globs
from bindsearch.ingest.inspect.inspect_file import classify_source, declared_of
from bindsearch.ingest.media.sidecar import Sidecar, is_given, merge_sidecars
from bindsearch.types import Modality
from helpers.media_files import motion
from helpers.stores import connect

AXES = "acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"


def write_motion(path: Path, seed: int = 0, header: str = AXES) -> Path:
    """Write a recording of 6 s at 50 Hz that does not say its rate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = motion(6) * (1 + seed / 10_000)
    path.write_text(header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in samples.tolist()))
    return path


def write_depth(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.arange(2500, dtype=np.uint16) + 500).reshape(50, 50)).save(path)
    return path


def settings(root: Path, text: str) -> None:
    (root / ".bindsearch.toml").write_text(text)


def declared(path: Path, root: Path, modality: Modality) -> Sidecar:
    found = find_file(path, [root])
    return declared_of(found.file, found.options).for_modality(modality)


def test_a_sidecar_counts_before_a_list_and_a_list_before_a_glob(tmp_path: Path) -> None:
    path = write_motion(tmp_path / "walk" / "imu" / "a.csv")
    settings(
        tmp_path,
        '[facts."**/imu/*.csv"]\nsample_rate_hz = 10\nunits = { accelerometer = "g" }\nframe = "ios"\n'
        '[facts."*.csv"]\nsample_rate_hz = 5\nlayout = "phyphox"\nfx = 500\n',
    )
    assert declared(path, tmp_path, Modality.IMU) == Sidecar(
        sample_rate_hz=10.0, units={"accelerometer": "g"}, frame="ios", layout="phyphox"
    )
    (tmp_path / "list.csv").write_text('path,sample_rate_hz,units,place\nwalk/imu/a.csv,20,"m/s^2,deg/s",Rome\n')
    both = declared(path, tmp_path, Modality.IMU)
    assert (both.sample_rate_hz, both.frame, both.columns) == (20, "ios", {"place": "Rome"})
    assert both.units == {"accelerometer": "m/s^2", "gyroscope": "deg/s"}
    (path.parent / "a.csv.json").write_text('{"sample_rate_hz": 30, "units": {"gyroscope": "rad/s"}}')
    all_three = declared(path, tmp_path, Modality.IMU)
    assert (all_three.sample_rate_hz, all_three.layout) == (30, "phyphox")
    assert all_three.units == {"accelerometer": "m/s^2", "gyroscope": "rad/s"}


@pytest.mark.parametrize(
    ("cells", "fields"),
    [
        ({"axes": "a b c d e f"}, {"axes": ("a", "b", "c", "d", "e", "f")}),
        ({"axes": "1, 2;3 4 5 6"}, {"axes": (1, 2, 3, 4, 5, 6)}),
        ({"axes": '["acc x", "b", "c", "d", "e", "f"]'}, {"axes": ("acc x", "b", "c", "d", "e", "f")}),
        ({"units": "g; deg/s"}, {"units": {"accelerometer": "g", "gyroscope": "deg/s"}}),
        ({"units": '{"gyroscope": "deg/s"}'}, {"units": {"gyroscope": "deg/s"}}),
        ({"units": {"accelerometer": "g", "gyroscope": None}}, {"units": {"accelerometer": "g"}}),
        ({"invalid": "0 65535"}, {"invalid": (0.0, 65535.0)}),
        ({"invalid": 65535}, {"invalid": (65535.0,)}),
        ({"invalid": [0, -1]}, {"invalid": (-1.0, 0.0)}),
        ({"depth_unit": "0.001"}, {"depth_unit": "0.001 m"}),
        ({"depth_unit": "mm", "rotate": "90", "fx": "525.5"}, {"depth_unit": "mm", "rotate": 90, "fx": 525.5}),
        ({"sample_rate_hz": "50 ", "time": "t", "frame": "NED"}, {"sample_rate_hz": 50.0, "time": "t", "frame": "ned"}),
    ],
)  # fmt: skip
def test_a_cell_is_a_value_its_json_or_a_short_text(cells: dict[str, object], fields: dict[str, object]) -> None:
    assert parse_facts(cells, "list.csv, row 2") == Sidecar(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"units": "g"}, r"list\.csv, row 2: units is g: expected those of accelerometer and gyroscope"),
        ({"axes": "a b c"}, r"list\.csv, row 2: axes is \['a', 'b', 'c'\]: expected six column names"),
        ({"axes": "[" * 9000}, r"row 2: axes is \[+, which is not valid JSON"),
        ({"fx": "wide"}, r"row 2: fx is wide: expected a number"),
        ({"fx": "nan"}, r"row 2: fx is nan: expected a number above 0"),
        ({"invalid": "0 none"}, r"row 2: invalid is .*: expected a number, or a list of numbers"),
        ({"rotate": 45}, "rotate is 45: expected 0, 90, 180 or 270"),
        ({"frame": 17}, "frame is 17: expected a name"),
        ({"layout": "x" * 20_000}, "layout has 20000 characters"),
    ],
)
def test_a_wrong_cell_names_the_row(cells: dict[str, object], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        parse_facts(cells, "list.csv, row 2")


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_lists_say_how_files_are_read(tmp_path: Path, extension: str) -> None:
    for name in ("a", "b"):
        write_motion(tmp_path / f"{name}.csv", ord(name))
    write_depth(tmp_path / "c.png")
    axes = ["acc_y", "acc_x", "acc_z", "gyro_x", "gyro_y", "gyro_z"]
    rows = [
        {"path": "a.csv", "sample_rate_hz": 50, "axes": axes, "units": {"accelerometer": "g", "gyroscope": "deg/s"}},
        {"path": "b.csv", "sample_rate_hz": 25},
        {"path": "c.png", "depth_unit": "cm", "invalid": [65535, 1], "rotate": 90},
    ]
    path = tmp_path / f"list.{extension}"
    if extension == "parquet":
        parquet.write_table(
            pa.Table.from_pylist([{**dict.fromkeys(k for r in rows for k in r), **row} for row in rows]), path
        )
    elif extension == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(
            "path,sample_rate_hz,axes,units,depth_unit,invalid,rotate\n"
            f"a.csv,50,{' '.join(axes)},g;deg/s,,,\nb.csv,25,,,,,\nc.png,,,,cm,1 65535,90\n"
        )
    assert declared(tmp_path / "a.csv", tmp_path, Modality.IMU) == Sidecar(
        sample_rate_hz=50.0, axes=tuple(axes), units={"accelerometer": "g", "gyroscope": "deg/s"}
    )
    assert declared(tmp_path / "b.csv", tmp_path, Modality.IMU) == Sidecar(sample_rate_hz=25.0)
    assert declared(tmp_path / "c.png", tmp_path, Modality.DEPTH) == Sidecar(
        depth_unit="cm", invalid=(1.0, 65535.0), rotate=90
    )
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(tmp_path).added == 3
        hits = store.search(str(tmp_path / "a.csv"), to="imu")  # the rate of the query is the list's, too
        assert tmp_path / "b.csv" in [hit.path for hit in hits]


def test_a_fact_without_effect_is_an_error_of_its_file(tmp_path: Path) -> None:
    Image.effect_noise((40, 40), 50).save(tmp_path / "a.png")
    write_motion(tmp_path / "b.csv")
    (tmp_path / "a.png.json").write_text('{"sample_rate_hz": 50}')
    (tmp_path / "list.csv").write_text("path,depth_unit,sample_rate_hz\nb.csv,mm,50\n")
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(tmp_path)
        assert {file.path.name: file.reason for file in report.failures} == {
            "a.png": "sidecar a.png.json: sample_rate_hz has no effect on image, it is for imu: remove it, or give the "
            "file's modality by a rule",
            "b.csv": "list.csv, row 2: depth_unit has no effect on imu, it is for depth: remove it, or give the file's "
            "modality by a rule, or rename the column",
        }
        notes = {file.path.name: file.note for file in store.plan_index(tmp_path)}
        assert notes["b.csv"] == f"would fail: {report.failures[1].reason}"
    (tmp_path / "a.png.json").write_text('{"columns": {"fx": 500}}')
    (tmp_path / "list.csv").write_text("path,sample_rate_hz\nb.csv,fast\n")
    with connect(tmp_path / "store") as store:
        assert {file.path.name: file.reason for file in store.index(tmp_path).failures} == {
            "a.png": "sidecar a.png.json: columns has the name 'fx', which has no effect there: "
            "write it beside columns",
            "b.csv": "list.csv, row 2: sample_rate_hz is fast: expected a number",
        }


def test_everyday_names_stay_columns_of_files_that_do_not_use_them(tmp_path: Path) -> None:
    Image.effect_noise((40, 40), 50).save(tmp_path / "a.png")
    write_motion(tmp_path / "b.csv", header="t," + AXES.removeprefix("acc_x,") + ",acc_x")
    (tmp_path / "list.csv").write_text("path,time,frame,sample_rate_hz\na.png,10:30,first,\nb.csv,t,ned,50\n")
    assert declared(tmp_path / "a.png", tmp_path, Modality.IMAGE).columns == {"time": "10:30", "frame": "first"}
    both = declared(tmp_path / "b.csv", tmp_path, Modality.IMU)
    assert (both.time, both.frame, both.columns) == ("t", "ned", {})


def test_changed_facts_are_applied_at_the_next_run(tmp_path: Path) -> None:
    root = tmp_path / "media"
    for name in ("imu/a.csv", "imu/b.csv", "other/c.csv"):
        write_motion(root / name, ord(name[-5]))
    with zipfile.ZipFile(root / "z.zip", "w") as archive:
        archive.write(write_motion(tmp_path / "d.csv", 7), "imu/d.csv")
        archive.write(write_motion(tmp_path / "e.csv", 8), "e.csv")
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(root).failed == 5  # no rate
        settings(root, '[facts."**/imu/*.csv"]\nsample_rate_hz = 50\n')
        report = store.index(root)
        assert (report.added, report.failed) == (3, 2)
        assert store.index(root).unchanged == 3
        settings(root, '[facts."**/imu/*.csv"]\nsample_rate_hz = 25\n')
        assert store.index(root).changed == 3
        assert store.index(root).unchanged == 3
        (root / "list.csv").write_text("path,sample_rate_hz\nz.zip/e.csv,50\nother/c.csv,50\n")
        report = store.index(root)
        assert (report.added, report.unchanged, report.failed) == (2, 3, 0)
        settings(root, "")
        report = store.index(root)
        assert (report.failed, sum(store.status().items.values())) == (3, 2)


def test_a_glob_that_gives_no_file_a_fact_is_told(tmp_path: Path) -> None:
    write_motion(tmp_path / "imu" / "a.csv")
    settings(
        tmp_path, '[facts."**"]\nsample_rate_hz = 50\nfx = 500\n[facts."*.png"]\nfx = 1\n[facts."imu/*"]\nfx = 1\n'
    )
    with connect(tmp_path / "store", encoder="null") as store:
        notices = store.index(tmp_path).notices
        found = [
            match[1] for notice in notices if (match := re.search(r"\[facts\.'(.*)'\] applies to no file", notice))
        ]
        assert found == ["*.png", "imu/*"]
        write_depth(tmp_path / "depth" / "a.png")
        assert [notice for notice in store.index(tmp_path).notices if "*.png" in notice] == []


def test_facts_can_make_a_table_a_motion_recording(tmp_path: Path) -> None:
    path = write_motion(tmp_path / "run.csv", header="a,b,c,p,q,r")
    assert classify_source(*_source(path, tmp_path)).modality is None
    settings(tmp_path, '[facts."*.csv"]\naxes = ["a", "b", "c", "p", "q", "r"]\nsample_rate_hz = 50\n')
    assert classify_source(*_source(path, tmp_path)).modality is Modality.IMU
    assert classify_source(*_source(path)).modality is Modality.IMU  # a file of no collection
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(tmp_path).added == 1


def _source(path: Path, *roots: Path):  # type: ignore[no-untyped-def]
    found = find_file(path, roots)
    return found.file, found.options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fact]\n", "unknown key 'fact': did you mean 'facts'"),
        ("facts = 3\n", r"\[facts\] is not a table of tables"),
        ("[facts]\nfx = 500\n", r"\[facts\] is not a table of tables"),
        ('[facts."*.png"]\nfxx = 500\n', r"\[facts.'\*.png'\]: unknown key 'fxx': did you mean 'fx'\?"),
        ('[facts."*.png"]\ncaption = "x"\n', "unknown key 'caption'"),
        ('[facts."*.png"]\nfx = "wide"\n', "fx is wide: expected a number"),
        ('[facts."*.png"]\nfx = 2024-05-01\n', "fx is .*: expected a number"),
        ('[facts."*.png"]\nfx = inf\n', "expected a number above 0"),
        ('[facts."/a.png"]\nfx = 5\n', "is absolute"),
        ('[facts."*.png"]\n', "is empty: give a"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, text: str, message: str) -> None:
    settings(tmp_path, text)
    with pytest.raises(UsageError, match=message) as raised:
        read_folder_settings(tmp_path)
    assert str(tmp_path / ".bindsearch.toml") in str(raised.value)
    assert "\n" not in str(raised.value)


GLOBS = st.text("ab/*?", min_size=1, max_size=6).filter(lambda glob: not glob.startswith("/"))


@given(st.lists(GLOBS, min_size=1, max_size=5), st.text("ab/", min_size=1, max_size=6), st.text("ab/", max_size=4))
def test_several_globs_match_as_one_by_one(globs: list[str], folder: str, name: str) -> None:
    path = f"{folder}/{name}b"
    matching = matching_globs(tuple(globs), path)
    assert [bool(matching >> i & 1) for i in range(len(globs))] == [glob_matches(glob, path) for glob in globs]
    assert matching & ~globs_below(tuple(globs), folder) == 0


def test_globs_that_cannot_match_below_a_folder_are_excluded() -> None:
    globs = ("**/imu/*.csv", "a.zip/*.csv", "b.zip/**", "*.png", "a.zip", "a.zip/")
    assert globs_below(globs, "a.zip") == 0b011011


VALUES: dict[str, list[object]] = {
    "fx": [None, 1.0, 2.0],
    "rotate": [None, 0, 90],
    "invalid": [(), (0.0,)],
    "units": [{}, {"gyroscope": "deg/s"}],
}
SIDECARS = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()})


@given(st.lists(SIDECARS, max_size=4))
def test_the_first_value_of_each_key_counts(fields: list[dict[str, object]]) -> None:
    sidecars = [Sidecar(**values) for values in fields]  # type: ignore[arg-type]
    merged = merge_sidecars(*sidecars)
    for name in VALUES:
        given_values = [getattr(sidecar, name) for sidecar in sidecars if is_given(sidecar, name)]
        assert getattr(merged, name) == (given_values[0] if given_values else getattr(Sidecar(), name))


def test_the_first_glob_that_has_a_key_decides_it() -> None:
    facts = FolderFacts(("a*.png", "*.png"), (Sidecar(fx=1.0), Sidecar(fx=2.0, rotate=90)))
    facts = pickle.loads(pickle.dumps(facts))  # as workers get it
    assert facts.at("x/ab.png") == Sidecar(fx=1.0, rotate=90)
    assert facts.at("x/b.png") == Sidecar(fx=2.0, rotate=90)
    assert facts.at("x/b.jpg") == Sidecar()
    assert facts.stamp("x/b.jpg") == 0
    assert len({facts.stamp(name) for name in ("ab.png", "b.png", "c.jpg")}) == 3
