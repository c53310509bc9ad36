"""Colours: ICC profiles and numbered colours (CICP) become sRGB, as Little CMS and the formulas say."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.formats import icc
from bindsearch.ingest.media.pictures.formats.cicp import Colours, as_srgb, read_colours
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints
from helpers import damaged_files

COLOURS = ((220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 40))
SRGB = ImageCms.createProfile("sRGB")
SRGB_BYTES = ImageCms.ImageCmsProfile(SRGB).tobytes()
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03135, 0.00009, 0.82491))
"""Red, green and blue in XYZ of D50, as in the profiles."""


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(space: bytes, primaries: Any, gamma: float) -> bytes:
    """Return a matrix profile, or a grey one without primaries (ICC.1:2010, clauses 7 to 10)."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    tags = {b"wtpt": white}
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        for name, xyz in zip((b"r", b"g", b"b"), primaries, strict=True):
            tags[name + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(map(fixed, xyz))
            tags[name + b"TRC"] = curve
    table, data, place = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", 0, bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + fixed(0.9642) + fixed(1) + fixed(0.8249)
    whole = head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


HOW: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 98, "subsampling": 0}, "avif": {"quality": 98, "subsampling": "4:4:4"},
    "webp": {"lossless": True},
}  # fmt: skip
PROFILES = {
    "Adobe RGB": profile(b"RGB ", ADOBE, 2.2),
    "Display P3": profile(b"RGB ", P3, 2.2),
    "ProPhoto": profile(b"RGB ", PROPHOTO, 1.8),
}


def corners(height: int = 64, width: int = 96) -> Image.Image:
    rgb = np.empty((height, width, 3), np.uint8)
    half, middle = height // 2, width // 2
    rgb[:half, :middle], rgb[:half, middle:], rgb[half:, :middle], rgb[half:, middle:] = COLOURS
    return Image.fromarray(rgb)


def decode(path: Path, side: int = 224) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return read_image(path, DecodeHints(side, 1), DecodeOptions(), notes.append).rgb, notes


def in_profile(picture: Image.Image, raw: bytes) -> Image.Image:
    """Return the values that show the same colours in a profile."""
    wide = ImageCms.ImageCmsProfile(io.BytesIO(raw))
    found = ImageCms.profileToProfile(picture, SRGB, wide)
    assert found is not None
    return found


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif", "avif"])
def test_the_colours_of_a_profile_are_shown_as_srgb(tmp_path: Path, name: str, extension: str) -> None:
    how = HOW.get(extension, {})
    stored = in_profile(corners(), PROFILES[name])
    stored.save(tmp_path / f"a.{extension}", icc_profile=PROFILES[name], **how)
    rgb, notes = decode(tmp_path / f"a.{extension}")
    assert np.abs(rgb.astype(int) - np.asarray(corners())).max() <= (32 if extension == "avif" else 14)
    assert notes == []
    assert np.abs(np.asarray(stored).astype(int) - np.asarray(corners())).max() > 20


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(PROFILES)),
    mode=st.sampled_from(["RGB", "RGBA", "P"]),
    seed=st.integers(0, 1000),
)
def test_values_are_those_of_little_cms(
    tmp_path_factory: pytest.TempPathFactory, name: str, mode: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (20, 30, 3), np.uint8)
    picture = Image.fromarray(rgb)
    alpha = (rng.random((20, 30)) < 0.5).astype(np.uint8) * 255
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(alpha))
    elif mode == "P":
        picture = picture.quantize(64)
        rgb = np.asarray(picture.convert("RGB"))
    path = tmp_path_factory.mktemp("icc") / "a.png"
    picture.save(path, icc_profile=PROFILES[name])
    wide = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name]))
    expected = np.asarray(ImageCms.profileToProfile(Image.fromarray(rgb), wide, SRGB))
    if mode == "RGBA":
        expected = np.where(alpha[..., None] > 0, expected, 255)
    assert np.abs(decode(path)[0].astype(int) - expected).max() <= 1


