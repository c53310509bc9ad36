"""Folders of data sets in the layouts in which they are published, with few small real media."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from helpers.media_files import half_and_half, tone, write_depth, write_picture, write_sound, write_video

_SOUNDS = (".wav", ".flac")
_VIDEOS = (".mp4",)
_PICTURES = (".jpg", ".png", ".jpeg")
SUN_MM = 2000
"""Depth of `write_rotated_depth` in millimetres."""


def write_media(folder: Path, *media: str) -> Path:
    """Write media by the extensions of their paths in a folder."""
    for name in media:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in _SOUNDS:
            write_sound(path, tone(0.2))
        elif path.suffix in _VIDEOS:
            write_video(path, 0.5, sound=tone(0.5, 48_000))
        else:
            assert path.suffix.lower() in _PICTURES
            write_picture(path, half_and_half(80, 60))
    return folder


def write_texts(folder: Path, texts: Mapping[str, str]) -> Path:
    """Write text files by their paths in a folder."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_rotated_depth(path: Path) -> Path:
    """Write a depth map as SUN RGB-D has it, SUN_MM to twice as much, bits rotated by three to the left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = np.full((48, 64), SUN_MM, np.uint16)
    depth[:, 32:] *= 2
    return write_depth(path, ((depth << 3) | (depth >> 13)).astype(np.uint16))
