"""Columns of `where` expressions, with values from the Arrow tables of a snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bindsearch.arguments import did_you_mean
from bindsearch.errors import UsageError
from bindsearch.search.sql_filter.duckdb_sandbox import run_select
from bindsearch.storage.class_columns import look_up, of_collections
from bindsearch.types import FACT_COLUMNS, METADATA_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from bindsearch.storage.class_columns import StoredColumns
    from bindsearch.types import Modality


class Level(Enum):
    """Table whose rows a value belongs to."""

    ITEM = "items"
    SEGMENT = "segments"


DOCUMENTED: Mapping[str, tuple[Level, str, str]] = {
    "path": (Level.ITEM, "VARCHAR", "absolute path of the file"),
    "name": (Level.ITEM, "VARCHAR", "last part of the path"),
    "folder": (Level.ITEM, "VARCHAR", "absolute path of the file's folder"),
    "extension": (Level.ITEM, "VARCHAR", "lower case, without the dot; empty if there is none"),
    "modality": (Level.SEGMENT, "VARCHAR", "of the segment; a video's sound track is audio"),
    "item_modality": (Level.ITEM, "VARCHAR", "of the file"),
    "collection": (Level.ITEM, "VARCHAR", "absolute path of the indexed folder"),
    "size_bytes": (Level.ITEM, "BIGINT", "of the file"),
    "modified": (Level.ITEM, "TIMESTAMP", "when the file was last changed, UTC"),
    "start_s": (Level.SEGMENT, "DOUBLE", "start of the segment in its file; NULL if it is the whole file"),
    "end_s": (Level.SEGMENT, "DOUBLE", "end of the segment in its file"),
    "duration_s": (Level.SEGMENT, "DOUBLE", "end_s - start_s"),
    "text": (Level.SEGMENT, "VARCHAR", "passage of a text segment, else NULL"),
    "item_id": (Level.ITEM, "BIGINT", "id of the item, for like:"),
    "taken": (
        Level.ITEM,
        "TIMESTAMP",
        "time of recording: UTC if the file has a time zone, else local time",
    ),
    "latitude": (Level.ITEM, "DOUBLE", "place of recording, degrees north"),
    "longitude": (Level.ITEM, "DOUBLE", "degrees east"),
    "camera": (Level.ITEM, "VARCHAR", "make and model"),
    "title": (Level.ITEM, "VARCHAR", "from the file's metadata"),
    "artist": (Level.ITEM, "VARCHAR", "from the file's metadata, such as the performer"),
    "length_s": (Level.ITEM, "DOUBLE", "duration of the whole recording"),
    "width_px": (Level.ITEM, "BIGINT", "of the image, upright"),
    "height_px": (Level.ITEM, "BIGINT", "of the image, upright"),
    "rate_hz": (Level.ITEM, "DOUBLE", "measured sampling rate of the motion recording"),
    "depth_median_m": (Level.ITEM, "DOUBLE", "median of the depth map in metres"),
    "temperature_min_c": (Level.ITEM, "DOUBLE", "lowest temperature of the thermal picture in degrees Celsius"),
    "temperature_mean_c": (Level.ITEM, "DOUBLE", "its mean temperature"),
    "temperature_max_c": (Level.ITEM, "DOUBLE", "its highest temperature"),
}
"""Level, type and meaning of the columns of every store; metadata columns are NULL if unknown."""
DERIVED: Mapping[str, str] = {
    "path": '"#root" || "#rel_path"',
    "name": """split_part("#rel_path", '/', -1)""",
    "folder": """left("#root" || "#rel_path", greatest(1,
        length("#root") + length("#rel_path") - length(split_part("#rel_path", '/', -1)) - 1))""",
    "extension": r"""lower(regexp_extract("#rel_path", '[^/]\.([^./]+)$', 1))""",
}
"""SQL of the columns that are not in a table, over `#root` (with a final slash) and `#rel_path`."""
USER_COLUMNS = """
    SELECT name, list(DISTINCT kind) AS kinds, min(whole) AS lowest, max(whole) AS highest FROM (
        SELECT name, CASE WHEN kind = 'DOUBLE' AND regexp_full_match(text, '-?[0-9]+') THEN 'HUGEINT' ELSE kind END
            AS kind, CASE WHEN kind IN ('BIGINT', 'UBIGINT') THEN CAST(text AS HUGEINT) END AS whole FROM (
            SELECT name, json_type("columns", pointer) AS kind, json_extract_string("columns", pointer) AS text FROM (
                SELECT "columns", name, '/' || replace(replace(name, '~', '~0'), '/', '~1') AS pointer FROM (
                    SELECT "columns", unnest(json_keys("columns")) AS name FROM items WHERE "columns" IS NOT NULL))))
    GROUP BY name ORDER BY name"""
"""SQL that returns the user columns with the kinds and the range of their values; HUGEINT: more than 64 bits."""
WHOLE = frozenset(("BIGINT", "UBIGINT"))
NUMBERS = WHOLE | {"HUGEINT", "DOUBLE"}
EXACT_LIMIT = 2**53
"""Whole numbers up to here are exact as DOUBLE (IEEE 754: 53 bits of precision)."""
INEXACT = "inexact"
"""Type of a column of numbers that no type of SQL holds exactly; filters refuse it."""


class Collections(Protocol):
    """Part of a manifest that filters use."""

    @property
    def collections(self) -> Mapping[int, str]:
        """Root of each collection by its id."""


class FilterTables(Protocol):
    """Part of a snapshot that filters use."""

    @property
    def manifest(self) -> Collections:
        """Manifest with the collections."""

    @property
    def items(self) -> pa.Table:
        """Items: item_id, collection_id, rel_path, modality, size_bytes, mtime_ns, metadata; optionally `columns`."""

    @property
    def segments(self) -> pa.Table:
        """Segments: modality, start_s, end_s, text."""

    @property
    def class_columns(self) -> StoredColumns | None:
        """Columns of classes; None if there are none."""

    def class_keys(self, modality: Modality | None) -> NDArray[np.int64]:
        """Return the vector that the class of each row of `items` is stored under: int64 (n items,), -1 for none."""

    @property
    def item_of_segment_rows(self) -> NDArray[np.int64]:
        """Row in `items` of each row of `segments`: int64 (n,)."""


class FilterColumns:
    """The columns of one snapshot, with a cache of computed values; create one per snapshot, not per filter."""

    def __init__(self, tables: FilterTables) -> None:
        self.tables = tables
        self._cache: dict[str, Any] = {}
        self._lock = threading.Lock()

    @cached_property
    def item_rows(self) -> NDArray[np.int64]:
        """Row in `items` of each row of `segments`: int64 (n,)."""
        return self.tables.item_of_segment_rows

    @cached_property
    def user_types(self) -> Mapping[str, str]:
        """Type of each user column by name: that of all its values, which it holds exactly; VARCHAR if they differ."""
        return {name: kind for name, kind in self._declared_types.items() if name.lower() not in DOCUMENTED}

    @cached_property
    def _declared_types(self) -> Mapping[str, str]:
        """Type of each name in the users' columns, also of names that are documented columns."""
        if "columns" not in self.tables.items.column_names:
            return {}
        rows = run_select(USER_COLUMNS, {"items": self.tables.items.select(["columns"])}).to_pylist()
        return {
            row["name"]: _type_of({*row["kinds"]} - {"NULL", None}, int(row["lowest"] or 0), int(row["highest"] or 0))
            for row in rows
        }

    @cached_property
    def class_types(self) -> Mapping[str, str]:
        """Type of each column that `classify` wrote, by name."""
        stored = self.tables.class_columns
        columns = () if stored is None else stored.columns.values()
        types = {column.name: "VARCHAR" for column in columns}
        return types | {column.probability: "DOUBLE" for column in columns if column.probability is not None}

    def resolve(self, name: str) -> str | None:
        """Return the column with this name, ignoring case; None if there is none."""
        if name.lower() in DOCUMENTED:
            return name.lower()
        if name.lower() in self.class_types:
            return name.lower()
        if name in self.user_types:
            return name
        matching = [known for known in self.user_types if known.lower() == name.lower()]
        return matching[0] if len(matching) == 1 else None

    def explain_unknown(self, name: str, hint: str = "") -> str:
        """Return the error message for an unknown column.

        Args:
            name: The name.
            hint: A way out that is likelier than another name.
        """
        names = [*DOCUMENTED, *self.class_types, *self.user_types]
        listed = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
        return f"there is no column {name!r}: {hint or did_you_mean(name, names)}columns are {listed};"

    def level(self, name: str) -> Level:
        """Return the level of a known column."""
        return DOCUMENTED[name][0] if name in DOCUMENTED else Level.ITEM

    def array(self, name: str) -> pa.ChunkedArray | None:
        """Return the values of a known column in row order of its level; None if only SQL can compute it."""
        if name in ("path", "name"):
            return None
        if name == "text":
            return self.tables.segments.column("text")
        with self._lock:
            if name not in self._cache:
                self._cache[name] = self._compute(name)
            return self._cache[name]

    def source(self, names: Iterable[str], level: Level) -> tuple[pa.Table, str]:
        """Return a table to select columns from.

        Args:
            names: Names of the columns.
            level: Level whose row order the table has.

        Returns:
            The table, and the SQL select list for the columns.
        """
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
        """Return values of items in row order of `level`: unchanged, or repeated for each segment."""
        import pyarrow as pa

        return values if level is Level.ITEM else values.take(pa.array(self.item_rows))

    def _roots(self, end: str = "") -> pa.ChunkedArray:
        """Return the root of each item's collection, dictionary-encoded, followed by `end` (with one slash only)."""
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
        if name in self.class_types:
            return self._class_column(name)
        if name in FACT_COLUMNS:
            declared = [self._declared(known, "DOUBLE") for known in self._declared_types if known.lower() == name]
            return pc.coalesce(*declared, items.column(name)) if declared else items.column(name)
        return items.column(name) if name in METADATA_COLUMNS else self._user_column(name)

    def _class_column(self, name: str) -> pa.ChunkedArray:
        """Return the class of each item, or its probability; null for items without one.

        Raises:
            UsageError: there is a user column of that name, too.
        """
        if any(known.lower() == name for known in self.user_types):
            raise UsageError(
                f"the column {name} is written by `bindsearch classify`, and sidecars or lists state one of that name: "
                f"remove the first (`bindsearch classify --remove-column {name}`), or rename the other and index again"
            )
        values = class_values(self.tables, name)
        return _encode(values) if self.class_types[name] == "VARCHAR" else values

    def _user_column(self, name: str) -> pa.ChunkedArray:
        if self.user_types[name] == INEXACT:
            raise UsageError(
                f"the column {name} holds whole numbers beyond 2**53 with fractions or of more than 64 bits, which no "
                "number of SQL holds exactly: give these values as texts, and index or import again"
            )
        values = self._declared(name, self.user_types[name])
        return _encode(values) if self.user_types[name] == "VARCHAR" else values

    def _declared(self, name: str, kind: str) -> pa.ChunkedArray:
        """Return the users' values under a name as an SQL type; null for values of other types."""
        pointer = "/" + name.replace("~", "~0").replace("/", "~1").replace("'", "''")
        sql = f"""SELECT TRY_CAST(json_extract_string("columns", '{pointer}') AS {kind}) FROM items"""
        return run_select(sql, {"items": self.tables.items.select(["columns"])}).column(0)


