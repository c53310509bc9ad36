"""What files say of themselves: EXIF and texts of pictures, tags of recordings; strange ones, which never fail."""

from __future__ import annotations

import io
import random
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.types import Metadata, Modality
from helpers import media_files

SIZE: dict[str, Any] = {"width_px": 40, "height_px": 20}
PARIS = {1: "N", 2: (48.0, 51.0, 27.72), 3: "E", 4: (2.0, 17.0, 42.0)}
EXIF = 0x8769
GPS = 0x8825


def make_exif(
    tags: dict[int, Any] | None = None, photo: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> Image.Exif:
    exif = Image.Exif()
    exif.update(tags or {})
    exif.update({tag: values for tag, values in ((EXIF, photo), (GPS, gps)) if values})
    return exif


def write_with_exif(path: Path, exif: Image.Exif | bytes) -> Path:
    Image.new("RGB", (40, 20)).save(path, exif=exif if isinstance(exif, bytes) else exif.tobytes())
    return path


def facts_of(path: Path, exif: Image.Exif | bytes) -> Metadata:
    """Return the metadata of a JPEG with this EXIF, without its size."""
    found = read_metadata(write_with_exif(path / "a.jpg", exif), Modality.IMAGE)
    return replace(found, width_px=None, height_px=None)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff", "a.avif"])
@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.DEPTH, Modality.THERMAL])
def test_exif_of_a_photo(tmp_path: Path, name: str, modality: Modality) -> None:
    tags = {0x010F: "Canon", 0x0110: "Canon EOS 5D", 0x010E: "The tower", 0x013B: "Nina", 0x0132: "2025:01:01 00:00:00"}
    photo = {0x9003: "2024:06:01 14:30:05", 0x9291: "25", 0x9011: "+02:00"}
    path = write_with_exif(tmp_path / name, make_exif(tags, photo, PARIS))
    assert read_metadata(path, modality) == Metadata(
        datetime(2024, 6, 1, 12, 30, 5, 250_000), 48.8577, 2.295, "Canon EOS 5D", "The tower", "Nina", **SIZE
    )


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.tiff", "a.bmp"])
def test_every_picture_has_a_size(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / name)
    assert read_metadata(tmp_path / name, Modality.IMAGE) == Metadata(**SIZE)


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (40, 20)), (3, (40, 20)), (6, (20, 40)), (8, (20, 40)), (99, (40, 20))]
)
def test_the_size_is_that_of_the_upright_picture(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    found = read_metadata(write_with_exif(tmp_path / "a.jpg", make_exif({0x0112: orientation})), Modality.IMAGE)
    assert (found.width_px, found.height_px) == size


def test_the_orientation_may_be_xmp(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"></x:xmpmeta>'
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", xmp=xmp)
    assert read_metadata(tmp_path / "a.jpg", Modality.IMAGE) == Metadata(width_px=20, height_px=40)


def write_raw(path: Path, orientation: int) -> Path:
    """Write a DNG of 64 x 48 pixels without a preview."""
    tags = {254: 0, 256: 64, 257: 48, 258: 16, 259: 1, 262: 32803, 271: "Leica", 272: "M11", 273: 1024,
            274: orientation, 277: 1, 278: 48, 279: 6144, 306: "2024:06:01 12:30:05", 33421: (2, 2), 33422: b"\0\1\1\2",
            50706: b"\1\4\0\0", 50708: "Leica M11"}  # fmt: skip
    directory = ImageFileDirectory_v2()
    directory.tagtype.update({33421: 3, 33422: 1, 50706: 1})
    for tag, value in tags.items():
        directory[tag] = value
    header = io.BytesIO()
    directory.save(header)
    path.write_bytes(header.getvalue().ljust(1024, b"\0") + bytes(6144))
    return path


@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 48)), (6, (48, 64)), (8, (48, 64))])
def test_a_raw_picture_has_the_facts_of_the_whole(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    pytest.importorskip("rawpy")
    found = read_metadata(write_raw(tmp_path / "a.dng", orientation), Modality.IMAGE)
    assert found == Metadata(datetime(2024, 6, 1, 12, 30, 5), camera="Leica M11", width_px=size[0], height_px=size[1])


@pytest.mark.parametrize("start", [b"IIRO", b"IIU\0"])
def test_a_raw_picture_that_is_almost_tiff_has_its_exif(tmp_path: Path, start: bytes) -> None:
    path = write_raw(tmp_path / "a.raw", 1)
    path.write_bytes(start + path.read_bytes()[4:])
    assert read_metadata(path, Modality.IMAGE).camera == "Leica M11"


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animation_has_a_size(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (40, 20), colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100)
    assert read_metadata(tmp_path / name, Modality.VIDEO) == Metadata(**SIZE)


@pytest.mark.parametrize(
    ("tags", "photo", "taken"),
    [
        ({0x0132: "2024:06:01 12:30:05"}, {}, datetime(2024, 6, 1, 12, 30, 5)),
        ({0x0132: "2024:06:01 12:30:05"}, {0x9010: "-01:30"}, datetime(2024, 6, 1, 14, 0, 5)),
        ({}, {0x9004: "2024:06:01 12:30:05", 0x9292: "5"}, datetime(2024, 6, 1, 12, 30, 5, 500_000)),
        ({}, {0x9003: "0000:00:00 00:00:00", 0x9004: "2024:06:01 12:30:05"}, datetime(2024, 6, 1, 12, 30, 5)),
        ({}, {0x9003: "2024-06-01T12:30:05+0200"}, datetime(2024, 6, 1, 10, 30, 5)),
        ({}, {0x9003: "2024/6/1 9:30"}, datetime(2024, 6, 1, 9, 30)),
        ({}, {0x9003: "2024:06:01 12:30:05", 0x9291: "0000000009"}, datetime(2024, 6, 1, 12, 30, 5)),
        ({}, {0x9003: "2024:06:01 12:30:05", 0x9011: "  :  "}, datetime(2024, 6, 1, 12, 30, 5)),
        ({}, {0x9003: "2024:06:01 12:30:05", 0x9011: "+99:00"}, datetime(2024, 6, 1, 12, 30, 5)),
        ({}, {0x9003: "2024:06:31 12:30:05"}, None),
        ({}, {0x9003: "2024:12:31 24:00:00"}, datetime(2025, 1, 1)),
        ({}, {0x9003: "2024:12:31 24:00:01"}, None),
        ({}, {0x9003: "    :  :     :  :  "}, None),
        ({}, {0x9003: "1970:01:01 00:00:00"}, None),
        ({}, {0x9003: "yesterday"}, None),
        ({}, {0x9003: "0001:01:01 00:00:00", 0x9011: "+05:00"}, datetime(1, 1, 1)),
    ],
)  # fmt: skip
def test_times_of_photos(tmp_path: Path, tags: dict[int, Any], photo: dict[int, Any], taken: datetime | None) -> None:
    assert facts_of(tmp_path, make_exif(tags, photo)) == Metadata(taken)


@pytest.mark.parametrize(
    ("gps", "place"),
    [
        ({1: "S", 2: (33.0, 51.6, 0.0), 3: "w\0", 4: (70.5, 0.0, 0.0)}, (-33.86, -70.5)),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (6.0, 30.0, 0.0)}, (0.0, 6.5)),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, (None, None)),
        ({2: (48.0, 51.0, 27.72), 4: (2.0, 17.0, 42.0)}, (None, None)),
        ({**PARIS, 1: "X"}, (None, None)),
        ({**PARIS, 2: (91.0, 0.0, 0.0)}, (None, None)),
        ({**PARIS, 4: (180.0, 0.0, 1.0)}, (None, None)),
        ({**PARIS, 2: (48.0, IFDRational(51, 0), 27.72)}, (None, None)),
        ({**PARIS, 4: (IFDRational(0, 0),) * 3}, (None, None)),
        ({**PARIS, 2: (1.0, 2.0, 3.0, 4.0)}, (None, None)),
        ({**PARIS, 2: 48.5}, (48.5, 2.295)),
    ],
)
def test_places_of_photos(tmp_path: Path, gps: dict[int, Any], place: tuple[float | None, float | None]) -> None:
    assert facts_of(tmp_path, make_exif(gps=gps)) == Metadata(None, *place)


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("FUJIFILM\0\0", "  X100V  \0junk", "FUJIFILM X100V"),
        ("canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("Leica", None, "Leica"),
        (None, "X100", "X100"),
        (" ", "\0", None),
    ],
)
def test_a_make_is_not_said_twice(tmp_path: Path, make: str | None, model: str | None, camera: str | None) -> None:
    tags = {tag: value for tag, value in ((0x010F, make), (0x0110, model)) if value is not None}
    assert facts_of(tmp_path, make_exif(tags)) == Metadata(camera=camera)


