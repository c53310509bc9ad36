"""Create a small folder of media in all seven modalities, from data of installed packages.

    python examples/make_media.py FOLDER

FOLDER/media is the folder to index; FOLDER/queries contains files to search with. The photos and the disparity of the
stereo pair are from the scikit-image and scikit-learn wheels (nothing is downloaded). Sounds, motion, thermal images,
texts and videos are generated from a seed, so two runs give the same media. File names do not describe the content, so
no file can be found by its name.
"""

from __future__ import annotations

import argparse
import json
import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SOUND_RATE_HZ = 44_100
MOTION_RATE_HZ = 50
SEED = 7

PHOTOS = {
    "photo_01.jpg": ("skimage", "data/chelsea.png"),  # a cat
    "photo_02.jpg": ("skimage", "data/coffee.png"),  # a cup of coffee
    "photo_03.jpg": ("skimage", "data/astronaut.png"),  # an astronaut before a flag
    "photo_04.jpg": ("skimage", "data/rocket.jpg"),  # a rocket on its pad
    "photo_05.jpg": ("sklearn", "datasets/images/china.jpg"),  # a temple
    "photo_06.jpg": ("sklearn", "datasets/images/flower.jpg"),  # a dahlia
    "photo_07.png": ("skimage", "data/motorcycle_left.png"),  # a motorcycle in a workshop
    "photo_08.png": ("skimage", "data/clock_motion.png"),  # a clock, blurred by motion
    "photo_09.png": ("skimage", "data/coins.png"),  # old coins
    "photo_10.jpg": ("skimage", "data/hubble_deep_field.jpg"),  # galaxies
    "photo_11.png": ("skimage", "data/brick.png"),  # a brick wall
    "photo_12.png": ("skimage", "data/horse.png"),  # the silhouette of a horse
}

TEXTS = {
    "note_01.txt": "A person is walking along the street at a steady pace, step after step.",
    "note_02.txt": "She lies in bed, asleep, and does not move.",
    "note_03.txt": "He is sitting at a desk and reading. Nothing much happens for an hour.",
    "note_04.md": "# Weather\n\nHeavy rain is falling on the roof and the street.\n",
    "note_05.md": "# Pets\n\nThe dog next door barks at everyone who passes the gate.\n",
    "note_06.txt": "We made a camp fire in the evening; the wood crackled and the sparks flew.",
    "note_07.txt": "A recipe for coffee: grind the beans, boil the water, pour slowly, wait four minutes.",
    "note_08.txt": "The rocket stands on the launch pad. The countdown begins at dawn.",
    "note_09.txt": "On the beach, sea waves roll in and break on the sand.",
    "note_10.txt": "Coffee on a rainy morning: the cup steams while the rain runs down the window.",
    "note_11.txt": "The clock on the wall goes tick, tock, and counts the seconds.",
}


def main() -> int:
    """Create the folder given on the command line and print its files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder in which media/ and queries/ are created")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of all generated media")
    arguments = parser.parse_args()
    paths = make_media(arguments.folder, seed=arguments.seed)
    for path in paths:
        print(f"{path.stat().st_size:>9,}  {path.relative_to(arguments.folder)}")
    print(f"{sum(path.stat().st_size for path in paths):>9,}  bytes in {len(paths)} files")
    return 0


def make_media(folder: Path, *, seed: int = SEED) -> list[Path]:
    """Create `folder`/media and `folder`/queries, and return the sorted paths of their files."""
    media, queries = folder / "media", folder / "queries"
    paths = [
        *make_photos(media / "photos"),
        *make_depth(media / "depth"),
        *make_thermal(media / "thermal", seed),
        *make_texts(media / "texts"),
        *make_sounds(media / "sounds", seed),
        *make_motion(media / "motion", seed),
        *make_videos(media / "videos", seed),
        *make_queries(queries, seed + 1),
    ]
    return sorted(paths)


def package_file(package: str, name: str) -> Path:
    """Return the path of a file in an installed package, without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is missing: pip install 'bindsearch[demo]'")
    return Path(spec.origin).parent / name


def package_picture(package: str, name: str) -> Image.Image:
    """Return an image from an installed package, as RGB."""
    with Image.open(package_file(package, name)) as picture:
        return picture.convert("RGB")


