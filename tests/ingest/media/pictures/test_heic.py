from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import Classification, classify
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints
from bindsearch.types import Modality

pytest.importorskip("pi_heif")

CONFIGURATION = bytes.fromhex(
    "0104080000009fa8000000001ef000fcfdf8f800000f03a00001001740010c01ffff0408000003009fa800000300001eba0240a10001"
    "00264201010408000003009fa800000300001ea010204165bab932b9a02000000300200000030021a2000100064401c173c189"
)
FRAME = bytes.fromhex(
    "000000ae2801af0fd1e140320db85a7ee91356b2fa57417c96232f9f6e1a3fb7c4bb520bb02f3da13feafd0c8d008dbd26bf766ea958"
    "272b8bccc98416d1f6cabb43ed70cfde20be86f14182e6803c2c2b09fef307c6a5a5f55b552397dd9cc8938fd7629f4c82b534ec7d0a"
    "7736cd8dfcbb280dcbb793feb9574af6c4089d2cdafda9d924814c5a969d80dfff64b94eaf943b1ac9e1d6a1a401dba1cdb5d9e67a09"
    "949fa75ee0901f46f0bf535827ec610c"
)
"""One HEVC intra frame of `corners()`, as libx265 wrote it, and what a decoder must know (ISO 14496-15, hvcC)."""

WHITE, RED, GREEN, BLUE = (250, 250, 250), (200, 20, 20), (20, 180, 20), (20, 20, 200)


def corners() -> NDArray[np.uint8]:
    """64 rows of 128 pixels in white, red, green and blue quarters: no turn and no mirror leaves it alike."""
    rgb = np.empty((64, 128, 3), np.uint8)
    rgb[:32, :64], rgb[:32, 64:], rgb[32:, :64], rgb[32:, 64:] = WHITE, RED, GREEN, BLUE
    return rgb


def box(name: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + name + data


def full_box(name: bytes, version: int, *parts: bytes) -> bytes:
    return box(name, struct.pack(">I", version << 24), *parts)


def write_heic(
    path: Path,
    *,
    turns: int = 0,
    mirror: int | None = None,
    exif: bytes = b"",
    says: tuple[int, int] = (128, 64),
    brand: bytes = b"heic",
) -> Path:
    """A HEIC file of `corners()` (ISO 23008-12): irot `turns` to the left, imir `mirror`, an Exif item, a size."""
    properties = [box(b"hvcC", CONFIGURATION), full_box(b"ispe", 0, struct.pack(">II", *says))]
    properties += [box(b"irot", bytes([turns]))] if turns else []
    properties += [box(b"imir", bytes([mirror]))] if mirror is not None else []
    items = [(1, b"hvc1", FRAME), (2, b"Exif", bytes(4) + exif)][: 2 if exif else 1]

    def meta(place: int) -> bytes:
        places = b""
        for number, _, data in items:
            places += struct.pack(">HHHII", number, 0, 1, place, len(data))
            place += len(data)
        entries = b"".join(full_box(b"infe", 2, struct.pack(">HH", n, 0), kind, b"\0") for n, kind, _ in items)
        linked = struct.pack(">IHB", 1, 1, len(properties)) + bytes(0x80 | n + 1 for n in range(len(properties)))
        return full_box(
            b"meta", 0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", 1)),
            full_box(b"iloc", 0, struct.pack(">BBH", 0x44, 0, len(items)), places),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), entries),
            full_box(b"iref", 0, box(b"cdsc", struct.pack(">HHH", 2, 1, 1))) if exif else b"",
            box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", 0, linked)),
        )  # fmt: skip

    start = box(b"ftyp", brand, bytes(4), b"mif1heic")
    data = box(b"mdat", *(data for _, _, data in items))
    path.write_bytes(start + meta(len(start) + len(meta(0)) + 8) + data)
    return path


def sideways() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def decode(path: Path, side_px: int = 24, **limits: int) -> NDArray[np.uint8]:
    return read_image(path, DecodeHints(side_px, 1.0), DecodeOptions(**limits)).rgb


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_a_heic_picture_is_an_image(tmp_path: Path, brand: bytes) -> None:
    path = write_heic(tmp_path / "IMG_1.HEIC", brand=brand)
    assert classify(path, path.name, ()) == Classification(Modality.IMAGE, "heif content")
    rgb = decode(path)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (64, 128, 3))
    assert np.abs(rgb.astype(int) - corners()).mean() < 6


