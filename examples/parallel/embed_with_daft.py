"""Embed a folder with Daft, on this machine or on a Ray cluster, and import the result into a store.

    pip install bindsearch daft
    python embed_with_daft.py FOLDER PARTS STORE

FOLDER and PARTS are on a file system that all machines see. Each file gives a list of rows, which `explode` separates.
"""

from __future__ import annotations

import sys
from pathlib import Path

import daft
import pyarrow as pa

import bindsearch as bs

ENCODER = "mini"
BATCH_FILES = 64


def main(folder: str, parts: str, store: str) -> None:
    """Embed the files of a folder, write the vectors as Parquet to `parts`, and import them."""
    root = Path(folder).resolve()
    schema = bs.embed_files(pa.table({"path": pa.array([], pa.string())}), encoder=ENCODER).schema
    kind = daft.DataType.from_arrow_type(pa.list_(pa.struct(schema)))

    @daft.func.batch(return_dtype=kind, batch_size=BATCH_FILES)
    def embed(paths: daft.Series) -> pa.Array:
        rows = bs.embed_files(pa.table({"path": paths.to_arrow()}), encoder=ENCODER, root=root)
        return lists_of(rows)

    paths = [str(path) for path in sorted(root.rglob("*")) if path.is_file()]
    rows = daft.from_pydict({"path": paths}).select(embed(daft.col("path")).alias("row")).explode("row")
    rows.select(*(daft.col("row").get(name).alias(name) for name in schema.names)).write_parquet(parts)
    with bs.connect(store) as opened:
        report = opened.import_vectors(parts, optimize=False)
        print(f"{report.added} files with {report.vectors} vectors, {report.failures} could not be read")
        opened.optimize()


def lists_of(rows: pa.Table) -> pa.Array:
    """Return the rows of each file, which are together, as one list."""
    paths = rows.column("path").combine_chunks()
    starts = [0, *(i for i in range(1, len(paths)) if paths[i] != paths[i - 1]), len(paths)]
    fields = [column.combine_chunks() for column in rows.columns]
    return pa.ListArray.from_arrays(
        pa.array(starts, pa.int32()), pa.StructArray.from_arrays(fields, fields=[*rows.schema])
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
