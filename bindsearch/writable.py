"""The half of a store that changes what it holds: indexing, optimizing, reindexing, forgetting."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bindsearch.encoders import load_encoder, takes_options
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.environment import check_libraries, installation_faults
from bindsearch.errors import StoreError
from bindsearch.indexes.gpu.placement import Gpus
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.types import IndexWishes
from bindsearch.ingest.scan.watch import RESCAN_S
from bindsearch.ingest.targets import resolve_paths
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.operations.forget import forget
from bindsearch.operations.index import (
    IndexRequest,
    Place,
    at_failures,
    at_paths,
    index_targets,
    plan_paths,
    watch_paths,
)
from bindsearch.operations.index_policy import read_wishes
from bindsearch.operations.optimize import OnStage, Optimized, ignore_stage
from bindsearch.operations.reindex import reindex
from bindsearch.operations.writing import (
    open_writer,
    optimize,
    rebuild_snapshot,
    segment_lengths,
)
from bindsearch.reports import IndexReport, OnProgress, PlannedFile, ignore_progress
from bindsearch.search.reader import Reader
from bindsearch.storage.config import STORE_FILE, StoreConfig, check_encoder, read_config
from bindsearch.storage.snapshot import read_manifest

if TYPE_CHECKING:
    pass

DEFAULT_ENCODER = "mini"
CHECKED_ROWS = 1_000_000
"""Wishes are checked as for a partition of so many rows."""
PathLike = str | os.PathLike[str]


class WritableStore:
    """What a store is opened with, and all that changes what it holds. One process at a time may write."""

    def __init__(
        self,
        path: Path,
        *,
        encoder: str | Encoder | None = None,
        encoder_options: Mapping[str, str | int | float | bool] | None = None,
        device: str = "auto",
        compile: bool = False,
        segment_s: Mapping[str, float] | None = None,
    ) -> None:
        """Name a store; nothing is opened until it is needed. See `connect`."""
        self.path = path
        self._segments = segment_lengths(segment_s or {})
        self._wanted_encoder = encoder
        self._encoder_options = encoder_options or {}
        self._runtime = Runtime(device=device, compile=compile)
        self._gpus = Gpus(device)

        def rebuild() -> None:
            rebuild_snapshot(path, lambda: self.config.dim)

        self._reader = Reader(path, lambda: self.config.dim, rebuild, self._gpus)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the open generation, and of what lies on GPUs."""
        self._reader.close()
        self._gpus.close()

    @property
    def exists(self) -> bool:
        """Whether something has been indexed here."""
        return (self.path / STORE_FILE).is_file()

    @cached_property
    def config(self) -> StoreConfig:
        """What the store was made with; fixed for its life.

        Raises:
            StoreNotFoundError: there is no store yet.
        """
        return read_config(self.path)

    @cached_property
    def encoder(self) -> Encoder:
        """The store's encoder; its towers load when they are first needed.

        Raises:
            StoreError: the store was made with another one.
            EncoderError: there is no such encoder, or its model is not here.
            UsageError: the encoder has no such option.
        """
        wanted = self._wanted_encoder
        if wanted is None:
            wanted = self.config.encoder if self.exists else DEFAULT_ENCODER
        encoder = self._load(wanted) if isinstance(wanted, str) else wanted
        if self.exists:
            check_encoder(self.config, encoder, self.path)
        return encoder

    def _load(self, name: str) -> Encoder:
        """The encoder of that name with the store's options, where it is the store's, and those given on top."""
        options = dict(self._encoder_options)
        if self.exists and name == self.config.encoder and takes_options(name):
            options = {**self.config.encoder_options, **options}
        return load_encoder(name, options=options, runtime=self._runtime)

    @installation_faults()
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
        wishes: IndexWishes | None = None,
        on_progress: OnProgress = ignore_progress,
        on_stage: OnStage = ignore_stage,
    ) -> IndexReport:
        """Bring the store up to date with folders or files: add, update and remove what changed under them.

        `rules` such as "depth=**/depth/*.png" say what files are, before their content is asked. `include`, `exclude`:
        globs that narrow this run; what lies outside stays as it is. `prune`: believe it where all files of a folder
        have gone at once. `limits`: caps on what a file may ask of the machine, such as {"max_pixels": 10**9}. What the
        indexes need is done at the end, by `wishes` or as was wished before (see `optimize`).

        Raises:
            UsageError: a path does not exist, or a rule, glob or limit is wrong.
            StoreLockedError: another process is indexing.
        """
        request = IndexRequest(rules, imu_rate_hz, retry_failed, include, exclude, prune, limits or {})
        self._gpus.check()
        resolved = resolve_paths(paths, self._known_collections().values())
        self._check_wishes(wishes)
        with Decoders(self.encoder) as decoders:
            find = at_paths(resolved, self.path)
            report = index_targets(self._place, find, request, decoders, wishes, on_progress, on_stage)
        if not (report.items or report.unchanged or report.removed or report.failures or report.notices):
            report.notices.append("no file there is one that can be indexed")
        return report

    @installation_faults()
    def retry(
        self,
        *,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        limits: Mapping[str, float] | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> IndexReport:
        """Try the files again that failed, and nothing else.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        self.config  # noqa: B018  (there is nothing to try again where there is no store)
        request = IndexRequest(rules, imu_rate_hz, retry_failed=True, limits=limits or {})
        with Decoders(self.encoder) as decoders:
            return index_targets(self._place, at_failures(self.path), request, decoders, on_progress=on_progress)

    @installation_faults()
    def watch(
        self,
        *paths: PathLike,
        on_report: Callable[[IndexReport], None],
        stop: threading.Event,
        rules: Iterable[str] = (),
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        rescan_s: float = RESCAN_S,
        polling: bool = False,
    ) -> None:
        """Index folders, then whatever changes in them, until `stop` is set; `on_report` hears of each run.

        All is looked at again every `rescan_s`. `polling`: for network folders, whose changes no kernel tells.

        Raises:
            UsageError: a path does not exist or is no folder, or the system allows no more watches.
        """
        resolved = resolve_paths(paths, self._known_collections().values())
        request = IndexRequest(rules, include=tuple(include), exclude=tuple(exclude))
        watch_paths(self._place, resolved, request, on_report, stop, rescan_s=rescan_s, polling=polling)

    @property
    def _place(self) -> Place:
        return Place(self.path, self.encoder, self._segments, self._gpus)

    @installation_faults()
    def reindex(
        self,
        encoder: str | Encoder,
        *,
        encoder_options: Mapping[str, str | int | float | bool] | None = None,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        limits: Mapping[str, float] | None = None,
        prune: bool = False,
        on_progress: OnProgress = ignore_progress,
        on_stage: OnStage = ignore_stage,
    ) -> IndexReport:
        """Move the store over to another encoder: everything is embedded anew, and what was there serves until then.

        An interrupted run goes on where it was. Items get new numbers. `prune`: leave out items that cannot be embedded
        now.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
            UsageError: items would be lost, or a rule or limit is wrong.
        """
        new = encoder
        if isinstance(new, str):
            new = load_encoder(new, options=encoder_options or {}, runtime=self._runtime)
        report = reindex(
            self.path,
            new,
            self._gpus,
            rules=rules,
            imu_rate_hz=imu_rate_hz,
            limits=limits,
            prune=prune,
            on_progress=on_progress,
            on_stage=on_stage,
        )
        self.close()
        self._wanted_encoder = new
        for known in ("config", "encoder"):
            self.__dict__.pop(known, None)
        return report

    def forget(self, *paths: PathLike, item_ids: Sequence[int] = ()) -> int:
        """Take items out by the paths they lie at or below, or by number; their files stay. The number of items.

        Raises:
            UsageError: nothing was indexed there, or there is no such item.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        return forget(self.path, [os.fspath(path) for path in paths], item_ids)

    @installation_faults()
    def optimize(
        self, *, wishes: IndexWishes | None = None, force: bool = False, on_stage: OnStage = ignore_stage
    ) -> list[Optimized]:
        """Bring the indexes up to date with the vectors and say what was done; `force` builds each anew.

        `wishes`: form, memory, recall and parameters asked for, remembered from then on.

        Raises:
            UsageError: the wishes cannot be met.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        config = self.config
        check_libraries(("faiss",))
        self._gpus.check()
        self._check_wishes(wishes)
        with open_writer(self.path, self.encoder, self._segments) as (_, _, writer):
            writer.compact()
            return optimize(
                self.path, config.dim, writer, self.encoder, wishes, self._gpus, force=force, on_stage=on_stage
            )

    @property
    def wishes(self) -> IndexWishes:
        """What was last asked of the indexes.

        Raises:
            StoreError: the note of it is damaged.
        """
        return read_wishes(self.path)

    def plan_index(
        self,
        *paths: PathLike,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> list[PlannedFile]:
        """What each file would be taken for, and why (`bindsearch index --dry-run`); writes nothing."""
        known = self._known_collections()
        request = IndexRequest(rules, imu_rate_hz, include=include, exclude=exclude)
        return plan_paths(self.path, resolve_paths(paths, known.values()), known, request)

    def _check_wishes(self, wishes: IndexWishes | None) -> None:
        """Refuse what cannot be before anything is written.

        Raises:
            UsageError: a parameter is unknown, out of range or does not fit another.
        """
        if wishes is not None:
            choose_parameters(CHECKED_ROWS, self.encoder.dim, replace(wishes, memory_bytes=None))

    def _known_collections(self) -> dict[int, Path]:
        manifest = None
        with contextlib.suppress(StoreError):  # a damaged one is rebuilt later on
            manifest = read_manifest(self.path)
        return {} if manifest is None else {key: Path(root) for key, root in manifest.collections.items()}
