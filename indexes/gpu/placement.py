"""Placement: which GPUs FAISS can use, which parts of a store are on them, and how they are copied there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bindsearch.device import check_device_name
from bindsearch.environment import check_libraries
from bindsearch.errors import IndexDamagedError, UsageError
from bindsearch.indexes.exact import decode
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexSettings

if TYPE_CHECKING:
    from bindsearch.indexes.gpu.index import Gpu, GpuIndex
    from bindsearch.indexes.ivf_pq import IvfPqIndex

MEMORY_SHARE = 0.8
"""Usable share of the free GPU memory. The rest is for FAISS's temporary memory and for a shard that grows."""

CODE_BYTES = 72
"""Bytes of one row in 8-bit IVF-PQ: 64 of code and 8 of id."""

SHARD_BYTES = 2 * 2**30
"""Bytes of fp16 rows in one FAISS index: adding rows copies the index, which needs the same memory again."""

FILL_ROWS = 16 * 2**20
"""Maximum rows coded on a GPU before they are fetched: 1.2 GB of codes."""

TAIL_ELEMENTS = 2048 * 1024
"""Maximum numbers (rows x dimensions) in the tail before all rows are placed again: 0.2 ms to scan on the CPU."""


def resolve_device(device: str) -> tuple[str, ...]:
    """Return the GPUs of a device name: all that FAISS finds for "auto" and "cuda", one for "cuda:N", none for "cpu".

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
    available = tuple(f"cuda:{number}" for number in range(count))
    if device == "auto" or (device == "cuda" and available):
        return available
    if device in available:
        return (device,)
    raise UsageError(
        f"device {device!r} is not available: FAISS finds {', '.join(available) or 'no GPU'}; use --device cpu or auto"
    )


def choose_exact(rows: Mapping[str, int], dim: int, budget: int) -> frozenset[str]:
    """Choose the partitions whose fp16 rows go to GPUs with a budget in bytes: as many as possible, the smallest first.

    The remaining partitions keep room for their codes. `rows`: numbers of rows by partition.
    """
    order = sorted(rows, key=lambda name: (rows[name], name))
    for count in range(len(order), 0, -1):
        row_bytes = sum(rows[name] for name in order[:count]) * 2 * dim
        code_bytes = sum(rows[name] for name in order[count:]) * CODE_BYTES
        if row_bytes + code_bytes <= budget:
            return frozenset(order[:count])
    return frozenset()


def code_parameters(n: int, dim: int, settings: IndexSettings) -> IndexParameters:
    """Return the parameters of 8-bit codes for n rows on GPUs.

    They follow from the size, and from those of the settings that mean the same in every form.
    """
    from bindsearch.indexes.parameters import choose_parameters

    common = ("lists", "train_rows", "seed")
    overrides = {name: value for name, value in (settings.overrides or {}).items() if name in common}
    return choose_parameters(max(n, 1), dim, IndexSettings(IndexForm.IVF_PQ8, overrides=overrides), gpu=True)


def build_codes(
    blocks: Sequence[NDArray[np.float16]],
    parameters: IndexParameters,
    gpus: Sequence[Gpu],
    on_rows: Callable[[int], None] = lambda _: None,
) -> IvfPqIndex:
    """Build 8-bit codes as `build_index` does, on the first GPU if there is one with enough memory."""
    if gpus:
        with contextlib.suppress(RuntimeError):  # raised by FAISS without enough memory: fall back to the CPU
            return _build_on(gpus[0].with_own_resources(), blocks, parameters, on_rows)
    from bindsearch.indexes.ivf_pq import build_index

    return build_index(blocks, parameters, on_rows)


def _build_on(
    gpu: Gpu, blocks: Sequence[NDArray[np.float16]], parameters: IndexParameters, on_rows: Callable[[int], None]
) -> IvfPqIndex:
    from bindsearch.indexes.ivf_pq import train_on_blocks

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
    """Yield rows start..stop of all blocks, as views of ADD_ROWS rows at most."""
    from bindsearch.indexes.ivf_pq import ADD_ROWS

    first = 0
    for block in blocks:
        begin, end = max(start - first, 0), min(stop - first, len(block))
        for offset in range(begin, end, ADD_ROWS):
            yield block[offset : min(offset + ADD_ROWS, end)]
        first += len(block)


def _cuts(n: int, gpus: int, most: int) -> list[tuple[int, int, int]]:
    """Return shards (GPU, start, stop) of rows 0..n: an even, contiguous share per GPU, in shards of `most` rows."""
    edges = np.linspace(0, n, gpus + 1).astype(np.int64).tolist()
    return [
        (gpu, start, min(start + most, edges[gpu + 1]))
        for gpu in range(gpus)
        for start in range(edges[gpu], edges[gpu + 1], most)
    ]


class GpuResidency:
    """The GPUs of one store, and the rows or codes of partitions that were last requested on them."""

    def __init__(self, device: str, devices: Sequence[Gpu] | None = None) -> None:
        """Use `device` (see `resolve_device`), resolved on first use, or the given `devices` if they are known."""
        self._device = device
        if devices is not None:
            self.devices = tuple(devices)
        self._lock = threading.Lock()
        self._placed: dict[str, tuple[tuple[object, ...], GpuIndex]] = {}
        self._refused: dict[str, str] = {}

    @cached_property
    def devices(self) -> tuple[Gpu, ...]:
        """The GPUs; empty if the CPU is to be used.

        Raises:
            UsageError: there is no such device.
        """
        if not (names := resolve_device(self._device)):
            return ()
        from bindsearch.indexes.gpu.index import Gpu

        return tuple(Gpu(int(name.partition(":")[2])) for name in names)

    def check(self) -> None:
        """Resolve the device now instead of on first use; raise UsageError if there is no such device."""
        assert self.devices is not None

    @property
    def name(self) -> str:
        """Names of the GPUs, such as "cuda:0"."""
        return " + ".join(f"cuda:{gpu.number}" for gpu in self.devices)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Notes for the reader of a plan.

        Raises:
            UsageError: there is no such device.
        """
        missing = ("no GPU, using the CPU",) if self._device == "auto" and not self.devices else ()
        return (*missing, *(f"{name} is searched on the CPU: {why}" for name, why in sorted(self._refused.items())))

    def close(self) -> None:
        """Release everything placed on the GPUs."""
        with self._lock:
            self._placed.clear()

    @cached_property
    def budget(self) -> int:
        """Bytes that may be used, determined before anything is placed; every GPU gets the same share."""
        return int(MEMORY_SHARE * min(gpu.free_bytes() for gpu in self.devices) * len(self.devices))

    def holds_exact(self, name: str, rows: Mapping[str, int], dim: int) -> bool:
        """Return whether the fp16 rows of partition `name` fit, given the `rows` of all partitions."""
        return bool(self.devices) and name in choose_exact(rows, dim, self.budget)

    def place_rows(
        self, name: str, files: Sequence[tuple[str, int]], blocks: Sequence[NDArray[np.float16]]
    ) -> GpuIndex | None:
        """Place the rows of a partition on the GPUs.

        Rows placed before are reused if their files are the first of `files` and only few rows are missing, so the
        index may cover fewer than all rows.

        Args:
            name: the partition.
            files: name and number of rows of each vector file.
            blocks: the rows of these files, each fp16 (m, d).

        Returns:
            The index; None if it cannot be placed.
        """

        def close_enough(placed: GpuIndex, key: tuple[object, ...]) -> bool:
            tail = (sum(rows for _, rows in files) - placed.n) * blocks[0].shape[1]
            begins_with = key == tuple(files[: len(key)])
            return placed.parameters.form is IndexForm.EXACT and begins_with and tail <= TAIL_ELEMENTS

        return self._place(name, tuple(files), close_enough, lambda: self.on_rows(blocks))

    def place_codes(self, name: str, key: tuple[object, ...], open_codes: Callable[[], IvfPqIndex]) -> GpuIndex | None:
        """Place 8-bit codes on the GPUs, or reuse those placed under the same key; None if they cannot be placed."""
        return self._place(name, key, lambda _, placed_key: placed_key == key, lambda: self.on_codes(open_codes()))

    def on_rows(self, blocks: Sequence[NDArray[np.float16]]) -> GpuIndex:
        """Build a new index of the rows of `blocks`, each fp16 (m, d); raise RuntimeError if memory is too small."""
        from bindsearch.indexes.gpu.index import GpuIndex, Shard

        n, dim = sum(map(len, blocks)), blocks[0].shape[1]
        shards, gpus = [], [gpu.with_own_resources() for gpu in self.devices]
        for gpu, start, stop in _cuts(n, len(self.devices), max(1, SHARD_BYTES // (2 * dim))):
            index = gpus[gpu].flat(dim)
            for rows in _pieces(blocks, start, stop):
                index.add(decode(rows))
            shards.append(Shard(gpu, index, start))
        return GpuIndex(shards, dim, IndexParameters(IndexForm.EXACT), self._pool)

    def on_codes(self, codes: IvfPqIndex) -> GpuIndex:
        """Build a new index of the same 8-bit codes, split into shards by ordinals; errors as of `on_rows`."""
        from bindsearch.indexes.gpu.index import GpuIndex, Shard

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
            if name in self._placed:
                placed_key, placed = self._placed[name]
                if close_enough(placed, placed_key):
                    return placed
                del self._placed[name], placed  # frees its memory for the new one
            try:
                index = make()
            except (RuntimeError, IndexDamagedError) as error:  # RuntimeError: FAISS failed to allocate memory
                self._refused[name] = str(error).splitlines()[0]
                self.__dict__.pop("notes", None)
                return None
            if self._refused.pop(name, None) is not None:
                self.__dict__.pop("notes", None)
            self._placed[name] = (key, index)
            return index
