"""Work of a fresh process for ingestion.py; prints JSON.

python benchmarks/ingestion_child.py index FOLDER STORE ENCODER     index, then wait for a line of input
python benchmarks/ingestion_child.py loader FOLDER                  decode by torch's DataLoader
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SIDE_PX = 224
LOADER_BATCH = 128


def main() -> int:
    """Run a measurement and print its result."""
    what, folder, *rest = sys.argv[1:]
    if what == "index":
        print(json.dumps(index(Path(folder), *rest)), flush=True)
        sys.stdin.readline()  # the parent process measures the memory first
    else:
        print(json.dumps(load(sorted(Path(folder).rglob("*.jpg")))))
    return 0


def index(folder: Path, store: str, encoder: str) -> dict[str, float]:
    """Run one `Store.index`; return files and seconds."""
    import bindsearch as bs
    from bindsearch.indexes.types import IndexForm, IndexSettings

    with bs.connect(store, encoder=encoder) as opened:
        report = opened.index(folder, index_settings=IndexSettings(form=IndexForm.EXACT))
    if report.failures:
        raise SystemExit(f"{report.failed} files failed, such as {report.failures[0]}")
    return {"added": report.added, "unchanged": report.unchanged, "took_s": report.took_s}


class Pictures:
    """Images as a torch data set: decoded by Pillow, resized to 224 pixels, uint8 (3, 224, 224)."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> torch.Tensor:
        import numpy as np
        import torch
        from PIL import Image

        with Image.open(self.paths[position]) as picture:
            small = picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def load(paths: list[Path]) -> dict[str, float]:
    """Time one pass of a DataLoader with one worker per core; its start counts, that of Python and torch does not."""
    from torch.utils.data import DataLoader

    cores = len(os.sched_getaffinity(0))
    started = time.perf_counter()
    loaded = sum(len(batch) for batch in DataLoader(Pictures(paths), batch_size=LOADER_BATCH, num_workers=cores))  # type: ignore[arg-type, misc]
    return {"loaded": loaded, "took_s": time.perf_counter() - started}


if __name__ == "__main__":
    sys.exit(main())