@pytest.mark.parametrize(
    ("turns", "mirror", "turn"),
    [
        (1, None, lambda rgb: np.rot90(rgb, 1)),
        (2, None, lambda rgb: np.rot90(rgb, 2)),
        (3, None, lambda rgb: np.rot90(rgb, 3)),
        (0, 0, lambda rgb: rgb[::-1]),
        (0, 1, lambda rgb: rgb[:, ::-1]),
    ],
)
def test_the_turn_that_the_file_asks_for_is_made_once(tmp_path: Path, turns: int, mirror: int | None, turn) -> None:  # type: ignore[no-untyped-def]
    upright = turn(corners())
    for exif in (b"", sideways()):  # phones write both: EXIF says then what has been done already
        rgb = decode(write_heic(tmp_path / "a.heic", turns=turns, mirror=mirror, exif=exif))
        assert rgb.shape == upright.shape
        assert np.abs(rgb.astype(int) - upright).mean() < 6


def test_exif_alone_turns_nothing(tmp_path: Path) -> None:
    rgb = decode(write_heic(tmp_path / "a.heic", exif=sideways()))
    assert np.abs(rgb.astype(int) - corners()).mean() < 6


def test_large_pictures_come_reduced(tmp_path: Path) -> None:
    assert decode(write_heic(tmp_path / "a.heic"), side_px=4).shape == (8, 16, 3)


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"is 128x64 pixels: more than 8000 are not decoded \(--max pixels=N\)"):
        decode(write_heic(tmp_path / "a.heic"), max_pixels=8000)


def test_a_header_that_lies_of_the_size_is_not_believed(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic", says=(16, 16))
    with pytest.raises(MediaError, match=r"damaged picture \(.*maximum image size"):
        decode(path)


def test_a_file_too_large_to_be_read_whole_is_refused(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic")
    with pytest.raises(MediaError, match=r"the picture has \d+ bytes: more than 500 are not read \(--max array=N\)"):
        decode(path, max_array_bytes=500)


def test_damaged_pictures_fail(tmp_path: Path) -> None:
    raw = write_heic(tmp_path / "a.heic").read_bytes()
    for cut in (20, 200, len(raw) - 300):
        (tmp_path / "a.heic").write_bytes(raw[:cut])
        with pytest.raises(MediaError, match="damaged"):
            decode(tmp_path / "a.heic")


def test_without_the_extra_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_heic(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    assert classify(path, "depth/a.heic", ()).modality is Modality.IMAGE
    with pytest.raises(MediaError, match=r"HEIC pictures need the extra \[heic\]: pip install 'bindsearch\[heic\]'"):
        decode(path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_avif_is_read_and_turned_once(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners()).save(tmp_path / "a.avif", exif=exif, quality=95)
    assert classify(tmp_path / "a.avif", "a.avif", ()) == Classification(Modality.IMAGE, "avif content")
    upright = np.rot90(corners(), {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    rgb = decode(tmp_path / "a.avif")
    assert rgb.shape == upright.shape
    assert np.abs(rgb.astype(int) - upright).mean() < 6


def test_avif_needs_no_name_and_has_limits(tmp_path: Path) -> None:
    Image.fromarray(corners()).save(tmp_path / "a.avif")
    raw = (tmp_path / "a.avif").read_bytes()
    assert raw[8:12] == b"avif"
    (tmp_path / "b.jpg").write_bytes(raw[:8] + b"mif1" + raw[12:])
    assert classify(tmp_path / "b.jpg", "b.jpg", ()).why == "avif content"
    assert decode(tmp_path / "b.jpg").shape == (64, 128, 3)
    with pytest.raises(MediaError, match="128x64 pixels: more than 8000"):
        decode(tmp_path / "b.jpg", max_pixels=8000)
    (tmp_path / "b.jpg").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(MediaError, match="damaged"):
        decode(tmp_path / "b.jpg")
