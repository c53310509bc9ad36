"""Evaluation of `where` expressions by DuckDB, as a WHERE over the Arrow tables of a snapshot.

An expression over columns of items is evaluated once per item and then repeated for the item's segments. Else only its
conditions on long texts are, which are slow to repeat. If one of them fails for some item, DuckDB evaluates the whole
expression per segment: another condition may exclude that item.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from bindsearch.errors import UsageError
from bindsearch.search.sql_filter.columns import FilterColumns, Level, quote_name
from bindsearch.search.sql_filter.duckdb_sandbox import TIME_LIMIT_S, run_select
from bindsearch.search.sql_filter.parse import (
    LOGICAL,
    Node,
    is_condition,
    parse_where,
    position_of,
    quotes_hint,
    refuse,
    to_sql,
    walk,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Source = tuple["pa.Table", str]
"""Table named source, and the select list of the columns, from `FilterColumns.source`."""
Limits = tuple[float, float]
"""Time limit in seconds, and the time from which it counts, as for `run_select`."""


def where_mask(text: str, columns: FilterColumns, limit_s: float = TIME_LIMIT_S) -> NDArray[np.bool_]:
    """Evaluate a `where` expression.

    Args:
        text: The expression.
        columns: The columns of a snapshot.
        limit_s: Time limit in seconds.

    Returns:
        True for the segments that the expression is true for: bool (n segments,). Unknown (NULL) counts as false.

    Raises:
        UsageError: the expression does not parse or uses something that is not allowed, a column is unknown, the result
            is not a truth value, or the evaluation fails or exceeds the time limit.
    """
    started = time.monotonic()
    expression = parse_where(text)
    _resolve(text, expression, columns)
    limits = limit_s, started
    leaves = [*_leaves(expression)]
    of_items = [leaf for leaf in leaves if _is_of_items(leaf, columns)]
    if len(of_items) == len(leaves):
        source = columns.source(_names(leaves), Level.ITEM)
        return _select_rows(expression, leaves, source, limits)[columns.item_rows]
    with suppress(UsageError):
        if slow := [leaf for leaf in of_items if any(columns.array(name) is None for name in _names([leaf]))]:
            truths = _select(slow, columns.source(_names(slow), Level.ITEM), limits)
            return _select_rows(*_with_truths(expression, slow, truths, columns), limits)
    return _select_rows(expression, leaves, columns.source(_names(leaves), Level.SEGMENT), limits)


def _resolve(text: str, expression: Node, columns: FilterColumns) -> None:
    """Replace the names of columns by those that the columns have."""
    for node in walk(expression):
        if node["class"] == "COLUMN_REF":
            (name,), where = node["column_names"], position_of(text, node)
            known = columns.resolve(name)
            if known is None:
                refuse(text, where, columns.explain_unknown(name, quotes_hint(text, name, where)))
            node["column_names"] = [known]


def _leaves(expression: Node) -> Iterator[Node]:
    """Yield the conditions that AND, OR and NOT combine."""
    if expression["type"] in LOGICAL:
        for child in expression["children"]:
            yield from _leaves(child)
    else:
        yield expression


def _names(expressions: Iterable[Node]) -> list[str]:
    return sorted({name for one in expressions for node in walk(one) for name in node.get("column_names", ())})


def _is_of_items(expression: Node, columns: FilterColumns) -> bool:
    return all(columns.level(name) is Level.ITEM for name in _names([expression]))


def _select(leaves: Sequence[Node], source: Source, limits: Limits, end: str = "") -> pa.Table:
    """Return the truth value of each condition for each row of a source, null if unknown.

    Raises:
        UsageError: a condition has other values, or the evaluation fails.
    """
    import numpy as np
    import pyarrow as pa

    table, selected = source
    sql = f'SELECT {to_sql(leaves)}, "#row" FROM (SELECT "#row", {selected} FROM source){end}'
    answer = run_select(sql, {"source": _numbered(table)}, *limits)
    rows = answer.column(len(leaves)).to_numpy()
    answer = answer.remove_column(len(leaves))
    if (rows[1:] < rows[:-1]).any():  # DuckDB joins a long list of values, in no certain order
        answer = answer.take(pa.array(np.argsort(rows)))
    for leaf, kind in zip(leaves, answer.schema.types, strict=True):
        if kind not in (pa.bool_(), pa.null()):
            raise UsageError(f"{to_sql([leaf])} in the filter gives {kind}: write a condition that is true or false")
    return answer


def _select_rows(expression: Node, leaves: Sequence[Node], source: Source, limits: Limits) -> NDArray[np.bool_]:
    """Return True for the rows that WHERE selects; a condition is not evaluated for rows that another one excludes.

    Args:
        expression: The expression.
        leaves: Those of its conditions that are not known to be true or false.
        source: The table and its columns.
        limits: Limits of time.
    """
    import numpy as np

    if unsure := [leaf for leaf in leaves if not is_condition(leaf)]:
        _select(unsure, source, limits, " LIMIT 0")
    table, selected = source
    mask = np.zeros(table.num_rows, bool)
    sql = f'SELECT "#row" FROM (SELECT "#row", {selected} FROM source) WHERE {to_sql([expression])}'
    mask[run_select(sql, {"source": _numbered(table)}, *limits).column(0).to_numpy()] = True
    return mask


def _numbered(table: pa.Table) -> pa.Table:
    """Return a table with a column #row, the number of each row."""
    import numpy as np
    import pyarrow as pa

    return table.append_column("#row", pa.array(np.arange(table.num_rows)))


def _with_truths(
    expression: Node, known: Sequence[Node], truths: pa.Table, columns: FilterColumns
) -> tuple[Node, Sequence[Node], Source]:
    """Return an expression whose known conditions are columns of truth values, the others, and a source per segment."""
    import pyarrow as pa

    names = {id(leaf): f"#truth{number}" for number, leaf in enumerate(known)}

    def replaced(node: Node) -> Node:
        if id(node) in names:
            return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [names[id(node)]]}
        return node | {"children": [*map(replaced, node["children"])]} if node["type"] in LOGICAL else node

    others = [leaf for leaf in _leaves(expression) if id(leaf) not in names]
    table, selected = columns.source(_names(others), Level.SEGMENT)
    for name, truth in zip(names.values(), truths.columns, strict=True):
        table = table.append_column(name, truth.cast(pa.bool_()).combine_chunks().take(pa.array(columns.item_rows)))
    return replaced(expression), others, (table, ", ".join([selected, *map(quote_name, names.values())]))
