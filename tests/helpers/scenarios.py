"""Commands on small stores that are cut off or disturbed: what is there before, the command, and how to go on."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import bindsearch as bs
import bindsearch.shards.connect
from bindsearch.cli.main import main
from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import EXIT_SOME_FAILED, StoreNotFoundError
from bindsearch.ingest import collect
from bindsearch.storage import catalog, writer
from bindsearch.storage.batch import StagedBatch
from helpers import media_files

COMMIT_SEGMENTS, MAX_SMALL_FILES, MAX_PARTS = 4, 2, 3
"""Small, so that a command makes several commits, and merges vector files and parts of the snapshot."""

Contents = dict[str, list[str]]
"""Modality, start and vector of each segment, by the path of its file."""


@dataclass(frozen=True)
class World:
    """Folders of a scenario; only what is in `disk` is recorded or disturbed.

    Attributes:
        place: Folder of media and sources of a merge.
        disk: Folder of the store and of what is written beside it.
    """

    place: Path
    disk: Path

    @property
    def store(self) -> Path:
        return self.disk / "store"

    @property
    def media(self) -> Path:
        return self.place / "media"


@dataclass(frozen=True)
class Scenario:
    """A command.

    Attributes:
        prepare: Makes the media and the store before the command.
        command: The command; "{store}", "{media}", "{place}" and "{disk}" stand for folders.
        again: The commands that go on after it.
        checkpoints: Whether the catalog's log is written into its file at every transaction and when it is closed.
        reads_only: Whether the command leaves the store as it is.
        same_rows: Whether what was committed is not to be embedded again.
    """

    prepare: Callable[[World], None]
    command: Sequence[str]
    again: Sequence[Sequence[str]]
    checkpoints: bool = False
    reads_only: bool = False
    same_rows: bool = True


class Outcome(NamedTuple):
    """Exit code of a command, what it printed, and the lines that it said."""

    code: int
    output: str
    lines: list[str]


def run(world: World, command: Sequence[str]) -> Outcome:
    """Run a command of bindsearch in this process."""
    folders = {"store": world.store, "media": world.media, "place": world.place, "disk": world.disk}
    output, errors = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main([part.format(**folders) for part in command])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
    return Outcome(code, output.getvalue(), errors.getvalue().splitlines())


def go_on(world: World, scenario: Scenario) -> list[Outcome]:
    """Run the commands that go on after a scenario's command was cut off; return what those that failed said."""
    outcomes = [run(world, command) for command in scenario.again]
    return [outcome for outcome in outcomes if outcome.code not in (0, EXIT_SOME_FAILED)]


def connect(store: Path) -> bs.Store:
    return bs.connect(store, encoder="null", decode="thread")


def contents(store: Path) -> Contents:
    """Return what readers see; nothing if there is no store."""
    found: Contents = {}
    with connect(store) as opened:
        try:
            generation = opened._reader.current()
        except StoreNotFoundError:
            return {}
        for modality, partition in generation.partitions.items():
            ids, rows = generation.snapshot.partition_segments(modality)
            stored = partition.rows.gather(partition.rows_of_vectors(ids))
            for fact, row in zip(generation.snapshot.facts(rows), np.asarray(stored), strict=True):
                found.setdefault(str(fact.path), []).append(f"{fact.modality} {fact.start_s} {row.tobytes().hex()}")
    return {path: sorted(held) for path, held in sorted(found.items())}


@dataclass
class Embedded:
    """Number of media that were embedded."""

    count: int = 0


