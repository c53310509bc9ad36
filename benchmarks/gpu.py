"""Searches and towers on a GPU, beside the CPU of the same machine.

    python benchmarks/gpu.py [--size 1m] [--seconds 5]     # saves a table to benchmarks/results

Searches: a store of synthetic vectors of 1024 dimensions is created, and searched with `device="cuda"` and
`device="cpu"` in turn. Towers: those of imagebind-huge with random weights in bf16. A machine without a GPU measures
the CPU alone, and saves nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from results import save_table
from search import size_of
from search_data import K, exact_top, make_dataset, recall
from search_engine import SyntheticEncoder, fill_store, rows_of

import bindsearch as bs
from bindsearch.encoders.benchmark import bench_encoder
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.types import Modality

BATCHES = {1: 15, 32: 15, 1024: 3}
"""Queries of a call, and how often it is repeated."""
TARGET = "image"


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size_of, default="1m", help="vectors of the store, such as 150k or 1m")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of the measurement of each tower")
    arguments = parser.parse_args()
    devices = ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)
    with tempfile.TemporaryDirectory() as folder:
        lines = _searches(Path(folder), arguments.size, devices)
    print("\n".join(lines), flush=True)
    if "cuda" in devices:
        lines += _towers(arguments.seconds)
        name = torch.cuda.get_device_name()
        text = "\n".join([f"GPU: {name}.\n", *lines, ""])
        print(text)
        print(save_table("gpu", f"Searches and towers on {name}", text, ("torch", "faiss-gpu")))


def _searches(folder: Path, size: int, devices: Sequence[str]) -> list[str]:
    """Return a table of the times of searches for images, and of the recall, on each device."""
    data = make_dataset(size, max(BATCHES), folder / "vectors")
    figures = fill_store(folder / "store", data)
    queries_ms = " | ".join(f"{batch} queries, ms" for batch in BATCHES)
    n_images = len(data.vectors[TARGET])
    lines = [
        f"Store: {figures.vectors} vectors, {n_images} of them images; `optimize` {figures.optimize_s:.0f} s.",
        "",
        f"| search | device | first ms | {queries_ms} | recall@10, near copies folded |",
        "| --- " * (len(BATCHES) + 4) + "|",
    ]
    queries = data.queries["text"]
    due = exact_top(queries, data.vectors[TARGET])[0]
    stores = {device: bs.connect(folder / "store", encoder=SyntheticEncoder(), device=device) for device in devices}
    for to in (TARGET, None):
        for device, store in stores.items():
            started = time.perf_counter()
            store.search(queries[0], to=to, k=K, source="text")
            first = time.perf_counter() - started
            times = [_median_ms(store, queries[:batch], to, rounds) for batch, rounds in BATCHES.items()]
            found = [rows_of(hits) for hits in store.search_many([*queries], to=TARGET, k=K, source="text")]
            share = f"{recall(found, due):.3f}" if to else ""
            cells = [to or "all", device, f"{1000 * first:.0f}", *(f"{ms:.2f}" for ms in times), share]
            lines.append(f"| {' | '.join(cells)} |")
    for store in stores.values():
        store.close()
    return [*lines, ""]


def _median_ms(store: bs.Store, queries: NDArray[np.float32], to: str | None, rounds: int) -> float:
    """Return the median duration of one call that answers all queries (nq, d), in ms."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        store.search_many([*queries], to=to, k=K, source="text")
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _towers(seconds: float) -> list[str]:
    """Return a table of the speed of the towers of imagebind-huge on the GPU, with random weights in bf16."""
    lines = [
        "| tower | batch | media/s | TFLOP/s | share of a large matrix product | GPU memory, GB | load, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for modality in Modality:
        speed = bench_encoder(
            "imagebind-huge", modality, runtime=Runtime("cuda"), random_weights=True, dtype="bf16", seconds=seconds
        )
        rate = "" if speed.gflop_per_s is None else f"{speed.gflop_per_s / 1000:.0f}"
        share = "" if speed.mfu is None else f"{speed.mfu:.2f}"
        memory = f"{speed.peak_memory_bytes / 1e9:.1f}"
        cells = [
            modality.value,
            str(speed.batch),
            f"{speed.items_per_s:.0f}",
            rate,
            share,
            memory,
            f"{speed.load_s:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
