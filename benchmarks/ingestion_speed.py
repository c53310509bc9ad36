"""Ingestion's speed beside its limits: decoding alone, the tower alone, and both with committing in a whole run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ingestion_media import Kind, multiply

import bindsearch as bs
from bindsearch.indexes.base import Form, IndexWishes
from bindsearch.ingest.decode import PreparedSegment, prepare_file
from bindsearch.ingest.decoders import Decoders, Message, Prepared, Taken
from bindsearch.ingest.embed import BATCH_VIEWS
from bindsearch.ingest.jobs import Setup
from bindsearch.ingest.look import LookOptions, SourceFile, look_at
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.sources import file_state
from bindsearch.items import Modality
from bindsearch.machine import usable_cores

CHILD = Path(__file__).with_name("ingestion_child.py")
KEPT_VIEWS = 1024
"""Prepared views that the tower is timed on: 154 MB of pictures."""
TRIED_FILES = 64


@dataclass(frozen=True)
class Rates:
    """Files a second of one round: decoded by the workers of a run, in threads of this process without looking, through
    the towers, and in a whole run."""

    workers: float
    threads: float
    tower: float
    whole: float

    @property
    def limit(self) -> float:
        """What no run can be faster than."""
        return min(self.workers, self.tower)

    @property
    def possible(self) -> float:
        """Share of the limit where decoders and towers share the same cores: each file costs both."""
        return 1 / (1 / self.workers + 1 / self.tower) / self.limit


@dataclass(frozen=True)
class Compared:
    """A kind of file: how many were indexed a round, what a worker needs before its first answer, and the rounds."""

    kind: Kind
    files: int
    start_s: float
    rounds: Sequence[Rates]

    def median(self, of: Callable[[Rates], float]) -> float:
        """Median over the rounds."""
        return statistics.median(of(rates) for rates in self.rounds)


class Bench:
    """One encoder and one kind of file, with workers that are running."""

    def __init__(self, encoder: bs.Encoder, decoders: Decoders, made: Sequence[Path]) -> None:
        self._encoder = encoder
        self._decoders = decoders
        self._sources = list(map(_source, made))
        self._segments: dict[Modality, list[PreparedSegment]] = {}
        self._files_kept = 0
        self._keep_segments()

    def decode(self, paths: Sequence[Path]) -> Iterator[Message]:
        """All that the workers say of these files, each of them decoded."""
        setup = Setup(LookOptions((), self._encoder.modalities), DecodeOptions())
        files = iter([_source(path) for path in paths])
        for message in self._decoders.run(files, lambda: True, _is_looked_at, setup):
            if message is not None:
                yield message

    def start_s(self) -> float:
        """Seconds from nothing to the first answer of a worker: Python's start and imports."""
        started = time.perf_counter()
        with Decoders(self._encoder) as decoders:
            setup = Setup(LookOptions((), self._encoder.modalities), DecodeOptions())
            for message in decoders.run(iter(self._sources[:1]), lambda: True, _is_looked_at, setup):
                if isinstance(message, Prepared):
                    return time.perf_counter() - started
        raise SystemExit(f"{self._sources[0].path} cannot be decoded")

    def workers_rate(self, paths: Sequence[Path]) -> float:
        """Files a second: classified, hashed, their metadata read, decoded, preprocessed and handed over."""
        return _rate(lambda: sum(1 for _ in self.decode(paths)), len(paths))

    def threads_rate(self, passes: int) -> float:
        """Files a second of the made files: decoded and preprocessed, in a thread a core of this process."""
        looks = [look_at(source, LookOptions((), self._encoder.modalities)) for source in self._sources]

        def prepare(number: int) -> int:
            place = number % len(self._sources)
            found = prepare_file(self._sources[place], looks[place], self._encoder, DecodeOptions())
            return sum(1 for _ in found)

        with ThreadPoolExecutor(usable_cores()) as threads:
            return _rate(lambda: list(threads.map(prepare, range(passes))), passes)

    def tower_rate(self, least_s: float) -> float:
        """Files a second through their towers, in batches as large as a run's, for at least so long."""
        passes, started = 0, time.perf_counter()
        while passes == 0 or time.perf_counter() - started < least_s:
            for modality, segments in self._segments.items():
                for batch in _batches(segments):
                    self._encoder.encode(modality, [segment.views for segment in batch])
            passes += 1
        return passes * self._files_kept / (time.perf_counter() - started)

    def whole_rate(self, paths: Sequence[Path]) -> float:
        """Files a second of `Store.index` into a new store: workers' start, commits and all; no index is made."""
        with (
            tempfile.TemporaryDirectory(dir=paths[0].parents[1]) as place,
            bs.connect(Path(place) / "store", encoder=self._encoder) as store,
        ):
            started = time.perf_counter()
            report = store.index(paths[0].parent, wishes=IndexWishes(form=Form.EXACT))
            took_s = time.perf_counter() - started
        if report.added != len(paths):
            raise SystemExit(f"{report.added} of {len(paths)} files were indexed: {report.failures[:3]}")
        return len(paths) / took_s

    def _keep_segments(self) -> None:
        """Prepare what the tower is timed on: whole files, until there are views enough."""
        views = 0
        options = LookOptions((), self._encoder.modalities)
        while views < KEPT_VIEWS:
            source = self._sources[self._files_kept % len(self._sources)]
            for segment in prepare_file(source, look_at(source, options), self._encoder, DecodeOptions()):
                self._segments.setdefault(segment.modality, []).append(segment)
                views += len(segment.views)
            self._files_kept += 1


