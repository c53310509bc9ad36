"""The pages of `docs/` name what the code has, and those that are generated from it are up to date."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import duckdb
import pytest

from bindsearch.indexes.index_files import MANIFEST_KEYS
from bindsearch.indexes.types import IndexManifest, IndexSettings
from bindsearch.storage.config import StoreConfig
from bindsearch.storage.migrations import MIGRATIONS, migrate
from bindsearch.storage.snapshot_format import ITEM_COLUMNS, LOOKUP_COLUMNS, SEGMENT_COLUMNS, Manifest
from generate import Help, commands, options_of, parse_help, stale_pages

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGE = (DOCS / "store-format.md").read_text(encoding="utf-8")
FOLDERS = ("bindsearch", "cli", "indexes", "ingest", "tests")


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


def declared_names(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module or class declares, with the members of classes: `IndexForm.EXACT`."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name
                yield from (f"{name}.{member}" for member in declared_names(node))
            case ast.Assign(targets=targets):
                yield from (leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


@pytest.fixture(scope="module")
def declared() -> Mapping[str, set[str]]:
    """Names by the last part of the module that declares them; there may be several of one name."""
    found: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for path in (PROJECT / folder).rglob("*.py"):
            module = path.parent.name if path.stem == "__init__" else path.stem
            found.setdefault(module, set()).update(declared_names(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def is_path(text: str) -> bool:
    places = [PROJECT / text, PROJECT / "bindsearch" / text, PROJECT / "tests" / text]
    return any(place.exists() for place in places)


def is_module(dotted: str) -> bool:
    """Return whether a name that begins with `bindsearch` is one of a module or package."""
    parts = dotted.split(".")
    return any(is_path("/".join(parts[start:]) + suffix) for start in (0, 1) if parts[start:] for suffix in ("", ".py"))


def is_known(text: str, declared: Mapping[str, set[str]]) -> bool:
    """Return whether the code has what a page cites: a path, a module, or a name of a module or class.

    Lower-case words without an underscore may be values or options, and are not looked for.
    """
    if "/" in text or text.endswith((".py", ".md", ".toml", ".txt", ".json")):
        return is_path(text.replace("*.py", ""))
    name = text.removesuffix("()")
    everything = set().union(*declared.values())
    if "." not in name:
        last_parts = {known.rsplit(".")[-1] for known in everything}
        return (name.islower() and "_" not in name) or name in last_parts or is_path(name)
    first, rest = name.split(".", 1)
    if first == "bindsearch":
        return is_module(name)
    return name in everything or rest in declared.get(first, ())


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/extending.md"])
def test_names_and_paths_that_a_page_cites_are_in_the_code(page: str, declared: Mapping[str, set[str]]) -> None:
    text = re.sub(r"```.*?```", "", (PROJECT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    cited = set(re.findall(r"`([A-Za-z_*][\w./*-]*(?:\(\))?)`", text))
    assert len(cited) > 20
    unknown = sorted(name for name in cited if not is_known(name, declared))
    assert not unknown, f"{page} cites {', '.join(unknown)}"


def test_a_renamed_thing_is_not_known(declared: Mapping[str, set[str]]) -> None:
    for name in ("kinds.PICTURES", "Modality.TEXT", "IndexManifest", "ingest/media/sniff.py", "bindsearch.indexes"):
        assert is_known(name, declared)
    for name in ("kinds.PHOTOS", "sounds.PICTURES", "Modality.SMELL", "IndexBook", "ingest/media/smell.py"):
        assert not is_known(name, declared)
    assert not is_known("bindsearch.smell", declared)