@contextlib.contextmanager
def settings(scenario: Scenario, on_commit: Callable[[], None] = lambda: None) -> Iterator[Embedded]:
    """Set this process up for a scenario: small batches, decoding in threads; count what is embedded.

    Args:
        scenario: The scenario.
        on_commit: Called after each commit of the writer.

    Yields:
        The number of media that were embedded.
    """
    embedded = Embedded()
    real_commit, real_prepare, real_connect = (
        writer.Writer.commit,
        NullEncoder.prepare,
        bindsearch.shards.connect.connect,
    )

    def committing(self: writer.Writer, batch: StagedBatch) -> None:
        real_commit(self, batch)
        on_commit()

    def preparing(self: NullEncoder, media: bs.media.Media) -> np.ndarray:
        embedded.count += 1
        return real_prepare(self, media)

    changes: list[tuple[object, str, object]] = [
        (collect, "COMMIT_SEGMENTS", COMMIT_SEGMENTS),
        (writer, "MAX_SMALL_FILES", MAX_SMALL_FILES),
        (writer, "MAX_PARTS", MAX_PARTS),
        (writer.Writer, "commit", committing),
        (NullEncoder, "prepare", preparing),
        (bindsearch.shards.connect, "connect", partial(real_connect, decode="thread")),
    ]
    if scenario.checkpoints:
        changes += [(catalog, "CLOSE_LOG_BYTES", 0), (catalog, "OPEN_LOG_BYTES", 0)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield embedded
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def write_media(media: Path) -> None:
    """Write texts, pictures, a list of captions, and a picture that cannot be read."""
    for folder in ("a", "b"):
        (media / folder).mkdir(parents=True)
        for n in range(6):
            (media / folder / f"{n}.txt").write_text(f"text number {n} of {folder}")
    for n in range(3):
        picture = np.random.default_rng(n).integers(0, 255, (8, 8, 3), np.uint8)
        media_files.write_picture(media / "b" / f"{n}.png", picture)
    (media / "captions.csv").write_text("path,caption\nb/0.png,a caption\nb/1.png,another one\n")
    (media / "broken.png").write_bytes(b"no picture")


def change_media(media: Path) -> None:
    """Add, change, remove, touch and copy."""
    for n in range(6, 12):
        (media / "a" / f"{n}.txt").write_text(f"text number {n}")
    (media / "a" / "0.txt").write_text("another text")
    (media / "a" / "1.txt").unlink()
    os.utime(media / "b" / "2.txt", (1, 1))
    shutil.copy(media / "b" / "3.txt", media / "copy.txt")
    (media / "captions.csv").write_text("path,caption\nb/0.png,a caption\nb/1.png,other words\n")


INDEX = ("index", "{media}", "--store", "{store}", "--encoder", "null")


def only_media(world: World) -> None:
    write_media(world.media)


def indexed(world: World) -> None:
    write_media(world.media)
    run(world, INDEX)


def changed(world: World) -> None:
    indexed(world)
    change_media(world.media)


def indexed_twice(world: World) -> None:
    changed(world)
    run(world, INDEX)


def many_texts(world: World) -> None:
    write_media(world.media)
    for n in range(60):
        (world.media / f"more {n}.txt").write_text(f"one more text: {n}")
    commit_segments = collect.COMMIT_SEGMENTS
    collect.COMMIT_SEGMENTS = 40
    run(world, INDEX)
    collect.COMMIT_SEGMENTS = commit_segments


def without_catalog(world: World) -> None:
    indexed(world)
    (world.store / "catalog.duckdb").write_bytes(b"no catalog")
    (world.store / "catalog.duckdb.wal").unlink(missing_ok=True)


def with_dead_rows(world: World) -> None:
    indexed_twice(world)
    run(world, ("forget", "{media}/b/4.txt", "--store", "{store}"))


def with_sources(world: World) -> None:
    indexed(world)
    world.store.rename(world.place / "first")
    change_media(world.media)
    run(World(world.place, world.place / "second"), INDEX)


def with_export(world: World) -> None:
    indexed(world)
    run(world, ("export", "{place}/export", "--store", "{store}"))
    shutil.rmtree(world.store)


AT_STORE = ("--store", "{store}")
CODES = ("optimize", *AT_STORE, "--index", "ivfpq", "--index-option", "lists=2")
REINDEX = ("reindex", "--encoder", "null", *AT_STORE)
MERGE = ("merge", "{place}/first", "{place}/second/store", *AT_STORE)
IMPORT = ("import", "{place}/export", *AT_STORE)
RECOVER = ("recover", *AT_STORE)

SCENARIOS = {
    "fresh index": Scenario(only_media, INDEX, [INDEX]),
    "fresh index with checkpoints": Scenario(only_media, INDEX, [INDEX], checkpoints=True),
    "update": Scenario(changed, INDEX, [INDEX]),
    "update with checkpoints": Scenario(changed, INDEX, [INDEX], checkpoints=True),
    "forget": Scenario(indexed_twice, ("forget", "{media}/a", *AT_STORE), [INDEX]),
    "forget with checkpoints": Scenario(indexed_twice, ("forget", "{media}/a", *AT_STORE), [INDEX], checkpoints=True),
    "compact": Scenario(with_dead_rows, ("compact", *AT_STORE), [INDEX]),
    "optimize": Scenario(many_texts, CODES, [INDEX], same_rows=False),
    "reindex": Scenario(indexed_twice, REINDEX, [REINDEX, INDEX], same_rows=False),
    "merge": Scenario(with_sources, MERGE, [MERGE]),
    "import": Scenario(with_export, IMPORT, [IMPORT]),
    "recover": Scenario(without_catalog, RECOVER, [RECOVER, INDEX]),
    "search": Scenario(indexed, ("search", "text number 3 of a", "--to", "text", *AT_STORE), [INDEX], reads_only=True),
    "status": Scenario(indexed, ("status", *AT_STORE), [INDEX], reads_only=True),
    "verify": Scenario(indexed_twice, ("verify", *AT_STORE), [INDEX], reads_only=True),
    "export": Scenario(indexed, ("export", "{disk}/export", *AT_STORE), [INDEX], reads_only=True),
}
