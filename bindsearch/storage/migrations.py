"""Migrations of the catalog's schema: one function per version, run in order, each in its own transaction.

There are no primary keys: DuckDB checks them eagerly (it rejects a row that is deleted and inserted again in one
transaction) and keeps an index in memory for each. The writer assigns ids from counters and never reuses them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from bindsearch.errors import SchemaNewerError, StoreError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def m001_create_tables(connection: DuckDBPyConnection) -> None:
    """Create collections, items, segments, vector files, failures, counters; a vector without a segment is deleted."""
    for statement in (
        "CREATE TABLE collections (collection_id BIGINT NOT NULL, root VARCHAR NOT NULL)",
        """CREATE TABLE items (
            item_id BIGINT NOT NULL, collection_id BIGINT NOT NULL, rel_path VARCHAR NOT NULL,
            modality VARCHAR NOT NULL, size_bytes BIGINT NOT NULL, mtime_ns BIGINT NOT NULL,
            sidecar_mtime_ns BIGINT NOT NULL, content_hash VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL,
            indexed_at TIMESTAMP NOT NULL DEFAULT current_timestamp)""",
        """CREATE TABLE segments (
            segment_id BIGINT NOT NULL, item_id BIGINT NOT NULL, modality VARCHAR NOT NULL,
            vector_id BIGINT NOT NULL, start_s DOUBLE, end_s DOUBLE, text VARCHAR)""",
        "CREATE TABLE vector_files (modality VARCHAR NOT NULL, name VARCHAR NOT NULL, n BIGINT NOT NULL)",
        """CREATE TABLE failures (
            collection_id BIGINT NOT NULL, rel_path VARCHAR NOT NULL, reason VARCHAR NOT NULL,
            size_bytes BIGINT NOT NULL, mtime_ns BIGINT NOT NULL, sidecar_mtime_ns BIGINT NOT NULL,
            failed_at TIMESTAMP NOT NULL DEFAULT current_timestamp)""",
        "CREATE TABLE counters (name VARCHAR NOT NULL, value BIGINT NOT NULL)",
        "INSERT INTO counters VALUES ('generation', 0), ('collection_id', 1), ('item_id', 1), ('segment_id', 1), "
        "('vector_id', 1)",
    ):
        connection.execute(statement)


def m002_add_user_columns(connection: DuckDBPyConnection) -> None:
    """Add user columns of items, as JSON; null if the sidecar has none."""
    connection.execute("ALTER TABLE items ADD COLUMN columns VARCHAR")


def m003_add_metadata_and_containers(connection: DuckDBPyConnection) -> None:
    """Add typed metadata columns, inodes, and containers (archives and manifests).

    `facts_stamp` replaces `sidecar_mtime_ns` and also covers metadata declared in manifests.
    """
    for statement in (
        "ALTER TABLE items ADD COLUMN inode BIGINT DEFAULT 0",
        "ALTER TABLE failures ADD COLUMN inode BIGINT DEFAULT 0",
        "ALTER TABLE items RENAME COLUMN sidecar_mtime_ns TO facts_stamp",
        "ALTER TABLE failures RENAME COLUMN sidecar_mtime_ns TO facts_stamp",
        "ALTER TABLE items ADD COLUMN taken TIMESTAMP",
        "ALTER TABLE items ADD COLUMN latitude DOUBLE",
        "ALTER TABLE items ADD COLUMN longitude DOUBLE",
        "ALTER TABLE items ADD COLUMN camera VARCHAR",
        "ALTER TABLE items ADD COLUMN title VARCHAR",
        "ALTER TABLE items ADD COLUMN artist VARCHAR",
        "ALTER TABLE items ADD COLUMN length_s DOUBLE",
        "ALTER TABLE items ADD COLUMN width_px BIGINT",
        "ALTER TABLE items ADD COLUMN height_px BIGINT",
        """CREATE TABLE containers (
            collection_id BIGINT NOT NULL, rel_path VARCHAR NOT NULL, size_bytes BIGINT NOT NULL,
            mtime_ns BIGINT NOT NULL, facts_stamp BIGINT NOT NULL, inode BIGINT NOT NULL)""",
    ):
        connection.execute(statement)


def m004_add_digests(connection: DuckDBPyConnection) -> None:
    """Add digests of vector files; '' for files written before."""
    connection.execute("ALTER TABLE vector_files ADD COLUMN digest VARCHAR DEFAULT ''")


def m005_add_replaced_files(connection: DuckDBPyConnection) -> None:
    """Add the list of vector files that others have replaced: only those are deleted after a crash."""
    connection.execute("CREATE TABLE replaced_files (modality VARCHAR NOT NULL, name VARCHAR NOT NULL)")


def m006_add_facts(connection: DuckDBPyConnection) -> None:
    """Add what decoders measure: null for items of before."""
    for name in ("rate_hz", "depth_median_m", "temperature_min_c", "temperature_mean_c", "temperature_max_c"):
        connection.execute(f"ALTER TABLE items ADD COLUMN {name} DOUBLE")


def m007_add_class_columns(connection: DuckDBPyConnection) -> None:
    """Add the columns that `classify` writes: records as JSON, and values by the first vector of an item."""
    for statement in (
        "CREATE TABLE class_columns (column_id BIGINT NOT NULL, record VARCHAR NOT NULL)",
        """CREATE TABLE class_values (
            column_id BIGINT NOT NULL, vector_id BIGINT NOT NULL, "class" BIGINT NOT NULL,
            probability DOUBLE NOT NULL)""",
    ):
        connection.execute(statement)


MIGRATIONS: tuple[Callable[[DuckDBPyConnection], None], ...] = (
    m001_create_tables,
    m002_add_user_columns,
    m003_add_metadata_and_containers,
    m004_add_digests,
    m005_add_replaced_files,
    m006_add_facts,
    m007_add_class_columns,
)


OTHER_OBJECTS = """
    SELECT 'view ' || view_name FROM duckdb_views() WHERE NOT internal
    UNION ALL SELECT 'sequence ' || sequence_name FROM duckdb_sequences()
    UNION ALL SELECT 'index ' || index_name FROM duckdb_indexes()
    UNION ALL SELECT 'trigger ' || trigger_name FROM duckdb_triggers()
    UNION ALL SELECT 'type ' || type_name FROM duckdb_types()
        WHERE NOT internal AND database_name = current_database()