def test_grey_profiles(tmp_path: Path) -> None:
    ramp = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (8, 1)))
    raw = profile(b"GRAY", None, 1.0)
    expected = ImageCms.profileToProfile(ramp, ImageCms.ImageCmsProfile(io.BytesIO(raw)), SRGB, outputMode="RGB")
    for name, picture in (("a.png", ramp), ("b.png", ramp.convert("LA")), ("c.jpg", ramp), ("d.tif", ramp)):
        picture.save(tmp_path / name, icc_profile=raw)
        assert np.abs(decode(tmp_path / name)[0].astype(int) - np.asarray(expected)).max() <= 2
    assert np.asarray(expected)[0, 16, 0] > 120


def cmyk_profile() -> bytes:
    """Return a profile of a press whose inks are darker than the plain formula says (ICC.1:2010, 10.9: lut8Type)."""
    inks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], [0, 1], indexing="ij")).reshape(4, -1).T
    white = (1 - 0.8 * inks[:, :3]) * (1 - 0.9 * inks[:, 3:])
    lab = Image.fromarray((255 * white).astype(np.uint8)[None])
    nodes = ImageCms.profileToProfile(lab, SRGB, ImageCms.createProfile("LAB"), outputMode="LAB")
    assert nodes is not None
    plain = bytes(range(256))
    identity = b"".join(fixed(float(i % 4 == 0)) for i in range(9))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * plain + nodes.tobytes() + 3 * plain
    xyz = b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    table = table.ljust(-(-len(table) // 4) * 4, b"\0")
    place = 132 + 24
    tags = struct.pack(">I4sII4sII", 2, b"A2B0", place, len(table), b"wtpt", place + len(table), len(xyz))
    head = struct.pack(">I4sI4s4s4s", 0, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + fixed(0.9642) + fixed(1) + fixed(0.8249)
    whole = head.ljust(128, b"\0") + tags + table + xyz
    return struct.pack(">I", len(whole)) + whole[4:]


@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_cmyk_profiles(tmp_path: Path, extension: str) -> None:
    raw, inks = cmyk_profile(), corners().convert("CMYK")
    inks.save(tmp_path / f"a.{extension}", icc_profile=raw, **HOW.get(extension, {}))
    press = ImageCms.ImageCmsProfile(io.BytesIO(raw))
    expected = np.asarray(ImageCms.profileToProfile(inks, press, SRGB, outputMode="RGB"))
    rgb, notes = decode(tmp_path / f"a.{extension}")
    assert notes == []
    assert np.abs(rgb.astype(int) - expected).mean() <= 3
    assert np.abs(np.asarray(corners()).astype(int) - expected).mean() > 15


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        (SRGB_BYTES, None),
        (b"", None),
        (b"no profile at all", "its colour profile is damaged and is ignored: colours are read as sRGB"),
        (PROFILES["Adobe RGB"][:200], "its colour profile is damaged and is ignored: colours are read as sRGB"),
        (profile(b"GRAY", None, 2.2), "its colour profile is for GRAY, not RGB, and is ignored"),
    ],
)
def test_srgb_changes_nothing_and_bad_profiles_are_noted(tmp_path: Path, raw: bytes, note: str | None) -> None:
    corners().save(tmp_path / "a.png", icc_profile=raw)
    rgb, notes = decode(tmp_path / "a.png")
    assert np.array_equal(rgb, np.asarray(corners()))
    assert notes == ([note] if note else [])


def test_a_huge_profile_is_ignored(tmp_path: Path) -> None:
    corners().save(tmp_path / "a.tif", icc_profile=b"\1" * ((4 << 20) + 1))
    rgb, notes = decode(tmp_path / "a.tif")
    assert np.array_equal(rgb, np.asarray(corners()))
    assert notes == ["its colour profile has 4194305 bytes and is ignored: colours are read as sRGB"]


def test_damaged_profiles_never_fail(tmp_path: Path) -> None:
    rng = random.Random(0)
    for turn in range(200):
        raw = damaged_files.damage(PROFILES["Display P3"], rng)
        corners().save(tmp_path / "a.png", icc_profile=raw)
        assert decode(tmp_path / "a.png")[0].shape == (64, 96, 3), turn


def test_profiles_that_are_kept_are_few_and_repeated_ones_fast(tmp_path: Path) -> None:
    corners(1000, 1500).save(tmp_path / "a.jpg", icc_profile=PROFILES["Display P3"])
    decode(tmp_path / "a.jpg")
    start = time.perf_counter()
    for _ in range(50):
        icc._transform(PROFILES["Display P3"], "RGB")
    assert time.perf_counter() - start < 0.05
    assert icc._transform.cache_info().maxsize == 16


def png_with_cicp(path: Path, rgb: np.ndarray, primaries: int, transfer: int) -> Path:
    Image.fromarray(rgb).save(path)
    raw = path.read_bytes()
    data = b"cICP" + bytes([primaries, transfer, 0, 1])
    place = raw.index(b"IDAT") - 4
    path.write_bytes(raw[:place] + struct.pack(">I", 4) + data + struct.pack(">I", zlib.crc32(data)) + raw[place:])
    return path


def linear(srgb: np.ndarray) -> np.ndarray:
    coded = srgb / 255
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def to_pq(light: np.ndarray) -> np.ndarray:
    """Return PQ values (SMPTE ST 2084) of light, 1 at 203 nits."""
    power = np.clip(light * 203 / 10_000, 0, 1) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


BT2020 = np.linalg.inv(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)  # fmt: skip


def test_pq_at_the_brightness_of_paper_looks_like_the_sdr_picture(tmp_path: Path) -> None:
    srgb = np.asarray(corners())
    coded = to_pq(linear(srgb) @ BT2020.T)
    path = png_with_cicp(tmp_path / "a.png", np.round(255 * coded).astype(np.uint8), 9, 16)
    rgb, notes = decode(path)
    assert notes == ["HDR: brightness is compressed to the range of a screen"]
    assert np.abs(rgb.astype(int) - srgb).max() <= 25


@given(first=st.floats(0, 49), second=st.floats(0, 49))
@settings(max_examples=30, deadline=None)
def test_brighter_hdr_light_is_never_darker(first: float, second: float) -> None:
    levels = np.round(255 * to_pq(np.array([[[first] * 3, [second] * 3]]))).astype(np.uint8)
    seen = np.asarray(as_srgb(Image.fromarray(levels), Colours(9, 16)))[0, :, 0].astype(int)
    assert (seen[0] - seen[1]) * (first - second) >= 0 or abs(seen[0] - seen[1]) <= 1


def test_hlg_grey_of_three_quarters_is_white_paper() -> None:
    grey = Image.new("RGB", (4, 4), (191, 191, 191))  # BT.2408: 75 % HLG is 203 nits
    assert np.asarray(as_srgb(grey, Colours(9, 18))).min() > 225


def test_p3_named_by_numbers_is_as_by_its_profile(tmp_path: Path) -> None:
    raw = profile(b"RGB ", P3, 2.2)
    stored = np.asarray(in_profile(corners(), raw))
    rgb, notes = decode(png_with_cicp(tmp_path / "a.png", stored, 12, 13))
    assert notes == []
    assert np.abs(rgb.astype(int) - np.asarray(corners())).max() <= 12


@pytest.mark.parametrize("numbers", [(1, 13), (1, 1), (2, 2), (9, 8), (255, 255)])
def test_other_numbers_change_nothing(tmp_path: Path, numbers: tuple[int, int]) -> None:
    path = png_with_cicp(tmp_path / "a.png", np.asarray(corners()), *numbers)
    assert np.array_equal(decode(path)[0], np.asarray(corners()))


def test_colours_of_avif_and_heif_are_found_in_their_boxes() -> None:
    box = struct.pack(">I8sHHHB", 19, b"colrnclx", 9, 16, 9, 0x80)
    assert read_colours(bytes(100) + box, "avif") == Colours(9, 16)
    assert read_colours(bytes(100) + box[:13], "heif") is None
    assert read_colours(b"", "heif") is None
