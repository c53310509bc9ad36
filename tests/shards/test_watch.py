"""A watched folder: changes reach the shards that they concern, and a renamed file keeps its vectors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bindsearch.operations.index import IndexRequest
from bindsearch.reports import IndexReport
from bindsearch.shards.layout import shard_of
from bindsearch.shards.watch import change_jobs, watch_shards
from helpers.sharded import OPTIONS, index, items_of, make_shards, shard_paths, union
from helpers.waiting import wait_for

N = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "words" / "sub").mkdir(parents=True)
    for number in range(9):
        (tmp_path / "words" / f"{number}.txt").write_text(f"a text with the number {number}")
        (tmp_path / "words" / "sub" / f"{number}.txt").write_text(f"another text with the number {number}")
    return tmp_path / "words"


@pytest.fixture
def reports(tmp_path: Path, folder: Path) -> Iterator[list[IndexReport]]:
    root = make_shards(tmp_path / "shards", N)
    stop, seen = threading.Event(), []  # type: ignore[var-annotated]
    arguments = (root, [folder], IndexRequest(), OPTIONS, seen.append, stop)
    watcher = threading.Thread(target=watch_shards, args=arguments, kwargs={"rescan_s": 600.0, "polling": False})
    watcher.start()
    try:
        wait_for(lambda: seen)
        yield seen
    finally:
        stop.set()
        watcher.join()


def held(root: Path) -> set[str]:
    return {*union(map(items_of, shard_paths(root)))}


def test_changes_reach_their_shards(tmp_path: Path, folder: Path, reports: list[IndexReport]) -> None:
    root = tmp_path / "shards"
    assert reports[0].added == 18
    (folder / "new.txt").write_text("a new text")
    wait_for(lambda: sum(report.added for report in reports) == 19)
    assert str(folder / "new.txt") in held(root)
    segments = sum(report.segments for report in reports)
    (folder / "sub").rename(folder / "other")
    wait_for(lambda: held(root) == {str(path) for path in folder.rglob("*.txt")})
    assert sum(report.segments for report in reports) == segments  # moved, whatever their shards are now
    (folder / "new.txt").unlink()
    wait_for(lambda: str(folder / "new.txt") not in held(root))


def test_only_shards_that_are_concerned_run(tmp_path: Path, folder: Path) -> None:
    root = make_shards(tmp_path / "shards", N)
    index(root, folder)

    def numbers(*changed: Path) -> list[int]:
        return [job.number for job in change_jobs(root, changed, IndexRequest(), OPTIONS)]

    assert numbers(folder / "3.txt") == [shard_of("3.txt", N)]
    assert numbers(tmp_path / "elsewhere.txt") == []
    for everything in (folder, folder / "sub", folder / "list.csv", folder / "sub" / ".bindsearchignore"):
        assert numbers(everything) == [0, 1, 2]
    (folder / "sub" / "1.txt").unlink()
    assert numbers(folder / "sub" / "1.txt") == [shard_of("sub/1.txt", N)]
