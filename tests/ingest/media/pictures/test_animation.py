from __future__ import annotations

import io
import random
import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import Classification, classify
from bindsearch.ingest.media.decode import pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures import frame_count as frames_module
from bindsearch.ingest.media.pictures.frame_count import count_frames
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.recordings.video.read import VideoSpan, read_video
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints
from bindsearch.types import Modality, Span
from helpers import damaged_files

KINDS = ("gif", "webp", "png")


def write_animation(
    path: Path, frames: int = 20, *, duration_ms: int = 200, size: tuple[int, int] = (64, 48), **how: object
) -> Path:
    """Grey that grows lighter by 10 a frame, with a stripe that moves."""
    pictures = []
    for index in range(frames):
        rgb = np.full((size[1], size[0], 3), min(255, 10 * index), np.uint8)
        rgb[:, index % size[0]] = (255, 0, 0)
        pictures.append(Image.fromarray(rgb))
    if path.suffix == ".webp":
        how["lossless"] = True
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0, **how)  # type: ignore[arg-type]
    return path


def decode(
    path: Path, *, frames_per_s: float = 1.0, side: int = 24, span: Span | None = None, **limits: float
) -> list[VideoSpan]:
    return list(read_video(path, DecodeHints(side, frames_per_s), DecodeOptions(**limits), span))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_an_animation_is_a_video_of_its_frames(tmp_path: Path, kind: str) -> None:
    path = write_animation(tmp_path / f"a.{kind}")
    assert classify(path, path.name, ()) == Classification(Modality.VIDEO, f"animated {kind}")
    (span,) = decode(path, frames_per_s=2.0)
    assert span.frames.rgb.dtype == np.uint8
    assert span.frames.rgb.shape == (8, 48, 64, 3)
    assert np.allclose(span.frames.times_s, np.arange(8) / 2 + 0.3, atol=0.11)
    levels = span.frames.rgb[:, 20, 40].mean(axis=1)
    assert np.allclose(levels, 50 * span.frames.times_s, atol=3)
    assert (span.start_s, span.end_s) == (0, pytest.approx(4))


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_animation_is_cut_like_any_video(tmp_path: Path, kind: str) -> None:
    path = write_animation(tmp_path / f"a.{kind}", 41, duration_ms=500)
    spans = decode(path)
    assert [(span.start_s, span.end_s) for span in spans] == [(0, 10), (10, pytest.approx(20.5))]
    assert [len(span.frames.times_s) for span in spans] == [10, 11]
    (inside,) = decode(path, span=Span(12, 15))
    assert (inside.start_s, inside.end_s) == (12, 15)
    assert ((inside.frames.times_s >= 12) & (inside.frames.times_s < 15)).all()
    with pytest.raises(MediaError, match="the video ends before 30 s"):
        decode(path, span=Span(30, 31))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("duration_ms", [0, 10])
def test_frames_without_a_duration_last_a_tenth_of_a_second(tmp_path: Path, kind: str, duration_ms: int) -> None:
    path = write_animation(tmp_path / f"a.{kind}", 25, duration_ms=duration_ms)
    (span,) = decode(path)
    assert span.end_s == pytest.approx(2.5)
    assert len(span.frames.times_s) == 3


@pytest.mark.parametrize("kind", [*KINDS, "jpg", "bmp", "tif"])
def test_a_picture_of_one_frame_is_an_image(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / f"a.{kind}")
    assert classify(tmp_path / f"a.{kind}", f"a.{kind}", ()).modality is Modality.IMAGE


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_one_frame_taken_for_video_is_one_frame(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / f"a.{kind}")
    (span,) = decode(tmp_path / f"a.{kind}")
    assert span.frames.rgb.shape == (1, 48, 64, 3)
    assert (span.start_s, span.end_s) == (0, pytest.approx(0.1))


@pytest.mark.parametrize("kind", KINDS)
def test_an_animation_taken_for_an_image_is_its_first_frame(tmp_path: Path, kind: str) -> None:
    rgb = read_image(write_animation(tmp_path / f"a.{kind}"), DecodeHints(24, 1.0), DecodeOptions()).rgb
    assert rgb[20, 40].tolist() == [0, 0, 0]


def test_it_has_no_sound(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "a.gif")
    found = pieces(
        path, Modality.VIDEO, wants=DecodeHints(24, 1.0), options=DecodeOptions(), sidecar=Sidecar(),
        count_tokens=len, max_tokens=64,
    )  # fmt: skip
    assert [piece.modality for piece in found] == [Modality.VIDEO]


