"""Train the motion tower of `mini` with the code of `bindsearch bind`; see encoders/mini/TRAINING.md.

    python benchmarks/mini_motion.py --data DIR --leave-out 18 --out imu.safetensors

DIR contains the folder `imu_uci_har`. Recordings are bound to phrasings of their labels, with `mini` as the hub and the
default settings of the network `label-motion`. One thread, the same seed and the same versions of the libraries give
the same weights.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bindsearch.binding.bind import BindOptions, bind, ignore_progress
from bindsearch.binding.training.train import StepReport
from bindsearch.encoders.mini.imu import VIEW_HOP
from bindsearch.encoders.model_store.installed import MODELS_VARIABLE, ModelManifest, tower_file
from bindsearch.types import Modality

MOTION_PHRASES: Mapping[str, Sequence[str]] = {
    "WALKING": ("walking", "a person walking"),
    "WALKING_UPSTAIRS": ("walking upstairs", "a person walking upstairs"),
    "WALKING_DOWNSTAIRS": ("walking downstairs", "a person walking downstairs"),
    "SITTING": ("sitting", "a person sitting"),
    "STANDING": ("standing", "a person standing"),
    "LAYING": ("laying", "a person lying down"),
}
"""Phrasings of each label as its name and as a caption."""

STANDARD_GRAVITY = 9.80665
RATE_HZ = 50.0
MOTION_COLUMNS = ("time_s", "acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")


def motion_pairs(data: Path, folder: Path, leave_out: int | None) -> Path:
    """Write the runs of UCI HAR as files, and their table: a row for each window of a run, and each phrasing.

    Args:
        data: Folder of the data sets.
        folder: Folder for the files and the table.
        leave_out: Subject who is not trained on; None: all are.
    """
    with np.load(data / "imu_uci_har" / "windows.npz", allow_pickle=False) as archive:
        windows, run_of, label_of, subject_of = (archive[name] for name in ("x", "run", "y", "subject"))
        names = [str(name) for name in archive["labels"]]
    rows = []
    for number in np.unique(run_of):
        own = np.flatnonzero(run_of == number)
        if int(subject_of[own[0]]) == leave_out:
            continue
        signal = np.concatenate([windows[own[0]], *(windows[row][-VIEW_HOP:] for row in own[1:])]).astype(np.float64)
        times_s = np.arange(len(signal)) / RATE_HZ
        table = np.column_stack([times_s, signal[:, 3:6] * STANDARD_GRAVITY, signal[:, 6:9]])
        file = folder / f"run-{number}.csv"
        np.savetxt(file, table, ["%.3f", *["%.9g"] * 6], ",", header=",".join(MOTION_COLUMNS), comments="")
        label = names[label_of[own[0]]]
        # A long run is drawn from more often: as often as it has windows.
        rows += [(file.absolute(), text, label) for text in MOTION_PHRASES[label]] * len(own)
    pairs = folder / "motions.csv"
    with pairs.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow((Modality.IMU.value, Modality.TEXT.value, "label", "split"))
        writer.writerows((path, text, label.lower().replace("_", " "), "train") for path, text, label in rows)
    return pairs


def train_tower(
    data: Path,
    out: Path,
    *,
    leave_out: int | None,
    settings: Sequence[str] = (),
    on_step: Callable[[StepReport], None] = ignore_progress,
) -> None:
    """Train a tower, and write it in the form that `mini` reads; it takes some minutes of one core.

    Args:
        data: Folder of the data sets.
        out: File to write.
        leave_out: Subject who is not trained on; None: all are.
        settings: More settings of the run, such as "seed=1".
        on_step: Called after each step of training.
    """
    with tempfile.TemporaryDirectory() as name, _one_thread(), _models_in(Path(name) / "models"):
        table = motion_pairs(data, Path(name), leave_out)
        chosen = ["network=label-motion", *settings]
        result = bind(
            table, Modality.IMU, "mini", "mini", settings=chosen, options=BindOptions(device="cpu"), on_step=on_step
        )
        assert result.manifest is not None
        _convert(result.manifest, out)


def _convert(manifest: ModelManifest, out: Path) -> None:
    """Write a trained tower as `mini` reads it: members with sharpened logits in fp16, and the bank."""
    import torch
    from safetensors.torch import save_file

    from bindsearch.encoders.bound.encoder import read_configs
    from bindsearch.encoders.bound.label_tower import LabelTower
    from bindsearch.encoders.bound.networks import load_trained
    from bindsearch.encoders.torch_runtime.tensor_files import map_tensors

    tower = LabelTower(read_configs(manifest)[Modality.IMU])
    load_trained(tower, map_tensors(tower_file(manifest, Modality.IMU)))
    with torch.no_grad():
        for member in tower.members:
            for parameter in member.get_submodule("head").parameters():
                parameter.mul_(tower.sharpness)
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in tower.state_dict().items()
    }
    save_file(state, out)
    out.chmod(0o644)  # files of safetensors are readable by their owner only


@contextmanager
def _models_in(folder: Path) -> Iterator[None]:
    """Install models below another folder."""
    before = os.environ.get(MODELS_VARIABLE)
    os.environ[MODELS_VARIABLE] = str(folder)
    try:
        yield
    finally:
        del os.environ[MODELS_VARIABLE]
        if before is not None:
            os.environ[MODELS_VARIABLE] = before


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread: another order of sums gives other weights."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _show(report: StepReport) -> None:
    if report.step % 20 == 0 or report.step == report.steps:
        print(f"step {report.step} of {report.steps}, loss {report.loss:.3f}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the tower and write its weights."""
    parser = argparse.ArgumentParser(description="Train the motion tower of mini.")
    parser.add_argument("--data", type=Path, required=True, help="folder with imu_uci_har")
    parser.add_argument("--leave-out", type=int, help="subject of UCI HAR who is not trained on")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting, such as seed=1")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    options = parser.parse_args(arguments)
    train_tower(options.data, options.out, leave_out=options.leave_out, settings=options.set, on_step=_show)


if __name__ == "__main__":
    main()
