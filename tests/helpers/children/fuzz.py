"""Feed made-up input to one reader of this program until the time is over; print what was wrong as JSON.

python fuzz.py TARGET SECONDS SEED FOLDER

Before each input its number is written to FOLDER/number, so that the one that ends the process is known; the input with
a number depends on TARGET, SEED and the number only.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

import bindsearch as bs
from bindsearch.errors import BindSearchError, QuerySyntaxError
from bindsearch.hashing import hash_bytes
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.ingest.inspect.globs import glob_matches, parse_glob
from bindsearch.ingest.manifests.manifest import is_manifest, manifest_paths, read_manifest
from bindsearch.ingest.media.sidecar import decode_facts
from bindsearch.ingest.media.sidecar_file import parse_sidecar
from bindsearch.ingest.scan.ignore import rules_down_to
from bindsearch.search.query_syntax import format_query, parse_query
from bindsearch.search.sql_filter.columns import FilterColumns
from bindsearch.search.sql_filter.evaluate import where_mask
from bindsearch.small_files import sealed
from bindsearch.storage.snapshot_format import ITEM_COLUMNS, SEGMENT_COLUMNS
from helpers.damage import KINDS, WEIGHTS, damage_file
from helpers.stores import connect

SECONDS = 20.0
"""CPU time that one input may take; longer is a hang."""

MAX_PROBLEMS = 20
MIN_INPUTS = 4
"""Number of inputs that are fed even if the time is over, on a slow machine."""

Target = Callable[[random.Random, Path], None]
"""Feed one input; raise anything but BindSearchError for what is wrong."""


class HangError(Exception):
    """An input has taken too long."""


def mutate(chance: random.Random, samples: Sequence[str], pieces: Sequence[str]) -> str:
    """Return a sample after a few changes: pieces inserted, parts removed, repeated, exchanged with other samples."""
    text = chance.choice(samples)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 5, 9))):
        place = chance.randint(0, len(text))
        end = min(len(text), place + chance.choice((1, 1, 2, 5, 20)))
        match chance.randrange(7):
            case 0 | 1:
                text = text[:place] + chance.choice(pieces) + text[place:]
            case 2:
                text = text[:place] + text[end:]
            case 3:
                text = text[:end] + text[place:end] * chance.choice((1, 2, 50)) + text[end:]
            case 4:
                other = chance.choice(samples)
                text = text[:place] + other[chance.randint(0, len(other)) :]
            case 5:
                text = text[:place] + chr(chance.choice(CODES)) + text[end:]
            case 6:
                text = text[:place] + chance.choice(pieces) + text[end:]
    return text[:20_000]


CODES = (*range(128), 0xE9, 0x131, 0x2028, 0x202E, 0xFEFF, 0xFF0C, 0x1F600, 0xDC80, 0x85)
QUERIES = (
    *("a dog", "0.5*image:fruit.jpg + 0.5*audio:'rain drops.wav'@0s-2.5s", '-text:"it\'s"', "like:a b.jpg - 2*x"),
    *("video:clip.mp4@1s-3s", "1e-3*text:a*b", "https://a.b/c", "a@b", "3*imu:walk.csv - 1.5*depth:'d''.png'"),
)
QUERY_PIECES = (
    "*",
    "+",
    " - ",
    "-",
    "@",
    "@1s-2s",
    "'",
    '"',
    "image:",
    "text:",
    "1e400*",
    "0*",
    ".5*",
    "//",
    "\\",
    ":",
)
FILTERS = (
    *("modality = 'image' and size_bytes > 10", "name like '%.jpg' or text is null", "not (year = 2020)"),
    *(
        "rating // 2 = 1 and rating > 0",
        "case when rating > 0 then 8 // rating else 0 end > 1",
        "duration_s between 1 and 2",
    ),
    *("modified > timestamp '2020-01-01' - interval 3 days", "lower(name) in ('a.jpg', 'b.wav')", "tag[1] = 'x'"),
    *("list_contains([1, 2], item_id)", "cast(year as varchar) || name = '2020a'", "regexp_matches(name, '(a+)+b')"),
)
FILTER_PIECES = (
    *(
        "(",
        ")",
        " and ",
        " or ",
        " not ",
        "'",
        '"',
        "--",
        ";",
        ",",
        "::integer",
        "null",
        " is null",
        "/ 0",
        "1e308 * 10",
    ),
    *(
        "repeat('x', 1000000000)",
        "range(1000000000)",
        "[1]",
        "{'a': 1}",
        "x -> x + 1",
        " in ",
        "case when ",
        " end",
        "name",
    ),
    *(
        "rating",
        "item_id",
        "year",
        "size_bytes",
        "(select 1)",
        "read_text('/etc/passwd')",
        "lpad(name, 100000000, 'x')",
        "%",
    ),
    *(
        " collate nocase",
        " escape 'x'",
        " between 1 and 2",
        "interval 1 year",
        "date '2020-13-01'",
        "-9223372036854775808",
    ),
)
SIDECARS = (
    '{"fx": 500, "baseline_m": 0.1, "depth_unit": "mm"}',
    '{"sample_rate_hz": 100, "axes": [0,1,2,3,4,5], "units": {"accelerometer": "g", "gyroscope": "deg/s"}}',
    '{"caption": ["a", "b"], "columns": {"rating": 4, "taken": "2021-05-03T10:00:00+02:00", "latitude": 50.1}}',
)
JSON_PIECES = (
    *(
        "null",
        "true",
        "1e400",
        "-0",
        "NaN",
        "1" * 5000,
        "9223372036854775808",
        "[]",
        "{}",
        "[" * 3000,
        '"',
        "\\ud800",
        "\\u0000",
    ),
    *(",", ":", '"taken"', '"columns"', '{"a":', '"caption"', '"fx"', "\ufeff", "\\", '"rating": [1]', '"Rating": 2,'),
)
LISTS = (
    'path,caption,rating,taken\na.jpg,a dog,4,2021-01-01\nsub/b.jpg,"two, or more",5,\n../c.jpg,x,007,x\n',
    "file_name\tmodality\ttext\na.wav\taudio\tx\nb.wav\timage\t\n",
    '{"path": "a.jpg", "caption": ["a", "b"], "rating": 4}\n{"file": "b.jpg", "columns": {}}\n',
)
LIST_PIECES = (
    *(
        "\n",
        "\r",
        "\t",
        ",",
        '"',
        ";",
        "\0",
        "path",
        "caption",
        "/",
        "../",
        "//",
        "é",
        "1e400",
        "nan",
        "2300-01-01",
        "{",
        "}",
    ),
    *(
        "[",
        "null",
        "\ufeff",
        "x" * 3000,
        ",,,,,,",
        "\n\n",
        '""',
        "file:///etc/passwd",
        "-99999999999999999999",
        "0001-01-01",
    ),
)
GLOBS = (
    "*.jpg",
    "a/**/b?.txt",
    "[a-c]*[!x]",
    "**",
    "*a*a*a*a*b",
    "!keep/*.wav",
    "/top/",
    "folder/",
    "\\#x",
    "[]a]",
    "a[",
)
GLOB_PIECES = (
    "*",
    "**",
    "?",
    "[",
    "]",
    "!",
    "/",
    "\\",
    "**/",
    "[!a-z]",
    "[z-a]",
    " ",
    "#",
    "\n",
    "é",
    "İ",
    "[[:alpha:]]",
    "a" * 50,
)


def query(chance: random.Random, _place: Path) -> None:
    text = mutate(chance, QUERIES, QUERY_PIECES)
    try:
        terms = parse_query(text).terms
    except QuerySyntaxError as error:
        check_line(error, len(text))
        return
    assert parse_query(format_query(terms)).terms == terms, format_query(terms)


@dataclass(frozen=True)
class Roots:
    collections = {1: "/media/x"}  # noqa: RUF012


@dataclass(frozen=True)
class Tables:
    """What filters read of a snapshot."""

    items: pa.Table
    segments: pa.Table
    manifest: Roots = Roots()
    class_columns: None = None

    @property
    def item_of_segment_rows(self) -> np.ndarray:
        return np.arange(self.segments.num_rows)


def filter_columns() -> FilterColumns:
    items = {
        "item_id": [1, 2, 3],
        "collection_id": [1, 1, 1],
        "rel_path": ["a.jpg", "b.wav", "ü c.txt"],
        "modality": ["image", "audio", "text"],
        "size_bytes": [3, 2**62, 0],
        "mtime_ns": [0, 10**18, -(10**18)],
        "columns": ['{"rating": 4, "year": 2020}', '{"rating": 0, "tag": "x"}', None],
        "taken": [0, None, 10**15],
    }
    segments = {
        "segment_id": [1, 2, 3],
        "item_id": [1, 2, 3],
        "modality": ["image", "audio", "text"],
        "start_s": [None, 0.0, None],
        "end_s": [None, 2.5, None],
        "text": ["a", None, ""],
    }
    return FilterColumns(Tables(table_of(ITEM_COLUMNS, items), table_of(SEGMENT_COLUMNS, segments)))  # type: ignore[arg-type]


def table_of(types: Mapping[str, str], values: Mapping[str, list[Any]]) -> pa.Table:
    """Return a table with three rows, null where no values are given."""
    schema = pa.schema(list(types.items()))
    return pa.table({field.name: pa.array(values.get(field.name, [None] * 3), field.type) for field in schema})


COLUMNS: list[FilterColumns] = []


def where(chance: random.Random, _place: Path) -> None:
    if not COLUMNS:
        COLUMNS.append(filter_columns())
    text = mutate(chance, FILTERS, FILTER_PIECES)
    assert len(where_mask(text, COLUMNS[0], limit_s=2.0)) == 3


def sidecar(chance: random.Random, _place: Path) -> None:
    text = mutate(chance, SIDECARS, JSON_PIECES)
    decode_facts(parse_sidecar(noise(chance, text)))


def noise(chance: random.Random, text: str) -> bytes:
    """Return a text as bytes, now and then with a few bytes changed, or in another encoding."""
    content = bytearray(text.encode(chance.choice(("utf-8",) * 8 + ("utf-16",)), "surrogatepass"))
    for _ in range(chance.choice((0, 0, 0, 1, 4))):
        if content:
            content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def manifest(chance: random.Random, place: Path) -> None:
    suffix = chance.choice((".csv", ".tsv", ".jsonl", ".parquet"))
    path = place / f"list{suffix}"
    text = mutate(chance, LISTS, LIST_PIECES)
    if suffix == ".parquet":
        write_parquet(chance, path)
    else:
        path.write_bytes(noise(chance, text))
    is_manifest(path)
    for action in (lambda: read_manifest(path, place), lambda: manifest_paths(path)):
        try:
            action()
        except BindSearchError as error:
            check_line(error)


def write_parquet(chance: random.Random, path: Path) -> None:
    rows = chance.choice((0, 1, 30))
    values = {
        "path": [f"{n}.jpg" for n in range(rows)],
        "caption": [["a", None, "b"][: n % 4] for n in range(rows)],
        "rating": pa.array(
            [n if n % 3 else None for n in range(rows)], chance.choice((pa.int8(), pa.float16(), pa.uint64()))
        ),
        "taken": pa.array(
            range(rows), chance.choice((pa.timestamp("ns", "UTC"), pa.date32(), pa.time64("us"), pa.int32()))
        ),
        "bytes": pa.array([b"\xff"] * rows, pa.binary()),
    }
    parquet.write_table(pa.table(values), path, compression=chance.choice(("none", "snappy", "zstd")))
    if chance.random() < 0.8:
        (kind,) = chance.choices(list(KINDS), WEIGHTS)
        if kind in ("flip bit", "zero block", "garble block", "truncate", "extend"):
            KINDS[kind](path, chance)


def glob(chance: random.Random, place: Path) -> None:
    text = mutate(chance, GLOBS, GLOB_PIECES)
    names = [mutate(chance, ("a/b/c1.txt", "x.jpg", "a" * 200, "top/é"), ("a", "/", "b", ".jpg")) for _ in range(3)]
    try:
        pattern = parse_glob(text, "--include")
        for name in names:
            glob_matches(pattern, name)
    except BindSearchError as error:
        check_line(error)
    (place / ".bindsearchignore").write_bytes(noise(chance, "\n".join((text, mutate(chance, GLOBS, GLOB_PIECES)))))
    rules = rules_down_to(place, "")
    for name in names:
        rules.reason(name, is_dir=chance.random() < 0.5)


def store(chance: random.Random, place: Path) -> None:
    """Change a file of a store, and make most digests fit again, as somebody would who makes a store to do harm."""
    good, used = place / "good", place / "used"
    if not good.exists():
        make_store(good, place / "media")
    shutil.rmtree(used, ignore_errors=True)
    shutil.copytree(good, used)
    files = [path for path in sorted(used.rglob("*")) if path.is_file() and not path.name.startswith("writer.")]
    path = chance.choice([one for one in files if not one.name.startswith("catalog")])
    damage_file(path, chance)
    if path.is_file():
        fit_digests(used)
    for action in (look, lambda opened: opened.verify()):
        try:
            with connect(used) as opened:
                action(opened)
        except BindSearchError as error:
            check_line(error)


def look(opened: bs.Store) -> None:
    opened.search("text number 7", k=9, filter=bs.make_filter(where="size_bytes > 3"))
    opened.status()


SETTINGS = IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 2})


def make_store(place: Path, media: Path) -> None:
    media.mkdir(exist_ok=True)
    for n in range(40):
        (media / f"{n}.txt").write_text(f"text number {n}")
    (media / "broken.png").write_bytes(b"no picture")
    with connect(place, encoder="null") as opened:
        opened.index(media)
        opened.optimize(index_settings=SETTINGS, force=True)
        (media / "later.txt").write_text("two dogs play")
        opened.index(media)


def fit_digests(used: Path) -> None:
    """Compute the digests of snapshot parts, CURRENT and store.json again, where the files can be read as JSON."""
    folders = [path for path in (used / "snapshots").iterdir() if path.is_dir()]
    try:
        for folder in folders:
            if (folder / "digests.json").is_file():
                names = json.loads((folder / "digests.json").read_text())
                names = {name: hash_bytes((folder / name).read_bytes()) for name in names}
                (folder / "digests.json").write_text(json.dumps(names))
        for name in ("CURRENT", "store.json"):
            data = json.loads((used / name).read_text())
            data.pop("digest", None)
            if name == "CURRENT":
                for number in data["part_digests"]:
                    content = (used / "snapshots" / number / "digests.json").read_bytes()
                    data["part_digests"][number] = hash_bytes(content)
            (used / name).write_bytes(sealed(data))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return


def exported(chance: random.Random, place: Path) -> None:
    """Change a file of an export, and import it."""
    good, used = place / "good", place / "used"
    if not good.exists():
        make_store(place / "store", place / "media")
        with connect(place / "store") as opened:
            opened.export(good / "parquet")
            opened.export(good / "npy", layout="npy")
    for old in (used, place / "other"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(chance.choice(sorted(good.iterdir())), used)
    path = chance.choice([path for path in sorted(used.rglob("*")) if path.is_file()])
    kind = chance.choice(("flip bit", "flip bit", "zero block", "garble block", "truncate", "extend"))
    KINDS[kind](path, chance)
    with connect(place / "other", encoder="null") as opened:
        opened.import_vectors(used)


TARGETS: dict[str, Target] = {
    "query": query,
    "filter": where,
    "sidecar": sidecar,
    "manifest": manifest,
    "glob": glob,
    "store": store,
    "export": exported,
}


def check_line(error: BaseException, length: int = 0) -> None:
    assert not isinstance(error, QuerySyntaxError) or 0 <= error.position <= length, f"position {error.position}"
    assert str(error), "an error without a message"
    assert "\n" not in str(error), f"several lines: {error}"


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise HangError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def problem_of(target: str, seed: str, place: Path) -> str | None:
    """Feed the input of a seed; return what was wrong, None if nothing was."""
    try:
        with time_limit():
            TARGETS[target](random.Random(seed), place)
    except BindSearchError as error:
        return f"{seed}: several lines: {error}" if "\n" in str(error) else None
    except Exception:
        return f"{seed}: {'; '.join(traceback.format_exc().splitlines()[-8:])[-1500:]}"
    return None


def main() -> None:
    target, seconds, seed, place = sys.argv[1], float(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    end = time.monotonic() + seconds
    problems: list[str] = []
    count, slowest = 0, 0.0
    for count in itertools.count(1):
        (place / "number").write_text(str(count))
        started = time.process_time()
        problem = problem_of(target, f"{target} {seed} {count}", place)
        slowest = max(slowest, time.process_time() - started)
        problems += [] if problem is None else [problem]
        if (time.monotonic() > end and count >= MIN_INPUTS) or len(problems) >= MAX_PROBLEMS:
            break
    sys.stdout.write(json.dumps({"inputs": count, "slowest_s": round(slowest, 3), "problems": problems}))


if __name__ == "__main__":
    main()