def test_titles_that_no_person_wrote_are_none(tmp_path: Path) -> None:
    for title in ("OLYMPUS DIGITAL CAMERA         ", "SONY DSC", '{"shape": [2, 3]}', "<?xml version='1.0'?>", " "):
        assert facts_of(tmp_path, make_exif({0x010E: title})) == Metadata()


def test_texts_of_windows_are_utf_16_and_others_utf_8(tmp_path: Path) -> None:
    wide = {0x9C9B: "Der Türm\0".encode("utf-16-le"), 0x9C9D: "日本\0".encode("utf-16-le")}
    assert facts_of(tmp_path, make_exif({**wide, 0x010E: "SONY DSC"})) == Metadata(title="Der Türm", artist="日本")
    for raw in ("café 日本".encode(), b"caf\xe9 du nord "):
        exif = make_exif({0x010E: "x" * len(raw)}).tobytes().replace(b"x" * len(raw), raw)
        assert facts_of(tmp_path, exif).title in ("café 日本", "café du nord")


def test_texts_are_one_printable_line_of_bounded_length(tmp_path: Path) -> None:
    assert facts_of(tmp_path, make_exif({0x010E: "a\r\n\t b\x1b[31m" + "x" * 9_000})).title == "a b [31m" + "x" * 492
    assert normalize_text("a\ud800b\u202ec\u2028d") == "a?b c d"
    assert normalize_text("\u200b \0\n") is None


