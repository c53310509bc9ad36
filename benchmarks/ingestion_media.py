"""Files to index: any number, each with different bytes, so that none counts as a copy of another.

Images, sounds and videos are a few generated (or real) ones, written many times with different tails that decoders
ignore: decoding is the same work, and no two files have the same hash.
"""

from __future__ import annotations

import io
import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from main_job import SMALL_PX, make_pictures
from numpy.typing import NDArray
from PIL import Image

MEDIA_FILES = Path(__file__).parents[1] / "tests" / "helpers" / "media_files.py"
LARGE_PX, MEDIUM_PX = (4000, 3000), (1632, 1224)
SOUND_S, SOUND_RATE_HZ = 10.0, 44_100
VIDEO_S, VIDEO_PX, VIDEO_FPS = 20.0, (640, 360), 25
FILES_A_FOLDER = 1000


@dataclass(frozen=True)
class MediaKind:
    """A kind of file; `make` writes the different ones into a new folder."""

    name: str
    title: str
    make: Callable[[Path], Sequence[Path]]


def kinds(data: Path | None) -> list[MediaKind]:
    """Return the generated kinds, and with `data` the real recordings below it."""
    media_kinds = [
        MediaKind("large", "12-megapixel JPEGs", lambda folder: make_pictures(folder, 6, LARGE_PX)),
        MediaKind("medium", "2-megapixel JPEGs", lambda folder: make_pictures(folder, 24, MEDIUM_PX)),
        MediaKind("small", "366x256 JPEGs", lambda folder: make_pictures(folder, 200, SMALL_PX)),
        MediaKind("sounds", "10 s of stereo wav, 44.1 kHz", make_sounds),
        MediaKind("videos", "20 s of 640x360 H.264 with sound", make_videos),
    ]
    if data is not None:
        media_kinds += [
            MediaKind("real-sounds", "real flac, 5 s, ESC-10", lambda _: sorted(data.glob("audio_esc10/*/*.flac"))),
            MediaKind("real-videos", "real H.264 clips", lambda _: sorted(data.glob("video_clips/clips/*.mp4"))),
        ]
    return media_kinds


def make_sounds(folder: Path, n: int = 16) -> list[Path]:
    """Write tones that rise over noise, int16 stereo."""
    folder.mkdir()
    write_sound = runpy.run_path(str(MEDIA_FILES))["write_sound"]
    rng = np.random.default_rng(5)
    times_s = np.arange(round(SOUND_S * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    paths = []
    for number in range(n):
        tone = np.sin(2 * np.pi * (200.0 + 50 * number) * times_s * (1 + times_s / SOUND_S))
        samples = 0.3 * tone[:, None] + 0.1 * rng.standard_normal((len(times_s), 2))
        paths.append(write_sound(folder / f"{number}.wav", samples.astype(np.float32), SOUND_RATE_HZ))
    return paths


def make_videos(folder: Path, n: int = 4) -> list[Path]:
    """Write videos that pan over a photo, with a rising tone."""
    from sklearn.datasets import load_sample_image

    folder.mkdir()
    write_video = runpy.run_path(str(MEDIA_FILES))["write_video"]
    width, height = VIDEO_PX
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((3 * width // 2, 3 * height // 2))
    pixels = np.asarray(photo)
    times_s = np.arange(round(VIDEO_S * 48_000)) / 48_000
    paths = []
    for number in range(n):

        def window(time_s: float, number: int = number) -> NDArray[np.uint8]:
            share = (time_s / VIDEO_S + number / n) % 1.0
            top, left = round(share * height / 2), round((1 - share) * width / 2)
            return np.ascontiguousarray(pixels[top : top + height, left : left + width])

        tone = 0.3 * np.sin(2 * np.pi * (200.0 + 50 * number) * times_s * (1 + times_s / VIDEO_S))
        path = folder / f"{number}.mp4"
        sound = tone.astype(np.float32)
        paths.append(
            write_video(path, VIDEO_S, size=VIDEO_PX, fps=VIDEO_FPS, codec="libx264", picture=window, sound=sound)
        )
    return paths


def multiply(made: Sequence[Path], folder: Path, n: int) -> list[Path]:
    """Write `n` files with the content of those in `made`, in turn, each with a different tail."""
    contents = [path.read_bytes() for path in made]
    folder.mkdir(parents=True)
    paths = []
    for number in range(n):
        source = made[number % len(made)]
        paths.append(folder / f"{number:06d}{source.suffix}")
        tail = number.to_bytes(8, "big")
        if source.suffix == ".mp4":
            tail = b"\0\0\0\x10free" + tail  # a box of 16 bytes to skip
        paths[-1].write_bytes(contents[number % len(made)] + tail)
    return paths


def write_tiny(folder: Path, n: int) -> None:
    """Write `n` different files of about 1 KB: JPEGs, PNGs and texts in turn, 1,000 per folder."""
    pixels = np.random.default_rng(7).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
    jpeg, png = io.BytesIO(), io.BytesIO()
    picture.save(jpeg, "JPEG", quality=85)
    picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=32).convert("RGB").save(png, "PNG")
    for number in range(n):
        if number % FILES_A_FOLDER == 0:
            subfolder = folder / f"{number // FILES_A_FOLDER:03d}"
            subfolder.mkdir(parents=True)
        tail = number.to_bytes(8, "big")
        match number % 3:
            case 0:
                (subfolder / f"{number:06d}.jpg").write_bytes(jpeg.getvalue() + tail)
            case 1:
                (subfolder / f"{number:06d}.png").write_bytes(png.getvalue() + tail)
            case _:
                (subfolder / f"{number:06d}.txt").write_text(f"note {number}: a dog on the beach and a boat at sea\n")
