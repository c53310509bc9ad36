"""Choice of a partition's index and its parameters: from its size, a memory budget and overrides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields

from bindsearch.arguments import did_you_mean
from bindsearch.errors import UsageError
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexSettings

EXACT_ELEMENTS = 4096 * 1024
"""Rows times dimensions up to which every row is scored: 0.35 ms, as much as an index with its rerank."""

FULL_DIM = 256
"""Dimensions up to which all are retained; of more, half is retained, but at least this many.

(Half of 1024 hold 93% of the variance.) With one list it is three quarters: the longer codes cost less than the
additional candidates that shorter codes need (true images of a text among 100 candidates: .996 with 768 dimensions,
.966 with 512), and there are few rows to hold.
"""

DIMS_PER_CODE = 2
"""Dimensions of the reduced space that one 4-bit subquantizer codes, where memory allows."""

MAX_DIMS_PER_CODE = 16
"""Maximum of DIMS_PER_CODE, where memory is shortest: fewer bits would not separate candidates from other rows."""

ONE_LIST_ROWS = 100_000
"""Rows below which one list is scanned completely: 0.24 ms for 63k rows of 1024 dimensions.

Across modalities, half of the lists would have to be probed for a recall of .98, and so many more candidates scored
that it takes longer.
"""

MAX_LISTS = 4096
"""Maximum number of lists chosen by default: k-means takes minutes on two cores, and its time grows quadratically."""

TRAIN_ROWS = (20_000, 131_072)
"""Minimum and maximum training rows (PCA needs the minimum); in between 128 per list, as in FAISS's k-means."""

TRAIN_ROWS_PER_LIST = 128

GPU_SUBQUANTIZERS = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
"""Code sizes that FAISS's IVF-PQ supports on a GPU."""

MAX_GPU_SUBQUANTIZERS = 64
"""Maximum code size chosen by default on a GPU."""

ID_BYTES = 8

MIN_RECALL = 0.5

BITS = {IndexForm.IVF_PQ: 4, IndexForm.IVF_PQ8: 8}


def choose_parameters(n: int, dim: int, settings: IndexSettings, gpu: bool = False) -> IndexParameters:
    """Choose the index parameters of a partition.

    Args:
        n: rows, n >= 1.
        dim: dimensions of the rows.
        settings: form, memory budget, recall and overrides.
        gpu: the index is for searches on a GPU, in 8-bit codes.

    Raises:
        UsageError: an override is unknown, out of range or contradicts another, or the memory is too small.
    """
    overrides = _check_overrides(settings.overrides or {})
    if not MIN_RECALL <= settings.recall < 1:
        raise UsageError(f"recall={settings.recall:g} is out of range: give a number from {MIN_RECALL} to below 1")
    form = settings.form or (IndexForm.EXACT if n * dim <= EXACT_ELEMENTS else IndexForm.IVF_PQ)
    if form == IndexForm.EXACT:
        return IndexParameters(form, seed=overrides.get("seed", 0))
    if gpu:
        form = IndexForm.IVF_PQ8
    bits = overrides.get("bits", BITS[form])
    if bits != BITS[form]:
        raise UsageError(f"bits={bits} is not possible: codes of the form {form.value} have {BITS[form]} bits")
    reduced_dim, subquantizers = _choose_code(n, dim, form, settings.memory_bytes, overrides)
    wanted_lists = overrides.get("lists", _choose_lists(n))
    least, most = TRAIN_ROWS
    wanted_rows = overrides.get("train_rows", max(least, min(most, wanted_lists * TRAIN_ROWS_PER_LIST), wanted_lists))
    if wanted_lists > wanted_rows:
        raise UsageError(
            f"lists={wanted_lists} is more than train_rows={wanted_rows}: training needs at least one row per list"
        )
    lists, train_rows = min(n, wanted_lists), min(n, wanted_rows)  # overrides also apply to partitions with fewer rows
    return IndexParameters(form, reduced_dim, subquantizers, bits, lists, train_rows, overrides.get("seed", 0))


