"""The pages of `docs/` name what the code has."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import duckdb
import pytest

from bindsearch.indexes.storage import MANIFEST_KEYS
from bindsearch.indexes.types import IndexManifest, IndexSettings
from bindsearch.storage.config import StoreConfig
from bindsearch.storage.migrations import MIGRATIONS, migrate
from bindsearch.storage.snapshot_format import ITEM_COLUMNS, LOOKUP_COLUMNS, SEGMENT_COLUMNS, Manifest

PAGE = (Path(__file__).parents[1] / "docs" / "store-format.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_0-9]+)`", text))


def row_of(text: str, name: str) -> str:
    """The row of a Markdown table whose first cell is `name`."""
    return next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))


def names(record: type) -> set[str]:
    return {entry.name for entry in fields(record)}


def test_every_table_of_the_catalog_has_its_columns() -> None:
    text = section("catalog.duckdb")
    assert f"schema version {len(MIGRATIONS)} " in text
    with duckdb.connect() as connection:
        migrate(connection)
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_name != 'schema_version'"
        tables: dict[str, set[str]] = {}
        for table, column in connection.execute(query).fetchall():
            tables.setdefault(table, {table}).add(column)
        counters = {name for (name,) in connection.execute("SELECT name FROM counters").fetchall()}
    tables["counters"] |= counters
    for table, columns in tables.items():
        assert quoted(row_of(text, table)) == columns, table


@pytest.mark.parametrize(
    ("file", "columns"), [("items.arrow", ITEM_COLUMNS), ("segments.arrow", {**SEGMENT_COLUMNS, **LOOKUP_COLUMNS})]
)
def test_every_file_of_a_snapshot_has_its_columns(file: str, columns: dict[str, str]) -> None:
    assert quoted(row_of(section("CURRENT and snapshots/"), file)) - {"modality_rows"} == {*columns}


def test_every_json_file_has_its_keys() -> None:
    assert quoted(section("store.json")) - {"reindex"} == names(StoreConfig)
    assert names(Manifest) <= quoted(section("CURRENT and snapshots/"))
    indexes = section("indexes/")
    assert quoted(row_of(indexes, "manifest.json")) == {
        "format",
        *(MANIFEST_KEYS.get(name, name) for name in names(IndexManifest)),
    }
    assert names(IndexSettings) <= quoted(indexes)
