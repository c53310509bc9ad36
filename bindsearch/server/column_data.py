"""Columns of a store as filters know them, with values that a page suggests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bindsearch.search.sql_filter.columns import DOCUMENTED, FilterColumns, Level, quote_name
from bindsearch.search.sql_filter.duckdb_sandbox import run_select
from bindsearch.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_COLUMNS = 200
MAX_VALUES = 20
MAX_CHARACTERS = 100
MAX_ROWS = 200_000
"""Rows of a store that values are counted in: the first ones of a larger store."""
WITHOUT_VALUES = frozenset(("path", "name", "text", "item_id"))
"""Columns whose values are all different."""
RANGED = frozenset(("BIGINT", "UBIGINT", "DOUBLE", "TIMESTAMP"))


def column_data(store: Store) -> list[dict[str, Any]]:
    """Return name, type, meaning, most frequent values, minimum and maximum of the first MAX_COLUMNS columns."""
    snapshot = store.generation().snapshot
    columns = FilterColumns(snapshot)
    alive = {Level.ITEM: snapshot.item_alive, Level.SEGMENT: snapshot.segment_alive}
    types = {name: (kind, meaning) for name, (_, kind, meaning) in DOCUMENTED.items()}
    types |= {name: (kind, "written by `bindsearch classify`") for name, kind in columns.class_types.items()}
    types |= {name: (kind, "of your own") for name, kind in columns.user_types.items()}
    return [
        {"name": name, "type": kind, "meaning": meaning, **_values(columns, name, kind, alive[columns.level(name)])}
        for name, (kind, meaning) in [*types.items()][:MAX_COLUMNS]
    ]


def _values(columns: FilterColumns, name: str, kind: str, alive: NDArray[np.bool_] | None) -> Mapping[str, Any]:
    nothing: dict[str, Any] = {"values": [], "min": None, "max": None}
    if name in WITHOUT_VALUES or kind not in {*RANGED, "VARCHAR", "BOOLEAN"}:
        return nothing
    table, selected = columns.source([name], columns.level(name))
    if alive is not None:
        import pyarrow as pa

        table = table.filter(pa.array(alive))
    quoted = quote_name(name)
    values = f"SELECT {selected} FROM rows LIMIT {MAX_ROWS}"
    out = dict(nothing)
    if kind in RANGED:
        bounds = run_select(f"SELECT min({quoted}), max({quoted}) FROM ({values})", {"rows": table})
        out["min"], out["max"] = (_plain(column[0].as_py()) for column in bounds.columns)
    if kind not in ("DOUBLE", "TIMESTAMP"):
        counted = (
            f"SELECT {quoted} FROM ({values}) WHERE {quoted} IS NOT NULL GROUP BY 1 "
            f"ORDER BY count(*) DESC, 1 LIMIT {MAX_VALUES}"
        )
        found = run_select(counted, {"rows": table}).column(0).to_pylist()
        out["values"] = [value for value in found if len(str(value)) <= MAX_CHARACTERS]
    return out


def _plain(value: object) -> object:
    return value.isoformat(" ") if isinstance(value, datetime) else value
