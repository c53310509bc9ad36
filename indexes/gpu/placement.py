"""Placement: which GPUs FAISS sees, what of a store lies on them, and how it gets there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.device import check_device_name
from bindsearch.environment import check_libraries
from bindsearch.errors import IndexDamagedError, UsageError
from bindsearch.indexes.exact import decode
from bindsearch.indexes.gpu.index import Gpu, GpuIndex, Shard
from bindsearch.indexes.ivf_pq import ADD_ROWS, IvfPqIndex, build_index, train_on_blocks
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY_SHARE = 0.8
"""Of the free GPU memory. The rest is for FAISS's temporary memory and for a shard that grows."""

CODE_BYTES = 72
"""Of one row in 8-bit IVF-PQ: 64 of code and 8 of id."""

SHARD_BYTES = 2 * 2**30
"""Of fp16 rows in one FAISS index: what is added to it is copied with what it holds, which needs as much again."""

FILL_ROWS = 16 * 2**20
"""Rows coded on a GPU before they are fetched: 1.2 GB of codes."""

TAIL_ELEMENTS = 2048 * 1024
"""So many numbers may follow the rows on the GPUs before all rows are put there anew: 0.2 ms to scan on the CPU."""


def resolve_device(device: str) -> tuple[str, ...]:
    """The GPUs that a device stands for: all that FAISS sees for "auto" and "cuda", one for "cuda:N", none for "cpu".

    Raises:
        UsageError: there is no such device.
        InstallationError: FAISS cannot be loaded.
    """
    check_libraries(["faiss"])
    import faiss

    if device == "cpu":
        return ()
    check_device_name(device)
    count = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0  # faiss-cpu has no such function
    seen = tuple(f"cuda:{number}" for number in range(count))
    if device == "auto" or (device == "cuda" and seen):
        return seen
    if device in seen:
        return (device,)
    raise UsageError(
        f"device {device!r} is not available: FAISS sees {', '.join(seen) or 'no GPU'}; use --device cpu or auto"
    )


def choose_exact(rows: Mapping[str, int], dim: int, budget: int) -> frozenset[str]:
    """Partitions, given by their `rows`, whose fp16 rows go to GPUs with `budget` bytes: as many as can, the smallest
    first, so that the codes of the others have room beside them."""
    order = sorted(rows, key=lambda name: (rows[name], name))
    for count in range(len(order), 0, -1):
        held = sum(rows[name] for name in order[:count]) * 2 * dim
        coded = sum(rows[name] for name in order[count:]) * CODE_BYTES
        if held + coded <= budget:
            return frozenset(order[:count])
    return frozenset()


def code_parameters(n: int, dim: int, settings: IndexSettings) -> IndexParameters:
    """Of 8-bit codes for n rows on GPUs: by size, and by those of the settings that mean the same in every form."""
    common = ("lists", "train_rows", "seed")
    overrides = {name: value for name, value in (settings.overrides or {}).items() if name in common}
    return choose_parameters(max(n, 1), dim, IndexSettings(IndexForm.IVF_PQ8, overrides=overrides), gpu=True)


def build_codes(
    blocks: Sequence[NDArray[np.float16]],
    parameters: IndexParameters,
    gpus: Sequence[Gpu],
    on_rows: Callable[[int], None] = lambda _: None,
) -> IvfPqIndex:
    """As `build_index`, for 8-bit codes, with the work done on the first GPU where there is one with room for it."""
    if gpus:
        with contextlib.suppress(RuntimeError):  # FAISS's, where it gets no memory: the CPU does the same
            return _build_on(gpus[0].with_own_resources(), blocks, parameters, on_rows)
    return build_index(blocks, parameters, on_rows)


def _build_on(
    gpu: Gpu, blocks: Sequence[NDArray[np.float16]], parameters: IndexParameters, on_rows: Callable[[int], None]
) -> IvfPqIndex:
    index = train_on_blocks(blocks, parameters, gpu.flat(parameters.reduced_dim, half=False))
    n = sum(map(len, blocks))
    for first in range(0, n, FILL_ROWS):
        part = gpu.copy(index.lists_of(0, 0), min(FILL_ROWS, n - first))
        done = first
        for rows in _pieces(blocks, first, first + FILL_ROWS):
            part.add_with_ids(decode(rows) @ index.reduction.T, np.arange(done, done + len(rows)))
            done += len(rows)
            on_rows(done)
        index.merge(gpu.fetch(part))
    return index


def _pieces(blocks: Sequence[NDArray[np.float16]], start: int, stop: int) -> Iterator[NDArray[np.float16]]:
    """Rows start..stop of all blocks, as views of ADD_ROWS rows at most."""
    first = 0
    for block in blocks:
        begin, end = max(start - first, 0), min(stop - first, len(block))
        for here in range(begin, end, ADD_ROWS):
            yield block[here : min(here + ADD_ROWS, end)]
        first += len(block)


def _cuts(n: int, gpus: int, most: int) -> list[tuple[int, int, int]]:
    """Rows 0..n cut into shards (GPU, start, stop): an even, contiguous share a GPU, in shards of `most` rows."""
    edges = np.linspace(0, n, gpus + 1).astype(np.int64).tolist()
    return [
        (gpu, start, min(start + most, edges[gpu + 1]))
        for gpu in range(gpus)
        for start in range(edges[gpu], edges[gpu + 1], most)
    ]


