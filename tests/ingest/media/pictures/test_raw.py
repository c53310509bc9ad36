from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import Classification, classify
from bindsearch.ingest.media.kinds import RAW_EXTENSIONS
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.sniff import sniff
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers.raw_file import write_dng

pytest.importorskip("rawpy")


def halves(width: int = 300, height: int = 200) -> NDArray[np.uint8]:
    """Red on the left, blue on the right."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2, 0] = 255
    rgb[:, width // 2 :, 2] = 255
    return rgb


def jpeg_of(rgb: NDArray[np.uint8], exif: Image.Exif | None = None) -> bytes:
    """With `exif` it stands first, as cameras write it, not behind Pillow's JFIF header."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=95, **({} if exif is None else {"exif": exif}))
    raw = file.getvalue()
    return raw if exif is None else raw[:2] + raw[raw.index(b"\xff\xe1") :]


def decode(path: Path, side_px: int = 24, **limits: int) -> NDArray[np.uint8]:
    return read_image(path, DecodeHints(side_px, 1.0), DecodeOptions(**limits)).rgb


def colours(rgb: NDArray[np.uint8]) -> tuple[str, str]:
    """Of the top left and the bottom right corner."""
    return tuple("red" if rgb[place][0] > rgb[place][2] else "blue" for place in ((2, 2), (-3, -3)))  # type: ignore[return-value]


@pytest.mark.parametrize("preview", ["jpeg", "bitmap"])
@pytest.mark.parametrize(
    ("orientation", "corners", "tall"),
    [(1, ("red", "blue"), False), (3, ("blue", "red"), False), (6, ("red", "blue"), True), (8, ("blue", "red"), True)],
)
def test_the_preview_is_shown_upright(
    tmp_path: Path, preview: str, orientation: int, corners: tuple[str, str], tall: bool
) -> None:
    content = jpeg_of(halves()) if preview == "jpeg" else halves()
    path = write_dng(tmp_path / "a.dng", content, orientation=orientation)
    assert classify(path, "a.dng", ()) == Classification(Modality.IMAGE, "raw content")
    rgb = decode(path, side_px=200)
    assert rgb.shape == ((300, 200, 3) if tall else (200, 300, 3))
    assert colours(rgb) == corners


def test_a_preview_that_says_its_own_orientation_is_believed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    untold = jpeg_of(halves(), exif)
    exif[0x0112] = 8
    told = jpeg_of(halves(), exif)
    assert colours(decode(write_dng(tmp_path / "a.dng", told, orientation=6))) == ("blue", "red")
    assert colours(decode(write_dng(tmp_path / "b.dng", untold, orientation=6))) == ("red", "blue")


def test_a_large_preview_comes_reduced_and_has_the_cap_of_pictures(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", jpeg_of(halves(1200, 800)), size=(1200, 800))
    assert decode(path).shape == (50, 75, 3)
    with pytest.raises(MediaError, match=r"1200x800 pixels: more than 900000 are not decoded \(--limit pixels=N\)"):
        decode(path, max_pixels=900_000)
    with pytest.raises(MediaError, match=r"bytes: more than 1000 are not read \(--limit array=N\)"):
        decode(path, max_array_bytes=1000)


def test_a_raw_picture_without_a_preview_says_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="contains no readable preview: convert it to JPEG"):
        decode(write_dng(tmp_path / "a.dng", None))


@pytest.mark.parametrize(
    "content", [b"II*\0" + bytes(200), b"FUJIFILMCCD-RAW" + bytes(300), b"IIU\0" + bytes(90), b"IIRO\x08\0\0\0" * 9]
)
def test_damaged_raw_pictures_fail_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nef").write_bytes(content)
    with pytest.raises(
        MediaError, match=r"^(damaged or unknown raw image|the raw image contains no readable preview)[^\n]*$"
    ):
        decode(tmp_path / "a.nef")


def test_a_preview_cut_short_fails(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    path = write_dng(tmp_path / "a.dng", jpeg_of(noise)[:3000])
    with pytest.raises((MediaError, OSError), match=r"truncated|damaged"):
        decode(path)


def test_without_the_extra_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dng(tmp_path / "a.dng", jpeg_of(halves()))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    assert classify(path, "depth/a.dng", ()).modality is Modality.IMAGE
    with pytest.raises(MediaError, match=r"raw images need the extra \[raw\]: pip install 'bindsearch\[raw\]'"):
        decode(path)


def test_raw_pictures_are_told_by_content_and_where_that_is_tiff_by_name(tmp_path: Path) -> None:
    for content in (b"FUJIFILMCCD-RAW 0201", b"IIU\0\x08\0\0\0", b"IIRS\x08\0\0\0", b"II*\0\x10\0\0\0CR\x02\0"):
        assert sniff(content) == "raw"
    assert sniff(b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom") == "raw"
    for extension in RAW_EXTENSIONS:
        assert sniff(b"II*\0\x08\0\0\0", extension.upper()) == "raw"
        assert sniff(b"\xff\xd8\xff\xe0", extension) == "jpeg"
    assert sniff(b"II*\0\x08\0\0\0", ".tif") == "tiff"
    Image.fromarray(halves()).save(tmp_path / "a.nef", "JPEG")  # a picture by another name
    assert classify(tmp_path / "a.nef", "a.nef", ()).why == "jpeg content"
