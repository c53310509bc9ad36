"""A sharded store: the methods of a store over all of its shards."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bindsearch.arguments import shown, to_integer, to_list, to_number, to_path_text
from bindsearch.environment import installation_faults
from bindsearch.errors import StoreNotFoundError, UsageError
from bindsearch.reports import (
    IndexReport,
    LeftOutFile,
    OnProgress,
    OnRows,
    OnStage,
    ignore_progress,
    ignore_rows,
    ignore_stage,
)
from bindsearch.results import Status
from bindsearch.search.generation import Generation
from bindsearch.search.query import parse_modalities
from bindsearch.shards.hosts import Hosts
from bindsearch.shards.layout import SHARDS_FILE, TIMEOUT_S, ShardMap, new_shard_map, shard_map_mark, write_shard_map
from bindsearch.shards.place import Place
from bindsearch.shards.search.router import Router, check_answering
from bindsearch.storage.config import StoreConfig, load_encoder_of
from bindsearch.storage.faults import store_faults, tells_faults
from bindsearch.store import Store
from bindsearch.types import Item, Modality, PathLike

if TYPE_CHECKING:
    from bindsearch.encoders.base import Encoder
    from bindsearch.encoders.zero_shot import ClassNames
    from bindsearch.indexes.types import IndexSettings
    from bindsearch.operations.classify.column import ColumnReport
    from bindsearch.operations.compact import CompactReport
    from bindsearch.operations.exchange.export import ExportReport
    from bindsearch.operations.optimize import OptimizeResult
    from bindsearch.operations.relocate import RelocateReport
    from bindsearch.operations.verify.findings import Report
    from bindsearch.operations.verify.recover import RecoverReport
    from bindsearch.shards.index import ShardOptions
    from bindsearch.shards.reshard import ReshardReport


class ShardedStore(Store):
    """A store whose files are divided among shards, which are ordinary stores.

    Searches give the hits of one store with all files. Ids of items are unique over the shards.
    """

    def __init__(
        self,
        path: Path,
        *,
        place: Place | None = None,
        shards: int | None = None,
        timeout_s: float = TIMEOUT_S,
        require_all: bool = False,
        **options: Any,
    ) -> None:
        """Prepare access to a sharded store.

        Args:
            path: Folder of the sharded store.
            place: Processes that index and search the shards (None: this one).
            shards: Number of shards of a new store (None: 1).
            timeout_s: Time in seconds that a shard has to answer.
            require_all: Whether a shard that does not answer is an error; else the answer is partial and names it.
            **options: Those of `Store`.
        """
        super().__init__(path, **options)
        self._place = place or Place(self._device)
        self._shards = shards
        self._mark: tuple[int, int] | None = None
        self._timeout_s, self._require_all = timeout_s, require_all

    def _release(self) -> None:
        super()._release()
        self._close_hosts()
        self._place.close()

    @property
    def exists(self) -> bool:
        """Return whether the sharded store exists, that is, something has been indexed."""
        return (self.path / SHARDS_FILE).is_file()

    @property
    def shard_map(self) -> ShardMap:
        """Number and folders of the shards.

        Raises:
            StoreNotFoundError: there is no sharded store yet.
        """
        return self._place.shard_map(self._folder)

    @property
    def _router(self) -> Router:
        """Router of the shards as they are now."""
        self._check_shards()
        return self._open_router

    def _check_shards(self) -> None:
        """Close the hosts if another process has changed the number of shards."""
        mark = shard_map_mark(self._folder)
        if mark != self._mark:
            self._close_hosts()
            self._mark = mark

    def _close_hosts(self) -> None:
        if (hosts := self.__dict__.pop("_open_hosts", None)) is not None:
            hosts.close()
        self.__dict__.pop("_open_router", None)

    @cached_property
    def _open_hosts(self) -> Hosts:
        return self._place.hosts(self.path, dict(enumerate(self.shard_map.paths(self.path))))

    @cached_property
    def _open_router(self) -> Router:
        return Router(
            self._open_hosts, lambda: self._calibration[0], timeout_s=self._timeout_s, require_all=self._require_all
        )

    @property
    def config(self) -> StoreConfig:
        """Configuration that all shards were created with.

        Raises:
            StoreError: no shard answers.
        """
        return next(iter(self._router.states().summaries.values())).config

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder of the store; its towers are loaded on first use. See `Store.encoder`."""
        from bindsearch.encoders.torch_runtime.device import Runtime

        runtime = Runtime(device=self._device, compile=self._compile)
        try:
            config = self.config
        except StoreNotFoundError:
            config = None
        return load_encoder_of(config, self.path, self._wanted_encoder, self._encoder_options, runtime)

    def generation(self) -> Generation:
        """Refuse: there is no single one.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.path} has shards, each with its own generation: connect to one of them")

    def _opened(self) -> Router:
        return self._router

    def _known_collections(self) -> dict[int, Path]:
        try:
            return dict(enumerate(self._router.roots))
        except StoreNotFoundError:
            return {}

    def _create(self) -> ShardMap:
        """Return the shards, of a new store after writing its map; raise UsageError if there is another number."""
        try:
            shards = self.shard_map
        except StoreNotFoundError:
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            write_shard_map(self._folder, new_shard_map(self._shards or 1, created))
            shards = self.shard_map
        if self._shards not in (None, shards.n):
            way_out = "leave out the number, or change it with `bindsearch reshard`"
            raise UsageError(f"{self.path} has {shards.n} shards, not {self._shards}: {way_out}")
        return shards

    def _shard_options(self) -> ShardOptions:
        from bindsearch.shards.index import ShardOptions

        return ShardOptions(
            encoder=self._wanted_encoder,
            encoder_options=self._encoder_options,
            device=self._device,
            compile=self._compile,
            segment_s=self._wanted_segments,
            decode=self._decode,
        )

    @installation_faults()
    @tells_faults("write")
    def index(
        self,
        *paths: PathLike,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        retry_failed: bool = False,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        prune: bool = False,
        limits: Mapping[str, float] | None = None,
        index_settings: IndexSettings | None = None,
        on_progress: OnProgress = ignore_progress,
        on_stage: OnStage = ignore_stage,
    ) -> IndexReport:
        """Update the shards from folders or files; see `Store.index`.

        Returns:
            Counts, failures and notices of all shards.

        Raises:
            UsageError: as for `Store.index`, or the store has another number of shards than was asked for.
            StoreError: shards could not be written; the others are updated.
        """
        from bindsearch.operations.index import IndexRequest
        from bindsearch.shards.index import index_shards

        caps = {} if limits is None else limits
        request = IndexRequest(rules, imu_rate_hz, retry_failed, include, exclude, prune, caps)
        self._gpus.check()
        self._create()
        return index_shards(
            self._folder,
            [to_path_text(path) for path in paths],
            request,
            self._shard_options(),
            index_settings=index_settings,
            run=self._place.run_jobs,
            on_progress=on_progress,
            on_stage=on_stage,
        )

    @installation_faults()
    @tells_faults("write")
    def retry(
        self,
        *,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        limits: Mapping[str, float] | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> IndexReport:
        """Process only the files that failed before, of all shards; see `Store.retry`."""
        from bindsearch.operations.index import IndexRequest
        from bindsearch.shards.index import retry_shards

        self.shard_map  # noqa: B018  (raises if there is no store)
        request = IndexRequest(rules, imu_rate_hz, retry_failed=True, limits={} if limits is None else limits)
        options, run = self._shard_options(), self._place.run_jobs
        return retry_shards(self._folder, request, options, run=run, on_progress=on_progress)

    @tells_faults("write")
    def watch(
        self,
        *paths: PathLike,
        on_report: Callable[[IndexReport], None],
        stop: threading.Event,
        rules: Iterable[str] = (),
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        rescan_s: float | None = None,
        polling: bool = False,
    ) -> None:
        """Index folders, then their changes, until `stop` is set, in this process; see `Store.watch`."""
        from bindsearch.ingest.scan.file_events import RESCAN_S
        from bindsearch.ingest.targets import resolve_paths
        from bindsearch.operations.index import IndexRequest
        from bindsearch.shards.watch import watch_shards

        self._create()
        folders = resolve_paths(paths, self._known_collections().values())
        request, options = IndexRequest(rules, include=include, exclude=exclude), self._shard_options()
        pause_s = RESCAN_S if rescan_s is None else rescan_s
        pause_s = to_number(pause_s, "rescan_s", "give seconds above 0", math.ulp(0.0))
        watch_shards(self._folder, folders, request, options, on_report, stop, rescan_s=pause_s, polling=polling)

    @tells_faults("read")
    def status(self) -> Status:
        """Return the sum of the status of all shards that answer, with theirs in `shards`; see `Store.status`.

        Raises:
            StoreNotFoundError: there is no store.
            StoreError: no shard answers, or one does not and all are required.
        """
        from bindsearch.shards.maintain import sum_status

        self._check_shards()
        hosts = self._open_hosts
        replies = hosts.run("status", dict.fromkeys(range(hosts.n)), self._timeout_s)
        check_answering(replies.missing, len(replies.results), hosts.n, require_all=self._require_all)
        total = sum_status(self.path, [*replies.results.values()])
        return replace(total, shards=replies.results, missing_shards=replies.missing)

    @tells_faults("read")
    def left_out(self, *, start: int = 0, most: int = 1000) -> list[LeftOutFile]:
        """Return files and folders that the last runs did not index; see `Store.left_out`."""
        from bindsearch.shards.maintain import left_out_of_shards

        first = to_integer(start, "start", "give a number from 0")
        return left_out_of_shards(self._folder, first, to_integer(most, "most", "give a number from 0"))

    @tells_faults("write")
    def forget(self, *paths: PathLike, item_ids: Sequence[int] = ()) -> int:
        """Remove items from the shards; see `Store.forget`."""
        from bindsearch.shards.maintain import forget_in_shards

        ids = [to_integer(item, "an item id", "give an integer") for item in to_list(item_ids, "the list of item ids")]
        texts = [to_path_text(path) for path in paths]
        return forget_in_shards(self._folder, texts, ids, run_each=self._place.run_each)

    @tells_faults("write")
    def relocate(self, old: PathLike, new: PathLike) -> RelocateReport:
        """Change the root of a collection whose folder was moved, in all shards; see `Store.relocate`."""
        from bindsearch.shards.maintain import relocate_shards

        return relocate_shards(self._folder, to_path_text(old), to_path_text(new))

    @property
    def index_settings(self) -> IndexSettings:
        """Stored settings of the indexes of the first shard; commands set those of all shards at once."""
        from bindsearch.operations.index_policy import read_index_settings

        return read_index_settings(self.shard_map.paths(self._folder)[0])

    @installation_faults()
    @tells_faults("write")
    def optimize(
        self, *, index_settings: IndexSettings | None = None, force: bool = False, on_stage: OnStage = ignore_stage
    ) -> list[OptimizeResult]:
        """Bring the indexes of all shards up to date; see `Store.optimize`.

        Where several processes hold each shard, they open the new generations one after the other.
        """
        from bindsearch.shards.maintain import optimize_shards

        on_stage(f"optimizing {self.shard_map.n} shards")
        settings, place = index_settings, self._place
        run = partial(optimize_shards, self._folder, settings, force, self._device, run_each=place.run_each)
        return list(chain.from_iterable(place.roll(self.path, run).values()))

    @installation_faults()
    @tells_faults("write")
    def classify(self, /, labels: Iterable[str] | ClassNames | Path | None = None, **options: Any) -> ColumnReport:
        """Write a column with the class of each item in all shards; see `Store.classify`."""
        from bindsearch.operations.classify.labels import to_classes
        from bindsearch.shards.maintain import classify_shards

        options.pop("on_rows", None)  # shards report no rows
        classes = None if labels is None else to_classes(labels)
        return classify_shards(self._folder, classes, device=self._device, run_each=self._place.run_each, **options)

    @tells_faults("write")
    def remove_column(self, column: str) -> None:
        """Remove a column that `classify` wrote from all shards; see `Store.remove_column`."""
        from bindsearch.shards.maintain import remove_column_of_shards

        if not isinstance(column, str):
            raise UsageError(f"the column is {shown(column)}: give its name")
        remove_column_of_shards(self._folder, column, run_each=self._place.run_each)

    @tells_faults("read")
    def verify(
        self, *, check_media: bool = False, hash_media: bool = False, on_stage: OnStage = ignore_stage
    ) -> Report:
        """Check all files of all shards; changes nothing. See `Store.verify`."""
        from bindsearch.shards.maintain import verify_shards

        on_stage(f"checking {self.shard_map.n} shards")
        run_each = self._place.run_each
        return verify_shards(self._folder, check_media=check_media, hash_media=hash_media, run_each=run_each)

    @tells_faults("write")
    def compact(self, *, on_stage: OnStage = ignore_stage) -> CompactReport:
        """Repair all shards, remove deleted rows, and free disk space; see `Store.compact`."""
        from bindsearch.shards.maintain import compact_shards

        on_stage(f"compacting {self.shard_map.n} shards")
        return compact_shards(self._folder, run_each=self._place.run_each)

    def reshard(self, n: int, *, on_stage: OnStage = ignore_stage) -> ReshardReport:
        """Distribute the items to another number of shards; nothing is embedded again, and items get new ids.

        Args:
            n: Number of shards.
            on_stage: Called with the name of each stage.

        Raises:
            UsageError: there are n shards, or the number is out of range.
            StoreNotFoundError: there is no sharded store.
            StoreLockedError: another process is writing to a shard.
            StoreError: a shard cannot be read; nothing was changed.
        """
        from bindsearch.shards.reshard import reshard

        number = to_integer(n, "the number of shards", "give a number from 1", lowest=1)
        run_each = self._place.run_each
        with store_faults(self._folder, "write"):
            report = reshard(self._folder, number, device=self._device, run_each=run_each, on_stage=on_stage)
        self._release()
        self._shards = None
        self.__dict__.pop("encoder", None)
        return report

    @tells_faults("read")
    def duplicates(self, *, to: str | Modality | Iterable[str | Modality] | None = None) -> list[tuple[Item, ...]]:
        """Return groups of items with identical content over all shards; see `Store.duplicates`."""
        from bindsearch.shards.maintain import duplicates_of_shards

        wanted = parse_modalities(to)
        groups = duplicates_of_shards(self._folder, run_each=self._place.run_each)
        return [group for group in groups if any(item.modality in wanted for item in group)]

    @tells_faults("read")
    def export(
        self,
        /,
        target: PathLike,
        *,
        name: str = "bindsearch",
        replace: bool = False,
        on_progress: OnRows = ignore_rows,  # noqa: ARG002  (of the method of a store)
        on_stage: OnStage = ignore_stage,
        **options: Any,
    ) -> ExportReport:
        """Write the vectors of each shard to a folder of its own in the empty folder or URI `target`.

        See `Store.export`.
        """
        from bindsearch.operations.exchange.engines.engine import EngineTarget
        from bindsearch.operations.exchange.export import parse_target
        from bindsearch.shards.maintain import export_shards

        place = parse_target(target, options.get("layout"), name, replace=replace)
        if isinstance(place, EngineTarget):
            raise self._of_one_shard(f"export to {place.engine}")
        on_stage(f"exporting {self.shard_map.n} shards")
        return export_shards(self._folder, target, run_each=self._place.run_each, **options)

    @tells_faults("write")
    def recover(self, *, on_stage: OnStage = ignore_stage) -> RecoverReport:
        """Rebuild damaged, missing or outdated catalogs of shards; see `Store.recover`."""
        from bindsearch.shards.maintain import recover_shards

        on_stage(f"recovering {self.shard_map.n} shards")
        return recover_shards(self._folder, run_each=self._place.run_each)

    def reindex(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: shards have one encoder for good."""
        way_out = "index the folders into another store with the new one"
        raise UsageError(f"{self.path} has shards, which keep their encoder: {way_out}")

    def calibrate(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: the calibration is that of the encoder."""
        raise self._of_one_shard("calibrate")

    def near_duplicates(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: files are compared within a shard only."""
        raise self._of_one_shard("duplicates --near")

    def import_vectors(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: vectors are imported into a shard."""
        raise self._of_one_shard("import")

    def merge(self, *_: Any, **__: Any) -> NoReturn:
        """Raise UsageError: stores are merged into a shard."""
        raise self._of_one_shard("merge")

    def _of_one_shard(self, command: str) -> UsageError:
        example = self.path / "shard-0000"
        return UsageError(f"`{command}` works on a store without shards: give one shard, such as {example}")
