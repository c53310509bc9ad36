"""Media files as cameras, recorders and other programs write them: the right pixels, colours, times and words.

Rebuilt from public bug reports. Most inputs are in `../shared/cases/media/open`, those that are simple to write are
written here as well; CASES.md there tells what is right, and why.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bindsearch.encoders import load_encoder
from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.decode import DecodedSegment, pieces
from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import NO_READING, DecodeHints, Frames, Picture, Sound, merge_readings
from bindsearch.types import Metadata, Modality, measured_metadata
from helpers.media_files import tone, write_sound
from helpers.stores import connect
from helpers.tiff_file import Page, write_tiff
from helpers.video_files import BLUE, GREEN, RED, YELLOW, are_near, corners, four_colours

OPEN = Path(__file__).parents[3] / "shared" / "cases" / "media" / "open"
WHITE = (255, 255, 255)
COLOURS = [RED, GREEN, BLUE, YELLOW]
YEAR_2300_S = 10_413_792_000


@dataclass(frozen=True, slots=True)
class Got:
    """What a file is taken for and gives; metadata as in the catalog, with what the decoder measured."""

    modality: Modality
    metadata: Metadata
    segments: list[DecodedSegment]

    @property
    def size(self) -> tuple[int | None, int | None]:
        return self.metadata.width_px, self.metadata.height_px


def got(path: Path) -> Got:
    verdict = classify(path, path.name, ())
    assert verdict.modality is not None, verdict.why
    segments = list(
        pieces(
            path,
            verdict.modality,
            wants=DecodeHints(224, 1.0),
            options=DecodeOptions(),
            sidecar=Sidecar(),
            count_tokens=lambda text: len(text.split()),
            max_tokens=200,
        )
    )
    reading = NO_READING
    for segment in segments:
        reading = merge_readings(reading, segment.reading)
    metadata = measured_metadata(reading.facts).merge_over(read_metadata(path, verdict.modality))
    return Got(verdict.modality, metadata, segments)


Check = Callable[[Path], None]


def picture(wanted: Sequence[tuple[int, ...]], tolerance: int = 12, size: tuple[int, int] | None = None) -> Check:
    def check(path: Path) -> None:
        found = got(path)
        media = found.segments[0].media
        assert isinstance(media, Picture | Frames)
        seen = corners(media.rgb if isinstance(media, Picture) else media.rgb[0])
        assert are_near(seen, wanted, tolerance), seen
        assert size is None or found.size == size

    return check


def sound(length_s: float, slack_s: float = 0.1, peaks: tuple[tuple[float, float], ...] = ()) -> Check:
    """Check length, and the frequency in Hz at times in seconds."""

    def check(path: Path) -> None:
        found = got(path)
        sounds = [one for one in found.segments if isinstance(one.media, Sound)]
        assert max(one.end_s or 0 for one in sounds) == pytest.approx(length_s, abs=slack_s)
        assert found.metadata.length_s == pytest.approx(length_s, abs=max(slack_s, 0.2))
        for time_s, wanted_hz in peaks:
            part = next(one for one in sounds if (one.start_s or 0) <= time_s < (one.end_s or 0))
            assert isinstance(part.media, Sound)
            rate_hz = part.media.sample_rate_hz
            cut = part.media.samples[round((time_s - (part.start_s or 0)) * rate_hz) :][: rate_hz // 2]
            peak = np.argmax(np.abs(np.fft.rfft(cut))[1:]) + 1
            assert peak * rate_hz / len(cut) == pytest.approx(wanted_hz, abs=30)

    return check


def frames(
    last: Sequence[tuple[int, ...]] | None = None, least: int = 1, size: tuple[int, int] | None = None, sounds: int = 0
) -> Check:
    def check(path: Path) -> None:
        found = got(path)
        shown = [rgb for one in found.segments if isinstance(one.media, Frames) for rgb in one.media.rgb]
        assert len(shown) >= least
        assert last is None or are_near(corners(shown[-1]), last), corners(shown[-1])
        assert size is None or found.size == size
        assert sum(isinstance(one.media, Sound) for one in found.segments) >= sounds

    return check


def tone_mapped(path: Path) -> None:
    """Check that red stands above green in the red corner: HDR shown without tone mapping is pale."""
    media = got(path).segments[0].media
    assert isinstance(media, Frames)
    red, green, _ = corners(media.rgb[0])[0]
    assert red - green >= 100


def text(wanted: str) -> Check:
    def check(path: Path) -> None:
        assert wanted in " ".join(one.text or "" for one in got(path).segments)

    return check


def not_damaged(path: Path) -> None:
    """Check that a valid file is read, or refused by a message that does not call it damaged."""
    said = ""
    try:
        got(path)
    except MediaError as error:
        said = str(error)
    assert "damaged" not in said


def taken_as(modality: Modality) -> Check:
    def check(path: Path) -> None:
        assert got(path).modality is modality

    return check


def indexed(*names: str, absent: str = "") -> Check:
    """Check a run on the folder, or on a copy of the file alone: these files or members are indexed."""

    def check(path: Path) -> None:
        work = path.parent / "work"
        root = work / "media"
        shutil.copytree(path, root) if path.is_dir() else shutil.copy(path, ensure(root))
        with connect(work / "store", encoder="null") as store:
            report = store.index(root)
            found = {hit.path.relative_to(root).as_posix() for hit in store.search("anything", k=100)}
        assert report.failed == 0
        assert all(any(one.endswith(name) for one in found) for name in names), found
        assert not absent or not any(absent in one for one in found), found

    return check


def ensure(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def changed_in_2300(path: Path) -> None:
    root = ensure(path.parent / "work" / "media")
    for name in ("a.png", "b.png"):
        shutil.copy(path, root / name)
    Image.open(path).transpose(Image.Transpose.ROTATE_90).save(root / "b.png")
    os.utime(root / "a.png", (YEAR_2300_S, YEAR_2300_S))
    with connect(root.parent / "store", encoder="null") as store:
        report = store.index(root)
        assert (report.added, report.failed) == (2, 0)
        assert store.index(root).added == 0


def moved(path: Path) -> None:
    """Check that a folder under another name leaves no hits of the former one, or that a notice tells it."""
    folder = ensure(path.parent / "work" / "old")
    shutil.copy(path, folder / "a.png")
    with connect(folder.parent / "store", encoder="null") as store:
        store.index(folder)
        folder.rename(folder.with_name("new"))
        store.index(folder.with_name("new"))
        assert [hit.path.parent.name for hit in store.search("anything", k=100)] == ["new"]


def edges_seen(path: Path) -> None:
    """Check that a red square at the left edge of an even grey panorama reaches the default encoder."""
    encoder = load_encoder("mini")
    views = np.asarray(encoder.prepare(got(path).segments[0].media), np.float32)
    assert np.ptp(views.reshape(len(views), -1), axis=1).max() > 10


CASES: dict[str, tuple[str, Check]] = {
    "01": ("nas/photo.png", changed_in_2300),
    "02": ("video_unknown_first_sound.mp4", frames(least=6, sounds=1)),
    "03": ("sidecars_list", indexed("photo_a.jpg")),
    "04": ("sound_id3.flac", sound(1.5)),
    "05": ("picture_bigtiff.tif", picture(COLOURS, size=(96, 64))),
    "06": ("sound_leading_zeros.mp3", sound(1.55)),
    "07": ("sound_bw64.wav", sound(1.5)),
    "08": ("sound_data_size_0.wav", sound(1.5)),
    "09": ("sound_chained.opus", sound(6.0, peaks=((1, 1000), (5, 500)))),
    "10": ("video_size_changes.webm", frames([BLUE] * 4, least=9, size=(640, 480))),
    "11": ("picture_thumbnail_first.tif", picture(COLOURS, size=(96, 64))),
    "12": ("video_sound_gap.mkv", sound(30, 0.3, ((1, 1000), (23, 1000), (27, 3000)))),
    "13": ("video_sound_gap.mp4", sound(30, 0.3, ((1, 1000), (23, 1000), (27, 3000)))),
    "14": ("sound_vbr_no_xing.mp3", sound(26.07, 0.2)),
    "15": ("picture_turned.tif", picture([BLUE, RED, YELLOW, GREEN], size=(64, 96))),
    "16": ("video_mirrored.mp4", frames([GREEN, RED, YELLOW, BLUE])),
    "17": ("video_flipped.mp4", frames([BLUE, YELLOW, RED, GREEN])),
    "18": ("picture_wide_gamut.jpg", picture(COLOURS, 16)),
    "19": ("video_pq.mp4", tone_mapped),
    "20": ("picture_uint32.tif", picture([(87,) * 3, (130,) * 3, (52,) * 3, (202,) * 3], 3)),
    "21": ("picture_sticker.webp", picture([RED, WHITE, WHITE, WHITE])),
    "22": ("picture_no_eoi.jpg", picture(COLOURS)),
    "23": ("sound_hole.flac", sound(8.0, 0.6)),
    "24": ("text_one_bad_byte.txt", text("Line one café")),
    "25": ("text_cp1251.txt", text("Лодки")),
    "26": ("text_gbk.txt", text("港口")),
    "27": ("picture_12bit.jpg", not_damaged),
    "28": ("archive_backslash.zip", indexed("a.jpg", "c.png")),
    "29": ("archive_unicode_path.zip", indexed("Отпуск/море.jpg")),
    "30": ("picture.jpg_large", taken_as(Modality.IMAGE)),
    "31": ("nas/photo.png", moved),
    "32": ("nas", indexed("photo.png", absent="@eaDir")),
    "33": ("picture_panorama.jpg", edges_seen),
    "34": ("sidecars_caption", indexed("photo_b.jpg")),
    "35": ("sound_id3.aac", sound(1.56)),
    "36 mp4": ("video_thumbnail_stream_first.mp4", frames(COLOURS, least=6, size=(320, 240))),
    "36 mkv": ("video_thumbnail_stream_first.mkv", frames(COLOURS, least=6, size=(320, 240))),
    "37": ("video_starts_at_1h.mkv", sound(6.03)),
    "38": ("video_turned.mkv", frames(size=(240, 320))),
    "39": ("text_koi8.txt", text("Лодки")),
    "40": ("picture_float_rgb.tif", not_damaged),
    "41": ("picture_cmyk_alpha.tif", not_damaged),
    "42": ("picture.mpo", taken_as(Modality.IMAGE)),
}
"""By the number in CASES.md: the input, and its check."""


@pytest.mark.skipif(not OPEN.is_dir(), reason="the inputs are not here")
@pytest.mark.parametrize("case", CASES)
def test_a_case_comes_out_right(case: str, tmp_path: Path) -> None:
    name, check = CASES[case]
    path = tmp_path / Path(name).name
    shutil.copytree(OPEN / name, path) if (OPEN / name).is_dir() else shutil.copy(OPEN / name, path)
    check(path)


def write_jpeg(path: Path, **options: object) -> Path:
    Image.fromarray(four_colours(96, 64)).save(path, "JPEG", quality=95, subsampling=0, **options)
    return path


def write_behind(path: Path, prefix: bytes, content: Path) -> None:
    """Write the sound of `content` behind other bytes, as its 1.5 s tone."""
    rate_hz = 44_100
    write_sound(content, tone(1.5, rate_hz, 1000), rate_hz)
    path.write_bytes(prefix + content.read_bytes())


def write_sidecar(folder: Path, name: str, document: object) -> None:
    folder.mkdir()
    write_jpeg(folder / name)
    (folder / f"{name}.json").write_text(json.dumps(document))


def write_patched_wav(path: Path, patch: Callable[[bytearray], None]) -> None:
    write_sound(path, tone(1.5, 22_050, 1000), 22_050)
    raw = bytearray(path.read_bytes())
    patch(raw)
    path.write_bytes(raw)


def patch_to_bw64(raw: bytearray) -> None:
    """Make a wav a BW64 (ITU-R BS.2088-1, clause 6): sizes of 64 bits in a chunk `ds64`."""
    riff, data = int.from_bytes(raw[4:8], "little"), int.from_bytes(raw[40:44], "little")
    raw[40:44] = raw[4:8] = b"\xff" * 4
    raw[:4] = b"BW64"
    raw[12:12] = b"ds64" + struct.pack("<IQQQI", 28, riff + 36, data, data // 2, 0)


def patch_sizes(raw: bytearray) -> None:
    raw[40:44] = raw[4:8] = bytes(4)


def write_sticker(path: Path) -> None:
    rgba = np.zeros((64, 96, 4), np.uint8)
    rgba[:32, :48] = (*RED, 255)
    first = Image.fromarray(rgba)
    second = first.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    first.save(path, save_all=True, append_images=[second], lossless=True, duration=1000)


def write_turned(path: Path) -> None:
    write_tiff(path, Page(four_colours(96, 64), {274: 6}))


def write_thumbnail_first(path: Path) -> None:
    write_tiff(path, Page(np.full((8, 12, 3), 255, np.uint8), {254: 1}), four_colours(96, 64))


def write_uint32(path: Path) -> None:
    levels = four_colours(96, 64, [(87,), (130,), (52,), (202,)])[..., 0].astype(np.uint32)
    write_tiff(path, levels << 24)


def write_panorama(path: Path) -> None:
    rgb = np.full((300, 9000, 3), 128, np.uint8)
    rgb[:, :300] = RED
    Image.fromarray(rgb).save(path, quality=90)


def write_nas(path: Path) -> None:
    (path / "@eaDir" / "photo.jpg").mkdir(parents=True)
    write_jpeg(path / "@eaDir" / "photo.jpg" / "SYNOPHOTO_THUMB_XL.jpg")
    Image.fromarray(four_colours(96, 64)[:, ::-1]).save(path / "photo.png")


def write_backslash_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("holiday|a.jpg", "holiday|sub|c.png"):
            member = zipfile.ZipInfo(name)
            member.create_system = 0  # DOS
            shade = four_colours(96, 64)[:: 1 if name.endswith("jpg") else -1]
            Image.fromarray(shade).save(path.with_suffix(name[-4:]))
            archive.writestr(member, path.with_suffix(name[-4:]).read_bytes())
    path.write_bytes(path.read_bytes().replace(b"|", b"\\"))


def write_unicode_path_zip(path: Path) -> None:
    name = "Отпуск/море.jpg"
    raw = name.encode("cp866")
    field = struct.pack("<BI", 1, zlib.crc32(raw)) + name.encode()
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("-" * len(raw))
        member.extra = struct.pack("<HH", 0x7075, len(field)) + field
        archive.writestr(member, write_jpeg(path.with_suffix(".jpg")).read_bytes())
    path.write_bytes(path.read_bytes().replace(b"-" * len(raw), raw))


ID3 = b"ID3\x04\0\0\0\0\0\x64" + bytes(100)
WRITTEN: dict[str, Callable[[Path], object]] = {
    "nas/photo.png": lambda path: Image.fromarray(four_colours(96, 64)).save(path),
    "sidecars_list": lambda path: write_sidecar(path, "photo_a.jpg", [{"SourceFile": "photo_a.jpg", "ISO": 100}]),
    "sidecars_caption": lambda path: write_sidecar(path, "photo_b.jpg", {"id": 5, "caption": "a flag", "width": 96}),
    "sound_id3.flac": lambda path: write_behind(path, ID3, path.with_name("bare.flac")),
    "sound_id3.aac": lambda path: write_behind(path, ID3, path.with_name("bare.aac")),
    "sound_leading_zeros.mp3": lambda path: write_behind(path, bytes(731), path.with_name("bare.mp3")),
    "picture_bigtiff.tif": lambda path: write_tiff(path, four_colours(96, 64), is_big=True),
    "picture_thumbnail_first.tif": write_thumbnail_first,
    "picture_turned.tif": write_turned,
    "picture_uint32.tif": write_uint32,
    "picture_sticker.webp": write_sticker,
    "picture_no_eoi.jpg": lambda path: path.write_bytes(write_jpeg(path).read_bytes()[:-2]),
    "picture.jpg_large": write_jpeg,
    "picture.mpo": write_jpeg,
    "picture_panorama.jpg": write_panorama,
    "sound_bw64.wav": lambda path: write_patched_wav(path, patch_to_bw64),
    "sound_data_size_0.wav": lambda path: write_patched_wav(path, patch_sizes),
    "text_one_bad_byte.txt": lambda path: path.write_bytes("Line one café.\nLine two na".encode() + b"\xefve.\n"),
    "text_cp1251.txt": lambda path: path.write_bytes("Лодки стоят в гавани до рассвета.".encode("cp1251")),
    "text_koi8.txt": lambda path: path.write_bytes("Лодки стоят в гавани до рассвета.".encode("koi8-r")),
    "text_gbk.txt": lambda path: path.write_bytes("清晨的港口停着三艘红色的小船。".encode("gbk")),
    "nas": write_nas,
    "archive_backslash.zip": write_backslash_zip,
    "archive_unicode_path.zip": write_unicode_path_zip,
}  # fmt: skip
"""Inputs of the same kinds that are simple to write."""


@pytest.mark.parametrize("case", [case for case, (name, _) in CASES.items() if name in WRITTEN])
def test_a_written_case_comes_out_right(case: str, tmp_path: Path) -> None:
    name, check = CASES[case]
    path = tmp_path / Path(name).name
    WRITTEN[name](path)
    check(path)
