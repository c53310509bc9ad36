"""Pages of TIFF files: each a picture of its own, reduced copies and masks left out."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import bindsearch as bs
from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import DecodedSegment, pieces
from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import MAX_PAGES, read_image
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints, Picture
from bindsearch.types import Modality
from helpers.tiff_file import Page, write_tiff

HINTS = DecodeHints(224, 1)


def segments(path: Path) -> list[DecodedSegment]:
    return list(
        pieces(
            path, Modality.IMAGE, wants=HINTS, options=DecodeOptions(), sidecar=Sidecar(), count_tokens=len,
            max_tokens=64,
        )
    )  # fmt: skip


def decode(path: Path) -> tuple[list[np.ndarray], list[str]]:
    found = segments(path)
    assert all(one.start_s is None for one in found)
    pictures = [one.media.rgb for one in found if isinstance(one.media, Picture)]
    return pictures, [note for one in found for note in one.reading.notes]


def noise(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def test_each_page_is_a_picture(tmp_path: Path) -> None:
    pages = [noise(seed, 20 + seed, 40) for seed in range(5)]
    pictures, notes = decode(write_tiff(tmp_path / "a.tif", *pages))
    assert all(np.array_equal(one, page) for one, page in zip(pictures, pages, strict=True))
    assert notes == ["5 pages"]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate"])
def test_pages_of_pillow(tmp_path: Path, compression: str) -> None:
    how: Any = {"quality": 95} if compression == "jpeg" else {}
    first, *others = [Image.fromarray(noise(seed)).resize((200, 150)) for seed in range(4)]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression=compression, **how)
    pictures, _ = decode(tmp_path / "a.tif")
    for one, page in zip(pictures, (first, *others), strict=True):
        assert np.abs(one.astype(int) - np.asarray(page)).mean() < 12


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.sampled_from(["full", "page", "reduced", "mask", "old reduced"]), min_size=1, max_size=6))
def test_reduced_copies_and_masks_are_left_out(tmp_path_factory: pytest.TempPathFactory, kinds: list[str]) -> None:
    tags: dict[str, Any] = {
        "full": {}, "page": {254: 2}, "reduced": {254: 1}, "mask": {254: 4}, "old reduced": {255: 2},
    }  # fmt: skip
    pages = [Page(noise(seed, 20 + seed, 30 + seed), tags[kind]) for seed, kind in enumerate(kinds)]
    path = write_tiff(tmp_path_factory.mktemp("pages") / "a.tif", *pages)
    expected = [page.pixels for page, kind in zip(pages, kinds, strict=True) if kind in ("full", "page")]
    expected = expected or [pages[0].pixels]
    pictures, _ = decode(path)
    assert all(np.array_equal(one, page) for one, page in zip(pictures, expected, strict=True))
    assert np.array_equal(read_image(path, HINTS, DecodeOptions()).rgb, expected[0])
    found = read_metadata(path, Modality.IMAGE)
    assert (found.width_px, found.height_px) == (expected[0].shape[1], expected[0].shape[0])


def test_a_thumbnail_before_a_turned_picture(tmp_path: Path) -> None:
    tags: Any = {0x0112: 6, 272: b"Scanner\0"}
    path = write_tiff(tmp_path / "a.tif", Page(noise(0, 6, 8), {254: 1}), Page(noise(1), tags))
    pictures, _ = decode(path)
    assert np.array_equal(pictures[0], np.rot90(noise(1), -1))
    found = read_metadata(path, Modality.IMAGE)
    assert (found.width_px, found.height_px, found.camera) == (30, 40, "Scanner")


def test_very_many_pages_are_cut_with_a_note(tmp_path: Path) -> None:
    pictures, notes = decode(write_tiff(tmp_path / "a.tif", *(noise(seed, 8, 8) for seed in range(MAX_PAGES + 9))))
    assert len(pictures) == MAX_PAGES
    assert notes == [f"{MAX_PAGES + 9} pages: the first {MAX_PAGES} are read"]


def test_a_page_that_is_not_read_costs_only_itself(tmp_path: Path) -> None:
    strange = np.ones((8, 8, 3), np.float32)
    pictures, notes = decode(write_tiff(tmp_path / "a.tif", noise(0), strange, noise(2)))
    assert len(pictures) == 2
    assert notes[1] == "page 2 cannot be read: damaged or of a kind that is not read (unknown pixel mode)"
    with pytest.raises(MediaError, match="3 of 5 pages cannot be read: "):
        decode(write_tiff(tmp_path / "b.tif", noise(0), *[Page(noise(1), {259: 50001})] * 3, noise(2)))


def test_a_ring_of_directories_and_endless_ones_end_soon(tmp_path: Path) -> None:
    raw = bytearray(write_tiff(tmp_path / "a.tif", noise(0), noise(1)).read_bytes())
    (first,) = struct.unpack_from("<L", raw, 4)
    raw[-4:] = struct.pack("<L", first)
    (tmp_path / "a.tif").write_bytes(raw)
    assert len(decode(tmp_path / "a.tif")[0]) == 2
    start = time.monotonic()
    ones = bytearray(write_tiff(tmp_path / "b.tif", Page(noise(0), {254: 1})).read_bytes()[:-4])
    for _ in range(50_000):
        ones += struct.pack("<LHHHLLL", len(ones) + 4, 1, 254, 4, 1, 1, 0)[:-4]
    (tmp_path / "b.tif").write_bytes(ones + bytes(4))
    assert len(decode(tmp_path / "b.tif")[0]) == 1
    assert time.monotonic() - start < 3


def test_a_file_is_found_by_any_of_its_pages(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    rng = np.random.default_rng(5)
    pages = [Image.fromarray(rng.integers(0, 255, (3, 4, 3), np.uint8)).resize((160, 120)) for _ in range(3)]
    pages[0].save(folder / "scan.tif", save_all=True, append_images=pages[1:])
    Image.fromarray(rng.integers(0, 255, (3, 4, 3), np.uint8)).resize((160, 120)).save(folder / "other.png")
    store = bs.connect(tmp_path / "store", encoder="mini")
    report = store.index(folder)
    assert not report.failed
    for number, page in enumerate(pages):
        page.save(tmp_path / f"{number}.png")
        hit = store.search(bs.image(tmp_path / f"{number}.png"))[0]
        assert Path(hit.path).name == "scan.tif"
