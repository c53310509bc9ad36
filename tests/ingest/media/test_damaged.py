"""Damaged files: whatever is done to a file, its decoder gives media or a MediaError, soon and within bounds."""

from __future__ import annotations

import random
import runpy
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.decode import describe, pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints
from bindsearch.types import Modality

files = runpy.run_path(str(Path(__file__).parents[2] / "media_files.py"))
OPTIONS = DecodeOptions(imu_rate_hz=50.0)
DAMAGES = 12


def make(folder: Path, name: str) -> Path:
    """A sound file of the kind its name says."""
    path = folder / name
    stem, extension = path.stem, path.suffix[1:]
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    if stem == "image":
        Image.fromarray(noise).save(path)
    elif stem in ("depth", "thermal"):
        values = noise[:, :, 0].astype(np.uint16) * 20
        np.save(path, values.astype(np.float32)) if extension == "npy" else Image.fromarray(values).save(path)
    elif stem == "audio":
        rate_hz = 48_000 if extension == "opus" else 16_000
        files["write_sound"](path, files["tone"](1, rate_hz), rate_hz)
    elif stem == "video":
        codec = {"webm": "libvpx-vp9", "mkv": "libx264"}.get(extension, "mpeg4")
        files["write_video"](path, 1, codec=codec, sound=files["tone"](1, 48_000))
    elif extension == "csv":
        files["write_motion_csv"](path, files["motion"](3))
    elif extension == "npy":
        np.save(path, files["motion"](3))
    elif extension == "npz":
        np.savez_compressed(path, imu=files["motion"](3))
    elif extension == "parquet":
        names = ("ax", "ay", "az", "gx", "gy", "gz")
        parquet.write_table(pa.table(dict(zip(names, files["motion"](3).T, strict=True))), path)
    else:
        path.write_text("A cat sat. A dog ran!\n\n" * 40)
    return path


def damage(raw: bytes, rng: random.Random) -> bytes:
    """Flip bits, cut, blank, overwrite with noise or with extreme integers."""
    out = bytearray(raw)
    place = rng.randrange(len(out))
    how = rng.choice(("flip", "head", "cut", "blank", "noise", "integer", "repeat"))
    if how == "flip":
        for _ in range(rng.choice((1, 10, 100))):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif how == "head":
        out[rng.randrange(min(100, len(out)))] = rng.choice((0, 127, 128, 255))
    elif how == "cut":
        del out[place:]
    elif how == "blank":
        out[place : place + 200] = bytes(len(out[place : place + 200]))
    elif how == "noise":
        out[place : place + 50] = rng.randbytes(len(out[place : place + 50]))
    elif how == "integer":
        out[place : place + 4] = rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
    else:
        out[place:] = out[place // 2 :]
    return bytes(out)


def decode(path: Path, modality: Modality) -> None:
    """Decode to the end; a MediaError must be one line that does not name the file."""
    reason = ""
    try:
        for piece in pieces(
            path, modality, wants=DecodeHints(24, 2.0), options=OPTIONS, sidecar=Sidecar(),
            count_tokens=lambda text: len(text.split()) + 2, max_tokens=64,
        ):  # fmt: skip
            for name in ("samples", "values", "depth_m"):
                values = getattr(piece.media, name, None)
                assert values is None or (values.size and np.isfinite(values).all())
    except MediaError as error:
        reason = str(error)
    assert "\n" not in reason
    assert str(path.parent) not in reason


@pytest.mark.parametrize(
    "name",
    [
        "image.jpg", "image.png", "image.webp", "image.gif", "image.tif", "image.bmp", "depth.png", "depth.tif",
        "depth.npy", "thermal.png", "thermal.npy", "audio.wav", "audio.flac", "audio.ogg", "audio.mp3", "audio.opus",
        "audio.m4a", "audio.aac", "video.mp4", "video.mov", "video.mkv", "video.webm", "video.avi", "imu.csv",
        "imu.npy", "imu.npz", "imu.parquet", "text.md",
    ],
)  # fmt: skip
def test_damage_gives_media_or_a_media_error(tmp_path: Path, name: str) -> None:
    modality = Modality(Path(name).stem)
    whole = make(tmp_path, name)
    decode(whole, modality)
    raw, rng = whole.read_bytes(), random.Random(name)
    for turn in range(DAMAGES):
        path = tmp_path / f"{turn}_{name}"
        path.write_bytes(damage(raw, rng))
        start = time.monotonic()
        assert classify(path, path.name, ()).why
        describe(path, modality, Sidecar(), OPTIONS)
        decode(path, modality)
        assert time.monotonic() - start < 20


@pytest.mark.parametrize("name", ["image.jpg", "audio.wav", "video.mp4", "imu.npz", "text.md", "imu.parquet"])
@pytest.mark.parametrize("modality", list(Modality))
def test_any_file_may_be_given_as_any_modality(tmp_path: Path, name: str, modality: Modality) -> None:
    decode(make(tmp_path, name), modality)


@pytest.mark.parametrize("cut", [0.3, 0.7])
def test_a_truncated_mp4_fails(tmp_path: Path, cut: float) -> None:
    path = make(tmp_path, "video.mp4")
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(MediaError):
        list(
            pieces(
                path, Modality.VIDEO, wants=DecodeHints(24, 2.0), options=OPTIONS, sidecar=Sidecar(),
                count_tokens=len, max_tokens=64,
            )
        )  # fmt: skip
