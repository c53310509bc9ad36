"""`bindsearch bind` as it is typed: progress, sweeps, messages, and runs that are interrupted and go on."""

from __future__ import annotations

import csv
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bindsearch.encoders.model_store.installed import MANIFEST_FILE, model_folder, model_lock
from bindsearch.encoders.registry import load_encoder
from helpers.bound_world import make_scenes, write_pairs, write_scenes
from helpers.command import run_command

SCENES = 10
PROGRAM = str(Path(sys.executable).with_name("bindsearch"))
SMALL = "--modality thermal --set network=vit-nano --set side_px=32 --set patch_px=8 --set batch=4 --set replication=1"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_scenes(folder, make_scenes(SCENES, 1), ["image", "thermal"])
    return write_pairs(folder / "pairs.csv", "thermal", "image", SCENES, validation=4, labels=("day", "night"))


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "models"


def bind(pairs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_command(["bind", "--pairs", pairs, *shlex.split(SMALL), *shlex.split(" ".join(options))])


def test_lines_of_a_run(pairs: Path, models: Path) -> None:
    done = bind(pairs, "--out night --set epochs=2")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: the tower is worse than before")]
    assert [line.split(",")[0] for line in lines] == [f"night: step {n} of 3" for n in (2, 3)]
    assert ", R@1 " in lines[0]
    assert ", zero-shot " in lines[0]
    name, validation, before, log, use = done.stdout.splitlines()
    assert name == "bound:night installed: 6 pairs, 3 steps"
    assert validation.startswith("validation on 4 pairs: R@1 ")
    assert before.startswith("before training: R@1 ")
    assert log == f"log: {models}/bound/night/training.csv"
    assert use == "use it with: bindsearch index PATH --encoder bound:night"
    rows = list(csv.DictReader((models / "bound/night/training.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert validation.split("R@1 ")[1].split(",")[0] == f"{float(rows[-1]['recall_at_1']):.3f}"
    assert not any(path.is_file() for path in (models / ".pulls").rglob("*") if path.suffix != ".lock")


def test_interrupted_run_goes_on_with_the_same_command(pairs: Path, models: Path) -> None:
    words = [PROGRAM, "bind", "--pairs", str(pairs), *shlex.split(SMALL), "--out", "night", "--set", "epochs=2000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    first_step = int(process.stderr.readline().split(": step ")[1].split()[0])
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, ""), errors
    assert errors.splitlines()[-1] == (
        "bindsearch: interrupted; committed work is kept, run the same command to resume"
    )
    listed = run_command(["model", "list"])
    assert listed.stderr.startswith("unfinished: bound:night (")
    assert "): run the same `bindsearch bind` to resume, or `bindsearch model remove bound:night` to" in listed.stderr
    done = bind(pairs, "--out night --set epochs=3")
    assert done.returncode == 2
    assert (
        "is of a run with epochs=2000.0 instead of 3.0: give the same settings to resume, or --restart" in done.stderr
    )
    resumed = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert resumed.stderr is not None
    assert int(resumed.stderr.readline().split(": step ")[1].split()[0]) > first_step
    resumed.send_signal(signal.SIGTERM)
    resumed.communicate(timeout=60)
    assert run_command(["model", "remove", "bound:night"]).returncode == 0
    assert "unfinished" not in run_command(["model", "list"]).stderr


def test_sweep_that_was_interrupted_goes_on(pairs: Path, tmp_path: Path, models: Path) -> None:
    sweep = "--out s --set epochs=1 --sweep batch=4,6 --work", str(tmp_path / "work")
    assert bind(pairs, *sweep).returncode == 0
    digest = load_encoder("bound:s-batch-4").digest
    assert run_command(["model", "remove", "bound:s-batch-6"]).returncode == 0  # as if the second had not been done
    again = bind(pairs, *sweep)
    assert again.returncode == 0, again.stderr
    assert [line for line in again.stdout.splitlines() if "installed" in line] == [
        "bound:s-batch-4 installed: 6 pairs, 2 steps",
        "bound:s-batch-6 installed: 6 pairs, 1 step",
    ]
    assert load_encoder("bound:s-batch-4").digest == digest
    assert again.stderr == ""  # no step was trained again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--out a/b", "'a/b' is not a valid name: use letters, digits, '.', '-' and '_', at most 64"),
        ("--out t --set batch", "the setting 'batch' is not NAME=VALUE: write for example batch=64"),
        ("--out t --set bach=3", "unknown setting 'bach' of thermal: did you mean 'batch'? choose from batch, part,"),
        ("--out t --sweep batch=4,6", "--sweep needs --work DIR: there files are decoded and embedded once"),
        ("--out t --work w --sweep batch", "--sweep batch: write NAME and 2 to 32 different values, such as batch=32,"),
        ("--out t --work w --sweep batch=4,x", "batch is 'x': expected a whole number"),
        ("--out t --work w --sweep batch=4,1", "batch is 1: expected a number from 2 to 1048576"),
        ("--out t --work w --sweep bach=4,5", "unknown setting 'bach' of thermal: did you mean 'batch'?"),
        ("--out t --work w --sweep network=hub,../x", "network is '../x': expected vit-nano, vit-tiny, vit-small,"),
        ("--out t --modality therml", "unknown modality 'therml': did you mean 'thermal'? choose from audio, depth,"),
        ("--out t --modality text", "towers of text cannot be bound: choose from audio, depth, thermal, imu, image"),
        ("--out t --templates x", "unknown set of templates 'x'"),
        ("--out t --device cuda:99", "device 'cuda:99' is not available: torch sees no such GPU"),
        ("--out t --hub minni", "unknown encoder 'minni': did you mean 'mini'?"),
        ("--out t --hub bound:none", "the model bound:none is not installed: `bindsearch model list` lists the"),
        ("--out t --hub null --set network=hub", "the encoder null has no tower of pictures to start from"),
    ],
)
def test_wrong_use_is_one_line_before_anything_is_read(
    pairs: Path, tmp_path: Path, models: Path, options: str, message: str
) -> None:
    done = bind(pairs, options.replace("--work w", f"--work {tmp_path}/w"))
    assert done.returncode in (2, 4)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"bindsearch: {message}")
    assert not (tmp_path / "w").exists()
    assert run_command(["model", "list"]).stdout == ""


def test_missing_options_and_files(pairs: Path, tmp_path: Path) -> None:
    assert run_command(["bind"]).returncode == 2
    done = bind(tmp_path / "none.csv", "--out t")
    assert done.returncode == 2
    assert done.stderr == (
        f"bindsearch: {tmp_path}/none.csv cannot be read (No such file or directory): give a CSV file in UTF-8 with a "
        "row for each pair\n"
    )
    (tmp_path / "file").write_text("")
    done = bind(pairs, f"--out t --set epochs=0 --work {tmp_path}/file")
    assert done.returncode == 5
    assert done.stderr.startswith(f"bindsearch: the files of the run cannot be written below {tmp_path}/file (Not a ")


def test_replace_and_a_second_process(pairs: Path, models: Path) -> None:
    few = "--out t --set epochs=0"
    assert bind(pairs, few).returncode == 0
    first = load_encoder("bound:t").digest
    done = bind(pairs, few, "--set seed=1")
    assert done.returncode == 2
    assert done.stderr == ("bindsearch: the model bound:t is installed already: choose another name, or --replace it\n")
    assert bind(pairs, few, "--set seed=1 --replace").returncode == 0
    assert load_encoder("bound:t").digest != first
    with model_lock("bound:t"):
        done = bind(pairs, few, "--replace")
    assert done.returncode == 4
    assert done.stderr == "bindsearch: the model bound:t is being bound by another process: wait for it to finish\n"


def test_models_and_doctor(pairs: Path, models: Path) -> None:
    assert bind(pairs, "--out t --set epochs=0").returncode == 0
    assert run_command(["model", "list"]).stdout.startswith("bound:t  fp32, ")
    info = run_command(["model", "info", "bound:t", "--check"])
    assert "name          bound:t  (family bound)" in info.stdout
    assert "architecture  hub = mini" in info.stdout
    assert "checksums match" in info.stdout
    tower = model_folder("bound:t") / "thermal.safetensors"
    tower.write_bytes(tower.read_bytes()[:-1])
    repair = "bind it again (`bindsearch bind --out t --replace ...`)"
    info = run_command(["model", "info", "bound:t"])
    assert (info.returncode, info.stderr.splitlines()[-1]) == (
        4,
        f"bindsearch: the model bound:t is damaged (1 file): {repair}",
    )
    doctor = run_command(["doctor"])
    assert doctor.returncode != 0
    assert "bindsearch bind --out t --replace, with its other options" in doctor.stdout + doctor.stderr
    (model_folder("bound:t") / MANIFEST_FILE).write_text("{")
    listed = run_command(["model", "list"])
    assert repair in listed.stderr
    assert "pull" not in listed.stderr.splitlines()[0]
