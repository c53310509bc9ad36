"""`bindsearch locate` as it is typed: what it prints and writes, exit codes, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bindsearch.operations.recording import read_record
from bindsearch.types import clock
from helpers.command import Run
from helpers.media_files import tone, write_picture, write_sound, write_video


@pytest.fixture
def media(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "media"
    folder.mkdir()
    write_picture(folder / "a.png", rng.integers(0, 256, (60, 100, 3), np.uint8))
    write_sound(folder / "b.wav", tone(4.0))
    (folder / "bad.png").write_bytes(b"bad")
    return folder


def test_the_list_says_where_or_how_near_it_is(bindsearch_command: Run, media: Path) -> None:
    low = ["--threshold", "0.0001"]
    done = bindsearch_command(["locate", "a pattern", media / "a.png", media / "b.wav", *low])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{media / 'a.png'}  (image, dense features of mini)"
    assert lines[1].endswith("  whole picture")
    assert lines[2] == f"{media / 'b.wav'}  (audio, overlapping spans embedded by mini)"
    assert lines[3].endswith("0:00-0:04")
    nothing = bindsearch_command(["locate", "a green frog", media / "a.png", media / "b.wav", "--threshold", "1"])
    assert nothing.returncode == 1
    assert nothing.stdout.count("nothing has a relevance of 1; the best is 0.") == 2
    assert nothing.stdout.count(": try another wording") == 2
    assert nothing.stdout.count(", --detail 2\n") == 2
    line: list[str | Path] = [
        "locate",
        "a tone",
        "--against",
        "a green frog",
        media / "b.wav",
        "--detail",
        "4",
        "--threshold",
    ]
    best = json.loads(bindsearch_command([*line, "1", "--json"]).stdout)["files"][0]["curve"]["relevance"]
    advice = bindsearch_command([*line, "1"]).stdout.partition(": try another wording")[2].split()
    assert (advice[1:2] == ["--threshold"]) == (max(best) > 0.51)
    assert not advice or bindsearch_command([*line, advice[2]]).returncode == 0
    assert not nothing.stderr


def test_a_file_that_cannot_be_read_is_reported(bindsearch_command: Run, media: Path) -> None:
    done = bindsearch_command(["locate", "a pattern", media / "bad.png", media / "a.png", "none.png", "no.mp4@1s-2s"])
    assert done.returncode == 3
    assert f"{media / 'a.png'}  (image" in done.stdout
    assert done.stderr.count("failed: ") == 3
    assert "failed: no.mp4@1s-2s: the file no.mp4 does not exist: check the path" in done.stderr
    assert "failed: none.png: the file none.png does not exist: check the path" in done.stderr


def test_queries_by_options_leave_all_words_to_files(bindsearch_command: Run, media: Path) -> None:
    given: list[str | Path] = ["locate", "--audio", media / "b.wav", "--text", "a tone", media / "a.png", "--json"]
    output = json.loads(bindsearch_command(given).stdout)
    assert [term["modality"] for term in output["query"]] == ["text", "audio"]
    assert [one["file"] for one in output["files"]] == [str(media / "a.png")]
    assert np.array(output["files"][0]["heat"]).shape == (7, 10)


def test_items_of_a_store(bindsearch_command: Run, media: Path) -> None:
    bindsearch_command(["index", media])
    by_path = json.loads(bindsearch_command(["locate", "a pattern", "--like", media / "a.png", "--json"]).stdout)
    by_query: list[str | Path] = [
        "locate",
        "--query",
        f"like:{media / 'b.wav'}",
        media / "a.png",
        "--against",
        "a dog",
        "--json",
    ]
    assert by_path["files"][0]["path"] == str(media / "a.png")
    assert json.loads(bindsearch_command(by_query).stdout)["files"][0]["against"] == ["a dog"]


def test_a_drawing_and_json_are_written_and_replaced(bindsearch_command: Run, media: Path, tmp_path: Path) -> None:
    png, out = tmp_path / "out.png", tmp_path / "out.json"
    for threshold in ("0.5", "0.6"):
        for path in (png, out):
            line: list[str | Path] = ["locate", "a pattern", media / "a.png", "--out", path, "--threshold", threshold]
            done = bindsearch_command(line)
            assert done.returncode in (0, 1)
            assert done.stderr.splitlines()[-1] == f"written: {path}"
    assert '"heat": [\n        [0.' in out.read_text()  # a row of numbers is a line
    record, written = read_record(png), json.loads(out.read_text())
    assert record is not None
    assert record["threshold"] == written["threshold"] == 0.6
    assert record["query"] == written["query"] == [{"modality": "text", "source": "a pattern", "weight": 1.0}]
    assert record["encoder"] == "mini"
    assert record["file"]["path"] == str(media / "a.png")
    both = bindsearch_command(["locate", "a pattern", media / "a.png", media / "b.wav", "--out", out])
    assert both.returncode in (0, 1)
    assert len(json.loads(out.read_text())["files"]) == 2


def test_json_of_a_name_that_is_not_utf_8(bindsearch_command: Run, media: Path, tmp_path: Path) -> None:
    named = media / os.fsdecode(b"a\xff.png")
    (media / "a.png").rename(named)
    out = tmp_path / "out.json"
    assert bindsearch_command(["locate", "a pattern", named, "--out", out]).returncode in (0, 1)
    assert json.loads(out.read_bytes())["files"][0]["path"] == str(named)


def test_an_output_is_no_link_to_nothing_and_no_pipe(bindsearch_command: Run, media: Path, tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.png", tmp_path / "pipe.png"
    link.symlink_to(tmp_path / "none.png")
    os.mkfifo(pipe)
    for out in (link, pipe):
        done = bindsearch_command(["locate", "a pattern", media / "a.png", "--out", out])
        assert done.returncode == 2
        assert "is there, and `locate` has not written it: give another name" in done.stderr
    assert link.is_symlink()


def test_a_name_that_is_too_long_is_reported(bindsearch_command: Run, media: Path, tmp_path: Path) -> None:
    out, name = tmp_path / "out.json", "a" * 300 + ".png"
    for _ in range(2):  # the second time there is an output
        done = bindsearch_command(["locate", "a pattern", media / "a.png", name, "--out", out])
        assert done.returncode == 3, done.stderr
        assert done.stderr.startswith(f"failed: {name}: ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("locate", "there is no query: give one before the files"),
        ("locate dog", "there is nothing to look in: give files after the query"),
        ("locate --text dog", "there is nothing to look in: give files after the query"),
        (
            "locate a dog {a}",
            "there is no file 'dog': the query comes first and has to be quoted, such as bindsearch ",
        ),
        ("locate a dog {a}", "bindsearch locate 'a dog' {a}\n"),
        (
            "locate {a} dog",
            "there is no file 'dog': the query comes first and has to be quoted, such as bindsearch ",
        ),
        ("locate {a} dog {b}", "bindsearch locate dog {a} ...\n"),
        ("locate a dog", "bindsearch locate 'a dog' FILE\n"),
        ("locate dog {a} --out {media}/x.jpg", "expected a name that ends in .png or .json"),
        ("locate dog {a} --out {media}/no/x.png", "the folder {media}/no does not exist"),
        ("locate dog {a} --out {a}", "is the file to show: give another name"),
        ("locate dog {b} --out {a}", "is there, and `locate` has not written it: give another name"),
        ("locate dog {a} {b} --out {media}/x.png", "a drawing shows one file"),
        ("locate dog {a} --threshold 2", "the threshold is 2.0: give a relevance above 0"),
        ("locate dog {a} --detail 9", "detail is 9: give a number from 1 to 4"),
        ("locate dog {a} --max-boxes 0", "max_boxes is 0"),
        ("locate dog {a} --against dog", "the query is what it is compared with"),
        ("locate dog {a} --encoder nope", "nope"),
        ("locate dog {a} --imu-rate -1", "imu_rate_hz is -1.0"),
    ],
)
def test_what_is_refused(bindsearch_command: Run, media: Path, line: str, message: str) -> None:
    names = {"a": media / "a.png", "b": media / "b.wav", "media": media}
    before = {path.name for path in media.iterdir()}
    done = bindsearch_command(line.format(**names).split())
    assert done.returncode in (2, 4), done.stderr
    assert message.format(**names) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert {path.name for path in media.iterdir()} == before


def test_frames_of_a_video_are_listed_in_order_of_time(bindsearch_command: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = lambda _time_s: rng.integers(0, 256, (120, 160, 3), np.uint8)  # noqa: E731
    file = write_video(tmp_path / "a.mp4", 4.0, size=(160, 120), picture=noise)
    line: list[str | Path] = ["locate", "a pattern", file, "--threshold", "0.0001"]
    boxes = json.loads(bindsearch_command([*line, "--json"]).stdout)["files"][0]["boxes"]
    times = sorted({box["at_s"] for box in boxes})
    assert len(times) > 1
    lines = bindsearch_command(line).stdout.splitlines()[1:]
    assert [one.split()[2] for one in lines] == [clock(at_s) for at_s in times]
    (best,) = (row for row, one in enumerate(lines) if one.endswith("  (best)"))
    assert times[best] == boxes[0]["at_s"]
