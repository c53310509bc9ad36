"""Embed a folder with Spark, and import the result into a store.

    pip install bindsearch pyspark        # and Java
    python embed_with_spark.py FOLDER PARTS STORE

FOLDER and PARTS are on a file system that all machines see. Spark has no lists of a fixed size and no schema metadata:
vectors become plain lists, and the import finds the encoder in the column `space`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

import bindsearch as bs

ENCODER = "mini"


def main(folder: str, parts: str, store: str) -> None:
    """Embed the files of a folder, write the vectors as Parquet to `parts`, and import them."""
    root = Path(folder).resolve()
    schema = plain(bs.embed_files(pa.table({"path": pa.array([], pa.string())}), encoder=ENCODER)).schema

    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from plain(bs.embed_files(batch, encoder=ENCODER, root=root)).to_batches()

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # on a cluster: a Python that has bindsearch
    spark = SparkSession.builder.appName("embed").getOrCreate()
    paths = [(str(path),) for path in sorted(root.rglob("*")) if path.is_file()]
    frame = spark.createDataFrame(paths, "path string").repartition(spark.sparkContext.defaultParallelism)
    frame.mapInArrow(embed, from_arrow_schema(schema)).write.parquet(parts)
    spark.stop()
    with bs.connect(store) as opened:
        report = opened.import_vectors(parts, optimize=False)
        print(f"{report.added} files with {report.vectors} vectors, {report.failures} could not be read")
        opened.optimize()


def plain(rows: pa.Table) -> pa.Table:
    """Return the table with types that Spark has."""
    place = rows.schema.names.index("vector")
    return rows.set_column(place, "vector", rows.column("vector").cast(pa.list_(pa.float32())))


if __name__ == "__main__":
    main(*sys.argv[1:])