def save(picture: Image.Image, path: Path) -> Path:
    """Write an image in the format of the extension and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=88)  # applies to JPEG only
    return path


def make_photos(folder: Path) -> list[Path]:
    """Write the photos of the packages under neutral names."""
    return [save(package_picture(*source), folder / name) for name, source in PHOTOS.items()]


def make_depth(folder: Path) -> list[Path]:
    """Write the depth of the motorcycle image in millimetres, from its measured disparity, with a sidecar.

    depth = focal length * baseline / (disparity + difference of the principal points); the calibration is from
    scikit-image's `stereo_motorcycle` (Middlebury 2014, scaled).
    """
    fx_px, baseline_m, offset_px = 994.978, 0.193001, 31.086
    with np.load(package_file("skimage", "data/motorcycle_disp.npz")) as file:
        disparity_px = file["arr_0"]
    known = np.isfinite(disparity_px)
    depth_m = fx_px * baseline_m / (np.where(known, disparity_px, 1) + offset_px)
    depth_mm = np.where(known, np.rint(depth_m * 1000), 0).astype(np.uint16)
    path = save(Image.fromarray(depth_mm), folder / "scan_01.png")
    sidecar = folder / "scan_01.png.json"
    sidecar.write_text(json.dumps({"fx": fx_px, "baseline_m": baseline_m}) + "\n")
    return [path, sidecar]


def make_thermal(folder: Path, seed: int) -> list[Path]:
    """Write thermal images of a horse (16 bits, steps of 0.01 K) and a person (8 bits) on a cool background."""
    rng = np.random.default_rng([seed, 1])
    with Image.open(package_file("skimage", "data/horse.png")) as picture:
        horse = np.asarray(picture.convert("L")) < 128
    kelvin = (
        283 + 2 * _smooth(rng, horse.shape) + 22 * _blur(horse.astype(float), 5) + 0.2 * rng.normal(size=horse.shape)
    )
    hundredths = Image.fromarray(np.rint(kelvin * 100).astype(np.uint16))
    grey = 40 + 25 * _smooth(rng, (256, 192)) + 170 * _blur(_person(256, 192), 3) + 3 * rng.normal(size=(256, 192))
    person = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    return [save(hundredths, folder / "frame_01.png"), save(person, folder / "frame_02.png")]


def _person(height: int, width: int) -> NDArray[np.float64]:
    """Return the silhouette of a standing person (head, trunk, arms, legs): 1 inside, 0 outside, float64."""
    y, x = np.mgrid[0:height, 0:width] / height
    x = x - width / height / 2
    mask = ((x / 0.055) ** 2 + ((y - 0.14) / 0.075) ** 2 < 1) | ((np.abs(x) < 0.09) & (np.abs(y - 0.38) < 0.16))
    for side in (-1, 1):
        mask |= (np.abs(x - side * (0.11 + 0.1 * (y - 0.25))) < 0.025) & (np.abs(y - 0.40) < 0.16)
        mask |= (np.abs(x - side * 0.05) < 0.038) & (y > 0.5) & (y < 0.93)
    return np.asarray(mask, np.float64)


def _smooth(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return smooth noise in 0..1: float64 `shape`."""
    coarse = Image.fromarray((255 * rng.random((6, 6))).astype(np.uint8))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC), np.float64) / 255


