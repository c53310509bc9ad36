"""Quality of an encoder's embeddings: one table of figures, each with its minimum.

    python benchmarks/quality.py --data DIR --encoder mini [--json FILE] [--crossval]

Exits with 1 if a figure is below its minimum. The table is saved in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import quality_pictures
import quality_sounds
from quality_rows import Row
from results import save_table

from bindsearch.encoders import load_encoder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both parts, print the table, write the JSON; return 1 if a figure is below its minimum."""
    options = _parser().parse_args(arguments)
    encoder = load_encoder(options.encoder)
    started = time.perf_counter()
    rows = quality_pictures.run(options.data, encoder, crossval=options.crossval)
    if not options.pictures_only:
        rows += quality_sounds.run(options.data, encoder, crossval=options.crossval)
    print(render(rows))
    print(f"\nencoder {encoder.name}, digest {encoder.digest}, {time.perf_counter() - started:.0f} s")
    if not options.pictures_only:
        save_table("quality", f"Quality of {encoder.name} (digest {encoder.digest})", as_markdown(rows))
    if options.json is not None:
        report = {"schema": 1, "encoder": encoder.name, "digest": encoder.digest, "rows": [_as_json(r) for r in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(any(row.reached is False for row in rows))


def render(rows: Sequence[Row]) -> str:
    """Return the table as aligned text."""
    verdict = {True: "reached", False: "SHORT", None: ""}
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  figure  wanted          n"]
    for row in rows:
        wanted = "" if row.wanted is None else f"{row.wanted:.2f}"
        end = f"{verdict[row.reached]:8}{row.n:6}  {row.note}"
        lines.append(f"{row.name:{width}}  {row.figure:6.3f}  {wanted:6}  {end}".rstrip())
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    verdict = {True: "reached", False: "short", None: ""}
    lines = ["| figure | value | wanted | | n | |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        wanted = "" if row.wanted is None else f">= {row.wanted:g}"
        lines.append(f"| {row.name} | {row.figure:.3f} | {wanted} | {verdict[row.reached]} | {row.n} | {row.note} |")
    return "\n".join(lines) + "\n"


def _as_json(row: Row) -> dict[str, object]:
    return {**asdict(row), "reached": row.reached}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the quality of an encoder's embeddings.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the evaluation data sets")
    parser.add_argument("--encoder", default="mini", help="name of the encoder (default: mini)")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    parser.add_argument("--crossval", action="store_true", help="train the sound and motion towers again, fold by fold")
    parser.add_argument("--pictures-only", action="store_true", help="leave out the sound and motion part")
    return parser


if __name__ == "__main__":
    sys.exit(main())
