"""Evaluation of `where` expressions: simple predicates by Arrow, others by DuckDB, combined by three-valued logic.

A predicate on columns of items only is evaluated once per item and then repeated for the item's segments.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bindsearch.errors import UsageError
from bindsearch.search.sql_filter.arrow_predicates import simple_verdict
from bindsearch.search.sql_filter.ast import Column, Expression, Operation, OperationKind, rename_columns, to_sql, walk
from bindsearch.search.sql_filter.columns import FilterColumns, Level
from bindsearch.search.sql_filter.duckdb_sandbox import TIME_LIMIT_S, run_select
from bindsearch.search.sql_filter.parse import parse_where, refuse

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

LOGICAL = frozenset((OperationKind.AND, OperationKind.OR, OperationKind.NOT))
"""Operations that combine conditions."""

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

    expression = _resolve(text, parse_where(text), columns)
    level, truth = _combine(expression, _verdicts(expression, columns, limit_s), columns)
    mask: NDArray[np.bool_] = pc.fill_null(truth, False).to_numpy()
    return mask[columns.item_rows] if level is Level.ITEM else mask


def _resolve(text: str, expression: Expression, columns: FilterColumns) -> Expression:
    names = {}
    for part in walk(expression):
        if isinstance(part, Column):
            known = columns.resolve(part.name)
            if known is None:
                refuse(text, part.position, columns.explain_unknown(part.name))
            names[part.name] = known
    return rename_columns(expression, names)


def _leaves(expression: Expression) -> Iterator[Expression]:
    """Yield the conditions that AND, OR and NOT combine."""
    if isinstance(expression, Operation) and expression.kind in LOGICAL:
        for arg in expression.args:
            yield from _leaves(arg)
    else:
        yield expression


def _verdicts(expression: Expression, columns: FilterColumns, limit_s: float) -> Mapping[Expression, Verdict]:
    """Evaluate each leaf; DuckDB evaluates all leaves of a level that are not simple in one query."""
    verdicts: dict[Expression, Verdict] = {}
    others: dict[Level, list[Expression]] = {}
    for leaf in dict.fromkeys(_leaves(expression)):
        levels = {columns.level(part.name) for part in walk(leaf) if isinstance(part, Column)}
        level = Level.SEGMENT if Level.SEGMENT in levels else Level.ITEM
        truth = simple_verdict(leaf, columns)
        if truth is None:
            others.setdefault(level, []).append(leaf)
        else:
            verdicts[leaf] = level, truth
    started = time.monotonic()
    for level, leaves in others.items():
        answer = _evaluate_in_duckdb(leaves, level, columns, limit_s, started)
        verdicts.update((leaf, (level, truth)) for leaf, truth in zip(leaves, answer, strict=True))
    return verdicts


def _evaluate_in_duckdb(
    leaves: list[Expression], level: Level, columns: FilterColumns, limit_s: float, started: float
) -> list[Any]:
    import pyarrow as pa

    names = sorted({part.name for leaf in leaves for part in walk(leaf) if isinstance(part, Column)})
    source, selected = columns.source(names, level)
    predicates = ", ".join(f"{to_sql(leaf)} AS c{number}" for number, leaf in enumerate(leaves))
    sql = f"SELECT {predicates} FROM (SELECT {selected} FROM source)"
    answer = run_select(sql, {"source": source}, limit_s, started)
    for leaf, kind in zip(leaves, answer.schema.types, strict=True):
        if kind not in (pa.bool_(), pa.null()):
            raise UsageError(f"{to_sql(leaf)} in the filter gives {kind}: write a condition that is true or false")
    return [truth.cast(pa.bool_()) for truth in answer.columns]


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
