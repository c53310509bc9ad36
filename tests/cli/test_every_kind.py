"""A folder with a file of every kind: `index` says what was indexed, and what was not and why; no file is missing."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from bindsearch.environment import EXTRAS
from bindsearch.ingest.media import kinds
from helpers.command import run_command
from helpers.every_kind import WITHOUT_WRITER, WRITERS, write_every_kind

KINDS = (
    *kinds.PICTURE_KINDS, *kinds.VIDEO_KINDS, *kinds.SOUND_KINDS, *kinds.TEXT_KINDS, *kinds.ARRAY_KINDS,
    *kinds.ARCHIVE_KINDS,
)  # fmt: skip
MODALITIES = {kind: modality for kind, (_, modality, _) in WRITERS.items()}

LEFT_OUT = {
    ".hidden.txt": "hidden",
    "Thumbs.db": "ignored by default: thumbs.db, thumbnails of Windows",
    "archive.7z": "not media: .7z",
    "array.npy": "npy of shape (4, 4) is ambiguous: name it or its folder depth, thermal or imu, or use "
    "--modality-rule",
    "code.py": "not media: .py",
    "code.rs": "not media: .rs",
    "contacts.csv": "not media: csv without accelerometer and gyroscope columns",
    "data.json": "not media: .json",
    "drawing.svg": "not media: .svg",
    "gone.jpg": "a link to nothing",
    "letter.doc": "not media: .doc",
    "node_modules": "ignored by default: node_modules, packages of programs",
    "noise": "not media: no extension and no known content",
    "old": "named in .bindsearchignore",
    "pipe": "a named pipe",
    "render.exr": "exr is ambiguous: name it or its folder depth or disparity, or use --modality-rule depth=GLOB",
    "sheet.xlsx": "not media: .xlsx",
    "unfinished.jpg.part": "not media: .part",
    "xray.png": "16-bit single-channel png is ambiguous: name it or its folder depth or thermal, or use "
    "--modality-rule image=GLOB (depth=, thermal=)",
}
FAILED = {
    "empty.txt": "the file is empty",
    "header.jpg": "damaged JPEG header (Truncated File Read)",
    "renamed.wav": "not a sound: expected",
    "unclear.txt": "encoding unclear",
}
WITHOUT_CONTENT = {"blank.png", "dots.txt"}
OF_OTHERS = {".bindsearch.toml", ".bindsearchignore", "list.csv", "of_png/photo.png.json", "of_gif/photo.gif.json"}
"""Settings, lists and sidecars: they tell about other files, and are none themselves."""


def write_others(root: Path, written: Mapping[str, Path]) -> None:
    """Write files that are not indexed, and files that tell about others."""
    for name in LEFT_OUT.keys() - {"gone.jpg", "node_modules", "old", "pipe", "noise", "array.npy", "xray.png"}:
        (root / name).write_text("words, but of a program")
    for folder in ("node_modules", "old"):
        (root / folder / "deeper").mkdir(parents=True)
        (root / folder / "deeper" / "a.txt").write_text("words")
        (root / folder / "b.txt").write_text("words")
    (root / "contacts.csv").write_text("name,path\nAnn,north\n")
    (root / "gone.jpg").symlink_to(root / "nothing.jpg")
    (root / "noise").write_bytes(bytes(range(256)))
    (root / "render.exr").write_bytes(written["exr"].read_bytes())
    os.mkfifo(root / "pipe")
    np.save(root / "array.npy", np.arange(16.0).reshape(4, 4))
    Image.fromarray(np.arange(3072, dtype=np.uint16).reshape(48, 64) * 20).save(root / "xray.png")

    (root / "empty.txt").touch()
    (root / "header.jpg").write_bytes(written["jpeg"].read_bytes()[:100])
    (root / "renamed.wav").write_text("no sound")
    (root / "unclear.txt").write_bytes("Привет".encode("cp1251"))
    Image.new("RGB", (40, 40), (9, 9, 9)).save(root / "blank.png")
    (root / "dots.txt").write_text("... --- ...")

    (root / ".bindsearch.toml").write_text('[as]\ntext = "*.ipynb"\n')
    (root / ".bindsearchignore").write_text("old/\n")
    (root / "list.csv").write_text("path,caption\nof_jpeg/photo.jpg,a wall\n")
    (root / "of_png" / "photo.png.json").write_text('{"caption": "red and blue"}')
    (root / "of_gif" / "photo.gif.json").write_text('{"some": "other program"}')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `media`, and a store that holds it."""
    if missing := [extra for module, extra in EXTRAS.items() if find_spec(module) is None]:
        pytest.skip(f"extra {missing[0]} is not installed")
    folder = tmp_path_factory.mktemp("every_kind")
    write_others(folder / "media", write_every_kind(folder / "media"))
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> Mapping[str, object]:
    """Return what `index --json` prints."""
    done = run_command(["index", folder / "media", "--encoder", "null", "--store", folder / "store", "--json"])
    assert done.returncode == 3, done.stderr
    found: Mapping[str, object] = json.loads(done.stdout)
    return found


