"""One small file of every kind that is read, by the names of `bindsearch.ingest.media.kinds`."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from helpers.containers import WRITTEN, write_container
from helpers.document_files import DOCUMENTS, HTML, NOTEBOOK, RTF, make_pdf, make_zip
from helpers.file_bytes import encoded, exr, tar_of, write_psd, zip_of
from helpers.heic_file import write_heic
from helpers.media_files import half_and_half, motion, tone, write_motion_csv, write_video
from helpers.raw_file import write_dng

WITHOUT_WRITER: Mapping[str, str] = {
    "ape": "FFmpeg has no encoder",
    "mpc": "FFmpeg has no encoder",
    "mpc8": "FFmpeg has no encoder",
    "dts": "PyAV's FFmpeg has no encoder",
}
"""Kinds that cannot be written here, and why."""

RGB = half_and_half(64, 48)
SECONDS = 2.0


def _dsf(path: Path) -> Path:
    """Write one channel of 1-bit sound at 2.8 MHz (DSF File Format Specification 1.01)."""
    rate_hz, block = 2_822_400, 4096
    level = np.cumsum(0.5 + 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate_hz // 4) / rate_hz))
    bits = np.diff(np.floor(level), prepend=0).astype(np.uint8)  # density of ones follows the sine
    raw = np.packbits(bits, bitorder="little").tobytes()
    raw += bytes(-len(raw) % block)
    form = struct.pack("<4sQ6IQII", b"fmt ", 52, 1, 0, 1, 1, rate_hz, 1, len(bits), block, 0)
    data = struct.pack("<4sQ", b"data", 12 + len(raw)) + raw
    head = struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(form) + len(data), 0)
    path.write_bytes(head + form + data)
    return path


def _picture(path: Path) -> Path:
    Image.fromarray(RGB).save(path)
    return path


def _sound(extension: str, path: Path) -> Path:
    return write_container(path, extension, tone(SECONDS, WRITTEN[extension][3]))


def _video(codec: str, path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    width, height = size
    rgb = half_and_half(width, height)
    sound = tone(SECONDS, 48_000) if codec == "mpeg4" else None
    return write_video(
        path,
        SECONDS,
        size=size,
        fps=25,
        codec=codec,
        picture=lambda time_s: np.roll(rgb, int(20 * time_s), 1),
        sound=sound,
    )


def _text(content: str, path: Path) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def _array(values: NDArray[np.float64], path: Path) -> Path:
    np.save(path, values)
    return path


def _npz(path: Path) -> Path:
    samples = motion()
    np.savez(path, accelerometer=samples[:, :3], gyroscope=samples[:, 3:], time=np.arange(len(samples)) / 50)
    return path


def _parquet(path: Path) -> Path:
    names = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
    samples = motion()
    columns = {"time_s": np.arange(len(samples)) / 50, **dict(zip(names, samples.T, strict=True))}
    parquet.write_table(pa.table(columns), path)
    return path


def _depth_m() -> NDArray[np.float32]:
    rows, columns = np.mgrid[:24, :32]
    return (4.5 - 0.1 * rows + 0.01 * columns).astype(np.float32)


def _pfm(path: Path) -> Path:
    depth = _depth_m()
    path.write_bytes(b"Pf\n32 24\n-1.0\n" + depth[::-1].tobytes())
    return path


def _exr(path: Path) -> Path:
    path.write_bytes(exr({"Z": _depth_m()}, 3))
    return path


def _archive(write: Callable[[dict[str, bytes]], bytes], path: Path) -> Path:
    path.write_bytes(write({"inside/member.png": encoded(Image.fromarray(255 - RGB), "png")}))
    return path


WRITERS: Mapping[str, tuple[str, str, Callable[[Path], Path]]] = {
    "jpeg": ("photo.jpg", "image", _picture),
    "png": ("photo.png", "image", _picture),
    "webp": ("photo.webp", "image", _picture),
    "gif": ("photo.gif", "image", _picture),
    "tiff": ("photo.tif", "image", _picture),
    "bmp": ("photo.bmp", "image", _picture),
    "heif": ("photo.heic", "image", write_heic),
    "avif": ("photo.avif", "image", _picture),
    "raw": ("photo.dng", "image", lambda path: write_dng(path, encoded(Image.fromarray(RGB), "jpg"), size=(64, 48))),
    "jp2": ("photo.jp2", "image", _picture),
    "psd": ("photo.psd", "image", lambda path: write_psd(path, RGB)),
    "pnm": ("photo.ppm", "image", _picture),
    **{
        kind: (f"sound.{extension}", "audio", partial(_sound, extension))
        for kind, extension in {
            **{kind: kind for kind in ("wav", "w64", "flac", "ogg", "mp3", "aac", "m4a", "aiff", "caf", "au", "amr")},
            **{kind: kind for kind in ("wv", "tta", "voc", "sph", "ac3", "eac3")},
        }.items()
    },
    "dsf": ("sound.dsf", "audio", _dsf),
    "mp4": ("video.mp4", "video", partial(_video, "mpeg4")),
    "matroska": ("video.mkv", "video", partial(_video, "mpeg4")),
    "avi": ("video.avi", "video", partial(_video, "mpeg4")),
    "ogv": ("video.ogv", "video", partial(_video, "libvpx")),
    "mpegts": ("video.mts", "video", partial(_video, "mpeg2video")),
    "mpeg": ("video.mpg", "video", partial(_video, "mpeg1video")),
    "mpegvideo": ("video.m2v", "video", partial(_video, "mpeg2video")),
    "asf": ("video.wmv", "video", partial(_video, "wmv2")),
    "flv": ("video.flv", "video", partial(_video, "flv")),
    "rm": ("video.rm", "video", partial(_video, "rv10")),
    "mxf": ("video.mxf", "video", partial(_video, "mpeg2video")),
    "dv": ("video.dv", "video", partial(_video, "dvvideo", size=(720, 576))),
    "mjpeg": ("video.mjpeg", "video", partial(_video, "mjpeg")),
    "text": ("note.txt", "text", partial(_text, "A dog on the beach.")),
    "pdf": ("page.pdf", "text", lambda path: make_pdf(path, ["A harbour."])),
    **{
        kind: (f"{kind}.{kind}", "text", partial(lambda members, path: make_zip(path, members), members))
        for kind, members in DOCUMENTS.items()
    },
    "html": ("page.html", "text", partial(_text, HTML.format("utf-8"))),
    "rtf": ("letter.rtf", "text", partial(_text, RTF)),
    "subtitles": ("film.srt", "text", partial(_text, "1\n00:00:01,000 --> 00:00:02,000\nA harbour.\n")),
    "ipynb": ("book.ipynb", "text", partial(_text, json.dumps(NOTEBOOK))),
    "table": ("walk.csv", "imu", lambda path: write_motion_csv(path, motion())),
    "parquet": ("walk.parquet", "imu", _parquet),
    "npy": ("depth_3.npy", "depth", partial(_array, _depth_m().astype(float))),
    "npz": ("walk.npz", "imu", _npz),
    "pfm": ("depth_1.pfm", "depth", _pfm),
    "exr": ("depth_2.exr", "depth", _exr),
    "tar": ("pictures.tar", "image", partial(_archive, tar_of)),
    "zip": ("pictures.zip", "image", partial(_archive, zip_of)),
}
"""Name, modality and writer of a file of each kind."""


def write_every_kind(folder: Path) -> Mapping[str, Path]:
    """Write a file of each kind that can be written, in a folder of its own; return them by kind."""
    found = {}
    for kind, (name, _, write) in WRITERS.items():
        path = folder / f"of_{kind}" / name
        path.parent.mkdir(parents=True)
        found[kind] = write(path)
    return found
