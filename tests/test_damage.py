"""Damage anywhere in a store: never a wrong answer without a word, never a dead process, and always a way out.

A sample runs in `make test`; BINDSEARCH_DAMAGES=5000 runs more, from BINDSEARCH_DAMAGE_SEED on.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from helpers import damage, media_files
from helpers.children import damaged
from helpers.forked import run_forked
from helpers.stores import connect

COUNT = int(os.environ.get("BINDSEARCH_DAMAGES", "10"))
FIRST = int(os.environ.get("BINDSEARCH_DAMAGE_SEED", "0"))
TEXTS = 300

HARMLESS = ("writer.lock", "writer.json")


class World(NamedTuple):
    """A sound store, its media, and what is seen in it."""

    store: Path
    media: Path
    expected: dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    place = tmp_path_factory.mktemp("damage")
    media = place / "media"
    for folder in ("pictures", "texts"):
        (media / folder).mkdir(parents=True)
    for n in range(6):
        picture = np.random.default_rng(n).integers(0, 255, (24, 32, 3), np.uint8)
        media_files.write_picture(media / "pictures" / f"{n}.png", picture)
    for n in range(TEXTS):
        (media / "texts" / f"{n}.txt").write_text(f"text number {n}")
    store = place / "store"
    with connect(store, encoder="null") as opened:
        opened.index(media / "texts")
        media_files.write_sound(media / "long.wav", media_files.tone(25.0, 8000), 8000)
        (media / "broken.png").write_bytes(b"no picture")
        opened.index(media)
        opened.optimize(index_settings=damaged.SETTINGS, force=True)
        (media / "later.txt").write_text("two dogs play")
        opened.index(media)
    sound = run(store, media, store)
    assert sound["verify"] == []
    assert sound["mended"] == []
    assert sound["index"][1][:4] == [0, 0, 0, 1]
    assert len(sound["vectors"]) == TEXTS + 6 + 1 + 1
    return World(store, media, sound)


def run(store: Path, media: Path, good: Path, small_file_bytes: int = 0) -> dict[str, Any]:
    """Use the store in a process of its own."""
    done = run_forked([damaged.__file__, store, media, good, str(small_file_bytes)])
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    assert "Traceback" not in done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def problem_of(world: World, place: Path, seed: int) -> str | None:
    """Damage a copy of the store, use it, and return what is wrong with what was seen; None if nothing is."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(world.store, place)
    done = damage.damage(place, seed)
    before = sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.name.startswith("writer."))
    changed = any(
        not (other := place / path.relative_to(world.store)).is_file() or other.read_bytes() != path.read_bytes()
        for path in damage.files_of(world.store)
    )
    try:
        told = run(place, world.media, world.store, seed % 2 << 20)
    except AssertionError as error:
        return f"{seed} {done}: {error}"
    expected = world.expected
    outcome, answer = told["search"]
    problems = []
    if outcome == "done" and answer[0] != expected["search"][1][0]:
        problems.append(f"wrong without a word: {answer[1]}")
    is_other_part = done.path.suffix == ".words" and done.kind in ("remove", "swap")
    if changed and not told["verify"] and done.path.name not in UNCHECKED and not is_other_part:
        problems.append("verify sees nothing")
    if told["files"] != before:
        problems.append(f"a reader changed files: {set(before) ^ set(told['files'])}")
    if told["vectors"] != expected["vectors"]:
        problems.append("other vectors in the end")
    if told["search again"][1][0] != expected["search"][1][0]:
        problems.append(f"wrong in the end: {str(told['search again'])[:300]}")
    return (
        f"{seed} {done}: {problems} {str({**told, 'vectors': 0, 'search': 0, 'search again': 0, 'files': 0})[:1500]}"
        if problems
        else None
    )


UNCHECKED = ("catalog.duckdb", "catalog.duckdb.wal", "wishes.json")
"""DuckDB's checksums cover what it uses; bits of free space and the end of the log change nothing.

Without wishes.json, the next index is built with the default settings. Words of a part whose word index is missing, or
that of another part, are read from the snapshot: so it is before the first `optimize`."""


def test_damage_is_told_and_mended_and_nothing_intact_is_lost(world: World, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        seeds = range(FIRST, FIRST + COUNT)
        problems = list(pool.map(lambda seed: problem_of(world, tmp_path / f"store{seed % 4}", seed), seeds))
    found = [problem for problem in problems if problem is not None]
    assert not found, "\n".join(found)
