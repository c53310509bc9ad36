"""Files made to exhaust a decoder: each is refused, or read, within bounds; and what the caps of size say."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import pieces
from bindsearch.ingest.media.imu.tables import read_table
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.recordings.audio import cut_sound, read_sound
from bindsearch.ingest.media.recordings.sound_track import SoundStream
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.texts.passages import passages
from bindsearch.media import DecodeHints
from bindsearch.types import Modality, Span
from helpers import media_files


def decode(path: Path, modality: Modality, sidecar: Sidecar | None = None, **limits: float) -> int:
    """Return the number of segments."""
    found = pieces(
        path, modality, wants=DecodeHints(24, 1.0), options=DecodeOptions(imu_rate_hz=50.0, **limits),  # type: ignore[arg-type]
        sidecar=sidecar or Sidecar(), count_tokens=lambda text: len(text.split()) + 2, max_tokens=64,
    )  # fmt: skip
    return sum(1 for _ in found)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_png_with_a_bomb_for_metadata_is_refused_or_read_without_it(
    tmp_path: Path, name: bytes, behind: bool
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    raw = file.getvalue()
    bomb = chunk(name, b"k\0" + (b"\1\0\0\0" if name == b"iTXt" else b"\0") + zlib.compress(bytes(100 << 20)))
    place = raw.index(b"IEND") - 4 if behind else 33
    (tmp_path / "a.png").write_bytes(raw[:place] + bomb + raw[place:])
    tracemalloc.start()
    try:
        if behind:  # all pixels precede it
            assert read_image(tmp_path / "a.png", DecodeHints(24, 1.0), DecodeOptions()).rgb.shape == (8, 8, 3)
        else:
            with pytest.raises(MediaError, match=r"^damaged .*Decompressed data too large"):
                read_image(tmp_path / "a.png", DecodeHints(24, 1.0), DecodeOptions())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_small_tiff_of_one_huge_tile_is_refused(tmp_path: Path) -> None:
    data = zlib.compress(bytes(20_000))  # a full tile of zeros would be 400 KB
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: 20_000, 323: 20_000, 324: 134, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    assert len(head) == tags[324]
    (tmp_path / "a.tif").write_bytes(head + data)
    message = r"a tile of the image is 20000x20000 pixels: more than 200000000 are not decoded \(--limit pixels=N\)"
    with pytest.raises(MediaError, match=message):
        read_image(tmp_path / "a.tif", DecodeHints(24, 1.0), DecodeOptions())


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_is_refused_before_its_canvas_is_allocated(tmp_path: Path, lossless: bool) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.webp", lossless=lossless)
    (tmp_path / "a.webp").write_bytes((tmp_path / "a.webp").read_bytes()[:40])  # too little for Pillow to open
    with pytest.raises(MediaError, match="is 200x100 pixels: more than 10000 are not decoded"):
        read_image(tmp_path / "a.webp", DecodeHints(24, 1.0), DecodeOptions(max_pixels=10_000))


@pytest.mark.parametrize(
    "text", ["." * 300_000, ".'" * 150_000, "。" * 300_000, "\n" + " " * 300_000, ("\n" + "1" * 500) * 600]
)
def test_a_text_of_marks_alone_takes_no_longer_than_another(text: str) -> None:
    start = time.monotonic()
    parts = list(passages(text, lambda part: 2 + -(-len(part) // 8), 64))
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert time.monotonic() - start < 10


def test_a_parquet_file_whose_texts_unfold_to_gigabytes_costs_nothing(tmp_path: Path) -> None:
    rows = 20_000
    note = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 1_000_000]))
    axes = dict.fromkeys(("ax", "ay", "az", "gx", "gy", "gz"), np.zeros(rows))
    parquet.write_table(pa.table({"note": note, **axes}), tmp_path / "a.parquet", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    before = pa.total_allocated_bytes()
    table = read_table(tmp_path / "a.parquet", DecodeOptions())
    assert list(table.columns) == ["note", *axes]  # a sidecar may name columns by number
    assert np.isnan(table.columns["note"]).all()
    assert pa.total_allocated_bytes() - before < 20_000_000


def test_an_npz_compressed_as_numpy_does_not_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", media_files.motion(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:  # its dictionary may be of 4 GB
        archive.write(tmp_path / "m.npy", "imu.npy")
    with pytest.raises(MediaError, match="a compression method that NumPy does not use"):
        decode(tmp_path / "a.npz", Modality.IMU)


def test_a_wav_of_a_hundred_thousand_chunks_is_read_as_if_it_were_whole(tmp_path: Path) -> None:
    path = media_files.write_sound(tmp_path / "a.wav", media_files.tone(1))
    raw = path.read_bytes()
    path.write_bytes(raw[:12] + 100_000 * (b"junk" + bytes(4)) + raw[12:])
    start = time.monotonic()
    assert decode(path, Modality.AUDIO) == 1
    assert time.monotonic() - start < 10


def test_numbers_beyond_all_measure_are_errors_without_warnings(tmp_path: Path) -> None:
    huge = np.full((100, 7), 1.7e308)
    np.save(tmp_path / "m.npy", huge[:, 1:])
    with pytest.raises(MediaError, match="row 1 has no number in column 'acc_x'"):
        decode(tmp_path / "m.npy", Modality.IMU, Sidecar(units={"accelerometer": "g"}))
    huge[:, 1:], huge[:50, 0] = 1, -1.7e308
    np.save(tmp_path / "t.npy", huge)
    with pytest.raises(MediaError, match=r"time column 'time' runs from -1.7e\+308 to 1.7e\+308"):
        decode(tmp_path / "t.npy", Modality.IMU)
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.full((1000, 2), 3e38, np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(MediaError, match="NaN or infinite samples"):
        decode(tmp_path / "a.wav", Modality.AUDIO)


def test_a_sound_longer_than_the_cap_is_refused_by_its_header(tmp_path: Path) -> None:
    message = r"the sound is 5 s long: more than 3 are not decoded \(--limit sound=N\)"
    for extension in ("wav", "flac", "m4a"):
        path = media_files.write_sound(tmp_path / f"a.{extension}", media_files.tone(5))
        found = read_sound(path, 1.0, max_s=3)
        with pytest.raises(MediaError, match=message):
            next(found)
        assert [round(part.end_s) for part in read_sound(path, 1.0, Span(3, 5), max_s=3)] == [4, 5]
    video = media_files.write_video(tmp_path / "a.mp4", 5, sound=media_files.tone(5, 48_000))
    assert decode(video, Modality.VIDEO, max_sound_s=3) == 1  # its pictures are kept


def test_a_sound_whose_header_says_no_length_ends_at_the_cap() -> None:
    stream = SoundStream(1000, 0, ((500 * n, np.zeros(500, np.float32)) for n in range(1_000_000)))
    found = cut_sound(stream, 5.0, max_s=20)
    assert [next(found).end_s for _ in range(3)] == [5, 10, 15]
    with pytest.raises(MediaError, match=r"more than 20 are not decoded"):
        next(found)


def write_picture(folder: Path) -> Path:
    return media_files.write_picture(folder / "a.png", np.zeros((40, 60, 3), np.uint8))


def write_array(folder: Path) -> Path:
    np.save(folder / "a.npy", np.ones((40, 60), np.float32))
    return folder / "a.npy"


def write_npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", imu=np.tile((0, 0, 9.8, 0, 0, 0), (100, 1)))
    return folder / "a.npz"


def write_parquet(folder: Path) -> Path:
    axes = dict.fromkeys(("ax", "ay", "az", "gx", "gy", "gz"), np.zeros(100)) | {"az": np.full(100, 9.8)}
    parquet.write_table(pa.table(axes), folder / "a.parquet")
    return folder / "a.parquet"


def write_csv(folder: Path) -> Path:
    return media_files.write_motion_csv(folder / "a.csv", media_files.motion(6))


def write_text(folder: Path) -> Path:
    (folder / "a.txt").write_text("word " * 40)
    return folder / "a.txt"


@pytest.mark.parametrize(
    ("write", "modality", "limits", "message"),
    [
        (write_picture, "image", {"max_pixels": 2000},
         "the image is 60x40 pixels: more than 2000 are not decoded (--limit pixels=N)"),
        (write_picture, "thermal", {"max_pixels": 2000},
         "the image is 60x40 pixels: more than 2000 are not decoded (--limit pixels=N)"),
        (lambda folder: media_files.write_video(folder / "a.mp4", 0.5), "video", {"max_pixels": 2000},
         "the video is 64x48 pixels: more than 2000 are not decoded (--limit pixels=N)"),
        (write_array, "depth", {"max_pixels": 2000},
         "the array is 60x40 pixels: more than 2000 are not decoded (--limit pixels=N)"),
        (write_array, "depth", {"max_array_bytes": 5000},
         "the array of shape (40, 60) has 9600 bytes: more than 5000 are not read (--limit array=N)"),
        (write_npz, "imu", {"max_array_bytes": 4000},
         "the arrays have 4928 bytes: more than 4000 are not read (--limit array=N)"),
        (write_npz, "imu", {"max_samples": 50},
         "the table has 100 rows: more than 50 are not read (--limit samples=N)"),
        (write_parquet, "imu", {"max_samples": 50},
         "the table has 100 rows: more than 50 are not read (--limit samples=N)"),
        (write_parquet, "imu", {"max_array_bytes": 4000},
         "the table has 4800 bytes: more than 4000 are not read (--limit array=N)"),
        (write_csv, "imu", {"max_array_bytes": 4000}, "bytes: more than 4000 are not read (--limit array=N)"),
        (write_csv, "imu", {"max_samples": 50},
         "the table has 300 rows: more than 50 are not read (--limit samples=N)"),
        (write_text, "text", {"max_text_bytes": 100},
         "the text has 200 bytes: more than 100 are not read (--limit text=N)"),
    ],
)  # fmt: skip
def test_every_cap_says_what_was_found_the_cap_and_the_option_that_raises_it(
    tmp_path: Path, write: Callable[[Path], Path], modality: str, limits: dict[str, float], message: str
) -> None:
    path = write(tmp_path)
    assert decode(path, Modality(modality), Sidecar()) > 0
    with pytest.raises(MediaError) as caught:
        decode(path, Modality(modality), Sidecar(), **limits)
    assert message in str(caught.value)