def compare(kind: Kind, encoder: bs.Encoder, folder: Path, *, seconds: float, repeats: int) -> Compared:
    """Measure a kind of file, the rates in turn each round; `seconds`: what a whole run takes at the least."""
    made = kind.make(folder / "made")
    with Decoders(encoder) as decoders:
        bench = Bench(encoder, decoders, made)
        start_s = bench.start_s()
        tried = multiply(made, folder / "tried", max(TRIED_FILES, len(made)))
        bench.workers_rate(tried)
        limit = min(bench.workers_rate(tried), bench.tower_rate(1.0))
        paths = multiply(made, folder / "files", max(len(made), round(seconds * limit)))
        rounds = []
        for _ in range(repeats):
            workers = bench.workers_rate(paths)
            threads = bench.threads_rate(max(TRIED_FILES, len(paths) // 4))
            rounds.append(Rates(workers, threads, bench.tower_rate(seconds / 2), bench.whole_rate(paths)))
    return Compared(kind, len(paths), start_s, rounds)


@dataclass(frozen=True)
class Beside:
    """Files a second of whole runs with the encoder `null`, and of a DataLoader over the same files, in turn."""

    null: Sequence[float]
    loader: Sequence[float]

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios."""
        return statistics.median(a / b for a, b in zip(self.null, self.loader, strict=True))


def compare_null(kind: Kind, folder: Path, *, files: int, repeats: int, with_loader: bool) -> Beside:
    """Whole runs over `files` small JPEGs with the encoder that costs nothing, each followed by the DataLoader."""
    encoder = bs.load_encoder("null")
    made = kind.make(folder / "made")
    paths = multiply(made, folder / "files", files)
    null, loader = [], []
    with Decoders(encoder) as decoders:
        bench = Bench(encoder, decoders, made)
        bench.whole_rate(paths)
        for _ in range(repeats):
            null.append(bench.whole_rate(paths))
            if with_loader:
                loader.append(_loader_rate(paths))
    return Beside(null, loader)


def _loader_rate(paths: Sequence[Path]) -> float:
    command = [sys.executable, str(CHILD), "loader", str(paths[0].parent)]
    seen = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if seen["loaded"] != len(paths):
        raise SystemExit(f"the DataLoader gave {seen['loaded']} of {len(paths)} pictures")
    return len(paths) / float(seen["took_s"])


def _source(path: Path) -> SourceFile:
    return SourceFile(path, path.name, file_state(path.stat()))


def _is_looked_at(taken: Taken) -> bool:
    return taken.failure is None


def _batches(segments: Sequence[PreparedSegment]) -> Iterator[list[PreparedSegment]]:
    """Batches as the embedding stage fills them."""
    batch: list[PreparedSegment] = []
    views = 0
    for segment in segments:
        batch.append(segment)
        views += len(segment.views)
        if views >= BATCH_VIEWS:
            yield batch
            batch, views = [], 0
    if batch:
        yield batch


def _rate(run: Callable[[], object], n: int) -> float:
    started = time.perf_counter()
    run()
    return n / (time.perf_counter() - started)
