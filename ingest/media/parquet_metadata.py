"""Sizes of the columns of Parquet files, from their footers.

DuckDB reads the footers: pyarrow's own functions for row groups and column chunks end the process when the footer of a
damaged file contradicts itself (their C++ exceptions are not translated).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from bindsearch.errors import MediaError, first_line

_GLOB_CHARACTER = re.compile(r"[*?\[]")
_CONFIG: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False, "threads": 1}


class ParquetColumn(NamedTuple):
    """A column of values; those inside lists and structs are columns of their own."""

    path: str  # names of the column and of the fields inside it, separated by ", "
    is_text: bool  # texts or bytes
    n_values: int  # nulls included
    uncompressed_bytes: int  # of all values
    max_mean_bytes: int  # largest mean size of a value in a row group

    def belongs_to(self, name: str) -> bool:
        """Return whether it is the column `name`, or inside it."""
        return self.path == name or self.path.startswith(f"{name}, ")


def parquet_columns(path: Path) -> list[ParquetColumn]:
    """Return the columns of a Parquet file.

    Raises:
        MediaError: the footer is damaged.
    """
    query = """
        SELECT path_in_schema, type = 'BYTE_ARRAY', sum(greatest(num_values, 0)),
            sum(greatest(total_uncompressed_size, 0)), max(total_uncompressed_size // greatest(num_values, 1))
        FROM parquet_metadata(?) GROUP BY ALL"""
    return [
        ParquetColumn(str(name), bool(is_text), *map(int, numbers)) for name, is_text, *numbers in _query(path, query)
    ]


def parquet_row_count(path: Path) -> int:
    """Return the number of rows in all row groups; the footer's own total may differ.

    Raises:
        MediaError: the footer is damaged.
    """
    groups = "SELECT DISTINCT row_group_id, row_group_num_rows AS rows FROM parquet_metadata(?)"
    ((rows,),) = _query(path, f"SELECT coalesce(sum(rows), 0) FROM ({groups})")
    return int(rows)


def _query(path: Path, query: str) -> list[tuple[Any, ...]]:
    import duckdb

    pattern = str(path.absolute())
    if _GLOB_CHARACTER.search(pattern):  # DuckDB takes it for a glob
        if "\\" in pattern:
            raise MediaError("the file's path contains a backslash and one of * ? [: rename it")
        pattern = _GLOB_CHARACTER.sub(r"[\g<0>]", pattern)
    try:
        with duckdb.connect(config=_CONFIG) as connection:
            return connection.execute(query, [pattern]).fetchall()
    except duckdb.Error as error:
        raise MediaError(f"damaged parquet file: {first_line(error)}") from error
