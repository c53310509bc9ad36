"""docs/sensors.md: its tables have every layout, unit, palette and key of the code, and its examples run as printed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bindsearch.ingest.inspect.classify import PARTS
from bindsearch.ingest.media.imu.clock import _FASTEST_HZ, _SLOWEST_HZ
from bindsearch.ingest.media.imu.layouts import LAYOUTS, _matches
from bindsearch.ingest.media.imu.presets import PRESETS
from bindsearch.ingest.media.imu.units import _GRAVITY, ACCELERATION, FASTEST_RAD_S, ROTATION
from bindsearch.ingest.media.pictures.depth import FARTHEST_M, LARGEST_MEDIAN_M, LEAST_MEDIAN_M
from bindsearch.ingest.media.pictures.depth_map.units import (
    _RELATIVE,
    BASELINE_M,
    DATA_SETS,
    FOCAL_LENGTH_SHARE,
    parse_unit,
)
from bindsearch.ingest.media.pictures.palettes import palette_names
from bindsearch.ingest.media.pictures.temperatures import _COLDEST_C, _HOTTEST_C, _SCALES, _USUAL_MEDIAN_C
from bindsearch.ingest.media.sidecar import FACT_NAMES, FACTS, FRAMES
from bindsearch.types import FACT_COLUMNS, Modality
from helpers.command import run_command
from helpers.pages import become_user, run_page

PAGE = (Path(__file__).parents[2] / "docs" / "sensors.md").read_text(encoding="utf-8")
G = 9.80665


def section(title: str) -> str:
    """Return the text below a heading, up to the next one of any level."""
    return re.split(r"\n#+ ", PAGE.split(f"# {title}\n", 1)[1])[0]


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def first_cells(text: str) -> list[str]:
    """Return the names in the first cells of tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def files() -> Mapping[str, str]:
    """Return the files that the page shows, by the path in the line above each."""
    return dict(re.findall(r"`(media/[^`\n]+)`[^`\n]*:\n\n```(?:json|csv|toml)\n(.*?)```", PAGE, re.DOTALL))


def test_the_table_of_layouts_is_complete_and_in_their_order() -> None:
    assert first_cells(section("Layouts")) == [*LAYOUTS, "gpmf"]


def test_the_headers_in_the_table_of_layouts_are_those_of_the_code() -> None:
    """The row of a layout of one table names its accelerometer and its gyroscope; some rows have shortened names."""
    lines = [line for line in section("Layouts").splitlines() if line.startswith("| `")]
    rows = {first_cells(line)[0]: quoted(line) for line in lines}
    rows["xsens-mt"] = rows["movella-dot"]
    for preset in PRESETS:
        if preset.name not in ("shimmer", "pamap2", "arduino"):
            for patterns in ([pattern for terms in preset.accelerometer for pattern in terms], preset.gyroscope):
                found = [name for name in rows[preset.name] for one in patterns if _matches(one.format("x"), name)]
                assert found, preset.name


def test_the_tables_of_keys_units_and_frames_are_complete() -> None:
    table = section("Saying how files are read")
    assert set(first_cells(table)) == set(FACT_NAMES) - {*FACTS[Modality.TEXT]}  # those are in docs/formats.md
    for line in filter(lambda line: line.startswith("| `"), table.splitlines()):
        _, keys, modalities, *_ = line.split("|")
        for key in quoted(keys):
            names = {{"imu": "motion"}.get(name, str(name)) for name, known in FACTS.items() if key in known}
            assert set(modalities.strip().split(", ")) == names, key
    assert set(first_cells(section("Axes"))) == set(FRAMES)
    assert set(_SCALES) <= quoted(table)
    assert set(ACCELERATION) | set(ROTATION) <= quoted(section("Units and gravity"))


def test_the_table_of_depth_units_is_complete() -> None:
    text = section("Depth")
    rows = [line for line in text.split("| unit | meaning |")[1].splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in quoted(row.split("|")[1])} == set(DATA_SETS)
    lengths = text.split("Units of `depth_unit`:")[1].split(";")[0]
    assert {parse_unit(name).step for name in quoted(lengths)} == {1.0, 0.1, 0.01, 0.001, 1e-6, 0.3048, 0.0254}
    assert quoted(text) >= {*_RELATIVE - {"disparities", "inv"}}


