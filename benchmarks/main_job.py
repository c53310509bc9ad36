"""Speed of the main job with `mini`, each figure with its limit, in one run.

    python benchmarks/main_job.py [--pictures 1000] [--repeats 5] [--json FILE]

Tower: images a second against a plain fp32 loop, one image at a time. Indexing: 1,000 small JPEGs against the tower's
own rate, 12-megapixel JPEGs against decoding them alone. Search: a warm text search over 5,000 segments, encoding
included. Memory: the peak resident size of the whole run. Medians over the repeats. The table is saved in
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from results import save_table

import bindsearch as bs
from bindsearch.encoders.torch_runtime.device import has_fast_bf16
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.types import Modality

SMALL_PX = (366, 256)
LARGE_PX = (4000, 3000)
LARGE_PICTURES = 24
LARGE_COPIES = 4
SEGMENTS = 5000


@dataclass(frozen=True)
class Figure:
    """One measured figure; `wanted`: its limit as text, such as ">= 2"."""

    name: str
    value: float
    unit: str
    wanted: str
    met: bool | None


def main() -> int:
    """Measure, print a table, write the requested files; return 1 if a figure misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.pictures, arguments.repeats)
    table = as_table(figures)
    print(table)
    save_table("main-job", "Main job", table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2))
    return int(any(figure.met is False for figure in figures))


def measure(folder: Path, n_pictures: int, repeats: int) -> list[Figure]:
    """Measure all figures, in the order of the table; what is compared is measured in turn, under the same load."""
    small = make_pictures(folder / "small", n_pictures, SMALL_PX)
    large = make_pictures(folder / "large", LARGE_PICTURES, LARGE_PX)
    for copy in range(1, LARGE_COPIES):
        large += [copy_with_tail(path, copy) for path in large[:LARGE_PICTURES]]
    encoder = bs.load_encoder("mini")
    few = [encoder.prepare(read_image(path, encoder.wants, DecodeOptions())) for path in small[:512]]

    def tower() -> float:
        return rate(lambda: encoder.encode(Modality.IMAGE, few), len(few))

    def decode() -> float:
        return rate(lambda: decode_all(large, encoder), len(large))

    tower(), index(folder / "small", len(small), encoder, folder)
    tower_rate, plain_rate, faster = paired(tower, plain_loop(few[:64]), repeats)
    alone_rate, small_rate, small_share = paired(
        tower, lambda: index(folder / "small", n_pictures, encoder, folder), repeats
    )
    decode_rate, large_rate, large_share = paired(
        decode, lambda: index(folder / "large", len(large), encoder, folder), repeats
    )
    search_ms = measure_search(folder, encoder)
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        Figure("image tower", tower_rate, "pictures/s", "", None),
        Figure("plain fp32 loop", plain_rate, "pictures/s", "", None),
        ratio("image tower / plain fp32 loop", 1 / faster, 2.0 if has_fast_bf16() else 1.2),
        Figure("image tower beside indexing", alone_rate, "pictures/s", "", None),
        Figure("index small JPEGs", small_rate, "pictures/s", "", None),
        ratio("index small JPEGs / tower alone", small_share, 0.75),
        Figure("decode 12 MP JPEGs alone", decode_rate, "pictures/s", "", None),
        Figure("index 12 MP JPEGs", large_rate, "pictures/s", "", None),
        ratio("index 12 MP JPEGs / decode alone", large_share, 0.60),
        Figure(f"warm text search, {SEGMENTS} segments", search_ms, "ms", "< 15", search_ms < 15),
        Figure("highest resident memory", memory_gb, "GB", "< 2", memory_gb < 2),
    ]


def paired(first: Callable[[], float], second: Callable[[], float], repeats: int) -> tuple[float, float, float]:
    """Return the median rate of each, run in turn, and the median ratio second / first of the pairs."""
    rates = [(first(), second()) for _ in range(repeats)]
    firsts, seconds = zip(*rates, strict=True)
    return statistics.median(firsts), statistics.median(seconds), statistics.median(b / a for a, b in rates)


