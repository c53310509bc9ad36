"""Speed of ingestion compared with its limits: decoding alone, towers alone, and a whole run with commits."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ingestion_media import MediaKind, multiply
from ingestion_memory import children

import bindsearch as bs
from bindsearch.device import usable_cores
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.ingest.embed import BATCH_VIEWS
from bindsearch.ingest.inspect.inspect_file import InspectOptions, SourceFile, inspect_file
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.workers.pool import Decoders, Message
from bindsearch.ingest.workers.prepare import PreparedSegment, prepare_file
from bindsearch.ingest.workers.scheduler import FileTask
from bindsearch.storage.file_state import file_state
from bindsearch.types import Modality

CHILD = Path(__file__).with_name("ingestion_child.py")
KEPT_VIEWS = 1024
"""Prepared views that the tower is timed with: 154 MB of images."""
TRIED_FILES = 64


class Cost(NamedTuple):
    """Cost of a file: wall seconds, and CPU seconds of this process and its children."""

    clock_s: float
    cores_s: float

    @property
    def rate(self) -> float:
        """Files a second."""
        return 1 / self.clock_s


@dataclass(frozen=True)
class Round:
    """Cost of a file: in the workers of a run, in threads without inspection, in the towers, and in a whole run."""

    workers: Cost
    threads: Cost
    tower: Cost
    whole: Cost

    @property
    def share(self) -> float:
        """Rate of the whole run relative to the limit of any run."""
        return self._limit_s / self.whole.clock_s

    @property
    def possible(self) -> float:
        """The same ratio of a run without overhead, where decoders and towers share the cores: each file costs both."""
        return self._limit_s / (self.workers.clock_s + self.tower.clock_s)

    @property
    def added(self) -> float:
        """CPU time of the whole run relative to that of decoding and of the towers."""
        return self.whole.cores_s / (self.workers.cores_s + self.tower.cores_s)

    @property
    def _limit_s(self) -> float:
        return max(self.workers.clock_s, self.tower.clock_s)


@dataclass(frozen=True)
class Compared:
    """A kind of file: files indexed per round, seconds to a worker's first answer, and the rounds."""

    kind: MediaKind
    files: int
    start_s: float
    rounds: Sequence[Round]

    def median(self, of: Callable[[Round], float]) -> float:
        """Return the median over the rounds."""
        return statistics.median(of(measured) for measured in self.rounds)


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
        """Yield all messages of the workers for these files, each of them decoded."""
        setup = InspectOptions((), self._encoder.modalities)
        files = iter([_source(path) for path in paths])
        for message in self._decoders.run(files, lambda: True, _is_inspected, setup):
            if message is not None:
                yield message

    def start_s(self) -> float:
        """Measure the seconds to the first answer of a new worker: Python's start and imports."""
        started = time.perf_counter()
        with Decoders(self._encoder) as decoders:
            setup = InspectOptions((), self._encoder.modalities)
            for message in decoders.run(iter(self._sources[:1]), lambda: True, _is_inspected, setup):
                if isinstance(message, tuple):
                    return time.perf_counter() - started
        raise SystemExit(f"cannot decode {self._sources[0].path}")

    def workers(self, paths: Sequence[Path]) -> Cost:
        """Measure files classified, hashed, decoded, preprocessed and sent, with their metadata."""
        return _cost(lambda: sum(1 for _ in self.decode(paths)), len(paths))

    def threads(self, n: int) -> Cost:
        """Measure the generated files, n in total, decoded and preprocessed in one thread per core of this process."""
        inspections = [inspect_file(source, InspectOptions((), self._encoder.modalities)) for source in self._sources]

        def prepare(number: int) -> int:
            position = number % len(self._sources)
            segments = prepare_file(self._sources[position], inspections[position], self._encoder, DecodeOptions())
            return sum(1 for _ in segments)

        with ThreadPoolExecutor(usable_cores()) as threads:
            return _cost(lambda: list(threads.map(prepare, range(n))), n)

    def tower(self, least_s: float) -> Cost:
        """Measure prepared files in their towers, in batches of a run's size, for at least `least_s` seconds."""
        passes, started = 0, Clock()
        while passes == 0 or started.since(1).clock_s < least_s:
            for modality, segments in self._segments.items():
                for batch in _batches(segments):
                    self._encoder.encode(modality, [segment.payload for segment in batch])
            passes += 1
        return started.since(passes * self._files_kept)

    def whole(self, paths: Sequence[Path]) -> Cost:
        """Measure `Store.index` into a new store: with the start of workers and commits, without building an index."""
        with (
            tempfile.TemporaryDirectory(dir=paths[0].parents[1]) as place,
            bs.connect(Path(place) / "store", encoder=self._encoder) as store,
        ):
            started = Clock()
            report = store.index(paths[0].parent, index_settings=IndexSettings(form=IndexForm.EXACT))
            cost = started.since(len(paths))
        if report.added != len(paths):
            raise SystemExit(f"{report.added} of {len(paths)} files were indexed: {report.failures[:3]}")
        return cost

    def _keep_segments(self) -> None:
        """Prepare the views that the tower is timed with: whole files, until there are enough views."""
        views = 0
        options = InspectOptions((), self._encoder.modalities)
        while views < KEPT_VIEWS:
            source = self._sources[self._files_kept % len(self._sources)]
            for segment in prepare_file(source, inspect_file(source, options), self._encoder, DecodeOptions()):
                self._segments.setdefault(segment.modality, []).append(segment)
                views += len(segment.payload)
            self._files_kept += 1


