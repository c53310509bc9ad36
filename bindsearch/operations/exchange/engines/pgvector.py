"""Export to PostgreSQL with pgvector: a table of half-precision vectors, with an HNSW index for each modality."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, LiteralString

from bindsearch.errors import StoreError, UsageError
from bindsearch.operations.exchange.engines.engine import (
    EngineResult,
    EngineSource,
    EngineTarget,
    engine_faults,
    is_description,
    read_engine_blocks,
)
from bindsearch.reports import OnRows, OnStage

if TYPE_CHECKING:
    import psycopg

MAX_DIMENSIONS = 4000
"""Dimensions that an HNSW index of `halfvec` takes (README of pgvector 0.8, "HNSW"); one of `vector` takes 2,000."""

OLDEST = (0, 7)
"""Version of pgvector that brought `halfvec`."""

KEY, VECTOR = "segment_id", "embedding"
"""Columns of the table beside those of the segments."""

TYPES: Mapping[str, LiteralString] = {
    "VARCHAR": "text",
    "BIGINT": "bigint",
    "UBIGINT": "numeric",
    "DOUBLE": "double precision",
    "TIMESTAMP": "timestamp",
    "BOOLEAN": "boolean",
}
"""Type of PostgreSQL for each SQL type of a column; it has no unsigned numbers."""

MAX_COLUMNS = 1500
MAX_NAME = 63
CONNECT_TIMEOUT_S = 10
LOST_TIMEOUT_MS = 120_000
LOCK_TIMEOUT = "10min"
"""Longest wait for readers of the table that is replaced."""

HELP = "write pgvector:postgresql://USER@HOST/DATABASE, or pgvector:host=HOST dbname=DATABASE"


def write_pgvector(target: EngineTarget, source: EngineSource, on_progress: OnRows, on_stage: OnStage) -> EngineResult:
    """Write a table in one transaction: readers see the earlier export until it is complete and indexed.

    Args:
        target: The database and the table.
        source: The segments.
        on_progress: Called with the number of vectors written so far and the total.
        on_stage: Called with the name of the current stage.

    Raises:
        UsageError: the connection string is invalid, the table is taken, or it cannot hold a column or the vectors.
        StoreError: the server cannot be reached or refuses the export.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    _check_shape(source)
    try:
        given = conninfo_to_dict(target.address)
    except psycopg.ProgrammingError:  # its message may quote a password
        raise UsageError(f"the connection string after pgvector: is invalid: {HELP}") from None
    settings: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, "tcp_user_timeout": LOST_TIMEOUT_MS}
    settings |= {"application_name": "bindsearch", **given}
    place = "PostgreSQL" if given.get("host") is None else f"PostgreSQL at {given['host']}"
    with engine_faults(place), psycopg.connect(**settings) as connection:
        size, notices = _write(connection, target, source, on_progress, on_stage)
        info = connection.info
        return EngineResult(f"pgvector:{info.dbname} at {info.host}", size, notices)


def _check_shape(source: EngineSource) -> None:
    """Raise UsageError if a table cannot hold the vectors or the columns."""
    if source.config.dim > MAX_DIMENSIONS:
        fault = f"cannot be indexed by pgvector, whose HNSW takes at most {MAX_DIMENSIONS}"
        way_out = "export to qdrant:, or index with fewer dimensions"
        raise UsageError(f"vectors of {source.config.dim} dimensions {fault}: {way_out}")
    if len(source.kinds) > MAX_COLUMNS:
        raise UsageError(f"{len(source.kinds)} columns are too many for a table of PostgreSQL: at most {MAX_COLUMNS}")
    for name in source.kinds:
        if name in (KEY, VECTOR) or len(name) > MAX_NAME:
            rule = f"names have at most {MAX_NAME} characters, and {KEY} and {VECTOR} are taken"
            fault = f"a table of PostgreSQL cannot have your column {name!r}"
            raise UsageError(f"{fault}: rename it in sidecars or lists; {rule}")