def copy_with_tail(path: Path, number: int) -> Path:
    """Copy an image with other bytes: equal files would share their vectors."""
    copy = path.with_stem(f"{path.stem}-{number}")
    copy.write_bytes(path.read_bytes() + bytes([number]))
    return copy


def plain_loop(prepared: list[NDArray[np.uint8]]) -> Callable[[], float]:
    """Return a function that measures the same network in fp32 with default memory layout, in images a second."""
    import torch

    from bindsearch.encoders.mini.efficientnet import PIXEL_MEAN, build_network, read_weights
    from bindsearch.encoders.mini.image import ImageTower

    network = build_network(read_weights(ImageTower().files[0])).to(memory_format=torch.contiguous_format)

    def run() -> None:
        with torch.inference_mode():
            for view in prepared:
                network(torch.from_numpy(view).permute(0, 3, 1, 2).float().contiguous() - PIXEL_MEAN)

    return lambda: rate(run, len(prepared))


def index(media: Path, n: int, encoder: bs.Encoder, folder: Path) -> float:
    """Return the images a second of one whole `Store.index` run into a new store, towers loaded."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as temporary,
        bs.connect(Path(temporary) / "s", encoder=encoder) as store,
    ):
        report = store.index(media)
        if report.added != n:
            raise SystemExit(f"{report.added} of {n} pictures were indexed: {report.failures[:3]}")
        return n / report.took_s


def measure_search(folder: Path, encoder: bs.Encoder) -> float:
    """Return the median time of a text search, all modalities, over a store of SEGMENTS texts."""
    texts = folder / "texts"
    texts.mkdir()
    words = [word for word in WORDS.split() if word]
    rng = np.random.default_rng(3)
    for number in range(SEGMENTS):
        (texts / f"{number}.txt").write_text(" ".join(rng.choice(words, 12)))
    with bs.connect(folder / "text-store", encoder=encoder) as store:
        store.index(texts)
        queries = [" ".join(rng.choice(words, 5)) for _ in range(60)]
        times = []
        for query in queries:
            started = time.perf_counter()
            if len(store.search(query)) != 10:
                raise SystemExit("a search returned too few hits")
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[10:])


WORDS = """a the dog cat man woman child street beach forest car train boat runs sits plays music guitar rain snow sun
red blue green small large old new house door window table coffee bread water river mountain bird horse sheep night"""


def decode_all(paths: list[Path], encoder: bs.Encoder) -> None:
    """Decode with one thread per core, as indexing does."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda path: read_image(path, encoder.wants, DecodeOptions()), paths))


def make_pictures(folder: Path, n: int, size: tuple[int, int]) -> list[Path]:
    """Write JPEGs of photographic content: crops of scikit-learn's example photo, each with different noise."""
    from sklearn.datasets import load_sample_image

    folder.mkdir()
    photo = Image.fromarray(load_sample_image("china.jpg"))
    rng = np.random.default_rng(1)
    paths = []
    for number in range(n):
        left, top = int(rng.integers(0, 300)), int(rng.integers(0, 200))
        crop = photo.crop((left, top, left + 330, top + 220)).resize(size, Image.Resampling.BICUBIC)
        noise = rng.integers(-12, 12, (size[1] // 2, size[0] // 2, 1)).repeat(2, 0).repeat(2, 1)
        pixels = np.clip(np.asarray(crop, np.int16) + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=88)
    return paths


def rate(run: Callable[[], object], n: int) -> float:
    """Return the items a second of one run over n of them."""
    started = time.perf_counter()
    run()
    return n / (time.perf_counter() - started)


def ratio(name: str, value: float, wanted: float) -> Figure:
    """Return a figure for a ratio that has to reach `wanted`."""
    return Figure(name, value, "x", f">= {wanted:g}", value >= wanted)


def as_table(figures: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| figure | value | wanted | |", "| --- | --- | --- | --- |"]
    for figure in figures:
        verdict = {True: "met", False: "missed", None: ""}[figure.met]
        lines.append(f"| {figure.name} | {figure.value:.3g} {figure.unit} | {figure.wanted} | {verdict} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
