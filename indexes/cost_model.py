"""Unit costs of a search on this machine: measured once with the search code, stored in the user's cache."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.atomic import atomic_write
from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.types import IndexForm, IndexParameters, UnitCosts
from bindsearch.small_files import read_json_object

if TYPE_CHECKING:
    from bindsearch.indexes.ivf_pq import IvfPqIndex

FORMAT = 1
COSTS_FILE = "costs.json"
CACHE_VARIABLE = "BINDSEARCH_CACHE"

ROW_BYTES = 128 * 2**20
"""Bytes of the fp16 rows that are scanned and gathered from: more than the caches hold, so that memory is measured."""

CODE_ROWS = 131_072
"""Codes scanned: 16 MB for 1024 dimensions, more than a core's own cache."""

GATHERED_ROWS = 4096
"""Rows gathered at once: between a rerank (some hundreds) and a filter (up to 16,384 of 1024 dimensions).

A gathered row costs twice as much among 20,000 as among 2,000, whose copy fits the caches.
"""

MASK_KEEPS = 0.001
"""Share of the rows that match the mask when the cost of a mask is measured."""

WIDTH = 200
"""Candidates requested from the codes."""

RESULTS = 26
"""Results requested from exact rows."""

LISTS = 256
"""Inverted lists of the index that measures the cost of visiting one; each holds one SIMD block of codes."""

BLOCK_ROWS = 32
"""Codes that FAISS fast-scan compares at once."""

REPEATS = (3, 25)
"""Minimum and maximum number of timed runs of each search."""

CLAMP_FACTOR = 10.0
"""A cost that differs from the usual one by more than this factor is treated as disturbed and clamped to it."""


def costs_path() -> Path:
    """Return the path of this machine's unit costs: in $BINDSEARCH_CACHE, else in the user's cache directory."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser() / COSTS_FILE
    from platformdirs import user_cache_path

    return user_cache_path("bindsearch", appauthor=False) / COSTS_FILE


def machine() -> Mapping[str, str | int]:
    """Return what unit costs are valid for: FAISS's version and build options, the processor and its cores."""
    import faiss

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "faiss": faiss.__version__,
        "build": faiss.get_compile_options().strip(),
        "cpu": next(names, platform.processor() or platform.machine()),
        "cores": os.cpu_count() or 1,
    }


def load_costs(path: Path) -> UnitCosts | None:
    """Return the unit costs stored at `path`; None if missing, damaged or measured on another machine."""
    try:
        record: Any = read_json_object(path)
        costs, names = record["costs"], [field.name for field in fields(UnitCosts)]
        valid = record["format"] == FORMAT and record["machine"] == machine() and sorted(costs) == sorted(names)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not valid or not all(type(value) is float and 0 < value < math.inf for value in costs.values()):
        return None
    return UnitCosts(**costs)


