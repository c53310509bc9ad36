"""Choice of a partition's index and its parameters: from its size, a memory budget and overrides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields

from bindsearch.errors import UsageError
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexSettings

EXACT_ELEMENTS = 4096 * 1024
"""Rows times dimensions up to which every row is scored: 0.35 ms, what an index with its rerank costs as well."""

FULL_DIM = 256
"""Dimensions that are all kept; of more, half is, but no fewer than these. (Half of 1024 hold 93% of the variance.) In
one list it is three quarters: the longer codes cost less than the candidates that shorter ones make necessary (true
pictures of a text among 100 candidates: .996 with 768 dimensions, .966 with 512), and there are few rows to hold."""

DIMS_PER_CODE = 2
"""Dimensions of the reduced space that one 4-bit subquantizer codes, where memory allows."""

MAX_DIMS_PER_CODE = 16
"""The same where memory is shortest: fewer bits would no longer tell candidates from other rows."""

ONE_LIST_ROWS = 100_000
"""Rows below which one list is scanned whole: 0.24 ms for 63k rows of 1024 dimensions. Across modalities, lists would
have to be half scanned for .98 and so many more candidates scored that they take longer."""

MAX_LISTS = 4096
"""The most lists chosen unasked: k-means takes minutes on two cores, and time grows with the square."""

TRAIN_ROWS = (20_000, 131_072)
"""Least and most rows to train on (PCA alone needs the least); in between 128 a list, as FAISS's k-means uses."""

TRAIN_ROWS_PER_LIST = 128

GPU_SUBQUANTIZERS = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
"""Code sizes that FAISS's IVF-PQ knows on a GPU."""

MAX_GPU_SUBQUANTIZERS = 64
"""The most of them chosen unasked."""

ID_BYTES = 8

MIN_RECALL = 0.5

BITS = {IndexForm.IVF_PQ: 4, IndexForm.IVF_PQ8: 8}


def choose_parameters(n: int, dim: int, settings: IndexSettings, gpu: bool = False) -> IndexParameters:
    """Parameters for n >= 1 rows of `dim` dimensions. `gpu`: the index is to be searched on a GPU, in 8-bit codes.

    Raises:
        UsageError: an override is unknown, out of range or does not fit another, or the memory does not suffice.
    """
    overrides = _checked(settings.overrides or {})
    if not MIN_RECALL <= settings.recall < 1:
        raise UsageError(f"recall={settings.recall:g} cannot be: give a number of at least {MIN_RECALL} and below 1")
    form = settings.form or (IndexForm.EXACT if n * dim <= EXACT_ELEMENTS else IndexForm.IVF_PQ)
    if form == IndexForm.EXACT:
        return IndexParameters(form, seed=overrides.get("seed", 0))
    if gpu:
        form = IndexForm.IVF_PQ8
    bits = overrides.get("bits", BITS[form])
    if bits != BITS[form]:
        raise UsageError(f"bits={bits} cannot be: codes of the form {form.value} have {BITS[form]}")
    reduced_dim, subquantizers = _choose_code(n, dim, form, settings.memory_bytes, overrides)
    wanted_lists = overrides.get("lists", _choose_lists(n))
    least, most = TRAIN_ROWS
    wanted_rows = overrides.get("train_rows", max(least, min(most, wanted_lists * TRAIN_ROWS_PER_LIST), wanted_lists))
    if wanted_lists > wanted_rows:
        raise UsageError(
            f"lists={wanted_lists} is more than train_rows={wanted_rows}: a list needs a row at least to be trained on"
        )
    lists, train_rows = min(n, wanted_lists), min(n, wanted_rows)  # small partitions take part in what is asked of all
    return IndexParameters(form, reduced_dim, subquantizers, bits, lists, train_rows, overrides.get("seed", 0))


def _checked(overrides: Mapping[str, int]) -> Mapping[str, int]:
    """The same overrides, if every name is known and every number is in the range of its kind."""
    names = [field.name for field in fields(IndexParameters) if field.name != "form"]
    for name, value in overrides.items():
        if name not in names:
            raise UsageError(f"{name!r} is not a parameter of an index: there are {', '.join(names)}")
        least = 0 if name == "seed" else 1
        if type(value) is not int or not least <= value < 2**31:
            raise UsageError(f"{name}={value!r} is out of range: a whole number from {least} on")
    return overrides


def _choose_code(
    n: int, dim: int, form: IndexForm, memory_bytes: int | None, overrides: Mapping[str, int]
) -> tuple[int, int]:
    """Dimensions kept and subquantizers of the largest code that the memory allows."""
    choices = _code_choices(n, dim, form, overrides)
    needed = [n * (math.ceil(size * BITS[form] / 8) + ID_BYTES) for _, size in choices]
    for choice, memory in zip(choices, needed, strict=True):
        if memory_bytes is None or memory <= memory_bytes:
            return choice
    raise UsageError(
        f"{memory_bytes} bytes of memory are too few for an index of {n} rows: the least that would do is {needed[-1]}"
    )


def _code_choices(n: int, dim: int, form: IndexForm, overrides: Mapping[str, int]) -> list[tuple[int, int]]:
    """Dimensions kept and subquantizers, longest code first: the one to take, then what less memory allows."""
    reduced_dim = overrides.get("reduced_dim", _choose_reduced_dim(n, dim, form))
    if reduced_dim > dim:
        raise UsageError(f"reduced_dim={reduced_dim} is more than the {dim} dimensions there are")
    if "subquantizers" in overrides:
        size = overrides["subquantizers"]
        if reduced_dim % size:
            raise UsageError(f"subquantizers={size} does not divide the {reduced_dim} dimensions that are kept")
        return [(reduced_dim, size)]
    choices = [(reduced_dim, size) for size in _code_sizes(reduced_dim, form)]
    if "reduced_dim" not in overrides and form == IndexForm.IVF_PQ and reduced_dim % 32 == 0:
        fewer = reduced_dim * 3 // 4  # lengths between the powers of two; at equal length they find as many
        choices += [(fewer, size) for size in _code_sizes(fewer, form)]
    return sorted(choices, key=lambda choice: choice[1], reverse=True)


def _choose_reduced_dim(n: int, dim: int, form: IndexForm) -> int:
    """Half of the dimensions, in one list three quarters, but at least FULL_DIM; a multiple of 8 where possible."""
    wanted = dim * 3 // 4 if form == IndexForm.IVF_PQ and n < ONE_LIST_ROWS else dim // 2
    kept = max(wanted, min(dim, FULL_DIM))
    for multiple in (8, 2):
        if kept >= multiple:
            return kept - kept % multiple
    return kept


def _code_sizes(reduced_dim: int, form: IndexForm) -> list[int]:
    """Numbers of subquantizers a code may have, the one to take first, then what less memory allows."""
    least = max(1, reduced_dim // MAX_DIMS_PER_CODE)
    if form == IndexForm.IVF_PQ8:
        known = [size for size in GPU_SUBQUANTIZERS if size <= MAX_GPU_SUBQUANTIZERS and reduced_dim % size == 0]
        return [size for size in known if size >= min(least, known[0])]
    first = max(1, reduced_dim // DIMS_PER_CODE)
    return [size for size in range(first, least - 1, -1) if reduced_dim % size == 0] or [1]


def _choose_lists(n: int) -> int:
    if n < ONE_LIST_ROWS:
        return 1
    # Probing a list costs as much as scanning 200 codes: beyond a million rows there is room for more lists.
    growth = math.sqrt(math.sqrt(max(1.0, n / 1_000_000)))
    return min(MAX_LISTS, round(math.sqrt(n) * growth))
