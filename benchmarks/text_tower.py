"""Share of the machine's matmul rate that the text tower of `mini` reaches: alone, and in a whole indexing run.

    python benchmarks/text_tower.py [--seconds 10] [--text FILE]     # saves a table to benchmarks/results

Each measurement is between two of the matmul, in the same process: other programs slow both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from results import save_table

import bindsearch as bs
from bindsearch.device import usable_cores
from bindsearch.encoders.mini.text import DIM, TextTower, _buckets
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.ingest.media.texts.passages import passages

LAYERS = 6
MATMUL_SIDE, MATMUL_SECONDS = 1536, 1.0
BATCH_TOKENS = 4096
"""Tokens of a batch, about as many as a run embeds in two seconds on two cores."""

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Kind:
    """Texts of one kind, with their lengths in tokens, and a function that embeds them."""

    name: str
    lengths: Sequence[int]
    run: Callable[[], object]

    @property
    def flop(self) -> int:
        """Operations of the matrix products without padding; a multiply-add counts as two."""
        return sum(LAYERS * (24 * length * DIM**2 + 4 * length**2 * DIM) for length in self.lengths)

    @property
    def padding(self) -> float:
        """Padding relative to the tokens."""
        buckets = _buckets(self.lengths, usable_cores())
        return sum(len(rows) * max(self.lengths[row] for row in rows) for rows in buckets) / sum(self.lengths) - 1


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="minimum duration for each kind of text")
    parser.add_argument("--text", type=Path, help="long text to use; default: the pages of this project")
    arguments = parser.parse_args()
    pages = [arguments.text] if arguments.text else [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    text = "\n\n".join(page.read_text(encoding="utf-8") for page in pages)
    lines = [
        "| texts | n | tokens | padding | tokens/s | GFLOP/s | matmul GFLOP/s | share |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds(text, Path(folder)):
            lines.append(measure(kind, arguments.seconds))
            print(lines[-1], flush=True)
    note = (
        "Medians. Share: operations of the matrix products without padding, relative to a float32 matmul of "
        f"{MATMUL_SIDE} x {MATMUL_SIDE}\nmeasured before and after each repetition. Whole run: `Store.index` of one "
        "text into a new store, with the start of\nworkers, splitting, tokenization and commits; the tower is loaded."
    )
    print(save_table("text-tower", "Text tower of `mini`", "\n".join(lines) + f"\n\n{note}\n"))


def kinds(text: str, folder: Path) -> list[Kind]:
    """Return the kinds of texts to measure."""
    tower, encoder = TextTower(), bs.load_encoder("mini")
    whole = list(passages(text, tower.count_tokens, tower.max_tokens))
    lengths = [tower.count_tokens(passage) for passage in whole]
    (folder / "texts").mkdir()
    (folder / "texts" / "text.txt").write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)

    def random(name: str, low: int, high: int) -> Kind:
        sizes = rng.integers(low, high, round(2 * BATCH_TOKENS / (low + high))).tolist()
        tokens = [rng.integers(1000, 29_000, (1, size)) for size in sizes]
        return Kind(name, sizes, lambda: tower.encode(tokens))

    def index() -> None:
        with (
            tempfile.TemporaryDirectory(dir=folder) as place,
            bs.connect(Path(place) / "store", encoder=encoder) as store,
        ):
            report = store.index(folder / "texts", index_settings=IndexSettings(form=IndexForm.EXACT))
            assert report.added == 1, report

    return [
        random("captions, 5 to 25 tokens", 5, 26),
        random("5 to 256 tokens", 5, 257),
        random("passages, 200 to 256 tokens", 200, 257),
        Kind("whole run", lengths, index),
    ]


def measure(kind: Kind, seconds: float) -> str:
    """Return the row of one kind of text."""
    kind.run()
    times: list[float] = []
    matmuls = [_matmul_flop_per_s()]
    shares: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        kind.run()
        times.append(time.perf_counter() - started)
        matmuls.append(_matmul_flop_per_s())
        shares.append(2 * kind.flop / times[-1] / (matmuls[-2] + matmuls[-1]))
    took_s, tokens = statistics.median(times), sum(kind.lengths)
    return (
        f"| {kind.name} | {len(kind.lengths):,} | {tokens:,} | {kind.padding:.0%} | {tokens / took_s:,.0f} "
        f"| {kind.flop / took_s / 1e9:.1f} | {statistics.median(matmuls) / 1e9:.1f} | {statistics.median(shares):.0%} |"
    )


def _matmul_flop_per_s() -> float:
    a, b = torch.randn(2, MATMUL_SIDE, MATMUL_SIDE)
    torch.mm(a, b)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < MATMUL_SECONDS:
        torch.mm(a, b)
        count += 1
    return count * 2 * MATMUL_SIDE**3 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