"""
"""Query for objects that a catalog never holds; each of them could run SQL of whoever made the file."""

MACROS = "SELECT 'macro ' || function_name FROM duckdb_functions() WHERE NOT internal"
"""Query for macros. It lists the 3,000 functions of DuckDB, in 18 ms: almost as long as opening a catalog takes."""

OTHER_DEFINITIONS = """
    SELECT 'constraint ' || constraint_text FROM duckdb_constraints() WHERE constraint_type <> 'NOT NULL'
    UNION ALL SELECT 'generated column ' || column_name FROM duckdb_columns() WHERE is_generated AND NOT internal
"""
"""Query for what a table's definition never holds."""

NEWEST_SCHEMA = "80174a3252e47065c3e4b5c23316cfc6f1fa7efc5585e86acbc6addb2113341f"
"""SHA-256 of `table_definitions` of the newest version, with the DuckDB of constraints.txt."""


def schema_version(connection: DuckDBPyConnection) -> int:
    """Return the schema version of a catalog; 0 for an empty file."""
    tables = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_version'").fetchone()
    if tables is None or not tables[0]:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    return int(row[0]) if row else 0


def table_definitions(connection: DuckDBPyConnection) -> str:
    """Return the statements that would create the tables of a catalog, with their schemas."""
    query = "SELECT schema_name, sql FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"
    return "\n".join(f"{schema}: {statement}" for schema, statement in connection.execute(query).fetchall())


def check_schema(connection: DuckDBPyConnection, *, macros: bool) -> None:
    """Check that a catalog holds the tables of its schema version and nothing else: a store is data, not a program.

    Args:
        connection: The catalog.
        macros: Look for macros too. They can read nothing but the catalog, and change only what it says.

    Raises:
        SchemaNewerError: a newer BindSearch created it.
        StoreError: it holds something else.
    """
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise SchemaNewerError(
            f"the catalog has schema version {version}, this BindSearch reads {len(MIGRATIONS)}: install a newer one"
        )
    _refuse(connection, OTHER_OBJECTS)
    if macros:
        _refuse(connection, MACROS)
    if hashlib.sha256(table_definitions(connection).encode()).hexdigest() == NEWEST_SCHEMA:
        return
    _refuse(connection, OTHER_DEFINITIONS)  # of an older version, or by a DuckDB that words definitions otherwise
    found = _columns(connection)
    if (expected := _expected_columns(version)) != found and not (version == 0 and not found):
        unknown = sorted(found ^ expected)
        raise StoreError(f"the catalog does not have the tables of schema version {version} ({unknown[0]}): restore it")


def _refuse(connection: DuckDBPyConnection, query: str) -> None:
    if (row := connection.execute(query).fetchone()) is not None:
        raise StoreError(f"the catalog holds a {row[0]}, which BindSearch never makes: do not use this store")


def _columns(connection: DuckDBPyConnection) -> frozenset[tuple[str, str, str]]:
    """Return table, column and type of all columns of tables."""
    query = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
    return frozenset((str(table), str(name), str(kind)) for table, name, kind in connection.execute(query).fetchall())


@cache
def _expected_columns(version: int) -> frozenset[tuple[str, str, str]]:
    """Return the columns of a schema version, from the migrations themselves."""
    import duckdb

    with duckdb.connect() as connection:
        _migrate_to(connection, version)
        return _columns(connection)


def migrate(connection: DuckDBPyConnection) -> None:
    """Migrate a checked catalog, or an empty file, to the newest schema version."""
    _migrate_to(connection, len(MIGRATIONS))


def _migrate_to(connection: DuckDBPyConnection, end: int) -> None:
    start = schema_version(connection)
    if start < end:
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
    for number, migration in enumerate(MIGRATIONS[start:end], start=start + 1):
        connection.begin()
        migration(connection)
        connection.execute("INSERT INTO schema_version VALUES (?)", [number])
        connection.commit()
