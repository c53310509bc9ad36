"""The commands and the Python of the README work as printed, with the default encoder, on the demo's media."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.forked import BINDSEARCH, TORCH, run_forked

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    make_media = [sys.executable, str(PROJECT / "examples" / "make_media.py"), str(folder / "demo")]
    subprocess.run(make_media, check=True, capture_output=True)
    return folder


def test_commands(folder: Path) -> None:
    environment = {**os.environ, "BINDSEARCH_STORE": str(folder / "store")}
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) >= 6
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "bindsearch"
        done = run_forked([BINDSEARCH, *arguments], modules=TORCH, variables=environment, folder=folder)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout.strip()


def test_python(folder: Path) -> None:
    (code,) = blocks("python")
    (folder / "readme.py").write_text(code)
    done = run_forked([folder / "readme.py"], modules=TORCH, folder=folder)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert "note_10.txt" in done.stdout


def test_the_demo_finds_what_it_should(tmp_path: Path) -> None:
    demo = [sys.executable, str(PROJECT / "examples" / "demo.py"), str(tmp_path / "demo")]
    done = subprocess.run(demo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5" in done.stdout
