"""Pictures kept beside a store: made once, anew when a file changes, bounded, with several processes, read-only."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bindsearch.atomic import folder_size
from bindsearch.errors import MediaError
from bindsearch.operations.segment_media import Place
from bindsearch.types import Modality
from bindsearch.views import picture_cache
from bindsearch.views.picture_cache import SHARDS, cached_picture
from bindsearch.views.thumbnails import thumbnail
from helpers.media_files import write_picture
from helpers.stores import connect

Draw = Callable[[Place, int], Image.Image]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    rng = np.random.default_rng(0)
    (tmp_path / "media").mkdir()
    path = write_picture(tmp_path / "media" / "a.png", rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return Place(path, path.parent, Modality.IMAGE)


@pytest.fixture
def drawn() -> list[int]:
    return []


@pytest.fixture
def draw(drawn: list[int]) -> Draw:
    def make(place: Place, side_px: int) -> Image.Image:
        drawn.append(side_px)
        return thumbnail(place, side_px)

    return make


def files_of(store: Path) -> list[Path]:
    return [path for path in (store / "cache").rglob("*") if path.is_file()]


def test_a_picture_is_made_once(tmp_path: Path, place: Place, draw: Draw, drawn: list[int]) -> None:
    first, second = (cached_picture(tmp_path / "s", place, 32, draw) for _ in range(2))
    assert first == second
    assert drawn == [32]
    with Image.open(io.BytesIO(first)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (32, 21))
    cached_picture(tmp_path / "s", place, 16, draw)
    assert drawn == [32, 16]
    assert len(files_of(tmp_path / "s")) == 2


def test_a_changed_file_or_sidecar_is_drawn_anew(tmp_path: Path, place: Place, draw: Draw, drawn: list[int]) -> None:
    store = tmp_path / "s"
    before = cached_picture(store, place, 32, draw)
    write_picture(place.path, np.zeros((40, 60, 3), np.uint8))
    assert cached_picture(store, place, 32, draw) != before
    place.path.with_name("a.png.json").write_text('{"title": "x"}')
    cached_picture(store, place, 32, draw)
    assert len(drawn) == 3
    place.path.unlink()
    with pytest.raises(MediaError, match="the file is gone"):
        cached_picture(store, place, 32, draw)


def test_files_of_others_are_neither_deleted_nor_waited_for(tmp_path: Path, place: Place, draw: Draw) -> None:
    """A store from elsewhere may contain a link or a pipe in place of its cache."""
    cached_picture(tmp_path / "s", place, 32, draw)
    (file,) = files_of(tmp_path / "s")
    own = tmp_path / "own"
    own.mkdir()
    (own / "letter.txt").write_text("x" * 100_000)
    file.unlink()
    file.parent.rmdir()
    file.parent.symlink_to(own)
    first = cached_picture(tmp_path / "s", place, 32, draw, 64 * 10_000)
    assert (own / "letter.txt").exists()
    (own / file.name).unlink()
    os.mkfifo(own / file.name)
    assert cached_picture(tmp_path / "s", place, 32, draw, 64 * 10_000) == first


def test_a_damaged_picture_is_made_anew(tmp_path: Path, place: Place, draw: Draw, drawn: list[int]) -> None:
    first = cached_picture(tmp_path / "s", place, 32, draw)
    (file,) = files_of(tmp_path / "s")
    for raw in (b"", b"x", file.read_bytes()[:-1], file.read_bytes().replace(b"VP8", b"VP7")):
        file.write_bytes(raw)
        assert cached_picture(tmp_path / "s", place, 32, draw) == first
    assert len(drawn) == 5
    assert cached_picture(tmp_path / "s", place, 32, draw) == first
    assert len(drawn) == 5


def test_the_size_is_bounded_and_what_was_used_least_recently_goes_first(
    tmp_path: Path, place: Place, draw: Draw
) -> None:
    sizes = [len(cached_picture(tmp_path / "unbounded", place, side_px, draw)) for side_px in range(16, 272)]
    max_bytes = 2 * SHARDS * max(sizes)
    assert folder_size(tmp_path / "unbounded") > max_bytes
    for side_px in range(16, 272):
        cached_picture(tmp_path / "s", place, side_px, draw, max_bytes)
    assert max_bytes / 4 < folder_size(tmp_path / "s") <= max_bytes
    shards = [[*shard.iterdir()] for shard in (tmp_path / "s" / "cache" / "pictures").iterdir()]
    files = max(shards, key=len)
    for number, path in enumerate(files):
        os.utime(path, (number, number))
    picture_cache._shrink(files[0].parent, sum(path.stat().st_size for path in files) - 1)
    assert [path for path in files if path.exists()] == files[1:]
    cached_picture(tmp_path / "none", place, 64, draw, max_bytes=0)
    assert not files_of(tmp_path / "none")


def test_use_keeps_a_picture(tmp_path: Path, place: Place, draw: Draw) -> None:
    cached_picture(tmp_path / "s", place, 32, draw)
    (file,) = files_of(tmp_path / "s")
    os.utime(file, (1, 1))
    cached_picture(tmp_path / "s", place, 32, draw)
    assert file.stat().st_mtime > time.time() - 60


def test_a_store_that_cannot_be_written_has_no_cache(
    tmp_path: Path, place: Place, draw: Draw, drawn: list[int]
) -> None:
    store = tmp_path / "s"
    store.mkdir()
    (store / "cache").write_text("a file where the folder would be")
    assert cached_picture(store, place, 32, draw) == cached_picture(store, place, 32, draw)
    assert len(drawn) == 2


def test_processes_share_a_cache(tmp_path: Path, place: Place) -> None:
    code = """
import sys
from pathlib import Path
from bindsearch.types import Modality
from bindsearch.views.picture_cache import cached_picture
from bindsearch.operations.segment_media import Place
from bindsearch.views.thumbnails import thumbnail
store, path = map(Path, sys.argv[1:])
place = Place(path, path.parent, Modality.IMAGE)
for _ in range(3):
    for side_px in range(16, 80):
        assert cached_picture(store, place, side_px, thumbnail, 1 << 18)[:4] == b"RIFF"
"""
    command = [sys.executable, "-c", code, str(tmp_path / "s"), str(place.path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert not [path for path in files_of(tmp_path / "s") if path.suffix == ".tmp"]
    assert 0 < folder_size(tmp_path / "s") <= 1 << 18


def test_verify_and_compact_leave_the_cache_alone(tmp_path: Path, place: Place) -> None:
    with connect(tmp_path / "store") as store:
        store.index(place.root)
        cached_picture(store.path, place, 32, thumbnail)
        assert store.verify().findings == ()
        store.compact()
        assert len(files_of(store.path)) == 1
        assert store.search("a dog", k=1)
