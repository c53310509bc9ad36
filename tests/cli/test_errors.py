"""Errors of the command line: the nearest known names, and tracebacks on request."""

from __future__ import annotations

from pathlib import Path

import pytest

import bindsearch.store
from helpers.command import Run


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("serch a", "No such command 'serch'. Did you mean 'search'"),
        ("model pul a", "No such command 'pul'. Did you mean 'pull'?"),
        ("search a --rankin z", "No such option: --rankin: did you mean '--ranking' or"),
        ("search a -Q", "No such option: -Q (see bindsearch search --help)"),
        ("search a --ranking zz", "unknown ranking 'zz': did you mean 'z'?"),
        ("search a --to photoes", "unknown modality 'photoes': did you mean 'photos'? choose from text, image, video, "
         "audio, depth, thermal, imu, documents, pictures, photos, clips, sounds"),
        ("search a --min-match stong", "did you mean 'strong'?"),
        ("search --query imge:a.jpg", "unknown prefix 'imge' (did you mean 'image'? choose from"),
        ("index . --encoder min", "did you mean 'mini'?"),
        ("index . --segment adio=3", "segments of 'adio' have no length: did you mean 'audio'?"),
        ("index . --limit pixls=3", "unknown limit 'pixls': did you mean 'pixels'?"),
        ("index . --modality-rule dept=*", "unknown modality 'dept': did you mean 'depth'?"),
        ("bench encode --modality imge", "unknown modality 'imge': did you mean 'image'?"),
        ("bench encode --modality text --encoder mini --dtype fp23", "did you mean 'fp32'?"),
        ("model pull imagebind-hug", "did you mean imagebind-huge?"),
        ("export out --layout parket", "unknown layout 'parket': did you mean 'parquet'?"),
    ],
)  # fmt: skip
def test_the_nearest_names_are_suggested(
    bindsearch_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path / "texts")
    if line.startswith(("search", "export")):
        assert bindsearch_command(["index", ".", "--encoder", "null"]).returncode == 0
    done = bindsearch_command(line.split())
    assert done.returncode in (2, 4), done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a \x1b[31mbug")


@pytest.mark.parametrize("line", ["--debug status", "status --debug", "status --json --debug"])
def test_a_traceback_follows_on_request(bindsearch_command: Run, tmp_path: Path, line: str) -> None:
    done = bindsearch_command([*line.split(), "--store", tmp_path / "none"])
    assert done.returncode == 4
    first, second, *_, last = done.stderr.splitlines()
    assert first == f"bindsearch: no store at {tmp_path}/none: create one with `bindsearch index FOLDER`"
    assert second == "Traceback (most recent call last):"
    assert last.startswith("bindsearch.errors.StoreNotFoundError: no store at")


def test_the_variable_asks_for_tracebacks(
    bindsearch_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, lines in (("0", 1), ("false", 1), ("", 1), ("1", 2)):
        monkeypatch.setenv("BINDSEARCH_DEBUG", value)
        done = bindsearch_command(["status", "--store", tmp_path / "none"])
        assert done.returncode == 4
        assert (done.stderr.count("\n") > 1) == (lines > 1)


def test_an_unexpected_error_is_one_line_that_names_the_option(
    bindsearch_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindsearch.store.Store, "status", fail)
    done = bindsearch_command(["status"])
    assert done.returncode == 5
    assert done.stderr == (
        "bindsearch: unexpected ZeroDivisionError: a \\x1b[31mbug (run it again with --debug for the traceback)\n"
    )
    done = bindsearch_command(["status", "--debug"])
    assert done.returncode == 5
    assert done.stderr.startswith("bindsearch: unexpected ZeroDivisionError: a \\x1b[31mbug\nTraceback")
    assert "\x1b" not in done.stderr


def test_words_after_two_dashes_are_words(bindsearch_command: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the option --debug")
    assert bindsearch_command(["index", tmp_path / "a.txt", "--encoder", "null"]).returncode == 0
    done = bindsearch_command(["search", "--json", "--", "--debug"])
    assert '"source": "--debug"' in done.stdout
