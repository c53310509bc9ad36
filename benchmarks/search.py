"""Speed and recall of search on synthetic embeddings, compared with FAISS, LanceDB, Chroma, hnswlib and usearch.

    python benchmarks/search.py --size 150k|1m [--only engine,faiss,lancedb,chroma,hnswlib,usearch] [--cases ...]
                                [--cache FOLDER] [--keep STORE] [--data FOLDER] [--json FILE]

All in one run, on the same fp16 vectors, with the same held-out queries and filters: recall@10 is the share of the ten
nearest by exact float32 search; times are medians of single queries, the systems in turn. The table of a whole run (no
--only, no --cases) is saved in benchmarks/results/. Exits with 1 if a figure misses its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search_cases import Bench

PEERS = ("lancedb", "chroma", "hnswlib", "usearch")
SYSTEMS = ("engine", "faiss", *PEERS)
CASES = ("pairs", "merged", "peers", "filters", "fresh", "pictures")
PACKAGES = ("faiss-gpu", "duckdb", "numpy", "lancedb", "chromadb", "hnswlib", "usearch")
PEERS_UP_TO = 200_000
"""Maximum vectors for other systems by default: with a million, some take an hour to build."""
SLOWS_NUMPY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables that pin OpenBLAS to slower kernels; it reads them once, when NumPy is imported."""


def main() -> int:
    """Measure, print and save a table; return 1 if a figure misses its limit."""
    arguments = _parse()
    if any(name in os.environ for name in SLOWS_NUMPY):
        environment = {name: value for name, value in os.environ.items() if name not in SLOWS_NUMPY}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    os.environ["RUST_LOG"] = "error"  # LanceDB warns on every search

    from results import save_table
    from search_report import as_json, as_table

    with tempfile.TemporaryDirectory(prefix="bindsearch-bench-") as folder:
        bench = measure(arguments, Path(folder))
    table = as_table(bench)
    print(table)
    if arguments.is_whole:
        name = f"search-{arguments.size_text}"
        print(f"saved in {save_table(name, f'Search, {bench.data.n:,} vectors', table, PACKAGES)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(bench), indent=2))
    return int(any(not check.met for check in bench.asked))


def measure(arguments: argparse.Namespace, folder: Path) -> Bench:
    """Measure the requested cases, in the order of CASES."""
    from search_cases import Bench, durability, filters, fresh_process, measure_merge, pairs, peers, pictures_only
    from search_data import make_dataset
    from search_engine import Engine, fill_store
    from search_peers import missing, open_peers
    from search_real import real_embeddings

    systems, cases = arguments.only, arguments.cases
    data = make_dataset(arguments.size, arguments.queries, arguments.cache or folder / "vectors")
    bench = Bench(data, folder, engine=None, by_hand="faiss" in systems)
    for name in missing(systems):
        bench.note(f"{name} is not installed, so it is skipped: pip install 'bindsearch[bench]'")
    if "engine" in systems:
        store = arguments.keep or folder / "store"
        if not (store / "store.json").is_file():
            durability(bench, fill_store(store, data))
        bench.engine = Engine(store)
    if "pairs" in cases:
        pairs(bench)
    if "merged" in cases:
        measure_merge(bench)
    if "filters" in cases:
        filters(bench)
    if "fresh" in cases and bench.engine is not None:
        fresh_process(bench, store)
    if "peers" in cases and set(systems) & set(PEERS):
        peers(bench, list(open_peers(systems, data, folder)))
    if "pictures" in cases and bench.engine is not None:
        pictures_only(bench)
    if arguments.data and bench.engine is not None:
        real_embeddings(bench, arguments.data)
    return bench


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", dest="size_text", default="150k", help="vectors, such as 150k or 1m")
    parser.add_argument("--only", type=_names(SYSTEMS), help=f"systems, of {','.join(SYSTEMS)}")
    parser.add_argument("--cases", type=_names(CASES), default=CASES, help=f"cases, of {','.join(CASES)}")
    parser.add_argument("--queries", type=int, default=200, help="queries of each modality")
    parser.add_argument("--cache", type=Path, help="folder where the vectors are saved for the next run")
    parser.add_argument("--keep", type=Path, help="the store: used if it exists, else created and kept")
    parser.add_argument("--data", type=Path, help="folder of real media to embed with mini and to search as well")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    arguments = parser.parse_args()
    arguments.size = size_of(arguments.size_text)
    arguments.is_whole = arguments.only is None and arguments.cases == CASES
    if arguments.only is None:
        arguments.only = SYSTEMS if arguments.size <= PEERS_UP_TO else ("engine", "faiss")
    return arguments


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
        return chosen

    return parse


def size_of(text: str) -> int:
    """Return the number that a text such as 150k or 1m stands for."""
    factors = {"k": 1000, "m": 1_000_000}
    number, factor = (text[:-1], factors[text[-1].lower()]) if text[-1].lower() in factors else (text, 1)
    return round(float(number) * factor)


if __name__ == "__main__":
    sys.exit(main())
