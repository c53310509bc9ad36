"""Pointing games: whether the best point of a relevance map lies where the query's thing is.

    python benchmarks/pointing.py --data ../shared/data     # saves a table to benchmarks/results

Composites of pictures of different classes, two side by side or two by two; the same asked by sounds; two sounds, or
two motion recordings, one after the other. For each it counts where the best point is, how many boxes or spans at the
threshold have their middle at the right place, and how many trials show one for something that is not there.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from results import save_table

import bindsearch as bs
from bindsearch.encoders.base import Encoder
from bindsearch.media import Picture
from bindsearch.operations.locate.located import Located
from bindsearch.types import Modality

SIDE_PX = 320
HEARD = ("dog", "rooster", "clock_tick", "sea_waves")
"""Sounds of ESC-10 of which the crosswalk lists pictures; of chainsaws and others there are none."""

UNSEEN = ("helicopter", "sneezing", "crying_baby", "chainsaw")
"""Sounds of ESC-10 that are asked for what is in no picture."""

MOTIONS = {"WALKING": "a person walking", "SITTING": "a person sitting", "LAYING": "a person lying down"}


@dataclass(frozen=True)
class Trial:
    """A file, a query and where it is answered.

    Attributes:
        file: The file, with a prefix if its modality is not plain.
        query: Asks for what is at one place of the file.
        absent: Asks for what is not in the file.
        region: Left, top, right and bottom of the place as shares of a picture; of a recording left and right are
            shares of its length.
        length_s: Length of the recording in seconds; 0: a picture.
    """

    file: str
    query: bs.Term
    absent: bs.Term
    region: tuple[float, float, float, float]
    length_s: float = 0.0


@dataclass(frozen=True)
class Score:
    """Result of a game.

    Attributes:
        trials: Number of trials.
        pointed: Share whose best point is at the right place.
        found: Share with a box or span at the right place.
        right: Share of all boxes and spans whose middle is at the right place.
        false: Share with a box or span for what is absent.
        seconds: Mean time of a trial's query, with decoding.
    """

    trials: int
    pointed: float
    found: float
    right: float
    false: float
    seconds: float


def play(trials: Sequence[Trial], options: bs.LocateOptions, encoder: Encoder) -> Score:
    """Locate the query and the absent thing of each trial, and return the shares."""
    pointed, found, false = 0, 0, 0
    boxes: list[bool] = []
    seconds = 0.0
    for trial in trials:
        started = time.perf_counter()
        located = _located(trial.query, trial, options, encoder)
        seconds += time.perf_counter() - started
        pointed += _inside(_best(located, trial), trial)
        right = [_inside(point, trial) for point in _middles(located, trial)]
        found += any(right)
        boxes += right
        false += bool(_middles(_located(trial.absent, trial, options, encoder), trial))
    n = len(trials)
    return Score(n, pointed / n, found / n, sum(boxes) / max(1, len(boxes)), false / n, seconds / n)


def _located(query: bs.Term, trial: Trial, options: bs.LocateOptions, encoder: Encoder) -> Located:
    (file,) = bs.locate(query, trial.file, options=options, encoder=encoder)
    if file.located is None:
        raise SystemExit(file.failure)
    return file.located


def _best(located: Located, trial: Trial) -> tuple[float, float]:
    if located.peak is not None:
        return located.peak.x, located.peak.y
    assert located.curve is not None
    return float(located.curve.times_s[located.curve.relevance.argmax()]) / trial.length_s, 0.5


def _middles(located: Located, trial: Trial) -> list[tuple[float, float]]:
    boxes = [((box.left + box.right) / 2, (box.top + box.bottom) / 2) for box in located.boxes]
    spans = [((one.span.start_s + one.span.end_s) / 2 / trial.length_s, 0.5) for one in located.spans]
    return boxes + spans


def _inside(point: tuple[float, float], trial: Trial) -> bool:
    left, top, right, bottom = trial.region
    return left <= point[0] <= right and top <= point[1] <= bottom


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _square(path: Path) -> np.ndarray:
    """Return the middle square of a picture, uint8 (SIDE_PX, SIDE_PX, 3)."""
    picture = Image.open(path).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)).resize((SIDE_PX, SIDE_PX)))


def _tiled(paths: Sequence[Path], target: Path) -> Path:
    """Write pictures side by side, four of them in two rows."""
    tiles = [_square(path) for path in paths]
    rows = [np.concatenate(tiles[start : start + 2], 1) for start in range(0, len(tiles), 2)]
    Image.fromarray(np.concatenate(rows, 0)).save(target, quality=95)
    return target


def _tile_region(number: int, tiles: int) -> tuple[float, float, float, float]:
    row, column = divmod(number, 2)
    height = 2 / tiles
    return column / 2, row * height, (column + 1) / 2, (row + 1) * height


def class_names(data: Path, folder: Path, tiles: int, count: int) -> Iterator[Trial]:
    """Yield composites of pictures of ImageNet, asked for by the name of a class."""
    pictures = data / "images_imagenet1000"
    rows, chance = _rows(pictures / "labels.csv"), random.Random(1)
    for number in range(count):
        *picked, absent = chance.sample(rows, tiles + 1)
        place = chance.randrange(tiles)
        file = _tiled([pictures / row["path"] for row in picked], folder / f"{tiles}-{number}.jpg")
        yield Trial(str(file), bs.text(picked[place]["label"]), bs.text(absent["label"]), _tile_region(place, tiles))


def sounds_in_pictures(data: Path, folder: Path, count: int) -> Iterator[Trial]:
    """Yield composites of a picture of what a sound of ESC-10 is about and one that is not, asked for by the sound."""
    crosswalk, chance = _rows(data / "audio_image_crosswalk.csv"), random.Random(2)
    shows = {name: [row["image_path"] for row in crosswalk if row["audio_label"] == name] for name in HEARD}
    recordings = _recordings(data)
    pictures = [f"images_imagenet1000/{row['path']}" for row in _rows(data / "images_imagenet1000" / "labels.csv")]
    for number in range(count):
        name = HEARD[number % len(HEARD)]
        other = chance.choice([path for path in pictures if path not in shows[name]])
        pair, place = [chance.choice(shows[name]), other], chance.randrange(2)
        file = _tiled([data / path for path in (pair if place == 0 else pair[::-1])], folder / f"s-{number}.jpg")
        query = bs.audio(chance.choice(recordings[name]))
        absent = bs.audio(chance.choice(recordings[chance.choice(UNSEEN)]))
        yield Trial(str(file), query, absent, _tile_region(place, 2))


def _recordings(data: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for row in _rows(data / "audio_esc10" / "labels.csv"):
        found.setdefault(row["label"], []).append(data / "audio_esc10" / row["path"])
    return found


def joined_sounds(data: Path, folder: Path, count: int, *, by_sound: bool) -> Iterator[Trial]:
    """Yield two sounds of ESC-10, one after the other, asked for by the label or by another sound of the class."""
    import soundfile

    recordings, chance = _recordings(data), random.Random(3)

    def ask(name: str) -> bs.Term:
        return bs.audio(chance.choice(recordings[name])) if by_sound else bs.text(name.replace("_", " "))

    for number in range(count):
        first, second, absent = chance.sample(sorted(recordings), 3)
        parts = [soundfile.read(chance.choice(recordings[name])) for name in (first, second)]
        file = folder / f"j-{by_sound}-{number}.wav"
        soundfile.write(file, np.concatenate([samples for samples, _ in parts]), parts[0][1])
        middle, length_s = len(parts[0][0]) / parts[0][1], sum(len(samples) for samples, _ in parts) / parts[0][1]
        is_first = chance.random() < 0.5
        region = (0.0, 0.0, middle / length_s, 1.0) if is_first else (middle / length_s, 0.0, 1.0, 1.0)
        yield Trial(str(file), ask(first if is_first else second), ask(absent), region, length_s)


def joined_motions(data: Path, folder: Path, count: int) -> Iterator[Trial]:
    """Yield two motion recordings of 6.4 s, one after the other, asked for by a text."""
    with np.load(data / "imu_uci_har" / "windows.npz") as file:
        stored, chance = {name: file[name] for name in file.files}, random.Random(4)
    rate_hz, names = float(stored["rate_hz"]), [str(name) for name in stored["labels"]]
    runs: dict[str, list[np.ndarray]] = {}
    for run in np.unique(stored["run"]):
        (rows,) = np.nonzero(stored["run"] == run)
        if len(rows) >= 4:
            signal = np.concatenate([stored["x"][row][:64] for row in rows[:4]] + [stored["x"][rows[3]][64:]])
            runs.setdefault(names[int(stored["y"][rows[0]])], []).append(signal[:, 3:])
    for number in range(count):
        first, second, absent = chance.sample(sorted(MOTIONS), 3)
        signal = np.concatenate([chance.choice(runs[name]) for name in (first, second)])
        signal[:, :3] *= 9.80665
        target = folder / f"m-{number}.csv"
        times = np.arange(len(signal)) / rate_hz
        header = "time_s,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"
        np.savetxt(target, np.column_stack([times, signal]), delimiter=",", header=header, comments="", fmt="%.6f")
        is_first = chance.random() < 0.5
        region = (0.0, 0.0, 0.5, 1.0) if is_first else (0.5, 0.0, 1.0, 1.0)
        query = bs.text(MOTIONS[first if is_first else second])
        yield Trial(f"imu:{target}", query, bs.text(MOTIONS[absent]), region, len(signal) / rate_hz)


def cost(encoder: Encoder, detail: int, shape: tuple[int, int]) -> float:
    """Return the time of a relevance map as a multiple of that of embedding the same picture."""
    from bindsearch.operations.locate.dense import cosine_map

    picture = Picture(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    vectors = np.eye(7, encoder.dim, dtype=np.float32)

    def embed() -> Any:
        return encoder.encode(Modality.IMAGE, [encoder.prepare(picture)])

    def locate() -> Any:
        return cosine_map(encoder, picture, vectors, detail)

    return _fastest(locate) / _fastest(embed)


def _fastest(work: Callable[[], Any], repeats: int = 9) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Play all games, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of evaluation data")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--trials", type=int, default=200)
    arguments = parser.parse_args()
    encoder = bs.load_encoder(arguments.encoder)
    data, n, usual = arguments.data, arguments.trials, bs.LocateOptions()
    finer = replace(usual, detail=2)
    lines = ["| game | detail | trials | best point right | found | boxes or spans right | false | s a file |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        games: list[tuple[str, list[Trial], Sequence[bs.LocateOptions]]] = [
            ("2 pictures, class name", list(class_names(data, folder, 2, n)), (usual,)),
            ("4 pictures, class name", list(class_names(data, folder, 4, n)), (usual,)),
            ("2 pictures, sound", list(sounds_in_pictures(data, folder, n)), (usual,)),
            ("2 sounds, label", list(joined_sounds(data, folder, n // 2, by_sound=False)), (usual,)),
            ("2 motions, text", list(joined_motions(data, folder, n // 2)), (usual,)),
            ("4 pictures, class name", list(class_names(data, folder, 4, n // 2)), (finer,)),
            ("2 sounds, sound", list(joined_sounds(data, folder, n // 2, by_sound=True)), (usual,)),
        ]
        for title, trials, choices in games:
            for options in choices:
                score = play(trials, options, encoder)
                shares = " | ".join(f"{share:.3f}" for share in (score.pointed, score.found, score.right, score.false))
                lines.append(f"| {title} | {options.detail} | {score.trials} | {shares} | {score.seconds:.2f} |")
                print(lines[-1], flush=True)
    lines += ["", "| picture | detail | time, of embedding it |", "| --- | --- | --- |"]
    for (height, width), detail in product(((480, 480), (480, 720), (480, 853), (480, 960), (480, 1920)), (1, 2)):
        lines.append(f"| {width} x {height} | {detail} | {cost(encoder, detail, (height, width)):.1f} |")
    table = "\n".join(lines) + "\n"
    print(table)
    print(save_table(f"pointing-{encoder.name}", f"Pointing games with {encoder.name}", table))


if __name__ == "__main__":
    main()
