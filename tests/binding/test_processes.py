"""Runs that are killed go on bit for bit, and two processes train as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bindsearch.binding.bind import BindOptions, bind
from bindsearch.errors import UsageError
from helpers.bound_world import THERMAL_SETTINGS, make_scenes, write_pairs, write_scenes
from helpers.waiting import wait_for

SCENES = 48
CHILD = Path(__file__).parents[1] / "helpers" / "children" / "binding.py"
SETTINGS = ("batch=16", "part=8", "epochs=6", "drop_path=0.3", "average=5", "learn_scale=1")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_scenes(tmp_path, make_scenes(SCENES, 1), ["image", "thermal"])
    return write_pairs(tmp_path / "pairs.csv", "thermal", "image", SCENES, validation=8)


def start(folder: Path, table: Path, name: str, *settings: str, torchrun: int = 0) -> subprocess.Popen[str]:
    """Start a run whose models, steps and work are in a folder."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "BINDSEARCH_MODELS": str(folder / "models"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(CHILD.parents[2])
    program = [sys.executable, str(CHILD)]
    if torchrun:
        program = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"]
        program.append(str(CHILD))
    arguments = [str(table), name, str(folder / "steps"), *SETTINGS, *settings]
    return subprocess.Popen([*program, *arguments], env=environment, stderr=subprocess.PIPE, text=True)


def steps(folder: Path) -> list[tuple[int, float]]:
    file = folder / "steps"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [(int(step), float(loss)) for step, loss in (line.split() for line in lines)]


def has_steps(folder: Path, count: int) -> bool:
    return len(steps(folder)) >= count


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / "models" / "bound" / name / "thermal.safetensors")


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def test_killed_run_goes_on_bit_for_bit(table: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(start(whole, table, "tower"))
    for wanted in (3, 9):  # killed twice, at other steps
        process = start(cut, table, "tower")
        wait_for(partial(has_steps, cut, wanted))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(cut, table, "tower"))
    assert len(steps(cut)) >= len(steps(whole)) == 15
    assert dict(steps(cut)) == dict(steps(whole))  # repeated steps have the same loss
    expected, found = weights(whole, "tower"), weights(cut, "tower")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    log = (cut / "models/bound/tower/training.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log[1:]] == [str(step) for step in range(1, 16)]
    assert [line.split(",")[:6] for line in log] == [
        line.split(",")[:6] for line in (whole / "models/bound/tower/training.csv").read_text().splitlines()
    ]


def test_two_processes_have_the_losses_of_one(table: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(one, table, "tower"))
    finish(start(two, table, "tower", torchrun=2))
    assert [step for step, _ in steps(two)] == [step for step, _ in steps(one)] == [*range(1, 16)]
    for (_, expected), (_, found) in zip(steps(one), steps(two), strict=True):
        assert found == pytest.approx(expected, abs=2e-4)
    expected_weights, found_weights = weights(one, "tower"), weights(two, "tower")
    for name, expected_weight in expected_weights.items():
        torch.testing.assert_close(found_weights[name], expected_weight, atol=2e-3, rtol=0)


def test_run_with_other_settings_is_not_resumed(table: Path, tmp_path: Path) -> None:
    options = BindOptions(work=tmp_path / "work", replace=True)
    few = [*THERMAL_SETTINGS, *SETTINGS, "epochs=1"]
    bind(table, "thermal", "world", "tower", settings=few, options=options)
    with pytest.raises(UsageError, match=r"is of a run with epochs=1\.0 instead of 2\.0: give the same settings"):
        bind(table, "thermal", "world", "tower", settings=[*few, "epochs=2"], options=options)
    checkpoint = tmp_path / "work/runs/tower/checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(UsageError, match=r"the checkpoint .* is damaged \(.*\): use --restart to begin again"):
        bind(table, "thermal", "world", "tower", settings=few, options=options)
    restarted = BindOptions(work=tmp_path / "work", replace=True, restart=True)
    assert bind(table, "thermal", "world", "tower", settings=few, options=restarted).steps == 3
