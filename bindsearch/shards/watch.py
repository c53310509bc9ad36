"""Indexing of folders as they change, into the shards that the changes concern."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from bindsearch.errors import StoreLockedError, UsageError
from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE
from bindsearch.ingest.manifests.rows import MANIFEST_NAMES
from bindsearch.ingest.scan.file_events import watch_changes
from bindsearch.ingest.scan.ignore import IGNORE_FILE
from bindsearch.operations.index import IndexRequest
from bindsearch.operations.watch import LOCKED_SECONDS
from bindsearch.reports import IndexReport
from bindsearch.shards.index import ShardJob, ShardOptions, index_jobs, index_shards, known_files, open_tools, run_with
from bindsearch.shards.layout import ShardMap, read_shard_map, shard_of


def watch_shards(
    root: Path,
    paths: Sequence[Path],
    request: IndexRequest,
    options: ShardOptions,
    on_report: Callable[[IndexReport], None],
    stop: threading.Event,
    *,
    rescan_s: float,
    polling: bool,
) -> None:
    """Index folders, then their changes, until `stop` is set, in this process.

    While another process is writing to a shard, changes wait. See `Store.watch` for the arguments.

    Raises:
        StoreNotFoundError: there is no sharded store.
        StoreError: a shard is damaged or missing.
        UsageError: a path is not a folder, or the limit of file watches is reached.
    """
    shards = read_shard_map(root)
    skipped = frozenset(path.resolve() for path in (root, *shards.paths(root)))
    with open_tools(ShardJob(root, 0, shards.n, (), request, options)) as tools:
        tools.decoders.check_libraries()
        run = partial(run_with, tools)
        changes = watch_changes(paths, stop=stop, skipped_folders=skipped, rescan_s=rescan_s, polling=polling)
        with closing(changes):
            for change in changes:
                while not stop.is_set():
                    try:
                        if change.rescan:
                            there = [path for path in paths if path.is_dir()]
                            on_report(index_shards(root, there, request, options, run=run) if there else IndexReport())
                        else:
                            jobs = change_jobs(root, tuple(change.paths), request, options)
                            on_report(index_jobs(jobs, read_shard_map(root), run=run))
                    except StoreLockedError:
                        stop.wait(LOCKED_SECONDS)
                        continue
                    except UsageError as error:  # for example, an ignore file that is being written
                        on_report(IndexReport(notices=[str(error)]))
                    break


def change_jobs(root: Path, changed: tuple[Path, ...], request: IndexRequest, options: ShardOptions) -> list[ShardJob]:
    """Return the jobs for changed files and folders: of the shards that they concern alone."""
    shards = read_shard_map(root)
    numbers = sorted(_concerned(root, shards, changed))
    return [ShardJob(root, number, shards.n, changed, request, options, has_changes=True) for number in numbers]


def _concerned(root: Path, shards: ShardMap, changed: Iterable[Path]) -> set[int]:
    """Return the shards of changed files; a folder, a list, or a file with settings may concern all."""
    known = known_files(root, shards)
    everything = {*range(shards.n)}
    concerned: set[int] = set()
    for path in changed:
        collections = (one for one in known.roots if path.is_relative_to(one))
        if (collection := max(collections, key=lambda one: len(one.parts), default=None)) is None:
            continue
        names = path.name.lower()
        if path == collection or path.name in (IGNORE_FILE, SETTINGS_FILE) or names.endswith(MANIFEST_NAMES):
            return everything
        concerned.add(shard_of(path.relative_to(collection).as_posix(), shards.n))
        if path.is_dir():
            return everything
        if not path.is_file():  # a folder may have been there
            concerned |= known.shards_that_know(path)
    return concerned
