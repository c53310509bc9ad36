"""Embed a folder with Ray Data on all machines of a cluster, and import the result into a store.

    pip install bindsearch 'ray[data]'
    python embed_with_ray.py FOLDER PARTS STORE

FOLDER and PARTS are on a file system that all machines see, or PARTS is a new s3:// folder. On GPUs, give `map_batches`
also `num_gpus=1` and `concurrency=` the number of them.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import ray.data

import bindsearch as bs

BATCH_FILES = 64


def main(folder: str, parts: str, store: str) -> None:
    """Embed the files of a folder, write the vectors as Parquet to `parts`, and import them."""
    root = Path(folder).resolve()
    paths = [{"path": str(path)} for path in sorted(root.rglob("*")) if path.is_file()]
    embed = partial(bs.embed_files, root=root, encoder="mini")
    rows = ray.data.from_items(paths).map_batches(embed, batch_format="pyarrow", batch_size=BATCH_FILES)
    rows.write_parquet(parts)
    with bs.connect(store) as opened:
        report = opened.import_vectors(parts, optimize=False)
        print(f"{report.added} files with {report.vectors} vectors, {report.failures} could not be read")
        opened.optimize()


if __name__ == "__main__":
    main(*sys.argv[1:])
