"""Speed and memory of indexing, each figure with its limit, in one run.

    python benchmarks/ingestion.py [--only NAMES] [--repeats 5] [--files 50000] [--data DIR] [--full]

Speed: for each kind of file, with `mini`: files a second (a) through the workers alone, which inspect, decode and
preprocess, (b) through the towers alone, (c) of a whole `Store.index`; in turn, medians, and the median of each round's
c / min(a, b). Null: the same with an encoder without cost, next to a DataLoader of torch over the same files. Memory:
resident size over 1,000, 10,000 and --files small files. Rerun: time of a run over --files unchanged files. The table
of a complete run is saved in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from ingestion_media import MediaKind, kinds, write_tiny
from ingestion_memory import Rerun, Seen, rerun, watch_index
from ingestion_speed import Beside, Compared, compare, compare_null
from results import save_table

import bindsearch as bs
from bindsearch.device import usable_cores

LEAST_FILES, NULL_FILES = 1000, 5000
WHOLE_SHARE, NULL_RATE, RERUN_S, MEMORY_GROWTH = 0.80, 700.0, 5.0, 0.10
MB = 1e6

SPEED = (
    *("files", "n", "workers' start s", "threads /s", "a: workers /s", "b: towers /s", "c: whole /s"),
    *("c / min(a, b)", "possible here", "cores' time c / (a + b)", "wanted", ""),
)
MEMORY = (
    *("encoder", "files", "took s", "peak MB", "anonymous", "mapped", "parent MB", "workers MB", "left MB"),
    *("wanted", ""),
)
FIGURES = ("figure", "seen", "wanted", "")


@dataclass
class Results:
    """Measurements."""

    speed: list[Compared] = field(default_factory=list)
    null: Beside | None = None
    memory: list[Seen] = field(default_factory=list)
    rerun: Rerun | None = None


def main() -> int:
    """Measure, print tables, and save those of a complete run; return 1 if a figure misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of parts, separated by commas")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="minimum length of a whole run of a kind of file")
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--data", type=Path, help="a folder of real recordings: audio_esc10, video_clips")
    parser.add_argument("--full", action="store_true", help="memory with mini over all --files too")
    arguments = parser.parse_args()
    known = kinds(arguments.data)
    names = [*(kind.name for kind in known), "null", "loader", "memory", "rerun"]
    only = arguments.only.split(",") if arguments.only else names
    if unknown := set(only) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments, known, only)
    table, missed = as_tables(results, arguments)
    print(table)
    if only == names:
        save_table("ingestion", "Ingestion", table, ("torch", "pillow", "av", "duckdb", "pyarrow"))
    return int(missed)


def measure(folder: Path, arguments: argparse.Namespace, known: Sequence[MediaKind], only: Sequence[str]) -> Results:
    """Measure the parts in `only`, one after the other; files are removed when no longer needed."""
    results = Results()
    encoder = bs.load_encoder("mini")
    for kind in known:
        if kind.name in only:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                results.speed.append(
                    compare(kind, encoder, Path(place), seconds=arguments.seconds, repeats=arguments.repeats)
                )
    if "null" in only or "loader" in only:
        small = next(kind for kind in known if kind.name == "small")
        with tempfile.TemporaryDirectory(dir=folder) as place:
            results.null = compare_null(
                small,
                Path(place),
                files=min(NULL_FILES, arguments.files),
                repeats=arguments.repeats,
                with_loader="loader" in only,
            )
    if "memory" in only or "rerun" in only:
        measure_many(folder, arguments, only, results)
    return results


def measure_many(folder: Path, arguments: argparse.Namespace, only: Sequence[str], results: Results) -> None:
    """Measure memory over increasing numbers of files, and reruns over the largest."""
    many = arguments.files
    counts = sorted({min(count, many) for count in (LEAST_FILES, 10 * LEAST_FILES, many)})
    for count in counts if "memory" in only else [many]:
        files = folder / f"tiny-{count}"
        write_tiny(files, count)
        seen = [watch_index(files, folder / f"null-{count}", "null", count)]
        if "memory" in only:
            if count < many or count <= 10 * LEAST_FILES or arguments.full:
                seen.append(watch_index(files, folder / f"mini-{count}", "mini", count))
            results.memory += seen
    if "rerun" in only:
        results.rerun = rerun(folder / f"tiny-{many}", folder / f"null-{many}", many, arguments.repeats)


