"""The script that trains the sound and motion towers of `mini`, on made recordings in the layout of its data sets."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from bindsearch.encoders.mini.audio import AudioTower, prepare_sound
from bindsearch.encoders.mini.imu import ImuTower, prepare_motion
from bindsearch.encoders.mini.text import TextTower

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
RATE_HZ = 16_000
PHRASES = {"rooster": "the sound of a rooster", "rain": "rain falling"}
QUICK = ("batch=16", "part=16", "members=2", "warmup_epochs=1", "average=5")


def run(script: str, data: Path, out: Path, *more: str) -> None:
    """Train a tower without fold or subject 1."""
    command = [sys.executable, str(BENCHMARKS / script), "--data", str(data), "--leave-out", "1", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def nearest(vector: NDArray[np.float32], texts: list[str]) -> str:
    return texts[int((TextTower().encode_texts(texts) @ vector).argmax())]


def whistle_or_noise(label: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return 2.5 s: a whistle for "rooster", noise for "rain"."""
    times = np.arange(round(2.5 * RATE_HZ)) / RATE_HZ
    whistle = 0.3 * np.sin(2 * np.pi * rng.uniform(900, 2_000) * times)
    return ((whistle if label == "rooster" else 0) + rng.normal(0, 0.003, len(times))).astype(np.float32)


def test_a_trained_sound_tower_names_a_fold_that_was_left_out(tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "audio_esc10"
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "fold", "clip_license"))
        for label in PHRASES:
            for number in range(6):
                soundfile.write(folder / f"{label}-{number}.flac", whistle_or_noise(label, rng), RATE_HZ)
                writer.writerow((f"{label}-{number}.flac", label, 1 + number % 3, "CC0"))
        writer.writerow(("gone.flac", "rain", 2, "CC-Sampling+"))  # never read: its licence forbids training
    run("mini_sound.py", tmp_path, tmp_path / "trained")
    assert [path.name for path in (tmp_path / "trained").iterdir()] == ["audio.safetensors"]
    tower = AudioTower(feature_map=tmp_path / "trained" / "audio.safetensors")
    for label in PHRASES:
        for number in (0, 3):
            samples, rate_hz = soundfile.read(folder / f"{label}-{number}.flac", dtype="float32")
            vector = tower.encode(prepare_sound(samples, rate_hz)[0])
            assert nearest(vector, [PHRASES["rain"], PHRASES["rooster"]]) == PHRASES[label]


def test_a_trained_motion_tower_names_a_subject_who_was_left_out(tmp_path: Path) -> None:
    """Runs of five windows of 128 samples that overlap by half: total acceleration in g is in channels 3 to 5."""
    rng, texts = np.random.default_rng(0), ["a person walking", "a person lying down"]
    windows, runs, labels, subjects = [], [], [], []
    for number in range(8):
        signal, is_lying = rng.normal(0, 0.01, (384, 9)), number % 2
        signal[:, 4 if is_lying else 3] += 1.0
        if not is_lying:
            signal[:, 3:] += 0.4 * np.sin(2 * np.pi * rng.uniform(1.6, 2.2) * np.arange(384) / 50.0)[:, None]
        for start in range(0, 257, 64):
            windows.append(signal[start : start + 128])
            runs.append(number)
            labels.append(is_lying)
            subjects.append(1 + number // 2)
    (tmp_path / "imu_uci_har").mkdir()
    np.savez(
        tmp_path / "imu_uci_har" / "windows.npz",
        x=np.stack(windows).astype(np.float32),
        run=np.array(runs),
        y=np.array(labels),
        subject=np.array(subjects),
        labels=np.array(["WALKING", "LAYING"]),
        rate_hz=np.array(50.0),
    )
    settings = [part for setting in (*QUICK, "epochs=9", "turn=0") for part in ("--set", setting)]
    run("mini_motion.py", tmp_path, tmp_path / "imu.safetensors", *settings)
    tower = ImuTower(tmp_path / "imu.safetensors")
    for row in (0, 5):  # the first windows of both runs of subject 1
        motion = np.concatenate([windows[row][:, 3:6] * 9.80665, windows[row][:, 6:]], axis=1).astype(np.float32)
        vector = tower.encode(prepare_motion(motion, 50.0)).mean(axis=0)
        assert nearest(vector, texts) == texts[labels[row]]
