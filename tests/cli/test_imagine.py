"""`bindsearch imagine` as it is used: what it prints and writes, and its errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bindsearch.operations.recording import read_record
from helpers.command import Run
from helpers.unclip_models import SIDE_PX, save_unclip

NAME = "unclip:org/small"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_unclip(tmp_path_factory.mktemp("decoder") / "pipeline", 384)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")
    return tmp_path


def test_from_the_pull_of_a_decoder_to_a_picture_of_a_store(
    pipeline: Path, models: Path, bindsearch_command: Run
) -> None:
    (models / "media").mkdir()
    (models / "media" / "rain.txt").write_text("rain on a tin roof")
    refused = bindsearch_command(["model", "pull", NAME, "--from", pipeline])
    assert refused.returncode == 2
    assert "has the licence openrail++, which was not accepted" in refused.stderr
    pulled = bindsearch_command(["model", "pull", NAME, "--from", pipeline, "--accept-license"])
    assert pulled.returncode == 0, pulled.stderr
    assert f"{NAME}: licence openrail++, " in pulled.stderr
    used = f"licence: openrail++; use it with: bindsearch imagine QUERY --out picture.png --model {NAME}"
    assert used in pulled.stdout
    assert NAME in bindsearch_command(["model", "list"]).stdout
    assert NAME not in bindsearch_command(["encoders"]).stdout
    assert bindsearch_command(["index", models / "media"]).returncode == 0
    out = models / "a.png"
    line: list[str | Path] = [
        "imagine",
        "a dog",
        "--like",
        "1",
        "--out",
        out,
        "--any-space",
        "--steps",
        "2",
        "--size",
        "64x32",
    ]
    done = bindsearch_command(line)
    assert done.returncode == 0, done.stderr
    record = read_record(out)
    assert record is not None
    assert done.stdout == f"{out}  seed {record['seed']}\n"
    notes = [note.removeprefix("note: ").partition(": ")[0] for note in done.stderr.splitlines()]
    assert notes == [
        f"licence of {NAME}",
        "memory on cpu in fp32",
        "the space of the query was not compared with that of the decoder (--any-space)",
    ]
    assert [(term["kind"], term["source"]) for term in record["query"]] == [("text", "a dog"), ("like", "1")]
    assert [term["weight"] for term in record["query"]] == [0.5, 0.5]
    with Image.open(out) as picture:
        assert picture.size == (64, 32)
    again = bindsearch_command([*line, "--seed", str(record["seed"]), "--json"])
    (printed,) = json.loads(again.stdout)["pictures"]
    assert printed.pop("path") == str(out)
    assert printed == read_record(out)
    assert {**printed, "created": ""} == {**record, "created": ""}
    removed = bindsearch_command(["model", "remove", NAME])
    assert removed.returncode == 0


def test_a_file_and_several_pictures(pipeline: Path, models: Path, bindsearch_command: Run) -> None:
    (models / "words.txt").write_text("rain on a tin roof")
    given: list[str | Path] = [
        "--encoder",
        "mini",
        "--model",
        pipeline,
        "--any-space",
        "--steps",
        "2",
        "--count",
        "2",
        "--seed",
        "5",
    ]
    query = f"0.5*text:'a dog' + 0.25*{models / 'words.txt'}"
    done = bindsearch_command(["imagine", "--query", query, "--out", models / "a.png", *given])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{models / 'a-1.png'}  seed 5\n{models / 'a-2.png'}  seed 6\n"
    record = read_record(models / "a-2.png")
    assert record is not None
    assert [(term["modality"], term["weight"]) for term in record["query"]] == [("text", 0.5), ("text", 0.25)]
    assert (record["seed"], record["width"], record["any_space"]) == (6, SIDE_PX, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("a", 2, "there is no file to write: give --out picture.png"),
        ("a --out {folder}/a.jpg", 2, "expected a name that ends in .png"),
        (
            "a --out {folder}/a.png",
            2,
            "there is no store: name the encoder of the query, such as --encoder imagebind-huge",
        ),
        (
            "a --out {folder}/a.png --encoder mini",
            4,
            "no decoder is installed: `bindsearch model pull unclip:ORG/NAME`",
        ),
        ("a --out {folder}/a.png --encoder mini --model unclip:a/b", 4, "`bindsearch model pull unclip:a/b`"),
        ("a --out {folder}/a.png --encoder unclip:a/b --model {pipeline}", 4, "unclip:a/b is not an encoder"),
        (
            "a --out {folder}/a.png --encoder mini --model {folder}",
            4,
            "or the name of a decoder that is installed with",
        ),
        ("a --out {folder}/a.png --encoder null --model {pipeline}", 2, "has 64 dimensions, the decoder"),
        ("a --out {folder}/a.png --encoder mini --model {pipeline}", 2, "is not in the space of the decoder"),
        ("a --out {folder}/a.png --strength 2", 2, "the strength is 2.0: give a number from 0 to 1"),
        ("a --out {folder}/a.png --steps 0", 2, "the number of steps is 0"),
        ("a --out {folder}/a.png --size 33", 2, "the size is [33]: give sides from 32 to 4096"),
        ("a --out {folder}/a.png --size big", 2, "the size is 'big': give one such as 768 or 768x512"),
        ("a --out {folder}/a.png --dtype int8", 2, "unknown number format 'int8'"),
        ("--out {folder}/a.png --encoder mini --model {pipeline}", 2, "the query is empty"),
    ],
)
def test_errors_are_one_line(
    words: str, code: int, message: str, pipeline: Path, models: Path, bindsearch_command: Run
) -> None:
    done = bindsearch_command(["imagine", *words.format(folder=models, pipeline=pipeline).split()])
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert len(complaints) == 1
    assert message in complaints[0]
    assert (done.returncode, done.stdout) == (code, "")
    assert [path for path in models.iterdir() if path.is_file()] == []


def test_the_libraries_print_nothing(pipeline: Path, models: Path) -> None:
    """In a process of its own, with a prompt that is cut."""
    line: list[str | Path] = [
        Path(sys.executable).with_name("bindsearch"),
        "imagine",
        "a dog",
        "--encoder",
        "mini",
        "--any-space",
    ]
    more: list[str | Path] = [
        "--model",
        pipeline,
        "--out",
        models / "a.png",
        "--steps",
        "2",
        "--prompt",
        "red " * 30,
        "--device",
        "cpu",
    ]
    done = subprocess.run([*line, *more], capture_output=True, text=True, check=True, env={**os.environ}, timeout=120)
    assert len(done.stdout.splitlines()) == 1
    assert all(one.startswith("note: ") for one in done.stderr.splitlines()), done.stderr
    assert "note: the prompt has 92 tokens: only the first 16 are used" in done.stderr
