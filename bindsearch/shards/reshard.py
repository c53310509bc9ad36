"""Another number of shards: new ones are built from the vectors of the old ones, and replace them at once.

Files are not read. The new shards are built beside the old ones, which are searched meanwhile but not written; the
switch is the replacement of shards.json. If it is interrupted, the next call resumes it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bindsearch.atomic import atomic_write, is_there, make_folder, sync_folder
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import StoreError, UsageError
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.ingest.archives.samples import TAR_NAMES, ZIP_NAMES, archive_above
from bindsearch.ingest.left_out import read_left_out, write_left_out
from bindsearch.ingest.manifests.rows import MANIFEST_NAMES
from bindsearch.ingest.media.options import decode_options
from bindsearch.operations.classify.column import carry_columns
from bindsearch.operations.context import StoreContext
from bindsearch.operations.exchange.exchange_format import (
    Block,
    complete_items,
    live_segment_rows,
    open_generation,
    read_blocks,
    to_lists,
)
from bindsearch.operations.exchange.vector_import import segment_from_row
from bindsearch.operations.index_policy import read_index_settings, write_index_settings
from bindsearch.operations.optimize import optimize_store
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.search.generation import Generation
from bindsearch.search.scoring.calibration_file import CALIBRATION_FILE
from bindsearch.shards.each import RunEach, results_of, run_each_here, totals
from bindsearch.shards.fingerprints import fingerprints_path, write_fingerprints
from bindsearch.shards.layout import ShardMap, new_shard_map, read_shard_map, shard_of, write_shard_map
from bindsearch.small_files import check_seal, read_json, read_small_file, sealed
from bindsearch.storage.batch import StagedBatch, StagedItem
from bindsearch.storage.catalog import Catalog, Failure, SourceContainer
from bindsearch.storage.catalog_file import CATALOG_FILE
from bindsearch.storage.config import STORE_FILE, load_store_encoder, read_config, write_config
from bindsearch.storage.file_state import FileState
from bindsearch.storage.session import writer_lock
from bindsearch.storage.snapshot import read_manifest
from bindsearch.storage.writer import Writer
from bindsearch.types import METADATA_COLUMNS, Metadata, Modality

PLAN_FILE = "reshard.json"
"""File of a sharded store with the new shards while they are built, and with the old ones until they are deleted."""


@dataclass(frozen=True, slots=True)
class ReshardReport:
    """Report of another number of shards.

    Attributes:
        before: Number of shards before.
        after: Number of shards now.
        items: Number of items.
        failures: Number of files that could not be indexed.
        segments: Number of segments.
        notices: Messages for the user.
        took_s: Duration in seconds.
    """

    before: int
    after: int
    items: int
    failures: int
    segments: int
    notices: tuple[str, ...]
    took_s: float


@dataclass(frozen=True, slots=True)
class BuiltShard:
    """Numbers of items, failures and segments of a shard, and messages for the user."""

    items: int = 0
    failures: int = 0
    segments: int = 0
    notices: tuple[str, ...] = ()


def reshard(
    root: Path,
    n: int,
    *,
    device: str = "auto",
    run_each: RunEach[BuiltShard] = run_each_here,
    on_stage: OnStage = ignore_stage,
) -> ReshardReport:
    """Distribute the items of a sharded store to another number of shards; nothing is embedded again.

    Items get new ids. Captions, columns, states of files, failures and lists are kept; indexes are built again. The new
    shards are in the folder of the sharded store, wherever the old ones are.

    Args:
        root: Folder of the sharded store.
        n: Number of shards.
        device: Device that indexes are built on.
        run_each: Calls a function for each new shard.
        on_stage: Called with the name of each stage.

    Raises:
        UsageError: it has that number of shards, or the number is out of range.
        StoreNotFoundError: there is no sharded store.
        StoreLockedError: another process is writing to a shard.
        StoreError: an old shard cannot be read, or a new one has not all of its items; the old ones stay.
    """
    started = time.monotonic()
    old = read_shard_map(root)
    plan = read_plan(root)
    if plan is not None and old.folders == plan.new.folders:
        on_stage("deleting the shards of before")
        _delete_old(root, plan)
        plan = None
    if n == old.n:
        raise UsageError(f"{root} has {n} shards: give another number")
    with ExitStack() as held:
        sources = {number: path for number, path in enumerate(old.paths(root)) if (path / STORE_FILE).is_file()}
        _check_all_there(root, old, sources)
        for path in sources.values():
            held.enter_context(writer_lock(path))
        generations = [generation_of(path) for path in sources.values()]
        if plan is not None and (plan.new.n != n or plan.generations != generations):
            _delete(root, plan.new)
            plan = None
        if plan is None:
            new = new_shard_map(n, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            # in a folder of their own: names of the old ones may be the same
            new = replace(new, folders=tuple(f"shards-{n:04d}/{folder}" for folder in new.folders))
            plan = _Plan(new, old, generations)
            _delete(root, new)  # what remains of shards of that number from before
            with atomic_write(root / PLAN_FILE) as file:
                file.write(sealed(asdict(plan), indent=2) + b"\n")
        on_stage(f"building {n} shards")
        call = partial(build_shard, root, plan.new, old, device)
        built = results_of(run_each(call, range(n) if sources else ()), plan.new)
        total = _sum(built.values())
        before = _sum(_content(path) for path in sources.values())
        if (total.items, total.segments, total.failures) != (before.items, before.segments, before.failures):
            now = f"{total.items} items, {total.segments} segments and {total.failures} failures"
            earlier = f"{before.items}, {before.segments} and {before.failures}"
            way_out = "the old ones stay; run `bindsearch verify`"
            raise StoreError(f"the new shards have {now}, the old ones {earlier}: {way_out}")
        write_shard_map(root, plan.new)
        on_stage("deleting the shards of before")
        _delete_old(root, plan)
    took_s = time.monotonic() - started
    return ReshardReport(old.n, n, total.items, total.failures, total.segments, total.notices, took_s)


@dataclass(frozen=True)
class _Plan:
    """Content of PLAN_FILE, with the generations of the old shards that are there: with others, a run begins again."""

    new: ShardMap
    old: ShardMap
    generations: list[int]


def read_plan(root: Path) -> _Plan | None:
    """Return the plan of a run that was interrupted; None if there is none.

    Raises:
        StoreError: the file is damaged or cannot be read.
    """

    def checked(data: dict[str, Any]) -> _Plan:
        check_seal(data, required=True)
        new, old = (ShardMap(**{**data[key], "folders": tuple(data[key]["folders"])}) for key in ("new", "old"))
        return _Plan(new, old, [int(generation) for generation in data["generations"]])

    return read_json(root / PLAN_FILE, checked, "delete it, and the folders that shards.json does not list")


def _check_all_there(root: Path, old: ShardMap, sources: Mapping[int, Path]) -> None:
    """Check that no shard is missing: its items would be lost. Raises StoreError: one is."""
    for number, path in enumerate(old.paths(root)):
        if number not in sources and is_there(fingerprints_path(root, number, old.n)):
            raise StoreError(f"the shard {path} is missing: mount or restore its disk")


def _delete(root: Path, shards: ShardMap) -> None:
    """Delete shards: what says that they are complete first, so that no later run relies on the rest."""
    for number, folder in enumerate(shards.paths(root)):
        fingerprints_path(root, number, shards.n).unlink(missing_ok=True)
        if folder.is_dir():
            (folder / STORE_FILE).unlink(missing_ok=True)
            sync_folder(folder)
            shutil.rmtree(folder)
        with suppress(OSError):  # the folder that holds them, once it is empty
            if folder.parent != root and folder.parent.is_relative_to(root):
                folder.parent.rmdir()


def _delete_old(root: Path, plan: _Plan) -> None:
    _delete(root, plan.old)
    (root / PLAN_FILE).unlink(missing_ok=True)
    sync_folder(root)


def generation_of(path: Path) -> int:
    """Return the number of the newest generation of a shard, 0 if nothing was ever committed."""
    manifest = read_manifest(path)
    return 0 if manifest is None else manifest.generation


def _content(path: Path) -> BuiltShard:
    """Return what a shard holds."""
    snapshot = open_generation(path)[1].snapshot
    items, segments = snapshot.live_tables()
    return BuiltShard(items.num_rows, 0 if snapshot.failures is None else snapshot.failures.num_rows, segments.num_rows)


def _sum(parts: Iterable[BuiltShard]) -> BuiltShard:
    parts = [*parts]
    notices = tuple(dict.fromkeys(notice for part in parts for notice in part.notices))
    return BuiltShard(**totals(parts, "items", "failures", "segments"), notices=notices)


def build_shard(root: Path, new: ShardMap, old: ShardMap, device: str, number: int) -> BuiltShard:
    """Build a new shard, by its number, from the old ones, which nobody writes; what an interrupted run built is kept.

    Raises:
        StoreError: an old shard cannot be read.
    """
    folder, done = new.paths(root)[number], fingerprints_path(root, number, new.n)
    if done.exists():
        return _content(folder)
    common = math.gcd(old.n, new.n)
    paths = [(source, path) for source, path in enumerate(old.paths(root)) if (path / STORE_FILE).is_file()]
    sources = [(source, path) for source, path in paths if source % common == number % common]
    config = read_config(paths[0][1])
    make_folder(folder, root)
    with writer_lock(folder):
        if not (folder / STORE_FILE).is_file():
            write_config(folder, config)
            write_index_settings(folder, read_index_settings(paths[0][1]))
            with suppress(FileNotFoundError):
                content = read_small_file(paths[0][1] / CALIBRATION_FILE)
                with atomic_write(folder / CALIBRATION_FILE) as file:
                    file.write(content)
        with Catalog(folder / CATALOG_FILE) as catalog:
            folders = (open_generation(path)[1].manifest.collections.values() for _, path in paths)
            for collection in dict.fromkeys(map(Path, chain.from_iterable(folders))):
                if collection not in catalog.collections().values():
                    catalog.add_collection(collection)
            builder = _Builder(folder, catalog, Writer(folder, catalog, config.dim))
            for source, path in sources:
                builder.add(path, partial(_belongs, number, new.n, source, old.n))
            builder.finish()
    notices = _finish(folder, [path for _, path in sources], device)
    write_fingerprints(done, folder)
    return replace(_content(folder), notices=tuple(notices))


def _finish(folder: Path, sources: Sequence[Path], device: str) -> list[str]:
    """Write the columns of classes of a new shard, and build its indexes; return notices."""
    encoder = load_store_encoder(folder, None, {}, Runtime(device=device))
    notices: list[str] = []
    for source in sources:
        snapshot = open_generation(source)[1].snapshot
        if (stored := snapshot.class_columns) is not None:
            columns = [(column, snapshot.manifest.collections) for column in stored.columns.values()]
            notices += carry_columns(columns, folder, encoder, str(source))
    with closing(GpuResidency(device)) as gpus:
        optimize_store(StoreContext(folder, encoder, decode_options(read_config(folder), None), gpus))
    return notices


def _belongs(number: int, n: int, source: int, old_n: int, rel_path: str, archives: frozenset[str]) -> bool:
    """Return whether a path of an old shard belongs to a new one: by the archive that it is in, or by itself."""
    file = archive_above(rel_path, archives) or rel_path
    if file == rel_path and (shard_of(rel_path, old_n) != source or old_n == 1):
        # an archive that was not read to its end is not known: it is a parent with the name of one, in that shard
        parent = rel_path
        while parent := parent.rpartition("/")[0]:
            if parent.lower().endswith((*TAR_NAMES, *ZIP_NAMES)) and shard_of(parent, old_n) == source:
                file = parent
                break
    return shard_of(file, n) == number


@dataclass
class _Builder:
    """A new shard that is being built."""

    folder: Path
    catalog: Catalog
    writer: Writer
    batch: StagedBatch = field(default_factory=StagedBatch)
    left_out: dict[int, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what an interrupted run has built."""
        self.keys = {root: key for key, root in self.catalog.collections().items()}
        items = self.catalog.items_table().select(["collection_id", "rel_path", "fingerprint"]).to_pydict()
        self.known = {*zip(items["collection_id"], items["rel_path"], strict=True)}
        self.prints = {*filter(None, items["fingerprint"])}

    def add(self, source: Path, belongs: partial[bool]) -> None:
        """Add what an old shard has of this one."""
        generation = open_generation(source)[1]
        with Catalog(source / CATALOG_FILE, read_only=True) as catalog:
            states: dict[int, tuple[int, str, FileState]] = {}
            for old_key, root in catalog.collections().items():
                key = self.keys[root]
                containers = catalog.containers(old_key)
                archives = frozenset(path for path in containers if not path.lower().endswith(MANIFEST_NAMES))
                files = catalog.known_files(old_key, ("",))
                for row in range(files.n):
                    if not belongs(files.rel_path(row), archives):
                        continue
                    file = files.file(row)
                    if file.reason is not None:
                        self.batch.failures.append(Failure(key, file.rel_path, file.state, file.reason))
                    if file.item_id is not None and (key, file.rel_path) not in self.known:
                        states[file.item_id] = (key, file.rel_path, file.state)
                for path, state in containers.items():
                    if path not in archives or belongs(path, archives):
                        self.batch.containers.append(SourceContainer(key, path, state))
                table = read_left_out(source, old_key)
                left_out = zip(*(table.column(name).to_pylist() for name in ("rel_path", "reason")), strict=True)
                kept = ((path, why) for path, why in left_out if belongs(path.rstrip("/"), archives))
                self.left_out.setdefault(key, {}).update(kept)
        self._add_items(generation, states)

    def _add_items(self, generation: Generation, states: dict[int, tuple[int, str, FileState]]) -> None:
        """Commit the items of `states`, block by block."""
        snapshot = generation.snapshot
        rows = live_segment_rows(snapshot)
        rows = rows[np.isin(snapshot.segment_items[rows], np.fromiter(states, np.int64, len(states)))]
        for block in read_blocks(generation, rows, complete_items(snapshot, rows)):
            self._stage(block, states)
            self._commit()
        for item_id, (key, rel_path, state) in states.items():  # their vectors are lost: they are embedded again
            row = int(snapshot.item_rows(np.array([item_id]))[0])
            if row >= 0:
                values = snapshot.items.slice(row, 1).to_pydict()
                self.batch.items.append(_item(key, rel_path, state, values, 0, ()))
        self._commit()

    def _stage(self, block: Block, states: dict[int, tuple[int, str, FileState]]) -> None:
        """Stage the items of a block, and take them from `states`."""
        facts, vectors = to_lists(block.facts), block.vectors.astype(np.float32)
        item_ids = block.facts.column("item_id").to_numpy()
        starts = np.flatnonzero(np.diff(item_ids, prepend=-1)).tolist()
        for start, end in pairwise([*starts, len(vectors)]):
            key, rel_path, state = states.pop(int(item_ids[start]))
            segments = tuple(segment_from_row(facts, row, vectors[row]) for row in range(start, end))
            item = _item(key, rel_path, state, facts, start, segments)
            if item.fingerprint and item.fingerprint in self.prints:
                item = replace(item, segments=None)
            self.prints.add(item.fingerprint)
            self.batch.items.append(item)

    def _commit(self) -> None:
        batch, self.batch = self.batch, StagedBatch()
        if not batch.is_empty:
            self.writer.commit(batch)

    def finish(self) -> None:
        """Commit the rest, and record the files that were left out."""
        self._commit()
        for key, found in self.left_out.items():
            write_left_out(self.folder, key, found, None)


def _item(
    key: int, rel_path: str, state: FileState, facts: Mapping[str, Sequence[Any]], row: int, segments: tuple[Any, ...]
) -> StagedItem:
    """Return an item of an old shard as a new one."""
    modality = Modality((facts["item_modality"] if segments else facts["modality"])[row])
    content_hash, fingerprint, columns = (facts[name][row] for name in ("content_hash", "fingerprint", "columns"))
    metadata = Metadata(**{name: facts[name][row] for name in METADATA_COLUMNS})
    digests = content_hash or "", fingerprint or ""
    return StagedItem(None, key, rel_path, modality, state, *digests, segments, columns, metadata)