def as_tables(results: Results, arguments: argparse.Namespace) -> tuple[str, bool]:
    """Return Markdown tables with notes, and whether a figure misses its limit."""
    parts, verdicts = [], []
    for title, columns, rows, note in (
        ("Speed, `mini`", SPEED, [_speed_row(compared) for compared in results.speed], SPEED_NOTE),
        ("Memory", MEMORY, [_memory_row(compared, results.memory) for compared in results.memory], MEMORY_NOTE),
        ("Other", FIGURES, _figure_rows(results, arguments), OTHER_NOTE),
    ):
        if rows:
            parts += [f"## {title}", _table(columns, rows), note.format(cores=usable_cores())]
            verdicts += [row[-1] for row in rows]
    return "\n\n".join(parts) + "\n", "missed" in verdicts


def _speed_row(compared: Compared) -> tuple[str, ...]:
    share = compared.median(attrgetter("share"))
    rates = [compared.median(attrgetter(f"{name}.rate")) for name in ("threads", "workers", "tower", "whole")]
    return (
        compared.kind.title,
        f"{compared.files:,}",
        f"{compared.start_s:.2f} ({100 * compared.start_s * rates[-1] / compared.files:.0f}%)",
        *map(_figure, rates),
        f"{share:.2f}",
        f"{compared.median(attrgetter('possible')):.2f}",
        f"{compared.median(attrgetter('added')):.2f}",
        f">= {WHOLE_SHARE:.2f}",
        _verdict(share >= WHOLE_SHARE),
    )


def _memory_row(watched: Seen, all_seen: Sequence[Seen]) -> tuple[str, ...]:
    smallest = next(seen for seen in all_seen if seen.encoder == watched.encoder)
    growth = watched.peak.total / smallest.peak.total - 1
    wanted = ("", "")
    if watched is not smallest:
        wanted = (f"{growth:+.0%}: +-{MEMORY_GROWTH:.0%}", _verdict(abs(growth) <= MEMORY_GROWTH))
    sizes = (
        watched.peak.total,
        watched.peak.anonymous,
        watched.peak.mapped,
        watched.parent.total,
        watched.workers.total,
        watched.left.total,
    )
    return (
        watched.encoder,
        f"{watched.files:,}",
        f"{watched.took_s:.1f}",
        *(f"{size / MB:.0f}" for size in sizes),
        *wanted,
    )


def _figure_rows(results: Results, arguments: argparse.Namespace) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if results.null is not None:
        rate = statistics.median(results.null.null)
        files = f"366x256 JPEGs, encoder null, {min(NULL_FILES, arguments.files):,} files"
        rows.append((files, f"{_figure(rate)} /s", f">= {NULL_RATE:.0f} on 2 cores", _verdict(rate >= NULL_RATE)))
        if results.null.loader:
            rows.append(("DataLoader over the same", f"{_figure(statistics.median(results.null.loader))} /s", "", ""))
            rows.append(("whole run with null / DataLoader", f"{results.null.ratio:.2f} x", "", ""))
    if results.rerun is not None:
        of = f"rerun over {arguments.files:,} files, nothing new"
        for name, times in (
            ("Store.index", results.rerun.index_s),
            ("fresh process", results.rerun.process_s),
            ("bindsearch index", results.rerun.command_s),
        ):
            took_s = statistics.median(times)
            rows.append((f"{of}: {name}", f"{took_s:.2f} s", f"< {RERUN_S:g} s", _verdict(took_s < RERUN_S)))
    return rows


SPEED_NOTE = """Medians. n: files of one run, all with different bytes; workers' start: from nothing to a worker's first
answer, in brackets its share of c, from which nothing is subtracted. threads: decoding and preprocessing in one thread
per core of one process, without inspection, hashing or transfer. a: running workers inspect each file, decode,
preprocess, and send the views, which are dropped. b: views prepared before, in batches as in a run. c: `Store.index`
into a new store, towers loaded, no index built. Possible here: 1 / (1/a + 1/b) / min(a, b), since decoders and towers
share these {cores} cores and each file costs both. Cores' time: CPU time of all processes for a file, which shows what
a run adds to its parts also on a machine with other load."""
MEMORY_NOTE = """Each in a fresh process, sampled every 50 ms: resident size of the process and its workers; pages that
several of them share count in each. Peak: of all together; anonymous and mapped: of that sample; left: of the process
after its workers have ended. Files of about 1 KB, a third each of JPEG, PNG and text. Wanted: as much as with 1,000."""
OTHER_NOTE = """The DataLoader (num_workers = {cores}) decodes with Pillow and resizes to 224 pixels, no more: it does
not classify, hash or record anything. The run with null decodes at half scale, because that encoder needs 64 pixels.
The start of workers counts in both. A fresh process: Python's start and all imports count."""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    sys.exit(main())
