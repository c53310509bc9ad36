"""ImageBind at full size, with random weights: cost of a text search, and speed of the towers.

    python benchmarks/imagebind.py [--models DIR] [--repeats 5] [--json FILE]

Search: peak memory of a `bindsearch search` process (private pages, and all resident ones), its wall time, and the time
to load the text tower with a warm cache, without imports. Speed: items a second of each modality through BindSearch
against a plain loop, fp32, one at a time, in turn; and the share of the bf16 (GPU: fp16) matmul rate of the same run.
`--models`: a models folder with imagebind-huge; by default it is made from a random checkpoint (8 GB on disk
temporarily). The table is saved in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from main_job import Figure, as_table, paired, rate, ratio
from results import save_table

from bindsearch.encoders.benchmark import measure_speed, sample_media
from bindsearch.encoders.imagebind.config import HUGE
from bindsearch.encoders.imagebind.encoder import TOWER_OF, random_encoder, to_input
from bindsearch.encoders.imagebind.published_weights import random_tower
from bindsearch.encoders.torch_runtime.device import (
    BATCHES,
    Runtime,
    default_dtype,
    has_fast_bf16,
    resolve_device,
    torch_dtype,
)
from bindsearch.types import Modality

HERE = Path(__file__).parent
MODEL = "imagebind-huge"
LOAD = f"""
import time
import numpy, torch, safetensors, torch.nn
from bindsearch import load_encoder
from bindsearch.encoders.imagebind import encoder, towers
from bindsearch.types import Modality
from bindsearch.media import Passage
text = load_encoder("{MODEL}")
prepared = [text.prepare(Passage("a dog barks at the waves"))]
torch.zeros(4, 4) @ torch.zeros(4, 4)
started = time.perf_counter()
text.encode(Modality.TEXT, prepared)
first = time.perf_counter() - started
started = time.perf_counter()
text.encode(Modality.TEXT, prepared)
print(first, time.perf_counter() - started)
"""


def main() -> int:
    """Measure, print and save a table; return 1 if a figure misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models or make_model(Path(folder))
        figures = measure_search(Path(folder), models, arguments.repeats)
        for modality in Modality:
            figures += measure_tower(modality, arguments.repeats)
    table = as_table(figures)
    print(table)
    save_table("imagebind", "ImageBind at full size, random weights", table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2))
    return int(any(figure.met is False for figure in figures))


def make_model(folder: Path) -> Path:
    """Make a models folder with imagebind-huge, from a random checkpoint."""
    checkpoint, models = folder / "imagebind_huge.pth", folder / "models"
    subprocess.run([sys.executable, str(HERE / "make_imagebind_checkpoint.py"), str(checkpoint)], check=True)
    bindsearch(models, folder, "model", "pull", MODEL, "--from", str(checkpoint), "--accept-license")
    checkpoint.unlink()
    return models


def bindsearch(models: Path, folder: Path, *arguments: str) -> tuple[float, int, int]:
    """Run the command; return its seconds, and its peak private and resident memory in bytes, sampled every 5 ms."""
    environment = {**os.environ, "BINDSEARCH_MODELS": str(models), "BINDSEARCH_STORE": str(folder / "store")}
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("bindsearch")), *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    private, resident = 0, 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:  # no /proc, or the process has just ended
            status = ""
        sizes = {
            line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith(("Rss", "VmRSS"))
        }
        private = max(private, 1024 * int(sizes.get("RssAnon", 0)))
        resident = max(resident, 1024 * int(sizes.get("VmRSS", 0)))
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, private, resident


def _size(status: str, name: str) -> int:
    """Return the bytes in the line `name` of /proc/PID/status; 0 if there is none."""
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:")), 0)


def measure_search(folder: Path, models: Path, repeats: int) -> list[Figure]:
    """Measure a text search over a few texts, in a process of its own."""
    texts = folder / "texts"
    texts.mkdir()
    for number, text in enumerate(["a dog on the beach", "rain on a roof", "two cups of coffee"]):
        (texts / f"{number}.txt").write_text(text)
    bindsearch(models, folder, "index", str(texts), "--encoder", MODEL)
    runs = [bindsearch(models, folder, "search", "a dog barking") for _ in range(repeats)]
    seconds, private, resident = (statistics.median(values) for values in zip(*runs, strict=True))
    environment = {**os.environ, "BINDSEARCH_MODELS": str(models)}
    loads = []
    for _ in range(repeats):
        child = subprocess.run(
            [sys.executable, "-c", LOAD], env=environment, check=True, capture_output=True, text=True
        )
        first, warm = map(float, child.stdout.split())
        loads.append((first - warm, warm))
    load_s, warm_s = (statistics.median(values) for values in zip(*loads, strict=True))
    limited = has_fast_bf16()
    return [
        Figure("text search, private memory", private / 1e9, "GB", "< 0.9", private < 0.9e9 if limited else None),
        Figure("text search, resident memory", resident / 1e9, "GB", "< 1.7", resident < 1.7e9 if limited else None),
        Figure("text search, whole process", seconds, "s", "", None),
        Figure("text tower loads, warm cache", load_s, "s", "< 1.5", load_s < 1.5),
        Figure("one text, tower loaded", 1000 * warm_s, "ms", "", None),
    ]


def measure_tower(modality: Modality, repeats: int) -> list[Figure]:
    """Measure one modality against the plain loop, and against the matmul."""
    device = resolve_device("auto")
    dtype = default_dtype()
    encoder = random_encoder(dtype, Runtime())
    n = BATCHES[device.type]
    prepared = [encoder.prepare(sample_media(modality, seed)) for seed in range(n)]
    plain = plain_loop(modality, prepared[: max(1, n // 4)], device)
    encoder.features(modality, prepared[:2])
    plain()
    ours, loop, share = paired(lambda: rate(lambda: encoder.features(modality, prepared), n), plain, repeats)
    number_format = torch_dtype(dtype)
    speed = measure_speed(encoder, modality, device=device, dtype=number_format, batch=n, seconds=1.0)
    assert speed.mfu is not None
    wanted = 2.0 if device.type == "cpu" and has_fast_bf16() else 1.0
    return [
        Figure(f"{modality}: BindSearch, {dtype}", ours, "items/s", "", None),
        Figure(f"{modality}: plain fp32 loop", loop, "items/s", "", None),
        ratio(f"{modality}: BindSearch / plain loop", 1 / share, wanted),
        Figure(f"{modality}: share of the matmul rate", 100 * speed.mfu, "%", "", None),
    ]


def plain_loop(modality: Modality, prepared: list[np.ndarray], device: torch.device) -> Callable[[], float]:
    """Return a function that measures the same tower in fp32, one item at a time, in items a second."""
    tower = random_tower(TOWER_OF[modality], HUGE, torch.float32, device, seed=0)

    def run() -> None:
        with torch.inference_mode():
            for views in prepared:
                tower(to_input(modality, views, device)).cpu()

    return lambda: rate(run, len(prepared))


if __name__ == "__main__":
    sys.exit(main())