def _write(
    connection: psycopg.Connection, target: EngineTarget, source: EngineSource, on_progress: OnRows, on_stage: OnStage
) -> tuple[int, tuple[str, ...]]:
    """Write the table under another name, index it, and rename it; return its size in bytes and notices."""
    from psycopg import sql

    _prepare(connection)
    earlier = _check_table(connection, target)
    tag = secrets.token_hex(4)
    table, wanted = sql.Identifier(f"{target.name}_{tag}"), sql.Identifier(target.name)
    key, vector = sql.Identifier(KEY), sql.Identifier(VECTOR)
    columns = [(sql.Identifier(name), sql.SQL(TYPES[kind])) for name, kind in source.kinds.items()]
    fields = sql.SQL(", ").join(sql.SQL("{} {}").format(*column) for column in columns)
    create = sql.SQL("CREATE TABLE {} ({} bigint, {}, {} halfvec({}))")
    connection.execute(create.format(table, key, fields, vector, sql.Literal(source.config.dim)))
    notices = _copy(connection, table, source, on_progress)
    on_stage("building the key")
    connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, key))
    create = sql.SQL("CREATE INDEX {} ON {} USING hnsw ({} halfvec_cosine_ops) WHERE modality = {}")
    for modality in source.counts:
        on_stage(f"building the index of {modality}")
        name = sql.Identifier(f"{target.name}_{modality}_{tag}")
        connection.execute(create.format(name, table, vector, sql.Literal(modality.value)))
    connection.execute(sql.SQL("ANALYZE {}").format(table))
    comment = sql.Literal(json.dumps(source.describe()))
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, comment))
    on_stage("publishing")
    if earlier:
        connection.execute(sql.SQL("DROP TABLE {}").format(wanted))
    connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, wanted))
    size = connection.execute("SELECT pg_total_relation_size(%s::regclass)", [f'"{target.name}"']).fetchone()
    assert size is not None  # an aggregate of one row
    return size[0], notices


def _prepare(connection: psycopg.Connection) -> None:
    """Make the types of pgvector known, and begin the transaction of the export; raise StoreError if it is too old.

    The extension is created in a transaction of its own: others who create it would wait for the end of this one.
    """
    import psycopg
    from pgvector.psycopg import register_vector

    connection.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.Error as error:
        fault = f"PostgreSQL has no pgvector ({str(error).splitlines()[0]})"
        raise StoreError(f"{fault}: install it on the server, and run CREATE EXTENSION vector") from error
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = "0" if row is None else str(row[0])
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
        raise StoreError(f"pgvector {version} has no half-precision vectors: ALTER EXTENSION vector UPDATE to 0.7")
    register_vector(connection)
    connection.commit()


def _check_table(connection: psycopg.Connection, target: EngineTarget) -> bool:
    """Return whether an earlier export is there that is to be replaced; raise UsageError if the name is taken."""
    lock = "SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema() || %s, 0))"
    if connection.execute(lock, [f".{target.name}"]).fetchone() == (False,):
        raise UsageError(f"another process exports to the table {target.name}: wait for it, or choose another --name")
    found = connection.execute(
        "SELECT relkind = 'r', obj_description(pg_class.oid, 'pg_class') FROM pg_class "
        "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = current_schema() AND relname = %s",
        [target.name],
    ).fetchone()
    if found is None:
        return False
    is_table, comment = found
    if not (is_table and is_description(comment)):
        raise UsageError(f"the table {target.name} is not an export of BindSearch: choose another --name")
    if not target.replace:
        raise UsageError(f"the table {target.name} holds an export already: add --replace, or another --name")
    return True


def _copy(connection: psycopg.Connection, table: Any, source: EngineSource, on_progress: OnRows) -> tuple[str, ...]:
    """Write all rows with the binary COPY; return notices."""
    from pgvector import HalfVector
    from psycopg import sql

    names = sql.SQL(", ").join(sql.Identifier(name) for name in (KEY, *source.kinds, VECTOR))
    texts = [name for name, kind in source.kinds.items() if kind == "VARCHAR"]
    large = [name for name, kind in source.kinds.items() if kind == "UBIGINT"]
    changed = 0
    command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, names)
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        copy.set_types(["bigint", *(TYPES[kind] for kind in source.kinds.values()), "halfvec"])
        for block in read_engine_blocks(source, on_progress):
            values = dict(block.values)
            for name in texts:
                changed += sum(value is not None and "\0" in value for value in values[name])
                values[name] = [value if value is None else value.replace("\0", "") for value in values[name]]
            for name in large:
                values[name] = [value if value is None else Decimal(value) for value in values[name]]
            for row in zip(block.ids, *values.values(), map(HalfVector, block.vectors), strict=True):
                copy.write_row(row)
    return (f"texts with a NUL, which PostgreSQL cannot hold, written without it: {changed}",) if changed else ()
