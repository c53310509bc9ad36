"""Files of every kind, and damage to them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers import media_files

OPTIONS = DecodeOptions(imu_rate_hz=50.0)


def write_media_file(folder: Path, name: str) -> Path:
    """Write a sound file of the kind of its extension."""
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
        media_files.write_sound(path, media_files.tone(1, rate_hz), rate_hz)
    elif stem == "video":
        codec = {"webm": "libvpx-vp9", "mkv": "libx264"}.get(extension, "mpeg4")
        media_files.write_video(path, 1, codec=codec, sound=media_files.tone(1, 48_000))
    elif extension == "csv":
        media_files.write_motion_csv(path, media_files.motion(3))
    elif extension == "npy":
        np.save(path, media_files.motion(3))
    elif extension == "npz":
        np.savez_compressed(path, imu=media_files.motion(3))
    elif extension == "parquet":
        names = ("ax", "ay", "az", "gx", "gy", "gz")
        parquet.write_table(pa.table(dict(zip(names, media_files.motion(3).T, strict=True))), path)
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