class GpuResidency:
    """The GPUs of one store and what lies on them: of each partition the rows or codes that were last asked for."""

    def __init__(self, device: str, devices: Sequence[Gpu] | None = None) -> None:
        """`device` as of `resolve_device`, asked on first use; `devices`: those it stands for, where that is known."""
        self._device = device
        if devices is not None:
            self.devices = tuple(devices)
        self._lock = threading.Lock()
        self._held: dict[str, tuple[tuple[object, ...], GpuIndex]] = {}
        self._refused: dict[str, str] = {}

    @cached_property
    def devices(self) -> tuple[Gpu, ...]:
        """The GPUs; none where the CPU is to be used.

        Raises:
            UsageError: there is no such device.
        """
        return tuple(Gpu(int(name.partition(":")[2])) for name in resolve_device(self._device))

    def check(self) -> None:
        """Find out at once what else would be found out on first use.

        Raises:
            UsageError: there is no such device.
        """
        assert self.devices is not None

    @property
    def name(self) -> str:
        """Their names, such as "cuda:0"."""
        return " + ".join(f"cuda:{gpu.number}" for gpu in self.devices)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of a plan should know.

        Raises:
            UsageError: there is no such device.
        """
        missing = ("no GPU, using the CPU",) if self._device == "auto" and not self.devices else ()
        return (*missing, *(f"{name} is searched on the CPU: {why}" for name, why in sorted(self._refused.items())))

    def close(self) -> None:
        """Let go of what lies there."""
        with self._lock:
            self._held.clear()

    @cached_property
    def budget(self) -> int:
        """Bytes that may be taken, found out before anything is; every GPU gets the same share."""
        return int(MEMORY_SHARE * min(gpu.free_bytes() for gpu in self.devices) * len(self.devices))

    def holds_exact(self, name: str, rows: Mapping[str, int], dim: int) -> bool:
        """Return whether the fp16 rows of partition `name` fit, where all partitions have so many `rows`."""
        return bool(self.devices) and name in choose_exact(rows, dim, self.budget)

    def place_rows(
        self, name: str, files: Sequence[tuple[str, int]], blocks: Sequence[NDArray[np.float16]]
    ) -> GpuIndex | None:
        """The rows of `blocks` (m, d) there, from those `files` (name and rows); None where they cannot be.

        Those that lie there already are given where the files begin with theirs and hold few rows more, so it may
        cover less than all rows.
        """
        dim = blocks[0].shape[1]

        def close_enough(held: GpuIndex, key: tuple[object, ...]) -> bool:
            tail = sum(rows for _, rows in files) - held.n
            return (
                held.parameters.form is IndexForm.EXACT
                and key == tuple(files[: len(key)])
                and tail * dim <= TAIL_ELEMENTS
            )

        return self._place(name, tuple(files), close_enough, lambda: self.on_rows(blocks))

    def place_codes(self, name: str, key: tuple[object, ...], open_codes: Callable[[], IvfPqIndex]) -> GpuIndex | None:
        """The 8-bit codes that `open_codes` gives, there; `key` tells them from others. None where they cannot be."""
        return self._place(name, key, lambda _, held: held == key, lambda: self.on_codes(open_codes()))

    def on_rows(self, blocks: Sequence[NDArray[np.float16]]) -> GpuIndex:
        """A new index of the rows of `blocks`, each fp16 (m, d).

        Raises:
            RuntimeError: memory does not suffice.
        """
        n, dim = sum(map(len, blocks)), blocks[0].shape[1]
        shards, gpus = [], [gpu.with_own_resources() for gpu in self.devices]
        for gpu, start, stop in _cuts(n, len(self.devices), max(1, SHARD_BYTES // (2 * dim))):
            index = gpus[gpu].flat(dim)
            for rows in _pieces(blocks, start, stop):
                index.add(decode(rows))
            shards.append(Shard(gpu, index, start))
        return GpuIndex(shards, dim, IndexParameters(IndexForm.EXACT), self._pool)

    def on_codes(self, codes: IvfPqIndex) -> GpuIndex:
        """A new index of the same 8-bit codes, shared out by ordinals.

        Raises:
            RuntimeError: memory does not suffice.
        """
        shards = [
            Shard(gpu, self.devices[gpu].with_own_resources().copy(codes.lists_of(start, stop)))
            for gpu, start, stop in _cuts(codes.n, len(self.devices), codes.n)
        ]
        return GpuIndex(shards, codes.dim, codes.parameters, self._pool, codes.reduction)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor | None:
        return ThreadPoolExecutor(len(self.devices), "gpu") if len(self.devices) > 1 else None

    def _place(
        self,
        name: str,
        key: tuple[object, ...],
        close_enough: Callable[[GpuIndex, tuple[object, ...]], bool],
        make: Callable[[], GpuIndex],
    ) -> GpuIndex | None:
        with self._lock:
            if name in self._held:
                held_key, held = self._held[name]
                if close_enough(held, held_key):
                    return held
                del self._held[name], held  # before the new one needs its room
            try:
                index = make()
            except (RuntimeError, IndexDamagedError) as error:  # FAISS's for memory: an allocation that failed
                self._refused[name] = str(error).splitlines()[0]
                return None
            self._refused.pop(name, None)
            self._held[name] = (key, index)
            return index
