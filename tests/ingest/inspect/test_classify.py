from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.classify import Classification, classify
from bindsearch.ingest.inspect.folder_settings import read_folder_settings
from bindsearch.ingest.inspect.rules import Rule, parse_rule
from bindsearch.types import Modality
from helpers import media_files, thermal_files


def put(root: Path, rel_path: str, content: bytes | str | None = None) -> Path:
    """Write a file of some kind of content, by default that of its extension."""
    path = root / rel_path
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = (root.parent / "samples" / content).read_bytes()
    path.write_bytes(content or b"")
    return path


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind of content."""
    root = tmp_path_factory.mktemp("kinds") / "samples"
    root.mkdir()
    arrays: dict[str, NDArray[Any]] = dict.fromkeys(
        ("rgb.png", "rgb.jpg", "rgb.gif", "rgb.webp", "rgb.bmp", "rgb.tif"), np.zeros((8, 8, 3), np.uint8)
    )
    arrays |= dict.fromkeys(("grey.png", "grey.jpg"), np.zeros((8, 8), np.uint8))
    arrays |= dict.fromkeys(("wide.png", "wide.tif"), np.zeros((8, 8), np.uint16))
    for name, array in arrays.items():
        Image.fromarray(array).save(root / name)
    for extension in ("wav", "flac", "ogg", "mp3", "m4a", "aac"):
        media_files.write_sound(root / f"s.{extension}", media_files.tone(0.3))
    for extension in ("mp4", "mov", "mkv", "avi"):
        media_files.write_video(root / f"v.{extension}", 0.3)
    media_files.write_motion_csv(root / "motion.csv", media_files.motion(1))
    (root / "labels.csv").write_text("path,label\na.jpg,cat\n")
    np.save(root / "motion.npy", media_files.motion(1))
    np.save(root / "map.npy", np.ones((40, 50), np.float32))
    np.savez(root / "motion.npz", accelerometer=np.ones((9, 3)), gyroscope=np.ones((9, 3)))
    np.savez(root / "other.npz", weights=np.ones(9))
    (root / "text.txt").write_text("A cat sat on the mat.")
    return root


def verdict(samples: Path, rel_path: str, content: bytes | str, rules: tuple[Rule, ...] = ()) -> Classification:
    root = samples.parent / "collection"
    path = put(root, rel_path, content)
    try:
        return classify(path, rel_path, rules)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("content", "modality"),
    [
        ("rgb.png", "image"), ("rgb.jpg", "image"), ("grey.png", "image"), ("rgb.gif", "image"), ("rgb.webp", "image"),
        ("rgb.bmp", "image"), ("rgb.tif", "image"), ("wide.png", None), ("wide.tif", None), ("s.wav", "audio"),
        ("s.flac", "audio"), ("s.ogg", "audio"), ("s.mp3", "audio"), ("s.m4a", "audio"), ("s.aac", "audio"),
        ("v.mp4", "video"), ("v.mov", "video"), ("v.mkv", "video"), ("v.avi", "video"), ("motion.csv", "imu"),
        ("motion.npy", "imu"), ("motion.npz", "imu"), ("labels.csv", None), ("map.npy", None), ("other.npz", None),
        ("text.txt", "text"),
    ],
)  # fmt: skip
def test_content_decides_whatever_the_case_of_the_extension(samples: Path, content: str, modality: str | None) -> None:
    suffix = Path(content).suffix
    for name in (f"a{suffix}", f"a{suffix.upper()}", f"a{suffix.title()}"):
        assert verdict(samples, name, content).modality == modality


@pytest.mark.parametrize(
    ("name", "content", "modality"),
    [
        ("a.jpg", "rgb.png", "image"), ("a.mp3", "s.wav", "audio"), ("a.wav", "s.mp3", "audio"),
        ("a.jpg", "v.mp4", "video"), ("a.mp4", "rgb.jpg", "image"), ("a.txt", "rgb.jpg", "image"),
        ("b", "rgb.jpg", "image"), ("a.csv", "s.flac", "audio"), ("depth.jpg", "wide.png", "depth"),
        ("a.m4a", "v.mp4", "audio"),
    ],
)  # fmt: skip
def test_a_mislabelled_file_goes_by_its_content(samples: Path, name: str, content: str, modality: str) -> None:
    assert verdict(samples, name, content).modality == modality


@pytest.mark.parametrize(
    ("rel_path", "content", "modality"),
    [
        ("depth/1.png", "grey.png", "depth"),
        ("Depth/1.PNG", "grey.png", "depth"),
        ("run-depth_raw/x/1.png", "grey.png", "depth"),
        ("a/cam_depth.npy", "map.npy", "depth"),
        ("thermal/1.jpg", "rgb.jpg", "thermal"),
        ("a/FLIR_IR-7.tif", "wide.tif", "thermal"),
        ("lwir/1.png", "wide.png", "thermal"),
        ("infrared.npy", "map.npy", "thermal"),
        ("thermal/depth_1.png", "wide.png", "depth"),
        ("depth/thermal_1.png", "wide.png", "thermal"),
        ("imu/1.csv", "motion.csv", "imu"),
        ("my.accel.csv", "labels.csv", "imu"),
        ("gyro/1.npy", "map.npy", "imu"),
        ("thermal_set/visible/1.jpg", "rgb.jpg", "image"),
        ("depthcharge/1.png", "grey.png", "image"),
        ("first/1.png", "grey.png", "image"),
        ("depth/1.jpg", "rgb.jpg", "image"),
        ("imu_set/labels.csv", "labels.csv", None),
        ("depth/notes.txt", "text.txt", "text"),
        ("thermal/1.wav", "s.wav", "audio"),
    ],
)
def test_name_parts_decide_between_kinds_of_picture_and_table(
    samples: Path, rel_path: str, content: str, modality: str | None
) -> None:
    assert verdict(samples, rel_path, content).modality == modality


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Classification(Modality.IMAGE, "heif content")),
        ("a.jpg", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", Classification(Modality.IMAGE, "heif content")),
        ("a.avif", b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", Classification(Modality.IMAGE, "avif content")),
        ("a.mp4", b"\0\0\0\x18ftypisom\0\0\0\0mif1avif", Classification(Modality.VIDEO, "mp4 content")),
        ("a.CR3", b"\0\0\0\x18ftypcrx \0\0\0\0crx isom", Classification(Modality.IMAGE, "raw content")),
        ("a.nef", b"MM\0*\0\0\0\x08", Classification(Modality.IMAGE, "raw content")),
        ("depth/a.nef", b"MM\0*\0\0\0\x08",
         Classification(Modality.IMAGE, "raw named 'depth', but with colour channels")),
        ("thermal/a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
         Classification(Modality.THERMAL, "heif named 'thermal'")),
        ("a.dng", b"", Classification(Modality.IMAGE, "extension .dng, content not recognised")),
        ("a.svg", b"<svg/>", Classification(None, "not media: .svg")),
    ],
)  # fmt: skip
def test_what_phones_and_cameras_write_is_an_image(
    samples: Path, name: str, content: bytes, found: Classification
) -> None:
    assert verdict(samples, name, content) == found


def test_only_names_inside_the_collection_count(samples: Path) -> None:
    path = put(samples, "thermal/depth/inside/1.png", (samples / "grey.png").read_bytes())
    assert classify(path, "inside/1.png", ()).modality is Modality.IMAGE


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (".hidden.jpg", "hidden"),
        (".git/a.jpg", "hidden"),
        ("a.py", "not media: .py"),
        ("a.jpg.bak", "not media: .bak"),
        ("a.json", "not media: .json"),
        ("README", "no extension and no known content"),
    ],
)
def test_what_is_not_media_is_left_out_with_a_reason(samples: Path, name: str, why: str) -> None:
    found = verdict(samples, name, b"print('hello')\n")
    assert found.modality is None
    assert why in found.why


def test_a_sidecar_is_no_media_and_can_name_axes(tmp_path: Path) -> None:
    table = tmp_path / "run.csv"
    table.write_text("a,b,c,d,e,f\n1,2,3,4,5,6\n")
    assert classify(table, "run.csv", ()).modality is None
    sidecar = tmp_path / "run.csv.json"
    sidecar.write_text('{"axes": ["a", "b", "c", "d", "e", "f"]}')
    assert classify(sidecar, "run.csv.json", (Rule(Modality.TEXT, "*.json"),)) == Classification(None, "sidecar")
    assert classify(table, "run.csv", ()).modality is Modality.IMU


@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"<html>"])
@pytest.mark.parametrize(("name", "modality"), [("a.jpg", "image"), ("a.mp4", "video"), ("a.wav", "audio")])
def test_unknown_content_goes_by_the_extension_so_that_the_decoder_says_what_is_wrong(
    samples: Path, name: str, modality: str, content: bytes
) -> None:
    found = verdict(samples, name, content)
    assert found.modality == modality
    assert "not recognised" in found.why


def test_an_explicit_rule_comes_first_and_the_first_rule_wins(samples: Path) -> None:
    rules = (parse_rule("thermal=raw/*.png"), parse_rule("depth=*.png"), parse_rule("image=raw/**"))
    assert verdict(samples, "raw/1.png", "wide.png", rules).modality is Modality.THERMAL
    assert verdict(samples, "other/1.PNG", "rgb.png", rules) == Classification(Modality.DEPTH, "rule depth=*.png")
    assert verdict(samples, "raw/x/1.jpg", "rgb.jpg", rules).modality is Modality.IMAGE
    assert verdict(samples, "raw/x/1.dat", "rgb.jpg", rules).modality is Modality.IMAGE


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("**/depth/*.png", ["depth/a.png", "x/depth/a.png", "x/y/Depth/A.PNG"], ["depth/x/a.png", "xdepth/a.png"]),
        ("*.png", ["a.png", "x/y/a.png"], ["a.pngx"]),
        ("x/*.png", ["x/a.png"], ["x/y/a.png", "a.png", "y/x/a.png"]),
        ("x/**", ["x/a", "x/y/a"], ["y/a"]),
        ("img_?[0-9].tif", ["img_a7.tif"], ["img_aa.tif", "img_7.tif"]),
        ("[!a]*.png", ["b1.png"], ["a1.png"]),
        ("a[.png", ["a[.png"], ["a.png"]),
        ("a(1)+.png", ["a(1)+.png"], ["a11.png"]),
    ],
)  # fmt: skip
def test_globs(glob: str, matching: list[str], other: list[str]) -> None:
    rule = Rule(Modality.DEPTH, glob)
    assert [path for path in matching + other if rule.matches(path)] == matching


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("depth", "expected MODALITY=GLOB"),
        ("smell=*.png", "unknown modality 'smell': expected one of text, image"),
        ("depth=", "empty glob"),
        ("depth=[z-a].png", "is invalid"),
    ],
)
def test_rules_that_do_not_parse_are_one_clear_line(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_rule(text)


def test_a_folder_has_rules_of_its_own(tmp_path: Path) -> None:
    assert read_folder_settings(tmp_path).rules == ()
    (tmp_path / ".bindsearch.toml").write_text('[as]\ndepth = ["**/d/*.png", "x.tif"]\nThermal = "flir/*.jpg"\n')
    assert read_folder_settings(tmp_path).rules == (
        Rule(Modality.DEPTH, "**/d/*.png"),
        Rule(Modality.DEPTH, "x.tif"),
        Rule(Modality.THERMAL, "flir/*.jpg"),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[as", "is not valid TOML"),
        ("[other]", "unknown key 'other'"),
        ("as = 3", "as is 3: expected a table"),
        ("[as]\ndepth = 3", "depth is 3: expected a glob"),
        ("[as]\ndepth = [3]", "expected a glob or a list"),
        ("[as]\nsmell = '*'", "unknown modality 'smell'"),
    ],
)
def test_a_rules_file_that_does_not_parse_is_one_clear_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / ".bindsearch.toml").write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_folder_settings(tmp_path)


def test_pipes_missing_and_unreadable_files_do_not_stop_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert classify(tmp_path / "a.jpg", "a.jpg", ()) == Classification(None, "not a regular file")
    assert "unreadable" in classify(tmp_path / "gone.jpg", "gone.jpg", ()).why


@pytest.mark.parametrize(
    ("rel_path", "content", "modality"),
    [
        ("TIR/1.png", "wide.png", Modality.THERMAL),
        ("thermal16/1.png", "wide.png", Modality.THERMAL),
        ("lwir16/1.tif", "wide.tif", Modality.THERMAL),
        ("set/therm_0001.png", "grey.png", Modality.THERMAL),
        ("FLIR/1.jpg", "rgb.jpg", Modality.THERMAL),
        ("FLIR/visible/1.jpg", "rgb.jpg", Modality.IMAGE),
        ("visible/FLIR_00006.jpg", "rgb.jpg", Modality.IMAGE),
        ("FLIR_00006.jpg", "rgb.jpg", Modality.IMAGE),
        ("x8ir3.jpg", "rgb.jpg", Modality.IMAGE),
        ("depth2/1.png", "wide.png", Modality.DEPTH),
    ],
)
def test_thermal_words_are_split_from_digits(samples: Path, rel_path: str, content: str, modality: Modality) -> None:
    assert verdict(samples, rel_path, content).modality is modality


def test_tables_of_numbers_named_thermal_and_radiometric_jpegs(samples: Path, tmp_path: Path) -> None:
    matrix = "\n".join(";".join(["21,5"] * 12) for _ in range(9)).encode()
    assert verdict(samples, "thermal/0001.csv", matrix).modality is Modality.THERMAL
    assert verdict(samples, "thermal/labels.csv", "labels.csv").modality is None
    assert verdict(samples, "tables/0001.csv", matrix).modality is None
    raw = np.arange(4800, dtype=np.uint16).reshape(60, 80)
    thermal_files.write_flir(tmp_path / "a.jpg", raw, np.zeros((60, 80, 3), np.uint8))
    content = (tmp_path / "a.jpg").read_bytes()
    assert verdict(samples, "holiday/1.jpg", content).modality is Modality.THERMAL
    assert verdict(samples, "visible/1.jpg", content).modality is Modality.IMAGE