def _blur(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the running mean over `width` pixels in both directions."""
    kernel = np.ones(width) / width
    rows = np.apply_along_axis(np.convolve, 1, values, kernel, "same")
    return np.asarray(np.apply_along_axis(np.convolve, 0, rows, kernel, "same"))


def make_texts(folder: Path) -> list[Path]:
    """Write short notes, one per file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TEXTS.items():
        (folder / name).write_text(text + "\n")
    return [folder / name for name in TEXTS]


def make_sounds(folder: Path, seed: int) -> list[Path]:
    """Write synthesised sounds of 5 s."""
    makers = (bark, rain, clock_tick, crackling_fire, sea_waves)
    return [
        write_sound(
            folder / f"sound_{index:02}.{'flac' if index % 2 else 'wav'}",
            maker(np.random.default_rng([seed, 2, index])),
        )
        for index, maker in enumerate(makers, 1)
    ]


def write_sound(path: Path, samples: NDArray[np.float64]) -> Path:
    """Write mono sound with 16 bits and a peak of 0.8, and return its path."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.8 * samples / np.abs(samples).max(), SOUND_RATE_HZ, subtype="PCM_16")
    return path


def _times(seconds: float) -> NDArray[np.float64]:
    return np.arange(round(seconds * SOUND_RATE_HZ)) / SOUND_RATE_HZ


def _band(
    rng: np.random.Generator, size: int, low_hz: float, high_hz: float, slope: float = 0.0
) -> NDArray[np.float64]:
    """Return noise in a frequency band, with amplitude ~ frequency ** -slope and unit deviation: float64 (size,)."""
    spectrum = np.fft.rfft(rng.normal(size=size))
    hz = np.fft.rfftfreq(size, 1 / SOUND_RATE_HZ)
    spectrum *= np.where((hz >= low_hz) & (hz <= high_hz), np.maximum(hz, 1.0) ** -slope, 0)
    noise = np.fft.irfft(spectrum, size)
    return np.asarray(noise / noise.std())


def _add_event(sound: NDArray[np.float64], event: NDArray[np.float64], start_s: float) -> None:
    """Add `event` to `sound` at `start_s`, cut off at the end of `sound`."""
    start = round(start_s * SOUND_RATE_HZ)
    part = event[: max(0, len(sound) - start)]
    sound[start : start + len(part)] += part


def bark(rng: np.random.Generator, seconds: float = 5.0) -> NDArray[np.float64]:
    """Synthesise a barking dog: pairs of short, rough harmonic bursts of falling pitch, with much breath noise."""
    sound = 0.0005 * rng.normal(size=len(_times(seconds)))
    for start_s in (0.3, 0.75, 2.2, 2.65, 4.0):
        t = _times(0.26)
        swell = np.sin(np.pi * t / t[-1]).clip(0)
        pitch_hz = rng.uniform(465, 545) * (1 + 0.17 * swell) * np.exp(-1.2 * t)
        phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.1 * _band(rng, len(t), 20, 120))) / SOUND_RATE_HZ
        voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**1.1 for k in range(1, 16))
        breath = 3.1 * _band(rng, len(t), 475, 2460, 0.5)
        _add_event(sound, (voice + breath) * swell**0.6 * np.exp(-13 * t), start_s)
    return sound


def rain(rng: np.random.Generator, seconds: float = 5.0) -> NDArray[np.float64]:
    """Synthesise rain: a steady hiss with many small drops."""
    size = len(_times(seconds))
    sound = _band(rng, size, 400, 16_000, 0.3)
    drop = np.exp(-np.arange(200) / 30) * rng.normal(size=200)
    for start_s in rng.uniform(0, seconds, 1500):
        _add_event(sound, rng.uniform(0.3, 2) * drop, start_s)
    return sound


def clock_tick(rng: np.random.Generator, seconds: float = 5.0) -> NDArray[np.float64]:
    """Synthesise a clock: two ringing clicks per second, tick and tock."""
    sound = 0.002 * rng.normal(size=len(_times(seconds)))
    t = _times(0.06)
    for index, start_s in enumerate(np.arange(0.2, seconds, 0.5)):
        ring = sum(np.sin(2 * np.pi * hz * t) * np.exp(-t / 0.006) for hz in (2300 + 400 * (index % 2), 4100, 6300))
        _add_event(sound, (ring + 1.5 * rng.normal(size=len(t)) * np.exp(-t / 0.002)), start_s)
    return sound


def crackling_fire(rng: np.random.Generator, seconds: float = 5.0) -> NDArray[np.float64]:
    """Synthesise a fire: a low rumble, a hiss and irregular sharp cracks."""
    size = len(_times(seconds))
    sound = 0.1 * _band(rng, size, 40, 1200, 1.0) + 0.1 * _band(rng, size, 1000, 10_000, 0.3)
    for start_s in rng.uniform(0, seconds, 80):
        length = int(rng.uniform(60, 300))
        crack = rng.normal(size=length) * np.exp(-np.arange(length) / (length / 6))
        _add_event(sound, rng.pareto(1.5) * crack, start_s)
    return np.clip(sound, -30, 30)


def sea_waves(rng: np.random.Generator, seconds: float = 5.0) -> NDArray[np.float64]:
    """Synthesise sea waves: broadband noise that swells and ebbs over seconds."""
    t = _times(seconds)
    swell = 0.05 + np.sin(np.pi * ((t / 4.0 + rng.uniform(0, 0.3)) % 1)) ** 3
    return np.asarray(swell * (_band(rng, len(t), 60, 5000, 1.0) + 0.1 * _band(rng, len(t), 2000, 12_000)))


def make_motion(folder: Path, seed: int) -> list[Path]:
    """Write motion recordings of a phone at the waist: walking, lying, sitting."""
    makers = (walking, laying, sitting)
    return [
        write_motion(folder / f"recording_{index:02}.csv", maker(np.random.default_rng([seed, 3, index])))
        for index, maker in enumerate(makers, 1)
    ]


def write_motion(path: Path, samples: NDArray[np.float64]) -> Path:
    """Write a CSV table of time in s, acceleration in m/s^2 (with gravity) and rotation in rad/s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.column_stack([np.arange(len(samples)) / MOTION_RATE_HZ, samples])
    header = "time_s,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"
    path.write_text(header + "\n" + "".join(",".join(f"{value:.4f}" for value in row) + "\n" for row in rows))
    return path


def walking(rng: np.random.Generator, seconds: float = 10.0) -> NDArray[np.float64]:
    """Simulate walking: vertical (x) bounce at two steps per second, sway at half of that: float64 (n, 6)."""
    t = np.arange(round(seconds * MOTION_RATE_HZ)) / MOTION_RATE_HZ
    step = 2 * np.pi * 1.85 * t + 0.3 * np.sin(2 * np.pi * 0.2 * t)
    columns = [
        9.6 + 2.6 * np.sin(step) + 1.3 * np.sin(2 * step + 1) + 0.6 * np.sin(3 * step),
        -1.5 + 1.6 * np.sin(step / 2) + 0.9 * np.sin(1.5 * step + 0.5),
        -1.0 + 1.4 * np.sin(step + 2) + 0.8 * np.sin(2 * step),
        0.5 * np.sin(step / 2 + 1) + 0.3 * np.sin(step),
        0.35 * np.sin(step + 0.7) + 0.2 * np.sin(2 * step),
        0.3 * np.sin(step / 2) + 0.15 * np.sin(step + 2),
    ]
    return np.column_stack(columns) + rng.normal(size=(len(t), 6)) * (0.5, 0.5, 0.5, 0.1, 0.1, 0.1)


def laying(rng: np.random.Generator, seconds: float = 10.0) -> NDArray[np.float64]:
    """Simulate lying: gravity across the body (z), hardly any movement: float64 (n, 6)."""
    return _still(rng, seconds, (-1.0, 5.0, 8.4))


def sitting(rng: np.random.Generator, seconds: float = 10.0) -> NDArray[np.float64]:
    """Simulate sitting: gravity along the tilted trunk, small movements: float64 (n, 6)."""
    return _still(rng, seconds, (9.2, 1.8, 2.6))


def _still(rng: np.random.Generator, seconds: float, gravity_m_s2: tuple[float, float, float]) -> NDArray[np.float64]:
    t = np.arange(round(seconds * MOTION_RATE_HZ)) / MOTION_RATE_HZ
    breath = 0.03 * np.sin(2 * np.pi * 0.25 * t)[:, None] * rng.normal(size=(1, 6))
    noise = rng.normal(size=(len(t), 6)) * (0.04, 0.04, 0.04, 0.02, 0.02, 0.02)
    return np.array([*gravity_m_s2, 0, 0, 0]) + breath + noise


def make_videos(folder: Path, seed: int) -> list[Path]:
    """Write two videos of 6 s: a pan over the coffee photo with the sound of rain, and a silent zoom onto the cat."""
    sound = rain(np.random.default_rng([seed, 4]), 6.0)
    coffee = package_picture("skimage", "data/coffee.png")
    cat = package_picture("skimage", "data/chelsea.png")
    return [
        write_video(folder / "clip_01.mp4", coffee, (0.0, 0.0, 0.8), (0.2, 0.2, 0.8), sound),
        write_video(folder / "clip_02.mp4", cat, (0.0, 0.0, 1.0), (0.2, 0.1, 0.7), None),
    ]


def write_video(
    path: Path,
    picture: Image.Image,
    first: tuple[float, float, float],
    last: tuple[float, float, float],
    sound: NDArray[np.float64] | None,
    *,
    seconds: float = 6.0,
    fps: int = 12,
) -> Path:
    """Write a video that pans over an image.

    Args:
        path: The file.
        picture: The image.
        first: First view: left, top and side, as shares of the image's width and height.
        last: Last view, likewise.
        sound: Mono sound at SOUND_RATE_HZ; None for a silent video.
        seconds: Duration in seconds.
        fps: Frames per second.

    Returns:
        `path`.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = 320, 240
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 600_000
        track = None if sound is None else container.add_stream("aac", rate=SOUND_RATE_HZ, layout="mono")
        for index in range(round(seconds * fps)):
            share = index / (seconds * fps)
            left, top, side = ((1 - share) * a + share * b for a, b in zip(first, last, strict=True))
            box = (
                left * picture.width,
                top * picture.height,
                (left + side) * picture.width,
                (top + side) * picture.height,
            )
            view = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(view), format="rgb24")))
        container.mux(stream.encode(None))
        if track is not None and sound is not None:
            samples = (0.5 * sound / np.abs(sound).max()).astype(np.float32)
            for start in range(0, len(samples), 1024):
                block = np.ascontiguousarray(samples[None, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE_HZ, start, Fraction(1, SOUND_RATE_HZ)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return path


def make_queries(folder: Path, seed: int) -> list[Path]:
    """Write files to search with: other takes of sounds and motion, and a mirrored part of a photo."""
    coffee = package_picture("skimage", "data/coffee.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return [
        save(coffee.crop((60, 20, 560, 390)), folder / "cup.jpg"),
        write_sound(folder / "bark.wav", bark(np.random.default_rng([seed, 5]))),
        write_sound(folder / "rain.wav", rain(np.random.default_rng([seed, 6]))),
        write_sound(folder / "tick.wav", clock_tick(np.random.default_rng([seed, 7]))),
        write_motion(folder / "walk.csv", walking(np.random.default_rng([seed, 8]), 6.0)),
    ]


if __name__ == "__main__":
    sys.exit(main())
