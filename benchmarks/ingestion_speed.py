"""Ingestion's speed beside its limits: decoding alone, the tower alone, and both with committing in a whole run."""

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
from bindsearch.ingest.scan.walk import file_state
from bindsearch.ingest.workers.messages import Setup
from bindsearch.ingest.workers.pool import Decoders, Message, SegmentReady
from bindsearch.ingest.workers.prepare import PreparedSegment, prepare_file
from bindsearch.ingest.workers.scheduler import FileTask
from bindsearch.types import Modality

CHILD = Path(__file__).with_name("ingestion_child.py")
KEPT_VIEWS = 1024
"""Prepared views that the tower is timed on: 154 MB of pictures."""
TRIED_FILES = 64


class Cost(NamedTuple):
    """Cost of a file: seconds of the clock, and of all cores, of this process and those it has started."""

    clock_s: float
    cores_s: float

    @property
    def rate(self) -> float:
        """Files a second."""
        return 1 / self.clock_s


@dataclass(frozen=True)
class Round:
    """Cost of a file: decoded by the workers of a run, in threads of this process without looking, through the
    towers, and in a whole run."""

    workers: Cost
    threads: Cost
    tower: Cost
    whole: Cost

    @property
    def share(self) -> float:
        """Rate of the whole run beside what no run can be faster than."""
        return self._limit_s / self.whole.clock_s

    @property
    def possible(self) -> float:
        """The same of a run that loses nothing where decoders and towers share the cores: each file costs both."""
        return self._limit_s / (self.workers.clock_s + self.tower.clock_s)

    @property
    def added(self) -> float:
        """Cores' time of the whole run beside that of decoding and of the towers."""
        return self.whole.cores_s / (self.workers.cores_s + self.tower.cores_s)

    @property
    def _limit_s(self) -> float:
        return max(self.workers.clock_s, self.tower.clock_s)


@dataclass(frozen=True)
class Compared:
    """A kind of file: how many were indexed a round, what a worker needs before its first answer, and the rounds."""

    kind: MediaKind
    files: int
    start_s: float
    rounds: Sequence[Round]

    def median(self, of: Callable[[Round], float]) -> float:
        """Median over the rounds."""
        return statistics.median(of(one) for one in self.rounds)


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
        setup = Setup(InspectOptions((), self._encoder.modalities), DecodeOptions())
        files = iter([_source(path) for path in paths])
        for message in self._decoders.run(files, lambda: True, _is_looked_at, setup):
            if message is not None:
                yield message

    def start_s(self) -> float:
        """Seconds from nothing to the first answer of a worker: Python's start and imports."""
        started = time.perf_counter()
        with Decoders(self._encoder) as decoders:
            setup = Setup(InspectOptions((), self._encoder.modalities), DecodeOptions())
            for message in decoders.run(iter(self._sources[:1]), lambda: True, _is_looked_at, setup):
                if isinstance(message, SegmentReady):
                    return time.perf_counter() - started
        raise SystemExit(f"{self._sources[0].path} cannot be decoded")

    def workers(self, paths: Sequence[Path]) -> Cost:
        """Files classified, hashed, their metadata read, decoded, preprocessed and handed over."""
        return _cost(lambda: sum(1 for _ in self.decode(paths)), len(paths))

    def threads(self, n: int) -> Cost:
        """The made files, n in all, decoded and preprocessed in a thread a core of this process."""
        looks = [inspect_file(source, InspectOptions((), self._encoder.modalities)) for source in self._sources]

        def prepare(number: int) -> int:
            place = number % len(self._sources)
            found = prepare_file(self._sources[place], looks[place], self._encoder, DecodeOptions())
            return sum(1 for _ in found)

        with ThreadPoolExecutor(usable_cores()) as threads:
            return _cost(lambda: list(threads.map(prepare, range(n))), n)

    def tower(self, least_s: float) -> Cost:
        """Prepared files through their towers, in batches as large as a run's, for at least so long."""
        passes, started = 0, Clock()
        while passes == 0 or started.since(1).clock_s < least_s:
            for modality, segments in self._segments.items():
                for batch in _batches(segments):
                    self._encoder.encode(modality, [segment.views for segment in batch])
            passes += 1
        return started.since(passes * self._files_kept)

    def whole(self, paths: Sequence[Path]) -> Cost:
        """`Store.index` into a new store: workers' start, commits and all; no index is made."""
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
        """Prepare what the tower is timed on: whole files, until there are views enough."""
        views = 0
        options = InspectOptions((), self._encoder.modalities)
        while views < KEPT_VIEWS:
            source = self._sources[self._files_kept % len(self._sources)]
            for segment in prepare_file(source, inspect_file(source, options), self._encoder, DecodeOptions()):
                self._segments.setdefault(segment.modality, []).append(segment)
                views += len(segment.views)
            self._files_kept += 1


def compare(kind: MediaKind, encoder: bs.Encoder, folder: Path, *, seconds: float, repeats: int) -> Compared:
    """Measure a kind of file, the rates in turn each round; `seconds`: what a whole run takes at the least."""
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
        """Median of the pairs' ratios."""
        return statistics.median(a / b for a, b in zip(self.null, self.loader, strict=True))


def compare_null(kind: MediaKind, folder: Path, *, files: int, repeats: int, with_loader: bool) -> Beside:
    """Whole runs over `files` small JPEGs with the encoder that costs nothing, each followed by the DataLoader."""
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


def _is_looked_at(taken: FileTask) -> bool:
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


def _cost(run: Callable[[], object], n: int) -> Cost:
    started = Clock()
    run()
    return started.since(n)


class Clock:
    """A moment: what the clock and the cores showed then."""

    def __init__(self) -> None:
        self._clock_s, self._cores_s = time.perf_counter(), _cores_s()

    def since(self, n: int) -> Cost:
        """Return what each of `n` files has taken since."""
        return Cost((time.perf_counter() - self._clock_s) / n, (_cores_s() - self._cores_s) / n)


def _cores_s() -> float:
    """Seconds that cores have worked for this process and those it has started, ended or not."""
    times = os.times()
    running = 0
    for pid in children(os.getpid()):
        with suppress(OSError):
            running += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return sum(times[:4]) + running / os.sysconf("SC_CLK_TCK")
