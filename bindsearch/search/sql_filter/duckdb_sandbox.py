"""A sandbox for parsing and evaluating filters: an isolated in-memory DuckDB database.

It has no file system access, no extensions and no replacement scans; its configuration is locked, and memory and time
are limited.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from bindsearch.errors import UsageError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

TIME_LIMIT_S = 5.0
"""Maximum time in seconds to evaluate an expression."""
CONFIGURATION: Mapping[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "memory_limit": "1GB",
    "threads": "2",
    "lock_configuration": "true",
}
"""Settings of the database; they cannot be changed after it is opened."""


def parse_select(sql: str) -> Any:
    """Parse a SELECT with DuckDB, without binding or running it.

    Returns:
        The syntax tree or the parser's error, from DuckDB's JSON.

    Raises:
        RecursionError: the tree is nested too deeply.
    """
    with _database(os.getpid()).cursor() as connection:
        (text,) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone() or ("null",)
    return json.loads(text)


def write_select(tree: Any) -> str:
    """Return the SQL of a syntax tree of `parse_select`, as DuckDB writes it."""
    with _database(os.getpid()).cursor() as connection:
        (text,) = connection.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchone() or ("",)
    return str(text)


def run_select(
    sql: str, tables: Mapping[str, pa.Table], limit_s: float = TIME_LIMIT_S, started: float | None = None
) -> pa.Table:
    """Run a SELECT over Arrow tables without copying them.

    Args:
        sql: The SELECT.
        tables: Tables by name.
        limit_s: Time limit in seconds.
        started: Value of `time.monotonic()` from which the time limit counts (None: now).

    Returns:
        The result, in the order of the tables' rows, unless DuckDB joins them, as it does with a long list of values.

    Raises:
        UsageError: DuckDB fails (the message has the first line of its error), or the time limit is exceeded.
    """
    import duckdb

    left_s = limit_s if started is None else limit_s - (time.monotonic() - started)
    too_long = UsageError(f"the filter took longer than {limit_s:g} s: make it simpler")
    if left_s <= 0:
        raise too_long
    expired, ended = threading.Event(), threading.Event()
    with _database(os.getpid()).cursor() as connection:
        for name, table in tables.items():
            connection.register(name, table)

        def stop() -> None:
            ended.wait(left_s)
            while not ended.wait(0.02):
                expired.set()
                connection.interrupt()  # again and again: DuckDB forgets one that comes before it executes

        timer = threading.Thread(target=stop)
        timer.start()
        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            if expired.is_set():
                raise too_long from None
            raise UsageError(f"the filter cannot be evaluated: {_explain(error)}") from None
        finally:
            ended.set()
            timer.join()


def _explain(error: duckdb.Error) -> str:
    """Return what failed, with a way out if it fails for some values only; DuckDB's own (TRY and SET) are refused."""
    import duckdb

    line = first_line(error).partition(". Use TRY(")[0]
    if isinstance(error, duckdb.ConversionException | duckdb.OutOfRangeException) or "by zero" in line:
        return f"{line}: exclude such values before (rating <> 0 and ...), or use try_cast or nullif"
    return line


def first_line(error: Exception) -> str:
    """Return the first line of a DuckDB error, without the kind of error."""
    line = str(error).split("\n", 1)[0].strip()
    kind, colon, rest = line.partition(" Error: ")
    return rest if colon and " " not in kind.replace("Invalid Input", "").replace("Out of", "").strip() else line


@cache
def _database(process: int) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 (only the key)
    """Return the database of a process; a child needs its own, as DuckDB's threads do not survive a fork."""
    import duckdb

    return duckdb.connect(":memory:", config=dict(CONFIGURATION))
