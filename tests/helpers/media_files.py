"""Small real media files for the tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def tone(seconds: float, rate_hz: int = 16_000, frequency_hz: float = 440.0) -> NDArray[np.float32]:
    """Return a sine of amplitude 0.5, float32 (n,)."""
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def write_sound(path: Path, samples: NDArray[np.float32], rate_hz: int = 16_000) -> Path:
    """wav, flac, ogg, mp3, opus by libsndfile; m4a and aac by FFmpeg."""
    if path.suffix in (".m4a", ".aac"):
        return _write_aac(path, samples, rate_hz)
    import soundfile

    if path.suffix == ".opus":
        soundfile.write(path, samples, rate_hz, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate_hz)
    return path


def _write_aac(path: Path, samples: NDArray[np.float32], rate_hz: int) -> Path:
    import av

    with av.open(str(path), "w", format="mp4" if path.suffix == ".m4a" else "adts") as container:
        _mux_sound(container, container.add_stream("aac", rate=rate_hz, layout="mono"), samples, rate_hz)
    return path


def _mux_sound(container, stream, samples: NDArray[np.float32], rate_hz: int) -> None:  # type: ignore[no-untyped-def]
    import av

    for start in range(0, len(samples), 1024):
        block = np.ascontiguousarray(samples[None, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_video(
    path: Path,
    seconds: float = 2.0,
    *,
    size: tuple[int, int] = (64, 48),
    fps: int = 10,
    codec: str = "mpeg4",
    picture: Callable[[float], NDArray[np.uint8]] | None = None,
    sound: NDArray[np.float32] | None = None,
    rotation: int = 0,
) -> Path:
    """Write a video of `picture(time_s)`, uint8 (height, width, 3), else of grey that brightens by 10 a second."""
    import av

    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        if rotation:
            stream.set_display_rotation(rotation)
        audio = None if sound is None else container.add_stream(_sound_codec(path), rate=48_000, layout="mono")
        for index in range(round(seconds * fps)):
            time_s = index / fps
            grey = np.full((height, width, 3), min(255, round(10 * time_s)), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey if picture is None else picture(time_s), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None and sound is not None:
            _mux_sound(container, audio, sound, 48_000)
    return path


def _sound_codec(path: Path) -> str:
    return {".webm": "libopus", ".avi": "libmp3lame"}.get(path.suffix, "aac")


def half_and_half(width: int, height: int) -> NDArray[np.uint8]:
    """Return an image, red on the left and blue on the right, uint8 (height, width, 3)."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2, 0] = 255
    rgb[:, width // 2 :, 2] = 255
    return rgb


def two_tone(side: int, shade: int) -> NDArray[np.uint8]:
    """Return a square picture, uint8 (side, side, 3): grey of a shade from 0 to 255, a corner of its complement."""
    pixels = np.full((side, side, 3), shade, np.uint8)
    pixels[: side // 2, : side // 2] = 255 - shade
    return pixels


def write_picture(path: Path, rgb: NDArray[np.uint8]) -> Path:
    """Write an image in the format of its extension."""
    Image.fromarray(rgb).save(path)
    return path


def write_depth(path: Path, depth_mm: NDArray[np.uint16]) -> Path:
    """Write a 16-bit PNG or TIFF."""
    Image.fromarray(depth_mm).save(path)
    return path


def motion(seconds: float = 6.0, rate_hz: float = 50.0) -> NDArray[np.float64]:
    """Someone walking at 2 steps a second, float64 (n, 6) in m/s^2 and rad/s."""
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    swing = np.sin(2 * np.pi * 2 * times_s)
    columns = (swing, 0.5 * swing, 9.81 + 3 * swing, 0.1 * swing, 0.2 * swing, 0.3 * swing)
    return np.column_stack(columns)


def write_motion_csv(
    path: Path,
    samples: NDArray[np.float64],
    *,
    rate_hz: float | None = 50.0,
    header: str = "acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z",
) -> Path:
    """Write a table, with a `time_s` column first if a rate is given."""
    rows = samples
    if rate_hz is not None:
        rows = np.column_stack([np.arange(len(samples)) / rate_hz, samples])
        header = "time_s," + header
    path.write_text(header + "\n" + "\n".join(",".join(f"{value:.6f}" for value in row) for row in rows) + "\n")
    return path


def _rolled(rgb: NDArray[np.uint8], time_s: float) -> NDArray[np.uint8]:
    return np.roll(rgb, int(9 * time_s), 0)[:48, :64]


def write_every_modality(folder: Path, copies: int = 2) -> dict[str, list[Path]]:
    """Write `copies` different files of each modality, by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[Path]] = {}
    for n in range(copies):
        rng = np.random.default_rng(n)
        rgb = np.kron(rng.integers(0, 256, (12, 16, 3)), np.ones((20, 20, 1))).astype(np.uint8)
        motion_n = (
            np.roll(motion(5.0).reshape(-1, 2, 3), n, axis=2).reshape(-1, 6) + rng.standard_normal((250, 6)) * 0.2
        )
        (folder / f"text-{n}.txt").write_text(["a dog on the beach", "rain on an old tin roof", "two cups"][n % 3])
        written = {
            "text": folder / f"text-{n}.txt",
            "image": write_picture(folder / f"image-{n}.png", rgb),
            "video": write_video(folder / f"video-{n}.mp4", 2.0, picture=partial(_rolled, rgb)),
            "audio": write_sound(folder / f"audio-{n}.wav", tone(2.5, frequency_hz=300.0 * (1 + n))),
            "depth": write_depth(folder / f"depth-{n}.png", (rgb[:, :, 0].astype(np.uint16) * 20 + 500)),
            "thermal": write_picture(folder / f"thermal-{n}.png", rgb[:, :, 1]),
            "imu": write_motion_csv(folder / f"imu-{n}.csv", motion_n),
        }  # fmt: skip
        for modality, path in written.items():
            files.setdefault(modality, []).append(path)
    return files


def write_photos(data: Path, folder: Path, count: int, copied: int) -> list[Path]:
    """Write real photos of camera-like size, <number>.jpg, and in sub/ three copies of one of them.

    Args:
        data: Folder of the evaluation data; its photos are enlarged, as encoders see 224 pixels at least.
        folder: Folder to write to.
        count: Number of photos.
        copied: Number of the photo that has copies: same.jpg (the bytes), again.jpg (quality 60), small.jpg (half).

    Returns:
        The photos.
    """
    (folder / "sub").mkdir(parents=True)
    photos = [folder / f"{number}.jpg" for number in range(count)]
    for source, path in zip(sorted((data / "images_flickr8k" / "images").glob("*.jpg")), photos, strict=False):
        with Image.open(source) as picture:
            picture.resize((picture.width * 4, picture.height * 4)).save(path, quality=95)
    shutil.copyfile(photos[copied], folder / "sub" / "same.jpg")
    with Image.open(photos[copied]) as picture:
        picture.save(folder / "sub" / "again.jpg", quality=60)
        picture.resize((picture.width // 2, picture.height // 2)).save(folder / "sub" / "small.jpg", quality=90)
    return photos