def _check_overrides(overrides: Mapping[str, int]) -> Mapping[str, int]:
    """Return `overrides` after checking that every name is known and every number is in range."""
    names = [field.name for field in fields(IndexParameters) if field.name != "form"]
    for name, value in overrides.items():
        if name not in names:
            near = did_you_mean(name, names)
            raise UsageError(f"{name!r} is not an index parameter: {near}choose from {', '.join(names)}")
        minimum = 0 if name == "seed" else 1
        if type(value) is not int or not minimum <= value < 2**31:
            raise UsageError(f"{name}={value!r} is out of range: give an integer of at least {minimum}")
    return overrides


def _choose_code(
    n: int, dim: int, form: IndexForm, memory_bytes: int | None, overrides: Mapping[str, int]
) -> tuple[int, int]:
    """Return the reduced dimensions and subquantizers of the largest code that fits the memory."""
    needed = 0
    for reduced_dim, size in _code_choices(n, dim, form, overrides):
        needed = n * (math.ceil(size * BITS[form] / 8) + ID_BYTES)
        if memory_bytes is None or needed <= memory_bytes:
            return reduced_dim, size
    raise UsageError(f"{memory_bytes} bytes of memory are too few for an index of {n} rows: the minimum is {needed}")


def _code_choices(n: int, dim: int, form: IndexForm, overrides: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return reduced dimensions and subquantizers, longest code first: the default, then those for less memory."""
    reduced_dim = overrides.get("reduced_dim", _choose_reduced_dim(n, dim, form))
    if reduced_dim > dim:
        raise UsageError(f"reduced_dim={reduced_dim} is more than the {dim} dimensions of the vectors")
    if "subquantizers" in overrides:
        size = overrides["subquantizers"]
        if reduced_dim % size:
            raise UsageError(f"subquantizers={size} does not divide the {reduced_dim} reduced dimensions")
        return [(reduced_dim, size)]
    choices = [(reduced_dim, size) for size in _code_sizes(reduced_dim, form)]
    if "reduced_dim" not in overrides and form == IndexForm.IVF_PQ and reduced_dim % 32 == 0:
        fewer = reduced_dim * 3 // 4  # lengths between the powers of two; equal recall at equal length
        choices += [(fewer, size) for size in _code_sizes(fewer, form)]
    return sorted(choices, key=lambda choice: choice[1], reverse=True)


def _choose_reduced_dim(n: int, dim: int, form: IndexForm) -> int:
    """Return half of the dimensions, with one list 3/4, but at least FULL_DIM; if possible a multiple of 8."""
    wanted = dim * 3 // 4 if form == IndexForm.IVF_PQ and n < ONE_LIST_ROWS else dim // 2
    reduced_dim = max(wanted, min(dim, FULL_DIM))
    multiple = next((multiple for multiple in (8, 2) if reduced_dim >= multiple), 1)
    return reduced_dim - reduced_dim % multiple


def _code_sizes(reduced_dim: int, form: IndexForm) -> list[int]:
    """Return the possible numbers of subquantizers: the default first, then those for less memory."""
    minimum = max(1, reduced_dim // MAX_DIMS_PER_CODE)
    if form == IndexForm.IVF_PQ8:
        known = [size for size in GPU_SUBQUANTIZERS if size <= MAX_GPU_SUBQUANTIZERS and reduced_dim % size == 0]
        return [size for size in known if size >= min(minimum, known[0])]
    first = max(1, reduced_dim // DIMS_PER_CODE)
    return [size for size in range(first, minimum - 1, -1) if reduced_dim % size == 0] or [1]


def _choose_lists(n: int) -> int:
    """Return the number of lists for n rows."""
    if n < ONE_LIST_ROWS:
        return 1
    # Probing a list costs as much as scanning 200 codes: beyond a million rows there is room for more lists.
    growth = math.sqrt(math.sqrt(max(1.0, n / 1_000_000)))
    return min(MAX_LISTS, round(math.sqrt(n) * growth))
