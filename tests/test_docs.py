"""The pages of `docs/` name what the code has, and those that are generated from it are up to date."""

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
from generate import Help, commands, options_of, parse_help, stale_pages

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "store-format.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return the text below a heading, up to the next one."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_0-9]+)`", text))


def row_of(text: str, name: str) -> str:
    """Return the row of a Markdown table whose first cell is `name`."""
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


def test_generated_pages_are_up_to_date() -> None:
    assert stale_pages() == [], "run `make docs`"


def test_every_command_and_option_is_on_the_page() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for name, command in commands().items():
        text = page.split(f"\n## bindsearch {name}\n")[1].split("\n## ")[0]
        assert "bindsearch " + name in text
        for option in options_of(command):
            assert all(f"`{spelling}" in text for spelling in option.opts), f"{name} {option.opts}"
    assert "dupes" not in page


@pytest.mark.parametrize(
    ("text", "prose", "examples"),
    [
        ("Do it.", ["Do it."], []),
        ("Do it\nnow. Example: bindsearch do x", ["Do it now."], ["bindsearch do x"]),
        ("Do it.\n\nExamples:\n  bindsearch a\n  bindsearch b --c", ["Do it."], ["bindsearch a", "bindsearch b --c"]),
        ("Do it.\n\nExamples:\n\n\b\n  bindsearch a", ["Do it."], ["bindsearch a"]),
        ("Do.\n\nExample: bindsearch a\nOffline: bindsearch b", ["Do."], ["bindsearch a", "# Offline", "bindsearch b"]),
        ("Do it.\n\nExample: bindsearch a\n\nThat is all.", ["Do it.", "That is all."], ["bindsearch a"]),
    ],
)  # fmt: skip
def test_help_is_split_into_prose_and_examples(text: str, prose: list[str], examples: list[str]) -> None:
    assert parse_help(text) == Help(tuple(prose), tuple(examples))
