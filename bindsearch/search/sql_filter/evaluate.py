"""Evaluation of `where` expressions: simple predicates by Arrow, others by DuckDB, combined by three-valued logic.

A predicate on columns of items only is evaluated once per item and then repeated for the item's segments. If a
predicate fails for some row, DuckDB evaluates the whole expression: another predicate, or the other bound of BETWEEN,
may exclude that row.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bindsearch.errors import UsageError
from bindsearch.search.sql_filter.arrow_predicates import simple_verdict
from bindsearch.search.sql_filter.ast import (
    Column,
    Expression,
    Operation,
    OperationKind,
    quote_name,
    rename_columns,
    to_sql,
    walk,
)
from bindsearch.search.sql_filter.columns import FilterColumns, Level
from bindsearch.search.sql_filter.duckdb_sandbox import TIME_LIMIT_S, run_select
from bindsearch.search.sql_filter.parse import parse_where, quotes_hint, refuse

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

LOGICAL = frozenset((OperationKind.AND, OperationKind.OR, OperationKind.NOT))
"""Operations that combine conditions."""
_ROW = "#row"

Verdict = tuple[Level, "pa.ChunkedArray"]
"""Level, and truth value of an expression for each row of the level's table, null if unknown."""


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
    import pyarrow.compute as pc

    started = time.monotonic()
    expression = _resolve(text, parse_where(text), columns)
    try:
        level, truth = _combine(expression, _verdicts(expression, columns, limit_s, started), columns)
        mask: NDArray[np.bool_] = pc.fill_null(truth, False).to_numpy()
    except UsageError:
        level, mask = _evaluate_whole(expression, columns, limit_s, started)
    return mask[columns.item_rows] if level is Level.ITEM else mask


def _resolve(text: str, expression: Expression, columns: FilterColumns) -> Expression:
    names = {}
    for part in walk(expression):
        if isinstance(part, Column):
            known = columns.resolve(part.name)
            if known is None:
                refuse(
                    text, part.position, columns.explain_unknown(part.name, quotes_hint(text, part.name, part.position))
                )
            names[part.name] = known
    return rename_columns(expression, names)


def _leaves(expression: Expression) -> Iterator[Expression]:
    """Yield the conditions that AND, OR and NOT combine."""
    if isinstance(expression, Operation) and expression.kind in LOGICAL:
        for arg in expression.args:
            yield from _leaves(arg)
    else:
        yield expression


def _level(expression: Expression, columns: FilterColumns) -> Level:
    levels = {columns.level(part.name) for part in walk(expression) if isinstance(part, Column)}
    return Level.SEGMENT if Level.SEGMENT in levels else Level.ITEM


def _verdicts(
    expression: Expression, columns: FilterColumns, limit_s: float, started: float
) -> Mapping[Expression, Verdict]:
    """Evaluate each leaf; DuckDB evaluates all leaves of a level that are not simple in one query."""
    verdicts: dict[Expression, Verdict] = {}
    others: dict[Level, list[Expression]] = {}
    for leaf in dict.fromkeys(_leaves(expression)):
        level = _level(leaf, columns)
        truth = simple_verdict(leaf, columns)
        if truth is None:
            others.setdefault(level, []).append(leaf)
        else:
            verdicts[leaf] = level, truth
    for level, leaves in others.items():
        answer = _evaluate_in_duckdb(leaves, level, columns, limit_s, started)
        verdicts.update((leaf, (level, truth)) for leaf, truth in zip(leaves, answer, strict=True))
    return verdicts


def _evaluate_in_duckdb(
    leaves: Sequence[Expression], level: Level, columns: FilterColumns, limit_s: float, started: float
) -> list[Any]:
    import pyarrow as pa

    source, selected = columns.source(_names(leaves), level)
    answer = run_select(_select_leaves(leaves, selected), {"source": source}, limit_s, started)
    _check_conditions(leaves, answer)
    return [truth.cast(pa.bool_()) for truth in answer.columns]


def _evaluate_whole(
    expression: Expression, columns: FilterColumns, limit_s: float, started: float
) -> tuple[Level, NDArray[np.bool_]]:
    """Evaluate an expression as DuckDB's WHERE: a condition is not evaluated for rows that another one excludes.

    Returns:
        The level, and True for the rows of its table that the expression is true for: bool (n,).
    """
    import numpy as np
    import pyarrow as pa

    level, leaves = _level(expression, columns), [*_leaves(expression)]
    source, selected = columns.source(_names(leaves), level)
    tables = {"source": source.append_column(_ROW, pa.array(np.arange(source.num_rows)))}
    _check_conditions(leaves, run_select(f"{_select_leaves(leaves, selected)} LIMIT 0", tables, limit_s, started))
    row = quote_name(_ROW)
    sql = f"SELECT {row} FROM (SELECT {row}, {selected} FROM source) WHERE {to_sql(expression)}"
    mask = np.zeros(source.num_rows, bool)
    mask[run_select(sql, tables, limit_s, started).column(0).to_numpy()] = True
    return level, mask


def _names(expressions: Iterable[Expression]) -> list[str]:
    return sorted({part.name for one in expressions for part in walk(one) if isinstance(part, Column)})


def _select_leaves(leaves: Sequence[Expression], selected: str) -> str:
    predicates = ", ".join(f"{to_sql(leaf)} AS c{number}" for number, leaf in enumerate(leaves))
    return f"SELECT {predicates} FROM (SELECT {selected} FROM source)"


def _check_conditions(leaves: Sequence[Expression], answer: pa.Table) -> None:
    """Check that each column of an answer, one per leaf, has truth values.

    Raises:
        UsageError: one has other values.
    """
    import pyarrow as pa

    for leaf, kind in zip(leaves, answer.schema.types, strict=True):
        if kind not in (pa.bool_(), pa.null()):
            raise UsageError(f"{to_sql(leaf)} in the filter gives {kind}: write a condition that is true or false")


def _combine(expression: Expression, verdicts: Mapping[Expression, Verdict], columns: FilterColumns) -> Verdict:
    import pyarrow.compute as pc

    if not isinstance(expression, Operation) or expression.kind not in LOGICAL:
        return verdicts[expression]
    parts = [_combine(arg, verdicts, columns) for arg in expression.args]
    if expression.kind is OperationKind.NOT:
        ((level, truth),) = parts
        return level, pc.invert(truth)
    join = pc.and_kleene if expression.kind is OperationKind.AND else pc.or_kleene
    joined: dict[Level, Any] = {}
    for level, truth in parts:
        joined[level] = join(joined[level], truth) if level in joined else truth
    if len(joined) == 1:
        return next(iter(joined.items()))
    return Level.SEGMENT, join(joined[Level.SEGMENT], _to_segments(joined[Level.ITEM], columns))


def _to_segments(truth: pa.ChunkedArray, columns: FilterColumns) -> pa.ChunkedArray:
    import pyarrow as pa

    return truth.combine_chunks().take(pa.array(columns.item_rows))