@pytest.mark.parametrize("created", ["2024:06:01 12:30:05", "Sat, 01 Jun 2024 14:30:05 +0200", "2024-06-01T12:30:05Z"])
def test_texts_of_a_png(tmp_path: Path, created: str) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "The tower")
    texts.add_itxt("Author", "日本", zip=True)
    texts.add_text("Creation Time", created)
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png", pnginfo=texts)
    wanted = Metadata(datetime(2024, 6, 1, 12, 30, 5), title="The tower", artist="日本", **SIZE)
    assert read_metadata(tmp_path / "a.png", Modality.IMAGE) == wanted


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_the_pixels_are_not_needed(tmp_path: Path, name: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / name, exif=make_exif({0x0110: "X100"}))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 10])
    wanted = Metadata(camera="X100", width_px=400, height_px=300)
    assert read_metadata(tmp_path / name, Modality.IMAGE) == wanted


def hostile_exif(count: int = 1, kind: int = 2, at: int = 8, tag: int = 0x010E) -> bytes:
    """EXIF of a good camera and one more tag, whose value has `count` parts of a kind, at a place."""
    camera = struct.pack("<HHL4s", 0x0110, 2, 4, b"X10\0")
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + camera + struct.pack("<HHLL", tag, kind, count, at) + bytes(4)