def test_the_palettes_are_complete() -> None:
    text = section("Thermal").split("Palettes:")[1]
    assert set(palette_names()) <= quoted(text)


def test_words_of_paths_are_those_of_the_code() -> None:
    for modality, title, sentence in (
        (Modality.DEPTH, "Depth", r"a path with (.*?);"),
        (Modality.THERMAL, "Thermal", r"a word in the path \((.*?), a folder"),
        (Modality.IMAGE, "Thermal", r"or a rule\. (.*?) after it"),
        (Modality.IMU, "Motion", r"by a word in the path: (.*?)\."),
    ):
        found = re.search(sentence, section(title), re.DOTALL)
        assert found is not None
        assert {PARTS[word] for word in quoted(found[1])} == {modality}


def test_thresholds_are_those_of_the_code() -> None:
    units, time, depth, thermal = (section(title) for title in ("Units and gravity", "Time", "Depth", "Thermal"))
    for unit, (low, high) in _GRAVITY.items():
        assert re.search(rf"{low:g} to {high:g}\b.*`{re.escape(unit)}`", units)
    assert f"above {FASTEST_RAD_S:g} (2000 deg/s" in units
    assert f"above {FASTEST_RAD_S / 3:.1f}" in units
    assert f"{_SLOWEST_HZ:g} Hz to {_FASTEST_HZ / 1000:g} kHz" in time
    assert f"below {LEAST_MEDIAN_M} m or above {LARGEST_MEDIAN_M:g} m" in depth
    assert f"more than {FARTHEST_M:g} m" in depth
    assert f"{FOCAL_LENGTH_SHARE} x the longer side" in depth
    assert f"{BASELINE_M} m (a Kinect's)" in depth
    for name in ("kitti-disparity", "cityscapes"):
        camera = DATA_SETS[name].camera
        assert camera is not None
        assert f"fx {camera.fx_share:.3f} x width, baseline {camera.baseline_m:.4f} m" in depth
    coldest, hottest = _USUAL_MEDIAN_C
    usual = f"(median {coldest:g} to {hottest:g} °C, all but a hundredth between\n{_COLDEST_C:g} and {_HOTTEST_C:g})"
    assert usual in thermal


def test_the_columns_are_those_of_the_code() -> None:
    assert set(FACT_COLUMNS) <= quoted(section("Measured values as filters"))


def walk(count: int = 600) -> NDArray[np.float64]:
    """Return someone walking with a phone at 50 Hz, float64 (n, 6), in m/s^2 and rad/s."""
    phase = 2 * np.pi * 1.8 * np.arange(count)[:, None] / 50 + (0, 1, 2, 3, 4, 5)
    return np.sin(phase) * (1.5, 2, 1, 1.1, 0.9, 1.4) + (6.6, 5.5, 4.8, 0, 0, 0)


def write_table(path: Path, names: Sequence[str], values: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *values.tolist()])


def write_motion(media: Path) -> None:
    samples, seconds = walk(), np.arange(600)[:, None] / 50
    axes = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
    degrees = samples / np.repeat((G, np.pi / 180), 3)
    write_table(media / "walk.csv", ("time_s", *axes), np.hstack([seconds, degrees]))
    write_table(media / "imu" / "belt.csv", ("time_s", *axes), np.hstack([seconds, degrees]))
    turned = samples[:, [1, 0, 2, 4, 3, 5]] * (1, -1, 1, 1, -1, 1)  # so that (-a2, a1, a3) is the walk
    counts = np.round(turned / np.repeat((G / 16384, np.pi / 180 / 131), 3))
    write_table(media / "board.csv", ("ms", "a1", "a2", "a3", "g1", "g2", "g3"), np.hstack([seconds * 1000, counts]))
    down, stamps = np.tile([6.6, 5.5, 4.8], (600, 1)), 1.7e18 + seconds * 1e9
    for name, values in (("Accelerometer", down - samples[:, :3]), ("Gravity", -down), ("Gyroscope", samples[:, 3:])):
        write_table(
            media / "phone" / f"{name}.csv", ("time", "seconds_elapsed", "x", "y", "z"),
            np.hstack([stamps, seconds, values]),
        )  # fmt: skip


