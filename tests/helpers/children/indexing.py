"""Indexes folders with the null encoder in small batches; run by tests that kill it, starve it, or search beside it.

python indexing.py STORE FOLDER... [--kill POINT] [--fail FAULT] [--largest-file BYTES] [--pause SECONDS]
                         [--log FILE] [--workers] [--codes] [--encoder NAME] [--upkeep] [--labels A,B]

--kill: SIGKILL itself at a moment named in POINTS. --fail: from a moment named in FAULTS on the system refuses.
--largest-file: the system refuses to write files beyond this size. --pause: sleep after each commit.
--log: append generation and number of items, as JSON, before each generation is published. --workers: decode in
processes of their own. --codes: ask for compressed indexes. --upkeep: afterwards forget, compact and optimize again
and again. --labels: write a column of classes instead. Runs as the command does, and prints "ready" when it is about to
start.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import bindsearch.shards.connect
from bindsearch.cli.main import main as command
from bindsearch.ingest import collect
from bindsearch.storage import catalog, writer
from bindsearch.types import Modality

COMMIT_SEGMENTS, MAX_SMALL_FILES, MAX_PARTS = 25, 3, 4
"""Small, so that merges of vector files and of snapshot parts are among what is killed."""


@dataclass(frozen=True)
class Point:
    """A moment: `when` (before, after, or half of what it writes) the nth call of a function that is given `about`.

    `fresh`: in a run that makes the store. `codes`: in one that makes indexes.
    """

    function: str
    when: str
    nth: int = 1
    about: str = ""
    fresh: bool = False
    codes: bool = False


WRITER, CATALOG, PARTS = (
    "bindsearch.storage.writer:Writer",
    "bindsearch.storage.catalog:Catalog",
    "bindsearch.storage.snapshot_format",
)
REPLACE, UNLINK, SYNC = "pathlib:Path.replace", "pathlib:Path.unlink", "bindsearch.atomic:sync_folder"

POINTS = {
    "before the lock note is written": Point("bindsearch.storage.session:write_note", "before"),
    "before store.json is written": Point("bindsearch.storage.config:atomic_write", "before", fresh=True),
    "half of store.json is written": Point("bindsearch.storage.config:atomic_write", "half", fresh=True),
    "the catalog has no tables yet": Point("bindsearch.storage.catalog:migrate", "before", fresh=True),
    "before the first snapshot": Point(f"{WRITER}._write_base", "before", fresh=True),
    "after a collection is recorded": Point(f"{CATALOG}.add_collection", "after", 2, fresh=True),
    "while orphans are removed": Point("bindsearch.storage.writer:keep_aside", "after", 1, "orphan"),
    "half of a vector file is written": Point("bindsearch.storage.vector_files:atomic_write", "half", 3),
    "before a vector file is renamed": Point(REPLACE, "before", 2, "vectors/"),
    "after a vector file is renamed": Point(REPLACE, "after", 2, "vectors/"),
    "before the folder of vector files is synced": Point(SYNC, "before", 3, "vectors/"),
    "after a vector file is written": Point("bindsearch.storage.writer:write_vectors", "after", 4),
    "inside the catalog's transaction": Point(f"{CATALOG}._put_containers", "after", 3),
    "before the catalog's commit": Point(f"{CATALOG}.commit", "before", 3),
    "after the catalog's commit": Point(f"{CATALOG}.commit", "after", 3),
    "half of a snapshot file is written": Point(f"{PARTS}:atomic_write", "half", 7, "snapshots/"),
    "between two files of a snapshot part": Point(f"{PARTS}:atomic_write", "before", 6, "snapshots/"),
    "half of CURRENT is written": Point(f"{PARTS}:atomic_write", "half", 2, "CURRENT"),
    "before CURRENT is renamed": Point(REPLACE, "before", 3, "CURRENT"),
    "after CURRENT is renamed": Point(REPLACE, "after", 3, "CURRENT"),
    "while old snapshot parts are removed": Point("shutil:rmtree", "after", 2, "snapshots/"),
    "before merged vector files are swapped in": Point(f"{CATALOG}.replace_vector_files", "before"),
    "after merged vector files are swapped in": Point(f"{CATALOG}.replace_vector_files", "after"),
    "before the old vector files are unlinked": Point(UNLINK, "before", 1, "vectors/text/0"),
    "while the old vector files are unlinked": Point(UNLINK, "after", 2, "vectors/text/0"),
    "before snapshot parts are merged": Point(f"{WRITER}._merge_parts", "before"),
    "after snapshot parts are merged": Point(f"{WRITER}._merge_parts", "after"),
    "a member of an archive is copied out": Point("bindsearch.ingest.scan.archive_members:SourceFile", "before", 9),
    "half of an archive is taken in": Point("bindsearch.ingest.scan.archive_members:Members.finished", "after", 40),
    "before an archive is recorded": Point("bindsearch.ingest.scan.collection:CollectionScan.stage_archive", "before"),
    "before the sweep": Point("bindsearch.ingest.scan.collection:CollectionScan.sweep", "before"),
    "after the sweep, before it is committed": Point("bindsearch.ingest.scan.collection:CollectionScan.sweep", "after"),
    "between two collections": Point("bindsearch.ingest.pipeline:Indexer.index", "after"),
    "before the catalog is closed": Point(f"{CATALOG}.close", "before"),
    "before the checkpointed catalog has its name": Point(REPLACE, "before", 1, "catalog.duckdb.next"),
    "before the log is removed": Point(UNLINK, "before", 1, "/catalog.duckdb.wal"),
    "before the checkpointed catalog is swapped in": Point(REPLACE, "before", 2, "catalog.duckdb.next"),
    "after the checkpointed catalog is swapped in": Point(REPLACE, "after", 2, "catalog.duckdb.next"),
    "before an index is renamed": Point("pathlib:Path.rename", "before", 1, "indexes/", codes=True),
    "before an index is published": Point(f"{WRITER}.set_indexes", "before", codes=True),
    "while the settings are written": Point("bindsearch.operations.index_policy:atomic_write", "half", codes=True),
}

CLASS_POINTS = {
    "before the transaction": Point(f"{CATALOG}.set_class_columns", "before"),
    "between the old and the new values": Point(f"{CATALOG}._drop_class_columns", "after"),
    "inside the transaction": Point(f"{CATALOG}._insert_table", "after", 2),
    "after the transaction": Point(f"{CATALOG}.set_class_columns", "after"),
    "half of the columns are written": Point(f"{PARTS}:atomic_write", "half", 1, "class_columns.arrow"),
    "before the part is complete": Point(f"{PARTS}:atomic_write", "before", 1, "digests.json"),
    "half of CURRENT with the columns is written": Point(f"{PARTS}:atomic_write", "half", 1, "CURRENT"),
    "before CURRENT with the columns is renamed": Point(REPLACE, "before", 1, "CURRENT"),
    "after CURRENT with the columns is renamed": Point(REPLACE, "after", 1, "CURRENT"),
    "after the columns are published": Point(f"{WRITER}._publish_class_columns", "after"),
}
"""Moments of writing a column of classes, with --labels."""

FAULTS = {
    "no space for a vector file": ("bindsearch.storage.vector_files:atomic_write", errno.ENOSPC, 3),
    "no space for a snapshot": (f"{PARTS}:atomic_write", errno.ENOSPC, 14),
    "no space for what a sync writes": ("os:fsync", errno.ENOSPC, 25),
    "no space for members of archives": ("bindsearch.ingest.archives.samples:_Reader._copy", errno.ENOSPC, 3),
    "the folder of vectors may not be written": ("bindsearch.storage.vector_files:atomic_write", errno.EACCES, 3),
    "the disk fails": ("bindsearch.storage.vector_files:atomic_write", errno.EIO, 2),
}


class HalfWritten:
    """A file that comes to its process's end halfway through its first larger write."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        content = bytes(data)
        if len(content) < 20:
            return self._file.write(content)
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        die()
        return 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(function: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put a function of this process in the place of another, named as module:path."""
    module, _, path = function.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, wrapper(getattr(owner, name)))


def kill_at(point: Point) -> None:
    calls = 0

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal calls
            if point.about and point.about not in " ".join(map(str, args)):
                return real(*args, **options)
            calls += 1
            if calls != point.nth:
                return real(*args, **options)
            if point.when == "before":
                die()
            if point.when == "half":
                return half_written(real(*args, **options))
            real(*args, **options)
            die()
            return None

        return wrapped

    wrap(point.function, killing)


@contextmanager
def half_written(opened: Any) -> Iterator[HalfWritten]:
    with opened as file:
        yield HalfWritten(file)


def fail_at(function: str, number: int, nth: int) -> None:
    calls = 0

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= nth:
                raise OSError(number, os.strerror(number))
            return real(*args, **options)

        return wrapped

    wrap(function, failing)


def log_generations(path: Path) -> None:
    """Record the content of each generation, before any reader can see it."""
    from bindsearch.storage.snapshot import open_snapshot

    def logging(real: Callable[..., None]) -> Callable[..., None]:
        def wrapped(store: Path, manifest: Any) -> None:
            counts = open_snapshot(store, manifest).counts("items")
            with path.open("a") as log:
                log.write(json.dumps([manifest.generation, counts.get(Modality.TEXT, 0)]) + "\n")
            real(store, manifest)

        return wrapped

    wrap("bindsearch.storage.writer:write_manifest", logging)


def pause_after_commits(seconds: float) -> None:
    def pausing(real: Callable[..., None]) -> Callable[..., None]:
        def wrapped(self: writer.Writer, batch: Any) -> None:
            real(self, batch)
            time.sleep(seconds)

        return wrapped

    wrap(f"{WRITER}.commit", pausing)


def keep_up(store: Path, folders: list[Path]) -> None:
    """Forget and index again, optimize and compact."""
    import bindsearch as bs
    from bindsearch.indexes.types import IndexForm, IndexSettings
    from bindsearch.operations.compact import compact_store
    from bindsearch.operations.forget import forget

    for form in (IndexForm.IVF_PQ, IndexForm.EXACT):
        with bs.connect(store) as opened:
            gone = sorted(path for path in folders[0].rglob("*.txt"))[:20]
            forget(store, [*map(str, gone)])
            opened.optimize(
                index_settings=IndexSettings(form, overrides={"lists": 4} if form is IndexForm.IVF_PQ else None)
            )
            compact_store(store)
            opened.index(*folders)
            opened.optimize(force=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--kill", choices=[*POINTS, *CLASS_POINTS])
    parser.add_argument("--fail", choices=FAULTS)
    parser.add_argument("--largest-file", type=int)
    parser.add_argument("--pause", type=float)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--codes", action="store_true")
    parser.add_argument("--encoder", default="null")
    parser.add_argument("--upkeep", action="store_true")
    parser.add_argument("--labels")
    given = parser.parse_args()
    collect.COMMIT_SEGMENTS, writer.MAX_SMALL_FILES, writer.MAX_PARTS = COMMIT_SEGMENTS, MAX_SMALL_FILES, MAX_PARTS
    vars(catalog)["CLOSE_LOG_BYTES"] = 0  # so that each run ends with a checkpoint
    if not given.workers:
        connect = partial(bindsearch.shards.connect.connect, decode="thread")
        bindsearch.shards.connect.connect = connect
    if given.log:
        log_generations(given.log)
    if given.pause:
        pause_after_commits(given.pause)
    if given.kill:
        kill_at((POINTS | CLASS_POINTS)[given.kill])
    if given.fail:
        fail_at(*FAULTS[given.fail])
    if given.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.largest_file, given.largest_file))
    codes = ["--index", "ivfpq", "--index-option", "lists=4"] if given.codes else []
    arguments = ["index", *map(str, given.folders), "--store", str(given.store), "--encoder", given.encoder, *codes]
    if given.labels:
        arguments = ["classify", "--write-column", "kind", "--labels", given.labels, "--store", str(given.store)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        command(arguments)
    finally:
        if given.upkeep:
            keep_up(given.store, given.folders)


if __name__ == "__main__":
    main()
