"""DuckDB for filters: an in-memory database from which nothing else can be reached, for parsing and evaluating.

No file system, no extensions, no replacement scans, a locked configuration, a memory and a time limit.
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
"""Seconds that one expression may take."""
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
"""Settings that the database is opened with; none can be changed afterwards."""


def serialize_select(sql: str) -> Any:
    """DuckDB's syntax tree of a SELECT, or its parser's error, as its JSON tells it; nothing is bound or run.

    Raises:
        RecursionError: the tree is nested too deeply to be read.
    """
    with _database(os.getpid()).cursor() as connection:
        (text,) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone() or ("null",)
    return json.loads(text)


def run_select(
    sql: str, tables: Mapping[str, pa.Table], limit_s: float = TIME_LIMIT_S, started: float | None = None
) -> pa.Table:
    """Run a SELECT over Arrow tables, which are not copied; the answer's rows come in the tables' order.

    `started`: what `time.monotonic()` said when the time limit began, now by default.

    Raises:
        UsageError: DuckDB refuses or fails, with the first line it says, or it takes longer than `limit_s` seconds.
    """
    import duckdb

    spent_s = 0.0 if started is None else time.monotonic() - started
    expired = threading.Event()
    with _database(os.getpid()).cursor() as connection:
        for name, table in tables.items():
            connection.register(name, table)

        def stop() -> None:
            expired.set()
            connection.interrupt()

        timer = threading.Timer(max(limit_s - spent_s, 0.001), stop)
        timer.start()
        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            if expired.is_set():
                raise UsageError(f"the filter took longer than {limit_s:g} s: make it simpler") from None
            raise UsageError(f"the filter cannot be evaluated: {first_line(error)}") from None
        finally:
            timer.cancel()
            timer.join()


def first_line(error: Exception) -> str:
    """Return what DuckDB says, without the kind of error in front and the lines after."""
    line = str(error).split("\n", 1)[0].strip()
    kind, colon, rest = line.partition(" Error: ")
    return rest if colon and " " not in kind.replace("Invalid Input", "").replace("Out of", "").strip() else line


@cache
def _database(process: int) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 (only the key)
    """The database of a process: its threads do not survive a fork, so a child opens its own and leaves ours alone."""
    import duckdb

    return duckdb.connect(":memory:", config=dict(CONFIGURATION))