def write_pictures(media: Path) -> None:
    for folder in ("depth", "thermal", "scans"):
        (media / folder).mkdir()
    y, x = np.mgrid[:60, :80]
    metres = 1.5 + 0.01 * x + 0.2 * (y > 30)
    stereo = np.round(70 * 0.12 / metres / 0.25 * 1).astype(np.uint16)
    stereo[:5], stereo[5:10] = 65535, 0
    Image.fromarray(stereo).save(media / "depth" / "stereo.png")
    Image.fromarray(np.round(metres / 0.0002).astype(np.uint16)).save(media / "depth" / "phone.png")
    Image.fromarray(np.round(metres * 1000).astype(np.uint16)).save(media / "depth" / "room.png")
    kelvin = 293.15 + 0.2 * x + 0.1 * y
    raw = np.round(kelvin * 25).astype(np.uint16)
    raw[:3] = 0
    Image.fromarray(raw).save(media / "thermal" / "wall.tif")
    Image.fromarray(np.round(kelvin * 100).astype(np.uint16)).save(media / "scans" / "window.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the media of the page, and the sidecar, list and settings as printed."""
    folder = tmp_path_factory.mktemp("sensors")
    write_motion(folder / "media")
    write_pictures(folder / "media")
    assert {Path(name).name for name in files()} == {"board.csv.json", "list.csv", ".bindsearch.toml"}
    for name, content in files().items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture(autouse=True)
def variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return become_user(folder, monkeypatch)


def run(folder: Path, *arguments: str) -> str:
    with chdir(folder):
        done = run_command(arguments)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def shown(folder: Path, name: str, *options: str) -> tuple[list[str], Mapping[str, float]]:
    """Return the notes and the measured values of a file."""
    found = json.loads(run(folder, "show", f"media/{name}", "--json", "--root", "media", *options))
    assert not found["problem"], found
    return found["notes"], found["measured"]


def test_the_facts_that_the_page_prints_are_applied(folder: Path) -> None:
    notes, measured = shown(folder, "board.csv")
    assert measured["rate_hz"] == pytest.approx(50)
    assert not [note for note in notes if "unit" in note or "gravity" in note]
    assert "accelerometer in g" not in " ".join(notes)
    notes, measured = shown(folder, "depth/stereo.png")
    assert measured["depth_median_m"] == pytest.approx(1.99, abs=0.1)
    assert any("fx 70.0 px and baseline 0.12 m" in note for note in notes)
    assert {"17%", "8%"} & {word for note in notes for word in note.split()}
    notes, measured = shown(folder, "depth/phone.png")
    assert measured["depth_median_m"] == pytest.approx(1.99, abs=0.1)
    assert notes == ["assumed: fx 65 px (0.81 x longer side)"]
    notes, _ = shown(folder, "imu/belt.csv")
    assert not [note for note in notes if "converted" in note]
    notes, measured = shown(folder, "thermal/wall.tif")
    assert measured["temperature_min_c"] == pytest.approx(20.3, abs=0.1)
    notes, _ = shown(folder, "phone/Accelerometer.csv")
    assert "layout: sensor-logger" in notes
    assert not [note for note in notes if "signs" in note]


def test_the_note_that_the_page_prints(folder: Path) -> None:
    printed = PAGE.split("    notes       ")[1].split("    measured")[0]
    notes = [line.strip() for line in printed.strip().splitlines()]
    found, measured = shown(folder, "walk.csv")
    assert [re.sub(r"[\d.]+\)", "N)", note) for note in found] == [re.sub(r"[\d.]+\)", "N)", note) for note in notes]
    assert found[1] == notes[1]
    assert measured["rate_hz"] == pytest.approx(50)


def test_the_page_runs_as_printed(folder: Path, variables: dict[str, str]) -> None:
    run_page(PAGE, folder, variables)
    assert (folder / "walk.png").stat().st_size > 1000
    items = run(folder, "search", "a wall", "--to", "thermal", "--where", "temperature_max_c > 30", "--paths")
    assert {Path(line).name for line in items.splitlines()} == {"wall.tif", "window.png"}