@pytest.mark.parametrize(
    "exif",
    [
        hostile_exif(count=2**32 - 1),
        hostile_exif(count=2**31, kind=5, at=2**32 - 1),
        hostile_exif(count=60_000, kind=12),
        hostile_exif(kind=99),
        hostile_exif(tag=EXIF, kind=4, at=2**32 - 1),
        hostile_exif(tag=EXIF, kind=4, at=8),
        hostile_exif(tag=GPS, kind=2, count=4),
        hostile_exif(tag=GPS, kind=5, at=8),
        hostile_exif(tag=0x0112, kind=12, count=1, at=8),
    ],
)
def test_a_bad_tag_leaves_the_others(tmp_path: Path, exif: bytes) -> None:
    found = read_metadata(write_with_exif(tmp_path / "a.jpg", exif), Modality.IMAGE)
    assert (found.camera, found.width_px, found.height_px) == ("X10", 40, 20)


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II", b"Exif\0\0XX*\0" + bytes(8), b"Exif\0\0MM\0*" + b"\xff" * 90, b"no EXIF"]
)
def test_what_is_no_exif_leaves_the_size(tmp_path: Path, exif: bytes) -> None:
    assert read_metadata(write_with_exif(tmp_path / "a.jpg", exif), Modality.IMAGE) == Metadata(**SIZE)


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.webp", "a.tiff", "a.dng", "a.mp4", "a.mp3", "a.flac", "a.ogg", "a.wav"]
)
def test_damaged_files_never_fail(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".dng":
        write_raw(path, 1)
    elif path.suffix in (".jpg", ".png", ".webp", ".tiff"):
        write_with_exif(path, make_exif({0x010F: "Canon", 0x010E: "x" * 50}, {0x9003: "2024:06:01 12:30:05"}, PARIS))
    else:
        write_recording(path, {"title": "Rain", "location": "+48.8577+002.295/"})
    whole, chance = path.read_bytes(), random.Random(0)
    for round in range(60):
        raw = bytearray(whole[: chance.randrange(len(whole))] if round % 3 == 0 else whole)
        for _ in range(chance.choice([1, 4, 40])):
            if raw:
                raw[chance.randrange(min(len(raw), 600))] = chance.choice([0, 0xFF, chance.randrange(256)])
        path.write_bytes(raw)
        found = read_metadata(path, Modality.IMAGE)
        assert all(text is None or text.isprintable() for text in (found.title, found.camera, found.artist))
        assert found.latitude is None or abs(found.latitude) <= 90


def test_thousands_of_tags_that_share_their_bytes_cost_nothing(tmp_path: Path) -> None:
    """Each of the 5000 tags has 60,000 bytes: read whole they would be 300 MB, and gigabytes as numbers."""
    shared = b"".join(struct.pack("<HHLL", tag, 3, 30_000, 8) for tag in range(0x9000, 0x9000 + 5_000))
    photo = struct.pack("<HHHLLL", 1, EXIF, 4, 1, 26, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<L", 8) + photo + struct.pack("<H", 5_000) + shared
    path = write_with_exif(tmp_path / "a.jpg", exif)
    started = time.perf_counter()
    assert read_metadata(path, Modality.IMAGE) == Metadata(**SIZE)
    assert time.perf_counter() - started < 0.5


def test_a_file_of_another_kind_or_none_is_unreadable_now(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    (tmp_path / "b.jpg").write_bytes(b"")
    for name in ("a.jpg", "b.jpg", "missing.jpg"):
        assert read_metadata(tmp_path / name, Modality.IMAGE) == Metadata()
    picture = write_with_exif(tmp_path / "c.jpg", make_exif({0x0110: "X100"}))
    assert read_metadata(picture, Modality.TEXT) == read_metadata(picture, Modality.IMU) == Metadata()


def write_recording(path: Path, tags: dict[str, str], *, seconds: float = 1.0, rotation: int = 0) -> Path:
    """Write a video (mp4, mov, mkv) or a sound (mp3, flac, ogg, wav, m4a) with tags."""
    import av

    if path.suffix == ".ogg":
        return write_ogg(path, tags, seconds)
    plain = path.with_name("plain" + path.suffix)
    if path.suffix in (".mp4", ".mov", ".mkv"):
        media_files.write_video(plain, seconds, rotation=rotation)
    else:
        media_files.write_sound(plain, media_files.tone(seconds))
    options = {"movflags": "use_metadata_tags"} if any(key.startswith("com.") for key in tags) else {}
    with av.open(str(plain)) as source, av.open(str(path), "w", options=options) as target:
        target.metadata.update(tags)
        stream: Any = target.add_stream_from_template(source.streams[0])
        if rotation:
            stream.set_display_rotation(rotation)
        for packet in source.demux(source.streams[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def write_ogg(path: Path, tags: dict[str, str], seconds: float) -> Path:
    import soundfile

    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for name in {"title", "artist", "date"} & tags.keys():
            setattr(file, name, tags[name])
        file.write(media_files.tone(seconds))
    return path


def said(path: Path, modality: Modality) -> Metadata:
    """Return the metadata of a recording, without its length and size."""
    return replace(read_metadata(path, modality), length_s=None, width_px=None, height_px=None)


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.ogg", "a.wav", "a.m4a"])
def test_tags_of_sounds(tmp_path: Path, name: str) -> None:
    tags = {"title": "Régen\n2", "artist": "Nina", "date": "2024-06-01"}
    found = read_metadata(write_recording(tmp_path / name, tags, seconds=1.5), Modality.AUDIO)
    assert found.length_s == pytest.approx(1.5, abs=0.15)
    assert replace(found, length_s=None) == Metadata(datetime(2024, 6, 1), title="Régen 2", artist="Nina")


def test_a_year_alone_is_no_time(tmp_path: Path) -> None:
    assert said(write_recording(tmp_path / "a.mp3", {"date": "1984"}), Modality.AUDIO) == Metadata()


def test_tags_of_a_video(tmp_path: Path) -> None:
    tags = {"title": "The sea", "artist": "Nina", "location": "-33.8600+151.2094/",
            "creation_time": "2024-06-01T12:30:05.000000Z"}  # fmt: skip
    found = read_metadata(write_recording(tmp_path / "a.mp4", tags), Modality.VIDEO)
    assert found.length_s == pytest.approx(1.0, abs=0.11)
    assert replace(found, length_s=None) == Metadata(
        datetime(2024, 6, 1, 12, 30, 5), -33.86, 151.2094, None, "The sea", "Nina", width_px=64, height_px=48
    )


def test_tags_of_a_telephones_video(tmp_path: Path) -> None:
    tags = {
        "com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone 15",
        "com.apple.quicktime.creationdate": "2024-06-01T14:30:05+0200", "creation_time": "2025-01-01T00:00:00Z",
        "com.apple.quicktime.location.ISO6709": "+4851.462+00217.7+035.1/",
    }  # fmt: skip
    found = said(write_recording(tmp_path / "a.mov", tags), Modality.VIDEO)
    assert found == Metadata(datetime(2024, 6, 1, 12, 30, 5), 48.8577, 2.295, "Apple iPhone 15")


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("+485127.72+0021742/", (48.8577, 2.295)),
        ("+48.8577-002.295", (48.8577, -2.295)),
        ("+0.5+2.25/", (0.5, 2.25)),
        ("+00.0000+000.0000/", (None, None)),
        ("+91.0+002.0/", (None, None)),
        ("+123+4/", (None, None)),
        ("+" + "9" * 400 + "+1/", (None, None)),
        ("Paris", (None, None)),
    ],
)
def test_places_of_recordings(tmp_path: Path, location: str, place: tuple[float | None, float | None]) -> None:
    assert said(write_recording(tmp_path / "a.mkv", {"location": location}), Modality.VIDEO) == Metadata(None, *place)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_the_size_is_that_of_the_upright_video(tmp_path: Path, name: str, rotation: int) -> None:
    found = read_metadata(write_recording(tmp_path / name, {}, rotation=rotation), Modality.VIDEO)
    assert (found.width_px, found.height_px) == ((48, 64) if rotation in (90, 270) else (64, 48))


def test_a_clock_at_zero_tells_no_time(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mkv", {"creation_time": "1970-01-01T00:00:00Z"})
    assert said(path, Modality.VIDEO) == Metadata()


def test_a_field_recorders_wav_tells_when_it_began(tmp_path: Path) -> None:
    media_files.write_sound(tmp_path / "plain.wav", media_files.tone(0.5))
    whole = (tmp_path / "plain.wav").read_bytes()
    origin = bytes(256 + 32 + 32) + b"2024-06-01" + b"12:30:05" + bytes(8 + 2 + 64 + 190)
    chunk = b"bext" + struct.pack("<L", len(origin)) + origin
    riff = struct.pack("<L", len(whole) - 8 + len(chunk))
    (tmp_path / "a.wav").write_bytes(whole[:4] + riff + whole[8:12] + chunk + whole[12:])
    found = read_metadata(tmp_path / "a.wav", Modality.AUDIO)
    assert found == Metadata(datetime(2024, 6, 1, 12, 30, 5), length_s=0.5)


def test_a_cover_is_no_picture_of_a_sound(tmp_path: Path) -> None:
    media_files.write_sound(tmp_path / "plain.mp3", media_files.tone(0.5))
    cover = io.BytesIO()
    Image.new("RGB", (40, 20)).save(cover, "PNG")
    frame = b"\0image/png\0\3\0" + cover.getvalue()
    body = b"APIC" + struct.pack(">LH", len(frame), 0) + frame
    size = bytes((len(body) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    (tmp_path / "a.mp3").write_bytes(b"ID3\3\0\0" + size + body + (tmp_path / "plain.mp3").read_bytes())
    found = read_metadata(tmp_path / "a.mp3", Modality.AUDIO)
    assert found.length_s == pytest.approx(0.5, abs=0.15)
    assert (found.width_px, found.height_px) == (None, None)


@pytest.mark.parametrize("make", [lambda size: bytes(4) + size, lambda size: size + bytes(4)])
def test_boxes_that_go_nowhere_end(tmp_path: Path, make: Callable[[bytes], bytes]) -> None:
    path = write_recording(tmp_path / "a.mp4", {"title": "The sea"}, rotation=90)
    path.write_bytes(path.read_bytes() + b"".join(make(struct.pack(">L", n)) for n in (0, 1, 7, 8, 2**32 - 1)) * 100)
    found = read_metadata(path, Modality.VIDEO)
    assert (found.title, found.width_px, found.height_px) == ("The sea", 48, 64)