def is_shown(path: Path, root: Path) -> bool:
    """Return whether a path is counted: not below a folder that is left out as a whole."""
    return not path.is_dir() and path.relative_to(root).parts[0] not in ("node_modules", "old")


def test_there_is_a_file_of_every_kind() -> None:
    assert WRITERS.keys() | WITHOUT_WRITER.keys() == {kind.name for kind in KINDS}
    assert not WRITERS.keys() & WITHOUT_WRITER.keys()
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        name = Path(WRITERS[kind.name][0]).suffix if kind.name in WRITERS else ""
        assert name in ("", ".ipynb", *kind.extensions, *kind.shared.split()), kind.name


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_is_indexed(folder: Path, report: Mapping[str, object], kind: str) -> None:
    with duckdb.connect(str(folder / "store" / "catalog.duckdb"), read_only=True) as catalog:
        query = "SELECT rel_path, modality FROM items WHERE starts_with(rel_path, ?)"
        ((rel_path, modality),) = catalog.execute(query, [f"of_{kind}/"]).fetchall()
    assert modality == MODALITIES[kind]
    member = "/inside/member.png" if kind in ("tar", "zip") else ""
    assert rel_path == f"of_{kind}/{WRITERS[kind][0]}{member}"


def test_every_file_is_counted_once(folder: Path, report: Mapping[str, object]) -> None:
    root = folder / "media"
    assert report["items"] == Counter(MODALITIES.values())
    assert report["added"] == len(WRITERS)
    assert report["skipped"] == Counter(LEFT_OUT.values())
    assert report["without_content"] == len(WITHOUT_CONTENT)
    failures = {Path(failure["path"]).name: failure["reason"] for failure in report["failures"]}  # type: ignore[attr-defined]
    assert failures.keys() == FAILED.keys()
    assert all(failures[name].startswith(reason) for name, reason in FAILED.items())
    assert report["failures_by_reason"] == Counter(failures.values())
    counted = {
        *(path.relative_to(root).as_posix() for path in root.rglob("*") if is_shown(path, root)),
        *("node_modules", "old"),
    }
    named = {f"of_{kind}/{name}" for kind, (name, *_) in WRITERS.items()}
    assert counted == named | LEFT_OUT.keys() | FAILED.keys() | WITHOUT_CONTENT | OF_OTHERS
    assert len(counted) == len(named) + len(LEFT_OUT) + len(FAILED) + len(WITHOUT_CONTENT) + len(OF_OTHERS)


def test_the_last_lines_say_it(folder: Path) -> None:
    done = run_command(["index", folder / "media", "--encoder", "null", "--store", folder / "second"])
    counts = Counter(MODALITIES.values())
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{len(WRITERS)} added, 0 changed, 0 removed, 0 unchanged, {len(FAILED)} failed in ")
    indexed = ", ".join(f"{counts[modality]} {modality}" for modality in sorted(counts))
    assert lines[1].startswith(f"indexed: {indexed}; ")
    assert lines[2].startswith("left out: 8 of kinds that are not read (1 .")
    assert lines[2].endswith(" (bindsearch status --left-out)")
    others = Counter(why for why in LEFT_OUT.values() if not why.startswith("not media: ."))
    shown = [f"{n} {why}" for why, n in others.items()]
    assert sum(one in lines[2] for one in shown) >= min(8, len(shown))
    assert lines[3].startswith("try: bindsearch search")
    for name, reason in FAILED.items():
        assert f"failed: {folder / 'media' / name}: {reason}" in done.stderr
    assert "files without content, which no query finds: 1 " in done.stderr
