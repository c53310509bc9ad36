"""Damaged files: whatever is done to a file, its decoder gives media or a MediaError, soon and within bounds."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.decode import describe, pieces
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers.damaged_files import OPTIONS, damage, decode, write_media_file

DAMAGES = 12


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
    whole = write_media_file(tmp_path, name)
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
    decode(write_media_file(tmp_path, name), modality)


@pytest.mark.parametrize("cut", [0.3, 0.7])
def test_a_truncated_mp4_fails(tmp_path: Path, cut: float) -> None:
    path = write_media_file(tmp_path, "video.mp4")
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(MediaError):
        list(
            pieces(
                path, Modality.VIDEO, wants=DecodeHints(24, 2.0), options=OPTIONS, sidecar=Sidecar(),
                count_tokens=len, max_tokens=64,
            )
        )  # fmt: skip
