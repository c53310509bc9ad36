"""The example of an encoder in a package of its own, installed for real and used by the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[1] / "examples" / "custom_encoder"
COLOURS = {"rose": (215, 40, 35), "sky": (50, 90, 200), "lawn": (45, 150, 70), "snow": (250, 250, 252)}

Run = Callable[..., subprocess.CompletedProcess[str]]


def install(source: Path, target: Path) -> None:
    """Install a package as pip does, without network and without building in the working tree."""
    copy = target.with_name(f"{target.name}-source")
    shutil.copytree(source, copy)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def run_command(packages: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("bindsearch")), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(packages), "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the example installed, and a package whose encoder does not load."""
    target = tmp_path_factory.mktemp("packages") / "site"
    install(EXAMPLE, target)
    broken = target / "bindsearch_broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: bindsearch-broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[bindsearch.encoders]\nbroken = bindsearch_broken:make\n")
    (target / "bindsearch_broken.py").write_text("def make():\n    raise OSError('no sensor')\n")
    return target


@pytest.fixture
def run(packages: Path, tmp_path: Path) -> Run:
    return lambda *arguments: run_command(packages, *arguments, "--store", tmp_path / "store")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        noise = rng.integers(-5, 6, (90, 120, 3))
        Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    (folder / "letter.txt").write_text("Violets are blue, and so is the sea.")
    (folder / "plain.txt").write_text("Nothing to see here.")
    return folder


def test_the_installed_encoder_finds_pictures_by_the_words_for_their_colours(run: Run, media: Path) -> None:
    done = run("index", media, "--encoder", "colours", "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert report["added"] == 5
    (failure,) = report["failures"]
    assert "the text names no colour" in failure["reason"]
    for query, expected in (("red", "rose"), ("a green meadow", "lawn"), ("white", "snow")):
        done = run("search", query, "--to", "image", "-k", "1", "--json")
        assert done.returncode == 0, done.stderr
        (hit,) = json.loads(done.stdout)["hits"]
        assert (Path(hit["path"]).stem, hit["cosine"] > 0.9) == (expected, True)
    done = run("search", "--image", media / "sky.png", "--to", "text", "--json")
    assert Path(json.loads(done.stdout)["hits"][0]["path"]).name == "letter.txt"


def test_an_unknown_name_lists_the_encoders_of_packages(run: Run, media: Path) -> None:
    done = run("index", media, "--encoder", "colors")
    assert done.returncode == 4
    assert (
        "unknown encoder 'colors': did you mean 'colours'? the encoders are mini; of other packages: broken, colours;"
        in done.stderr
    )
    assert "`bindsearch model pull` downloads imagebind-huge, openclip:MODEL/PRETRAINED or timm:MODEL" in done.stderr


def test_an_encoder_that_does_not_load_is_one_line_with_its_package(run: Run, media: Path) -> None:
    done = run("index", media, "--encoder", "broken")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "bindsearch: the encoder broken of the package bindsearch-broken cannot be loaded (OSError: no sensor): "
        "repair or uninstall that package"
    ]


def test_a_store_says_which_encoder_it_lacks(run: Run, media: Path, tmp_path: Path) -> None:
    run("index", media, "--encoder", "colours")
    done = run_command(tmp_path / "nowhere", "search", "red", "--store", tmp_path / "store")
    assert done.returncode == 4
    assert "unknown encoder 'colours'" in done.stderr


def test_the_example_of_roles_and_joint_inputs(tmp_path: Path) -> None:
    packages, media, store = tmp_path / "site", tmp_path / "media", tmp_path / "store"
    install(EXAMPLE.with_name("joint_encoder"), packages)
    media.mkdir()
    for name, width in (("plain", 64), ("captioned", 48)):
        rows = np.array([[[215, 40, 35]], [[250, 250, 252]]], np.uint8)  # red over white
        Image.fromarray(np.repeat(np.repeat(rows, 32, axis=0), width, axis=1)).save(media / f"{name}.png")
    (media / "captioned.png.json").write_text('{"caption": "in front of green"}')
    (media / "note.txt").write_text("red without white")

    def answer(*arguments: str | Path) -> list[dict[str, object]]:
        done = run_command(packages, "search", *arguments, "--store", store, "--no-words", "--json")
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["hits"])

    done = run_command(packages, "index", media, "--encoder", "captioned-colours", "--store", store)
    assert done.returncode == 0, done.stderr
    found = {Path(str(hit["path"])).stem: hit["cosine"] for hit in answer("red white", "--to", "image")}
    assert found == {"plain": pytest.approx(1.0, abs=1e-3), "captioned": pytest.approx(3**-0.5, abs=1e-3)}
    (note,) = [hit for hit in answer("red without white", "--to", "text") if str(hit["path"]).endswith("note.txt")]
    assert note["cosine"] == pytest.approx(0.0, abs=1e-3)  # asked, white counts against; in the note, it is a word
    joined = f'image:{media / "plain.png"} & "in front of green"'
    first, _ = answer("--query", joined, "--to", "image", "--include-query")
    assert (Path(str(first["path"])).stem, first["cosine"]) == ("captioned", pytest.approx(1.0, abs=1e-3))
