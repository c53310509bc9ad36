"""What each command imports: a heavy library only if the command needs it, so that commands start at once."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from bindsearch.cli.commands import COMMANDS, SUMMARIES

LIBRARIES = (
    *("torch", "torchvision", "torchaudio", "faiss", "duckdb", "av", "rich", "scipy", "pyarrow", "PIL", "fastapi"),
    *("numpy", "tokenizers", "pydantic", "uvicorn"),
)

PROGRAM = f"""
import atexit, json, sys
def report():
    with open(sys.argv[1], "w") as file:
        json.dump([name for name in {LIBRARIES!r} if name in sys.modules], file)
atexit.register(report)
from bindsearch.cli.main import main
main(sys.argv[2:])
"""

STORE = {"faiss", "numpy", "pyarrow"}
"""Opening a store: FAISS scans the vectors, Arrow reads the snapshot."""

WRITER = {*STORE, "duckdb", "rich"}
"""Changing a store: the catalog, and a line of progress."""

SEARCHES: dict[str, tuple[str, set[str]]] = {
    "text": ("search a dog", {*STORE, "tokenizers"}),
    "text as JSON": ("search a dog --json", {*STORE, "tokenizers"}),
    "text, paths": ("search a dog --paths", {*STORE, "tokenizers"}),
    "text, since": ("search a dog --since 2020", {*STORE, "tokenizers"}),
    "text, k": ("search a dog -k 3", {*STORE, "tokenizers", "pydantic"}),
    "text, filter": ("search a dog --where size_bytes>1", {*STORE, "tokenizers", "duckdb"}),
    "like": ("search --like 1", STORE),
    "like a path": ("search --like {media}/dog.txt", STORE),
    "words": ("search --words dog barks", STORE),
    "explain": ("explain a dog", STORE),
    "explain like": ("explain --like 1", STORE),
    "text file": ("search {media}/dog.txt", {*STORE, "tokenizers", "PIL"}),
    "status": ("status", STORE),
    "status as JSON": ("status --json", STORE),
    "duplicates": ("duplicates", STORE),
    "encoders": ("encoders --json", {"numpy"}),
    "classify": ("classify {media}/dog.txt --labels a,b", {*STORE, "tokenizers", "PIL", "rich"}),
    "wrong place": ("locate a", set()),
    "column": ("classify --write-column kind --labels a,b", {*WRITER, "tokenizers"}),
    "wrong picture": ("imagine a dog --out {media}/none.gif", {"numpy", "pydantic", "rich"}),
    "wrong pairs": (
        "bind --pairs {media}/none.csv --modality thermal --out t",
        {"torch", "numpy", "rich", "PIL", "pydantic"},
    ),
    "wrong path": ("forget {media}/none.txt", {"duckdb", "numpy", "pyarrow"}),
    "verify": ("verify", WRITER),
    "optimize": ("optimize", WRITER),
    "compact": ("compact", WRITER),
    "wrong reshard": ("reshard --shards 2", {"numpy", "pydantic", "rich"}),
    "version": ("--version", set()),
    "wrong command": ("serch", set()),
    "eval sets": ("eval sets", {"numpy"}),
    "wrong option": ("search --no-such-option", set()),
}
"""Command line and what it may import, of LIBRARIES."""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of two texts with its store, encoded by `mini`."""
    folder = tmp_path_factory.mktemp("imports") / "media"
    folder.mkdir()
    (folder / "dog.txt").write_text("a dog barks at night")
    (folder / "rain.txt").write_text("rain on a tin roof")
    _, code, errors = imported_by(["index", str(folder)], folder)
    assert code == 0, errors
    return folder


def imported_by(arguments: Sequence[str], media: Path) -> tuple[set[str], int, str]:
    """Return what a command imports of LIBRARIES, its exit code and what it printed on stderr."""
    report = media.parent / "report.json"
    environment = {**os.environ, "BINDSEARCH_STORE": str(media.parent / "store"), "XDG_RUNTIME_DIR": str(media.parent)}
    command = [sys.executable, "-c", PROGRAM, str(report), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return set(json.loads(report.read_text())), done.returncode, done.stderr


@pytest.mark.parametrize("name", SEARCHES)
def test_imports_of_a_command(name: str, media: Path) -> None:
    line, expected = SEARCHES[name]
    imported, code, errors = imported_by([word.format(media=media) for word in line.split()], media)
    assert imported == expected
    assert code == (2 if name.startswith("wrong") else 0), errors


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_only_what_draws_it(command: str, tmp_path: Path) -> None:
    imported, code, errors = imported_by([*command.split(), "--help"], tmp_path)
    assert imported == {"rich"}
    assert code == 0, errors


def test_the_list_of_commands_shows_the_first_paragraph_of_each_help() -> None:
    from bindsearch.cli.main import app

    group = typer.main.get_command(app)
    assert list(SUMMARIES) == list(COMMANDS)
    for name, summary in SUMMARIES.items():
        text = group.commands[name].help  # type: ignore[attr-defined]
        assert " ".join(inspect.cleandoc(text).split("\n\n")[0].split()) == summary, name


def test_an_image_as_the_query_needs_torch(media: Path) -> None:
    from PIL import Image

    Image.effect_noise((64, 64), 80).save(media.parent / "noise.png")
    imported, code, errors = imported_by(["search", "--image", str(media.parent / "noise.png")], media)
    assert imported == {*STORE, "torch", "PIL", "pydantic"}
    assert code == 0, errors
