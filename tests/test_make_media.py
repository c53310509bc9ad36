from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.decode import pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar_file import read_sidecar
from bindsearch.media import DecodeHints
from bindsearch.types import Modality

pytest.importorskip("skimage")
pytest.importorskip("sklearn")

SCRIPT = Path(__file__).parents[1] / "examples" / "make_media.py"


def make(folder: Path) -> list[Path]:
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=True, timeout=120)
    made = sorted(path for path in folder.rglob("*") if path.is_file())
    assert all(str(path.relative_to(folder)) in done.stdout for path in made)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make(folder)
    return folder


def test_all_seven_modalities_are_made_and_decode(folder: Path) -> None:
    found = set()
    for path in sorted((folder / "media").rglob("*")):
        modality = classify(path, str(path.relative_to(folder / "media")), ()).modality if path.is_file() else None
        if modality is not None:
            parts = pieces(
                path, modality, wants=DecodeHints(224, 1.0), options=DecodeOptions(), sidecar=read_sidecar(path),
                count_tokens=lambda text: len(text.split()), max_tokens=100,
            )  # fmt: skip
            found |= {part.modality for part in parts}
    assert found == set(Modality)


def test_everything_there_is_media_or_a_sidecar(folder: Path) -> None:
    for path in (folder / "media").rglob("*"):
        if path.is_file() and classify(path, str(path.relative_to(folder / "media")), ()).modality is None:
            assert path.name == "scan_01.png.json"
            assert json.loads(path.read_text()) == {"fx": 994.978, "baseline_m": 0.193001}


def test_it_is_small(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 10_000_000


def test_two_runs_make_the_same_media(folder: Path, tmp_path: Path) -> None:
    again = make(tmp_path)
    for path in again:
        twin = folder / path.relative_to(tmp_path)
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(twin.read_bytes()).digest(), path.name