def compare(kind: MediaKind, encoder: bs.Encoder, folder: Path, *, seconds: float, repeats: int) -> Compared:
    """Measure a kind of file, the rates in turn each round; `seconds`: minimum length of a whole run."""
    made = kind.make(folder / "made")
    with Decoders(encoder) as decoders:
        bench = Bench(encoder, decoders, made)
        start_s = bench.start_s()
        tried = multiply(made, folder / "tried", max(TRIED_FILES, len(made)))
        bench.workers(tried)
        limit = min(bench.workers(tried).rate, bench.tower(1.0).rate)
        paths = multiply(made, folder / "files", max(len(made), round(seconds * limit)))
        few = max(TRIED_FILES, len(paths) // 4)
        rounds = [
            Round(bench.workers(paths), bench.threads(few), bench.tower(seconds / 2), bench.whole(paths))
            for _ in range(repeats)
        ]
    return Compared(kind, len(paths), start_s, rounds)


@dataclass(frozen=True)
class Beside:
    """Files a second of whole runs with the encoder `null`, and of a DataLoader over the same files, in turn."""

    null: Sequence[float]
    loader: Sequence[float]

    @property
    def ratio(self) -> float:
        """Median of the ratios of pairs."""
        return statistics.median(a / b for a, b in zip(self.null, self.loader, strict=True))


def compare_null(kind: MediaKind, folder: Path, *, files: int, repeats: int, with_loader: bool) -> Beside:
    """Measure whole runs over `files` small JPEGs with an encoder without cost, each followed by the DataLoader."""
    encoder = bs.load_encoder("null")
    made = kind.make(folder / "made")
    paths = multiply(made, folder / "files", files)
    null, loader = [], []
    with Decoders(encoder) as decoders:
        bench = Bench(encoder, decoders, made)
        bench.whole(paths)
        for _ in range(repeats):
            null.append(bench.whole(paths).rate)
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


def _is_inspected(file_task: FileTask) -> bool:
    return file_task.failure is None


def _batches(segments: Sequence[PreparedSegment]) -> Iterator[list[PreparedSegment]]:
    """Yield batches as the embedding stage fills them."""
    batch: list[PreparedSegment] = []
    views = 0
    for segment in segments:
        batch.append(segment)
        views += len(segment.payload)
        if views >= BATCH_VIEWS:
            yield batch
            batch, views = [], 0
    if batch:
        yield batch


def _cost(run: Callable[[], object], n: int) -> Cost:
    started = Clock()
    run()
    return started.since(n)


class Clock:
    """Wall and CPU time at one moment."""

    def __init__(self) -> None:
        self._clock_s, self._cores_s = time.perf_counter(), _cores_s()

    def since(self, n: int) -> Cost:
        """Return the cost of each of `n` files since then."""
        return Cost((time.perf_counter() - self._clock_s) / n, (_cores_s() - self._cores_s) / n)


def _cores_s() -> float:
    """Return the CPU seconds of this process and its children, ended or not."""
    times = os.times()
    running = 0
    for pid in children(os.getpid()):
        with suppress(OSError):
            running += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return sum(times[:4]) + running / os.sysconf("SC_CLK_TCK")
