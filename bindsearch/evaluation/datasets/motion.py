"""Motion: UCI HAR and clips of Ego4D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bindsearch.errors import BindSearchError, UsageError
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.entries import assemble, classes_of, path_inside
from bindsearch.evaluation.datasets.tables import LayoutError, find, read_lines, read_table, to_span
from bindsearch.ingest.media.numpy_files import read_npz
from bindsearch.media import Motion
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE_HZ = 50.0
WINDOW = 128
"""Samples of a window of UCI HAR: 2.56 s, half of which the next window of the recording begins with."""

JOINED = 3
"""Windows that are joined for `uci-har-5s`: 256 samples, 5.12 s."""

STANDARD_GRAVITY = 9.80665
_SIGNALS = tuple(f"{signal}_{axis}" for signal in ("total_acc", "body_gyro") for axis in "xyz")
_MAX_ARRAY_BYTES = 1 << 28


class _Windows(NamedTuple):
    """_Windows, float32 (n, 128, 6): accelerometer in g including gravity, gyroscope in rad/s; activity and person."""

    path: Path
    samples: NDArray[np.float32]
    labels: Sequence[str]
    subjects: Sequence[str]


def read_uci_har(folder: Path, split: str, name: str = "uci-har", joined: int = 1) -> DataSet:
    """Return the windows of UCI HAR (Anguita et al. 2013), 2.56 s each, or signals of several that follow each other.

    What remains of a run of windows is left out.
    """
    windows = _listed_windows(folder) if (folder / "windows.npz").is_file() else _published_windows(folder, split)
    items = list(_signals(windows, joined))
    left_out = len(windows.labels) - joined * len(items)
    note = f"{left_out} of {len(windows.labels)} windows left out: at the end of runs, fewer than {joined}"
    notes = [note] if left_out else []
    classes = classes_of(windows.labels) if windows.labels else None
    return assemble(
        name, Modality.IMU, items, Metric.TOP1, classes=classes, templates="motion", split=split, notes=notes
    )


def _signals(windows: _Windows, joined: int) -> Iterator[EvalItem]:
    """Yield the signals of `joined` windows each; windows that follow each other are a run."""
    import numpy as np

    half = WINDOW // 2
    starts = [0]
    for row in range(1, len(windows.labels)):
        same = windows.labels[row] == windows.labels[row - 1] and windows.subjects[row] == windows.subjects[row - 1]
        if not same or not np.array_equal(windows.samples[row, :half], windows.samples[row - 1, half:]):
            starts.append(row)
    for start, end in zip(starts, [*starts[1:], len(windows.labels)], strict=True):
        for row in range(start, end - joined + 1, joined):
            first, *others = windows.samples[row : row + joined]
            samples = np.concatenate([first, *(window[half:] for window in others)])
            scaled = np.concatenate([samples[:, :3] * STANDARD_GRAVITY, samples[:, 3:]], axis=1).astype(np.float32)
            labels, group = (windows.labels[row],), windows.subjects[row]
            named = f"{windows.path.name}, window {row + 1}"
            media = Motion(scaled, RATE_HZ)
            yield EvalItem(windows.path, Modality.IMU, labels=labels, group=group, media=media, name=named)


def _published_windows(folder: Path, split: str) -> _Windows:
    """Read the text files of UCI HAR; LayoutError: one is missing, UsageError: they do not fit together."""
    import numpy as np

    root = folder / "UCI HAR Dataset" if (folder / "UCI HAR Dataset").is_dir() else folder
    names = dict(line.split(None, 1) for line in read_lines(find(root, "activity_labels.txt")) if " " in line)
    numbers = read_lines(find(root, f"{split}/y_{split}.txt"))
    subjects = read_lines(find(root, f"{split}/subject_{split}.txt"))
    unknown = next((number for number in numbers if number not in names), None)
    if unknown is not None:
        raise UsageError(f"{root}: y_{split}.txt has the activity {unknown!r}, which activity_labels.txt does not name")
    signals = [_signal(find(root, f"{split}/Inertial Signals/{name}_{split}.txt")) for name in _SIGNALS]
    counts = {len(signal) for signal in signals} | {len(numbers), len(subjects)}
    if len(counts) > 1:
        raise UsageError(f"{root / split}: its files have {', '.join(map(str, sorted(counts)))} rows: expected as many")
    path = root / split / "Inertial Signals" / f"{_SIGNALS[0]}_{split}.txt"
    return _Windows(path, np.stack(signals, axis=2), [names[number].lower() for number in numbers], subjects)


def _signal(path: Path) -> NDArray[np.float32]:
    """Read one axis: float32 (n, 128); raise UsageError unless there are rows of 128 numbers."""
    import numpy as np

    try:
        rows = [np.array(line.split(), np.float32) for line in read_lines(path)]
    except ValueError as error:
        raise UsageError(f"{path} is not a table of numbers: {error}") from None
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != WINDOW or not np.isfinite(row).all()), 0)
    if wrong or not rows:
        raise UsageError(f"{path}, line {wrong or 1}: expected {WINDOW} numbers")
    return np.stack(rows)


def _listed_windows(folder: Path) -> _Windows:
    """Read windows.npz, float (n, 128, 9), with labels.csv: path (windows.npz#<row>), label and subject."""
    import numpy as np

    path = folder / "windows.npz"
    try:
        x = read_npz(path, max_bytes=_MAX_ARRAY_BYTES).get("x")
    except (BindSearchError, OSError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if x is None or x.ndim != 3 or x.shape[1:] != (WINDOW, 9):
        raise UsageError(f"{path} has no array x of shape (n, {WINDOW}, 9)")
    rows = list(read_table(find(folder, "labels.csv"), ("path", "label", "subject")))
    if [row["path"] for row in rows] != [f"{path.name}#{number}" for number in range(len(x))]:
        raise UsageError(f"{folder / 'labels.csv'} does not list the {len(x)} rows of {path.name} in order")
    samples = np.concatenate([x[:, :, 3:6], x[:, :, 6:9]], axis=2).astype(np.float32)
    return _Windows(path, samples, [row["label"] for row in rows], [row["subject"] for row in rows])


def read_ego4d(folder: Path, split: str) -> DataSet:
    """Return clips of Ego4D (Grauman et al. 2022): spans of motion recordings, each with a scenario."""
    table = find(folder, "clips.csv")
    root = find(folder, "imu", "v2/imu", "v1/imu")
    rows = list(read_table(table, ("video_uid", "start_s", "end_s", "scenario")))
    if split != "all":
        if rows and "split" not in rows[0]:
            raise LayoutError("clips.csv has no column split (give --split all)")
        rows = [row for row in rows if row["split"] == split]
    items = []
    for row in rows:
        span = to_span(row["start_s"], row["end_s"], table, row["video_uid"])
        path = path_inside(root, f"{row['video_uid']}.csv")
        items.append(EvalItem(path, Modality.IMU, labels=(row["scenario"],), group=row["video_uid"], span=span))
    classes = classes_of(row["scenario"] for row in rows) if rows else None
    return assemble("ego4d", Modality.IMU, items, Metric.TOP1, classes=classes, templates="motion", split=split)
