"""Migrations of the catalog's schema: one function per version, run in order, each in its own transaction.

There are no primary keys: DuckDB checks them eagerly (it rejects a row that is deleted and inserted again in one
transaction) and keeps an index in memory for each. The writer assigns ids from counters and never reuses them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bindsearch.errors import StoreError

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


MIGRATIONS: tuple[Callable[[DuckDBPyConnection], None], ...] = (
    m001_create_tables,
    m002_add_user_columns,
    m003_add_metadata_and_containers,
    m004_add_digests,
)


def migrate(connection: DuckDBPyConnection) -> None:
    """Migrate the catalog to the newest schema version.

    Raises:
        StoreError: a newer BindSearch created the catalog.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    version = int(row[0]) if row else 0
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the catalog has schema version {version}, this BindSearch reads {len(MIGRATIONS)}: install a newer one"
        )
    for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.begin()
        migration(connection)
        connection.execute("INSERT INTO schema_version VALUES (?)", [number])
        connection.commit()
