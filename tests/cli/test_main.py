"""The command line's contract: options, output, exit codes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from helpers.command import Run


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for n in range(4):
        picture = np.random.default_rng(n).integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"{n}.png")
    soundfile.write(folder / "noise.wav", np.random.default_rng(9).uniform(-0.5, 0.5, 16000 * 12), 16000)
    (folder / "notes.txt").write_text("a dog runs on the beach")
    return folder


@pytest.fixture
def indexed(bindsearch_command: Run, media: Path) -> Path:
    done = bindsearch_command(["index", media, "--encoder", "null"])
    assert done.returncode == 0, done.stderr
    return media


def test_index_json(bindsearch_process: Run, media: Path) -> None:
    (media / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    done = bindsearch_process(["index", media, "--encoder", "null", "--json"])
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert report.pop("took_s") > 0
    (failure,) = report.pop("failures")
    assert failure["path"] == str(media / "bad.jpg")
    assert report == {
        "schema": 1,
        "failures_by_reason": {failure["reason"]: 1},
        "added": 6,
        "unchanged": 0,
        "changed": 0,
        "moved": 0,
        "removed": 0,
        "failed": 1,
        "items": {"audio": 1, "image": 4, "text": 1},
        "segments": 7,
        "skipped": {},
        "without_content": 0,
        "notices": [],
        "notes": [],
    }
    assert "bad.jpg" in done.stderr


def test_search_json(bindsearch_process: Run, indexed: Path) -> None:
    inputs = ["--image", str(indexed / "0.png"), "--text", "a dog"]
    done = bindsearch_process(["search", *inputs, "--to", "text,audio", "-k", "3", "--json"])
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    assert answer["query"] == {
        "terms": [
            {"modality": "text", "source": "a dog", "weight": 0.5},
            {"modality": "image", "source": str(indexed / "0.png"), "weight": 0.5},
        ],
        "to": ["text", "audio"],
        "k": 3,
    }
    assert answer["took_ms"] > 0
    first, second = answer["hits"]
    assert set(first) == {
        "rank", "path", "modality", "score", "cosine", "item_id", "collection", "start_s", "end_s", "text",
        "contributions", "match", "probability", "z", "copies", "found_by", "is_missing", "line",
        "located",
    }  # fmt: skip
    assert {first["modality"], second["modality"]} == {"text", "audio"}
    by_modality = {hit["modality"]: hit for hit in answer["hits"]}
    assert by_modality["text"]["text"] == "a dog runs on the beach"
    assert by_modality["text"]["start_s"] is None
    assert by_modality["audio"]["text"] is None
    assert by_modality["audio"]["end_s"] > by_modality["audio"]["start_s"]
    assert by_modality["audio"]["collection"] == str(indexed)


def test_options_add_up_and_text_is_never_parsed(bindsearch_command: Run, indexed: Path) -> None:
    arguments = [
        "0.5*image:x.jpg + y",
        "--text",
        "b",
        "--like",
        "1",
        f"--query=-0.5*image:{indexed}/1.png",
        "--json",
    ]
    done = bindsearch_command(["search", *arguments])
    terms = json.loads(done.stdout)["query"]["terms"]
    assert [(term["modality"], term["weight"]) for term in terms] == [
        ("text", 1.0), ("text", 1.0), (terms[2]["modality"], 1.0), ("image", -0.5),
    ]  # fmt: skip
    assert terms[0]["source"] == "0.5*image:x.jpg + y"


def test_paths_and_people_output(bindsearch_command: Run, indexed: Path) -> None:
    done = bindsearch_command(["search", "a dog runs on the beach", "--to", "text", "--paths"])
    assert done.stdout == f"{indexed / 'notes.txt'}\n"
    done = bindsearch_command(["search", "a dog runs on the beach", "-k", "1"])
    assert "notes.txt" in done.stdout
    assert "a dog runs on the beach" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    done = bindsearch_command(["search", "--audio", indexed / "noise.wav", "--include-query", "--to", "audio"])
    assert re.search(r"noise\.wav 0:(00-0:10|10-0:12)$", done.stdout.strip())


def test_status(bindsearch_command: Run, indexed: Path) -> None:
    (indexed / "empty.png").touch()
    bindsearch_command(["index", indexed])
    status = json.loads(bindsearch_command(["status", "--json"]).stdout)
    assert status["items"] == {"text": 1, "image": 4, "audio": 1}
    assert status["segments"]["audio"] == 2
    assert status["collections"] == [str(indexed)]
    assert status["failed"] == 1
    assert "empty.png: " in bindsearch_command(["status", "--failed"]).stdout
    shown = bindsearch_command(["status"]).stdout
    assert "null, 64 dimensions" in shown
    assert "4 items" in shown


def test_dry_run_says_what_and_why_and_writes_nothing(bindsearch_command: Run, media: Path, tmp_path: Path) -> None:
    depth = np.linspace(1500, 1700, 200).astype(np.uint16).reshape(10, 20)
    Image.fromarray(depth).save(media / "depth_scan.png")
    (media / "readme.xyz").write_text("?")
    done = bindsearch_command(["index", media, "--dry-run", "--modality-rule", "thermal=3.png"])
    assert done.returncode == 0, done.stderr
    lines = {line.split("  (")[0].split("/")[-1]: line for line in done.stdout.splitlines()}
    assert lines["depth_scan.png"].startswith("depth")
    assert "0.81" in lines["depth_scan.png"]
    assert lines["3.png"].startswith("thermal")
    assert lines["0.png"].startswith("image")
    assert lines["readme.xyz"].startswith("-")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search"], 2, "query is empty"),
        (["search", ""], 2, "query is empty"),
        (["search", "--image", "nowhere.jpg"], 2, "nowhere.jpg does not exist"),
        (["search", "x", "--to", "smell"], 2, "unknown modality 'smell'"),
        (["search", "x", "-k", "0"], 2, "at least 1"),
        (["search", "x", "--ranking", "best"], 2, "unknown ranking"),
        (["search", "--query", "0.5*"], 2, "character 5"),
        (["search", "--query", "people + missing.wav"], 2, "missing.wav does not exist"),
        (["search", "--like", "99"], 2, "no indexed item"),
        (["search", "x", "--json", "--paths"], 2, "exclude"),
        (["search", "x", "--paths", "-0"], 2, "exclude"),
        (["search", "x", "--no-such-option"], 2, "No such option"),
        (["index"], 2, "Missing argument"),
        (["index", "nowhere"], 2, "does not exist"),
        (["index", ".", "--modality-rule", "smell=*.x"], 2, "smell"),
        (["index", ".", "--imu-rate", "-3"], 2, "imu"),
        (["index", ".", "--encoder", "maxi"], 4, "unknown encoder 'maxi'"),
        (["index", ".", "--encoder", "mini"], 5, "encoder null"),
        (["search", "x", "--store", "not-there"], 4, "no store at"),
        (["status", "--store", "not-there"], 4, "no store at"),
    ],
)
def test_wrong_use_is_one_clear_line(
    bindsearch_command: Run, indexed: Path, arguments: list[str], code: int, message: str
) -> None:
    done = bindsearch_command(arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if done.stderr.startswith("bindsearch: "):
        assert done.stderr.count("\n") == 1


def test_no_hits_exit_1(bindsearch_process: Run, indexed: Path) -> None:
    done = bindsearch_process(["search", "x", "--to", "depth", "--json"])
    assert done.returncode == 1
    assert json.loads(done.stdout)["hits"] == []


def test_an_unknown_encoder_for_a_new_store(bindsearch_process: Run, media: Path) -> None:
    done = bindsearch_process(["index", media, "--encoder", "maxi"])
    assert done.returncode == 4
    assert "unknown encoder 'maxi': the encoders are mini" in done.stderr


def test_every_query_file_that_cannot_be_used_is_exit_2(bindsearch_command: Run, indexed: Path) -> None:
    bad = indexed / "bad.wav"
    bad.write_bytes(b"RIFF nothing")
    for option, path in (("--audio", bad), ("--image", indexed / "notes.txt"), ("--imu", indexed / "0.png")):
        done = bindsearch_command(["search", option, path])
        assert done.returncode == 2, (option, done.stderr)
        assert str(path) in done.stderr
        assert done.stderr.count("\n") == 1


def test_interrupted_is_130(media: Path, tmp_path: Path) -> None:
    for n in range(6000):
        (media / f"{n}.txt").write_text(f"text {n}")
    command = [str(Path(sys.executable).with_name("bindsearch")), "index", str(media), "--encoder", "null"]
    process = subprocess.Popen(
        [*command, "--store", str(tmp_path / "store"), "--json-lines"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["done"] == 0
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_help_is_quick_and_imports_nothing_heavy(bindsearch_process: Run) -> None:
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert bindsearch_process(["--help"]).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # The wanted time is 0.3 s on a quiet machine; CPU time, since tests run beside others.
    assert statistics.median(times) < 0.9
    code = (
        "import sys, bindsearch, bindsearch.cli.main; "
        "print([m for m in ('torch', 'faiss', 'duckdb', 'av', 'numpy', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_texts_hold_an_example(bindsearch_command: Run) -> None:
    for command in ("index", "search", "status"):
        assert f"bindsearch {command}" in bindsearch_command([command, "--help"]).stdout.replace("\n", " ")


def test_the_default_store_comes_from_the_environment(tmp_path: Path, indexed: Path) -> None:
    environment = {**os.environ, "BINDSEARCH_STORE": str(tmp_path / "store")}
    code = "import bindsearch as bs; print(sum(bs.connect().status().items.values()))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "6"


ENDING = """
import atexit, sys
from bindsearch.cli import main as module

run = module.app
def app(*arguments, **options):  # what commands import registers its handlers while they run
    atexit.register(lambda: sys.stdout.write("handler ran\\n"))
    return run(*arguments, **options)

module.app = app
module.main()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["no-such-command"], 2)])
def test_a_process_ends_with_its_code_after_exit_handlers_and_with_all_output(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code
    assert done.stdout.endswith("handler ran\n")
    assert ("No such command 'no-such-command'" in done.stderr) == (code != 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_at_the_end_is_a_failure() -> None:
    command = [str(Path(sys.executable).with_name("bindsearch")), "--version"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "No space left" in done.stderr