@pytest.mark.parametrize("kind", KINDS)
def test_transparency_is_laid_on_white(tmp_path: Path, kind: str) -> None:
    pictures = []
    for index in range(4):
        rgba = np.zeros((40, 40, 4), np.uint8)
        rgba[10 * index : 10 * index + 10] = (0, 0, 255, 255)
        rgba[10 * index + 5, 3] = 0  # without a hole WebP's encoder says that there is no transparency
        pictures.append(Image.fromarray(rgba))
    how = {"disposal": {"gif": 2, "png": 1}[kind]} if kind != "webp" else {"lossless": True}
    pictures[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=pictures[1:], duration=1000, **how)
    (span,) = decode(tmp_path / f"a.{kind}")
    assert len(span.frames.rgb) == 4
    for index, rgb in enumerate(span.frames.rgb):
        assert rgb[10 * index + 5, 20].tolist() == [0, 0, 255]
        assert (rgb[(10 * index + 25) % 40, 20] == 255).all()


def test_the_picture_that_stands_in_for_an_animated_png_is_no_frame_of_it(tmp_path: Path) -> None:
    red, others = Image.new("RGB", (8, 8), "red"), [Image.new("RGB", (8, 8), c) for c in ("lime", "blue", "white")]
    red.save(tmp_path / "a.png", save_all=True, default_image=True, append_images=others, duration=1000)
    (span,) = decode(tmp_path / "a.png")
    assert span.frames.rgb[:, 0, 0].tolist() == [[0, 255, 0], [0, 0, 255], [255, 255, 255]]


