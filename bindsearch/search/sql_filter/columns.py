"""The columns that a `where` expression may name, and where their values come from: the Arrow tables of a snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bindsearch.search.sql_filter.ast import quote_name
from bindsearch.search.sql_filter.duckdb_sandbox import run_select
from bindsearch.types import METADATA_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


class Level(Enum):
    """Table to whose rows a value belongs."""

    ITEM = "items"
    SEGMENT = "segments"


DOCUMENTED: Mapping[str, tuple[Level, str, str]] = {
    "path": (Level.ITEM, "VARCHAR", "absolute path of the file"),
    "name": (Level.ITEM, "VARCHAR", "its last part"),
    "folder": (Level.ITEM, "VARCHAR", "absolute path of the folder that holds the file"),
    "extension": (Level.ITEM, "VARCHAR", "lower case, without the dot; empty if there is none"),
    "modality": (Level.SEGMENT, "VARCHAR", "of the segment: a video's sound track is audio"),
    "item_modality": (Level.ITEM, "VARCHAR", "of the file"),
    "collection": (Level.ITEM, "VARCHAR", "absolute path of the indexed folder"),
    "size_bytes": (Level.ITEM, "BIGINT", "of the file"),
    "modified": (Level.ITEM, "TIMESTAMP", "when the file was last changed, UTC"),
    "start_s": (Level.SEGMENT, "DOUBLE", "where the segment begins in its file; NULL where it is the whole"),
    "end_s": (Level.SEGMENT, "DOUBLE", "where the segment ends"),
    "duration_s": (Level.SEGMENT, "DOUBLE", "end_s - start_s"),
    "text": (Level.SEGMENT, "VARCHAR", "of a text segment, else NULL"),
    "item_id": (Level.ITEM, "BIGINT", "the item's number, as like: takes it"),
    "taken": (
        Level.ITEM,
        "TIMESTAMP",
        "when it was recorded: UTC where the file names a zone, else local",
    ),
    "latitude": (Level.ITEM, "DOUBLE", "where it was recorded, degrees north"),
    "longitude": (Level.ITEM, "DOUBLE", "degrees east"),
    "camera": (Level.ITEM, "VARCHAR", "make and model"),
    "title": (Level.ITEM, "VARCHAR", "as stated in the file"),
    "artist": (Level.ITEM, "VARCHAR", "who made it"),
    "length_s": (Level.ITEM, "DOUBLE", "of the whole recording"),
    "width_px": (Level.ITEM, "BIGINT", "of the picture, upright"),
    "height_px": (Level.ITEM, "BIGINT", "of the picture, upright"),
}
"""Level, type and meaning of the columns that every store has; those of metadata are NULL where nothing is known."""
DERIVED: Mapping[str, str] = {
    "path": '"#root" || "#rel_path"',
    "name": """split_part("#rel_path", '/', -1)""",
    "folder": """left("#root" || "#rel_path", greatest(1,
        length("#root") + length("#rel_path") - length(split_part("#rel_path", '/', -1)) - 1))""",
    "extension": r"""lower(regexp_extract("#rel_path", '[^/]\.([^./]+)$', 1))""",
}
"""SQL of the columns that no table holds, over `#root` (with its slash) and `#rel_path`."""
USER_COLUMNS = """
    SELECT name, list(DISTINCT kind) AS kinds FROM (
        SELECT name, json_type("columns", '/' || replace(replace(name, '~', '~0'), '/', '~1')) AS kind FROM (
            SELECT "columns", unnest(json_keys("columns")) AS name FROM items WHERE "columns" IS NOT NULL))
    GROUP BY name ORDER BY name"""
"""SQL that finds the user columns with the kinds of their values."""
NUMBERS = frozenset(("BIGINT", "UBIGINT", "HUGEINT", "DOUBLE"))


class Collections(Protocol):
    """Part of a manifest that filters read."""

    @property
    def collections(self) -> Mapping[int, str]:
        """Root of each collection by its id."""


class FilterTables(Protocol):
    """Part of a snapshot that filters read."""

    @property
    def manifest(self) -> Collections:
        """Names the collections."""

    @property
    def items(self) -> pa.Table:
        """item_id, collection_id, rel_path, modality, size_bytes, mtime_ns, those of metadata, and where there are any
        `columns`."""

    @property
    def segments(self) -> pa.Table:
        """modality, start_s, end_s, text."""

    def item_of_segment_rows(self) -> NDArray[np.int64]:
        """Row of `items` of each row of `segments`: int64 (n,)."""


class FilterColumns:
    """The columns over one snapshot. What had to be computed is kept: have one a snapshot, not one a filter."""

    def __init__(self, tables: FilterTables) -> None:
        self.tables = tables
        self._kept: dict[str, Any] = {}
        self._lock = threading.Lock()

    @cached_property
    def item_rows(self) -> NDArray[np.int64]:
        """Row of `items` of each row of `segments`: int64 (n,)."""
        return self.tables.item_of_segment_rows()

    @cached_property
    def user_types(self) -> Mapping[str, str]:
        """Type of each user column by its name: BOOLEAN or DOUBLE where all values are of that kind, else VARCHAR."""
        if "columns" not in self.tables.items.column_names:
            return {}
        found = run_select(USER_COLUMNS, {"items": self.tables.items.select(["columns"])}).to_pylist()
        kinds = {row["name"]: {*row["kinds"]} - {"NULL", None} for row in found}
        return {name: _type_of(seen) for name, seen in kinds.items() if name.lower() not in DOCUMENTED}

    def resolve(self, name: str) -> str | None:
        """The column that is meant, whatever the case of its letters; None where there is none."""
        if name.lower() in DOCUMENTED:
            return name.lower()
        if name in self.user_types:
            return name
        alike = [known for known in self.user_types if known.lower() == name.lower()]
        return alike[0] if len(alike) == 1 else None

    def explain_unknown(self, name: str) -> str:
        """Return what to say of a name that no column has."""
        names = [*DOCUMENTED, *self.user_types]
        near = [repr(match) for match in get_close_matches(name.lower(), names, n=3)]
        hint = f": did you mean {' or '.join(near)}?" if near else "."
        listed = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
        return f"there is no column {name!r}{hint} Columns are {listed};"

    def level(self, name: str) -> Level:
        """The table whose rows a known column has."""
        return DOCUMENTED[name][0] if name in DOCUMENTED else Level.ITEM

    def array(self, name: str) -> pa.ChunkedArray | None:
        """Values of a known column in its level's row order, many texts as dictionary; None: SQL has it."""
        if name in ("path", "name"):
            return None
        if name == "text":
            return self.tables.segments.column("text")
        with self._lock:
            if name not in self._kept:
                self._kept[name] = self._compute(name)
            return self._kept[name]

    def source(self, names: Iterable[str], level: Level) -> tuple[pa.Table, str]:
        """An Arrow table in the row order of `level`, and what to select of it for columns of these names."""
        import pyarrow as pa

        arrays: dict[str, Any] = {}
        selected = []
        for name in names:
            values = self.array(name)
            if values is None:
                parts = {"#root": self._roots("/"), "#rel_path": self.tables.items.column("rel_path")}
                arrays |= {part: self._at(level, array) for part, array in parts.items()}
                selected.append(f"{DERIVED[name]} AS {quote_name(name)}")
            else:
                arrays[name] = self._at(level, values) if self.level(name) is Level.ITEM else values
                selected.append(quote_name(name))
        if not arrays:
            arrays["#none"] = self._at(level, self.tables.items.column("item_id"))
        return pa.table(arrays), ", ".join(selected) or "1"

    def _at(self, level: Level, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Values of items as they stand, or for each segment its item's."""
        import pyarrow as pa

        return values if level is Level.ITEM else values.take(pa.array(self.item_rows))

    def _roots(self, end: str = "") -> pa.ChunkedArray:
        """Root of each item's collection as dictionary, with `end` after it (but one slash only)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        roots = self.tables.manifest.collections
        values = [root.rstrip("/") + end if end else root for root in roots.values()]
        codes = pc.index_in(self.tables.items.column("collection_id"), value_set=pa.array([*roots], pa.int64()))
        return pa.chunked_array(
            [pa.DictionaryArray.from_arrays(chunk, pa.array(values, pa.string())) for chunk in codes.chunks],
            pa.dictionary(pa.int32(), pa.string()),
        )

    def _compute(self, name: str) -> pa.ChunkedArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        items, segments = self.tables.items, self.tables.segments
        match name:
            case "modality":
                return _encode(segments.column("modality"))
            case "item_modality":
                return _encode(items.column("modality"))
            case "collection":
                return self._roots()
            case "modified":
                return _to_timestamps(items.column("mtime_ns"))
            case "duration_s":
                return pc.subtract(segments.column("end_s"), segments.column("start_s"))
            case "start_s" | "end_s":
                return segments.column(name)
            case "camera" | "artist":
                return _encode(items.column(name))
            case "item_id" | "size_bytes":
                return items.column(name)
            case "extension" | "folder":
                source = pa.table({"#root": self._roots("/"), "#rel_path": items.column("rel_path")})
                return _encode(run_select(f"SELECT {DERIVED[name]} FROM source", {"source": source}).column(0))
        return items.column(name) if name in METADATA_COLUMNS else self._user_column(name)

    def _user_column(self, name: str) -> pa.ChunkedArray:
        pointer = "/" + name.replace("~", "~0").replace("/", "~1").replace("'", "''")
        sql = f"""SELECT CAST(json_extract_string("columns", '{pointer}') AS {self.user_types[name]}) FROM items"""
        values = run_select(sql, {"items": self.tables.items.select(["columns"])}).column(0)
        return _encode(values) if self.user_types[name] == "VARCHAR" else values


def _type_of(kinds: set[str]) -> str:
    if kinds == {"BOOLEAN"}:
        return "BOOLEAN"
    return "DOUBLE" if kinds and kinds <= NUMBERS else "VARCHAR"


def _encode(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as one dictionary-encoded chunk."""
    import pyarrow as pa

    coded = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
    return pa.chunked_array([coded.unify_dictionaries().combine_chunks()], coded.type)


def _to_timestamps(mtime_ns: pa.ChunkedArray) -> pa.ChunkedArray:
    """Nanoseconds since 1970 as timestamps of microseconds, rounded down."""
    import pyarrow as pa

    return pa.chunked_array([pa.array(np.floor_divide(mtime_ns.to_numpy(), 1000)).cast(pa.timestamp("us"))])