def save_costs(path: Path, costs: UnitCosts) -> None:
    """Store unit costs of this machine at `path`; the folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, "machine": machine(), "costs": asdict(costs)}
    with atomic_write(path) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")


def measure_costs(dim: int = 1024, budget_s: float = 1.0, *, seed: int = 0) -> UnitCosts:
    """Measure unit costs with searches of random rows of `dim` dimensions, one query at a time.

    Rows are read from memory, not from the processor's caches, and not from disk: a page that is not in the page cache
    costs 100 us more. A store whose rows fit the caches is faster than estimated. Each cost is that of the fastest of
    several runs on one thread, so that the load of other processes does not count.

    Args:
        dim: dimensions of the rows.
        budget_s: about how many seconds the measurement takes.
        seed: seed of the random rows, queries and masks.
    """
    import faiss

    rng = np.random.default_rng(seed)
    share_s = budget_s / 12  # six measurements; the rest creates the data they search
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of this thread alone
    try:
        scan, gather, mask, call = _measure_rows(dim, share_s, rng)
        code, probe = _measure_codes(dim, share_s, rng)
    finally:
        faiss.omp_set_num_threads(threads)
    usual, measured = astuple(UnitCosts()), (scan, gather, mask, code, probe, call)
    pairs = zip(measured, usual, strict=True)
    return UnitCosts(*(min(max(value, one / CLAMP_FACTOR), one * CLAMP_FACTOR) for value, one in pairs))


def _measure_rows(dim: int, share_s: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return nanoseconds a byte scanned and gathered, a row masked, and a call."""
    rows = _rows(ROW_BYTES // (2 * dim), dim, rng)
    exact, few = ExactRows(dim, [rows]), ExactRows(dim, [rows[:BLOCK_ROWS]])
    queries = rng.standard_normal((REPEATS[1], 1, dim), np.float32)
    row_bytes, n = 2 * dim, len(rows)

    first = np.arange(BLOCK_ROWS)[None]
    call_ns = _time_ns(lambda turn: few.rerank(queries[turn], first, RESULTS), share_s)
    scan_ns = _time_ns(lambda turn: exact.scan(queries[turn], RESULTS), share_s)
    # Other rows each time: those of the previous run would still be in a cache.
    gathered = min(GATHERED_ROWS, n // 4)
    chosen = [rng.choice(n, (1, gathered), replace=False, shuffle=False) for _ in range(REPEATS[1])]
    gather_ns = _time_ns(lambda turn: exact.rerank(queries[turn], chosen[turn], RESULTS), share_s)
    gather_ns = (gather_ns - call_ns) / (gathered * row_bytes)
    # Some rows must match, or the branch predictor learns to expect none.
    mask = RowMask(rng.random(n) < MASK_KEEPS)
    mask_ns = _time_ns(lambda turn: exact.scan(queries[turn], RESULTS, mask), share_s)
    mask_ns = (mask_ns - call_ns - mask.count * row_bytes * gather_ns) / n
    return (scan_ns - call_ns) / (n * row_bytes), gather_ns, mask_ns, call_ns


def _measure_codes(dim: int, share_s: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return nanoseconds a byte of codes scanned and an inverted list visited."""
    queries = rng.standard_normal((REPEATS[1], 1, dim), np.float32)
    long, short = _index(dim, 1, CODE_ROWS, rng), _index(dim, 1, BLOCK_ROWS, rng)
    many = _index(dim, LISTS, LISTS * BLOCK_ROWS, rng)
    code_bytes = long.parameters.code_bytes

    def time_ns(index: IvfPqIndex, probes: int) -> float:
        return _time_ns(lambda turn: index.candidates(queries[turn], WIDTH, probes), share_s / 2)

    code_ns = (time_ns(long, 1) - time_ns(short, 1)) / ((CODE_ROWS - BLOCK_ROWS) * code_bytes)
    visit_ns = (time_ns(many, LISTS) - time_ns(many, LISTS // 8)) / (LISTS - LISTS // 8)
    return code_ns, visit_ns - BLOCK_ROWS * code_bytes * code_ns


def _rows(n: int, dim: int, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    """Return distinct rows (n, dim) of about unit length: a few thousand, rotated by one more position per copy."""
    base = (rng.standard_normal((min(n, 4096), dim), np.float32) / math.sqrt(dim)).astype(np.float16)
    rows = np.empty((n, dim), np.float16)
    for number, start in enumerate(range(0, n, len(base))):
        block = rows[start : start + len(base)]
        block[:] = np.roll(base, number, axis=1)[: len(block)]
    return rows


def _index(dim: int, lists: int, n: int, rng: np.random.Generator) -> IvfPqIndex:
    """Return an index with n random codes, spread evenly over its lists; scan cost does not depend on code values."""
    import faiss

    from bindsearch.indexes.ivf_pq import IvfPqIndex

    reduced_dim = max(2, dim // 2 - dim // 2 % 2)
    parameters = IndexParameters(IndexForm.IVF_PQ, reduced_dim, reduced_dim // 2, 4, lists)
    coarse = faiss.IndexFlatIP(reduced_dim)
    coarse.add(rng.standard_normal((lists, reduced_dim), np.float32) / np.float32(math.sqrt(reduced_dim)))
    inner = faiss.IndexIVFPQFastScan(coarse, reduced_dim, lists, reduced_dim // 2, 4, faiss.METRIC_INNER_PRODUCT)
    inner.by_residual = True
    faiss.copy_array_to_vector(rng.standard_normal(reduced_dim * 16, np.float32) / 32, inner.pq.centroids)
    inner.is_trained = True
    per_list = n // lists
    codes = rng.integers(0, 256, (per_list, inner.code_size), np.uint8)
    assert inner.invlists is not None
    for number in range(lists):
        ids = np.arange(number * per_list, (number + 1) * per_list)
        inner.invlists.add_entries(number, per_list, faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    inner.ntotal = n
    transform = faiss.LinearTransform(dim, reduced_dim, False)
    matrix = rng.standard_normal(reduced_dim * dim, np.float32) / np.float32(math.sqrt(dim))
    faiss.copy_array_to_vector(matrix, transform.A)
    transform.is_trained = True
    return IvfPqIndex(faiss.IndexPreTransform(transform, inner), parameters)  # keeps references to its parts


def _time_ns(search: Callable[[int], object], budget_s: float) -> float:
    """Return the minimum time of `search(run number)` over as many runs as `budget_s` seconds allow."""
    search(0)
    times: list[int] = []
    least, most = REPEATS
    while len(times) < least or (len(times) < most and sum(times) < budget_s * 1e9):
        started = time.perf_counter_ns()
        search(len(times))
        times.append(time.perf_counter_ns() - started)
    return float(min(times))