def test_frames_come_reduced(tmp_path: Path) -> None:
    (span,) = decode(write_animation(tmp_path / "a.gif", 3, size=(640, 360)), side=50)
    assert span.frames.rgb.shape[1:3] == (100, 178)
    (span,) = decode(write_animation(tmp_path / "a.png", 3, size=(20_000, 4)), side=10)
    assert span.frames.rgb.shape[1:3] == (1, 320)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_streamed(tmp_path: Path, kind: str) -> None:
    path = write_animation(tmp_path / f"a.{kind}", 100, duration_ms=500, size=(200, 150))
    tracemalloc.start()
    try:
        count = sum(len(span.frames.times_s) for span in read_video(path, DecodeHints(16, 1.0), DecodeOptions()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 50
    assert peak < 20 * 32 * 43 * 3 + 10 * 200 * 150 * 4  # two spans of small frames, and a few whole ones


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_animation_is_used_if_most_of_it_decodes(tmp_path: Path, kind: str) -> None:
    raw = write_animation(tmp_path / f"a.{kind}").read_bytes()
    path = tmp_path / f"a.{kind}"
    notes: list[str] = []
    for share in (0.8, 0.3):
        path.write_bytes(raw[: round(share * len(raw))])
        if share > 0.5 and kind != "webp":
            spans = list(read_video(path, DecodeHints(24, 10.0), DecodeOptions(), None, notes.append))
            (note,) = notes
            found = re.fullmatch(
                r"damaged or truncated: (\d+) of (\d+) frames can be decoded, the rest is missing", note
            )
            assert found
            assert sum(len(span.frames.times_s) for span in spans) == int(found[1])
            assert spans[-1].end_s == pytest.approx(0.2 * int(found[1]))
        elif kind != "gif":  # which does not tell how many frames it had
            what = "bytes exist" if kind == "webp" else "frames can be decoded"
            with pytest.raises(MediaError, match=rf"^damaged or truncated: \d+ of \d+ {what}$"):
                decode(path, frames_per_s=10)


@pytest.mark.parametrize("kind", KINDS)
def test_an_animation_has_an_eighth_of_a_pictures_pixels(tmp_path: Path, kind: str) -> None:
    path = write_animation(tmp_path / f"a.{kind}", 3)
    assert decode(path, max_pixels=8 * 64 * 48)
    with pytest.raises(
        MediaError, match=r"is 64x48 pixels: more than 3071 are not decoded \(an eighth of --limit pixels=N\)"
    ):
        decode(path, max_pixels=8 * 64 * 48 - 1)


def gif_of(frames: int, *, screen: int = 8, frame: int = 8, dispose: int = 0) -> bytes:
    """Return a GIF of frames in 24 bytes each; all but the first are `frame` pixels wide and high."""
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    control = b"!\xf9\x04" + struct.pack("<BHBB", dispose << 2, 10, 0, 0)

    def image(side: int) -> bytes:
        return control + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\0"

    return head + image(screen) + (frames - 1) * image(frame) + b";"


@pytest.mark.parametrize("dispose", [0, 2, 3])
def test_a_gif_whose_later_frames_are_huge_is_refused_before_they_are_decoded(tmp_path: Path, dispose: int) -> None:
    (tmp_path / "a.gif").write_bytes(gif_of(3, frame=60_000, dispose=dispose))
    assert classify(tmp_path / "a.gif", "a.gif", ()).modality is Modality.VIDEO
    with pytest.raises(MediaError, match="is 60000x60000 pixels: more than 25000000 are not decoded"):
        decode(tmp_path / "a.gif")
    (tmp_path / "b.gif").write_bytes(gif_of(1, screen=60_000, dispose=dispose))
    with pytest.raises(MediaError, match="is 60000x60000 pixels: more than 200000000 are not decoded"):
        read_image(tmp_path / "b.gif", DecodeHints(24, 1.0), DecodeOptions())


def test_gif_frames_that_are_huge_only_together_are_refused(tmp_path: Path) -> None:
    wide, tall = gif_of(2, frame=60_000), gif_of(2, frame=60_000)
    wide = wide.replace(struct.pack("<HH", 60_000, 60_000), struct.pack("<HH", 60_000, 100))
    tall = tall.replace(struct.pack("<HH", 60_000, 60_000), struct.pack("<HH", 100, 60_000))
    (tmp_path / "a.gif").write_bytes(wide[:-1] + tall[19:])
    with pytest.raises(MediaError, match="is 60000x60000 pixels"):
        decode(tmp_path / "a.gif")


def test_a_gif_of_very_many_large_frames_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(gif_of(10_000, screen=4000))
    with pytest.raises(
        MediaError, match=r"has 10000 frames of 4000x4000 pixels: more than 20000000000 in total are not decoded"
    ):
        decode(tmp_path / "a.gif")


def test_a_png_that_claims_frames_it_has_not_fails(tmp_path: Path) -> None:
    raw = bytearray(write_animation(tmp_path / "a.png", 3).read_bytes())
    place = raw.index(b"acTL")
    raw[place + 4 : place + 8] = struct.pack(">I", 1000)
    raw[place + 12 : place + 16] = struct.pack(">I", zlib.crc32(raw[place : place + 12]))
    (tmp_path / "a.png").write_bytes(raw)
    with pytest.raises(MediaError, match="damaged or truncated: 3 of 1000 frames can be decoded"):
        decode(tmp_path / "a.png")


def test_counting_ends_where_enough_are_found_and_where_blocks_are_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_frames(io.BytesIO(gif_of(500)), "gif") == 500
    assert count_frames(io.BytesIO(gif_of(500)), "gif", enough=2) == 2
    assert count_frames(io.BytesIO(b""), "gif") == 1
    monkeypatch.setattr(frames_module, "_MAX_BLOCKS", 1000)
    for kind, start, block in (
        ("gif", gif_of(1)[:-2], b"\x01\0"[:1] * 2),
        ("webp", b"RIFF\0\0\0\0WEBP", b"JUNK\0\0\0\0"),
        ("png", b"\x89PNG\r\n\x1a\n", bytes(4) + b"juNK" + bytes(4)),
    ):
        with pytest.raises(MediaError, match="the image file has more than 1000 blocks"):
            count_frames(io.BytesIO(start + 3000 * block), kind)


def test_damaged_animations_give_frames_or_fail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        raw = write_animation(tmp_path / f"a.{kind}", 6).read_bytes()
        for turn in range(30):
            path = tmp_path / f"{turn}.{kind}"
            path.write_bytes(damaged_files.damage(raw, random.Random(int(rng.integers(1 << 30)))))
            assert classify(path, path.name, ()).why
            damaged_files.decode(path, Modality.VIDEO)
            damaged_files.decode(path, Modality.IMAGE)


PALETTE = np.array([[255, 0, 0, 255], [0, 0, 255, 255], [0, 0, 0, 255], [0, 255, 0, 255], [0, 0, 0, 0]], np.uint8)


@settings(max_examples=25, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 24), st.integers(1, 24), st.integers(0, 3)),
        min_size=2, max_size=4, unique=True,
    )
)  # fmt: skip
def test_the_same_frames_look_alike_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[int, int, int, int, int]]
) -> None:
    """Each frame is one opaque box on a transparent canvas, and disappears with it."""
    folder = tmp_path_factory.mktemp("alike")
    layers = []
    for left, top, width, height, colour in boxes:
        indices = np.full((40, 48), 4)
        indices[top : top + height, left : left + width] = colour
        layers.append(PALETTE[indices])
    frames = [Image.fromarray(layer) for layer in layers]
    expected = [np.where(layer[..., 3:] > 0, layer[..., :3], 255) for layer in layers]
    for kind, how in (("gif", {"disposal": 2}), ("png", {"disposal": 1}), ("webp", {"lossless": True})):
        path = folder / f"a.{kind}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000, **how)
        spans = decode(path, frames_per_s=1.0)
        seen = np.concatenate([span.frames.rgb for span in spans])
        assert np.array_equal(seen, np.array(expected)), kind
        assert np.array_equal(read_image(path, DecodeHints(24, 1.0), DecodeOptions()).rgb, expected[0]), kind


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_transparent_level_of_grey_of_few_bits(tmp_path: Path, depth: int) -> None:
    levels = 1 << depth
    rows = np.tile(np.arange(levels, dtype=np.uint8), (2, 8 // depth))
    bits = np.unpackbits(rows[..., None], axis=-1)[..., 8 - depth :].reshape(2, -1)
    packed = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", rows.shape[1], 2, depth, 0, 0, 0, 0)
    for level in range(levels):
        (tmp_path / "a.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", level))
            + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
        )  # fmt: skip
        grey = read_image(tmp_path / "a.png", DecodeHints(24, 1.0), DecodeOptions()).rgb[0, :levels, 0].tolist()
        assert grey == [255 if one == level else one * 255 // (levels - 1) for one in range(levels)]