def class_values(tables: FilterTables, name: str) -> pa.ChunkedArray:
    """Return a column that `classify` wrote, of classes or of probabilities: null for items without one.

    Args:
        tables: The tables of a snapshot.
        name: Name of the column.
    """
    import pyarrow as pa

    stored = tables.class_columns
    key = None if stored is None else stored.named(name)
    assert stored is not None  # callers have the name from there
    assert key is not None
    column = stored.columns[key]
    found, known = look_up(stored.values_of(key), tables.class_keys(column.modality))
    known &= of_collections(column, tables.items.column("collection_id").to_numpy())
    if name == column.name:
        classes = pa.array(found.classes.astype(np.int32), mask=~known)
        labels = pa.array(column.labels, pa.large_string())
        return pa.chunked_array([pa.DictionaryArray.from_arrays(classes, labels)])
    return pa.chunked_array([pa.array(found.probabilities, mask=~known)])


def quote_name(name: str) -> str:
    """Return a column name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _type_of(kinds: set[str], lowest: int, highest: int) -> str:
    """Return the type of values of these kinds, whose whole numbers of at most 64 bits are in lowest..highest."""
    if kinds == {"BOOLEAN"}:
        return "BOOLEAN"
    if not kinds or not kinds <= NUMBERS:
        return "VARCHAR"
    if kinds <= WHOLE and highest < 2**63:
        return "BIGINT"
    if kinds <= WHOLE and lowest >= 0:
        return "UBIGINT"
    return "DOUBLE" if "HUGEINT" not in kinds and -EXACT_LIMIT <= lowest <= highest <= EXACT_LIMIT else INEXACT


def _encode(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Encode texts as one dictionary-encoded chunk."""
    import pyarrow as pa

    coded = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
    return pa.chunked_array([coded.unify_dictionaries().combine_chunks()], coded.type)


def _to_timestamps(mtime_ns: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert nanoseconds since 1970 to timestamps in microseconds, rounded down."""
    import pyarrow as pa

    return pa.chunked_array([pa.array(np.floor_divide(mtime_ns.to_numpy(), 1000)).cast(pa.timestamp("us"))])
