"""Sizes of columns of Parquet files: as pyarrow states them, for any name, and damage is one error."""

import random
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from bindsearch.errors import MediaError
from bindsearch.ingest.media.parquet_metadata import parquet_columns, parquet_row_count
from helpers.damage import KINDS

TABLE = pa.table({"path": ["a", "b", None], "lists, of texts": [["x", "y"], [], None], "number": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize("name", ["a.parquet", "a[1]*?.parquet", "a\\b'.parquet", "é {a,b}\n.parquet", "s3:x.parquet"])
def test_the_sizes_are_those_of_the_footer(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        parquet.write_table(TABLE, file, row_group_size=2)
    columns = parquet_columns(tmp_path / name)
    with (tmp_path / name).open("rb") as file:
        metadata = parquet.ParquetFile(file).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    stated = [sum(group.column(number).total_uncompressed_size for group in groups) for number in range(3)]
    assert sorted(column.uncompressed_bytes for column in columns) == sorted(stated)
    assert sorted(column.n_values for column in columns) == [3, 3, 4]
    assert [[column.belongs_to(name) for column in columns].count(True) for name in TABLE.schema.names] == [1, 1, 1]
    assert sorted(column.is_text for column in columns) == [False, True, True]
    assert parquet_row_count(tmp_path / name) == 3


def test_a_name_that_duckdb_cannot_be_given_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\\*b.parquet").touch()
    with pytest.raises(MediaError, match="rename it"):
        parquet_row_count(tmp_path / "a\\*b.parquet")


def test_no_damage_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    chance = random.Random(3)
    errors = []
    for _ in range(100):
        parquet.write_table(TABLE, path)
        KINDS[chance.choice(("flip bit", "garble block", "truncate"))](path, chance)
        try:
            parquet_columns(path)
            parquet_row_count(path)
        except MediaError as error:
            errors.append(str(error))
    assert len(errors) > 10
    assert all(error.startswith("damaged parquet file: ") and "\n" not in error for error in errors)
