"""Simple predicates (a column and constants), evaluated on Arrow arrays with the same results as DuckDB.

Predicates whose results might differ are left to DuckDB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bindsearch.search.sql_filter.ast import Column, Constant, Expression, LiteralKind, Operation, OperationKind

if TYPE_CHECKING:
    import pyarrow as pa

    from bindsearch.search.sql_filter.columns import FilterColumns

FLIPPED: Mapping[str, str] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""Comparison operators for swapped operands."""
INT64_MAX = 2**63 - 1
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d)?")
_EXACT_NUMBER = re.compile(r"-?\d{1,15}|-?(?=[\d.]{2,16}$)\d*\.\d+")
_LIKE = re.compile(r"(%?)([^%_\\]*)(%?)")

Values = int | float | str | bool | datetime | None
Test = Callable[[Any], Any]


def simple_verdict(expression: Expression, columns: FilterColumns) -> pa.ChunkedArray | None:
    """Evaluate a predicate for each row of its column's table.

    Args:
        expression: The predicate, with resolved column names.
        columns: The columns.

    Returns:
        Truth values bool (n,), null if unknown; None if the predicate is not simple.
    """
    column, test = _to_test(expression, columns)
    values = columns.array(column) if test is not None else None
    return None if values is None or test is None else _apply(test, values)


def _to_test(expression: Expression, columns: FilterColumns) -> tuple[str, Test | None]:
    """Return the column of a predicate and a test of its values; None for the test if it is not simple."""
    import pyarrow.compute as pc

    match expression:
        case Column(name) if _type_of(name, columns) == "bool":
            return name, lambda values: values
        case Operation(OperationKind.IS_NULL, _, (Column(name),)):
            return name, pc.is_null
        case Operation(OperationKind.IS_NOT_NULL, _, (Column(name),)):
            return name, pc.is_valid
        case Operation(OperationKind.COMPARE, operator, (Column(name), constant)) if operator in FLIPPED:
            return name, _comparison(name, operator, constant, columns)
        case Operation(OperationKind.COMPARE, operator, (constant, Column(name))) if operator in FLIPPED:
            return name, _comparison(name, FLIPPED[operator], constant, columns)
        case Operation(OperationKind.BETWEEN, _, (Column(name), lower, upper)):
            bounds = _constants(name, (lower, upper), columns)
            return name, _both(_compare(">=", bounds[0]), _compare("<=", bounds[1])) if bounds else None
        case Operation(OperationKind.IN, _, (Column(name), *options)):
            chosen = _constants(name, options, columns)
            return name, _membership(chosen) if chosen else None
        case Operation(
            OperationKind.LIKE, "LIKE" | "NOT LIKE" as operator, (Column(name), Constant(LiteralKind.TEXT, pattern))
        ):
            return name, _pattern_match(pattern, operator) if _type_of(name, columns) == "string" else None
    return "", None


def _apply(test: Test, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Test values; each value of a dictionary once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(values.type):
        return test(values)
    return pa.chunked_array([_apply_to_codes(test, chunk, pc) for chunk in values.chunks], pa.bool_())


def _apply_to_codes(test: Test, chunk: Any, pc: Any) -> Any:
    truth = test(chunk.dictionary)
    if test in (pc.is_null, pc.is_valid):
        return test(chunk)
    # a single matching code is the common case; comparing is six times as fast as looking up every code
    if truth.null_count == 0 and truth.true_count == 1:
        return pc.equal(chunk.indices, truth.to_pylist().index(True))
    return truth.take(chunk.indices)


def _type_of(name: str, columns: FilterColumns) -> str:
    """Return a column's type (string, int64, double, bool, timestamp); empty if only SQL can compute the column."""
    import pyarrow as pa

    values = columns.array(name)
    if values is None:
        return ""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return "string" if pa.types.is_large_string(kind) else str(kind)


def _comparison(name: str, operator: str, constant: Expression, columns: FilterColumns) -> Test | None:
    values = _constants(name, (constant,), columns)
    return _compare(operator, values[0]) if values else None


def _constants(name: str, written: Sequence[Expression], columns: FilterColumns) -> list[Values] | None:
    """Convert constants to a column's type; None if DuckDB might interpret one differently."""
    kind = _type_of(name, columns)
    values = [_to_value(constant, kind) for constant in written]
    if None in values:
        return None
    # DuckDB compares an integer column as double if any of several constants is a double
    return values if kind != "int64" or len({type(value) for value in values}) == 1 else None


def _to_value(constant: Expression, kind: str) -> Values:
    match constant, kind:
        case (Constant(LiteralKind.TEXT, text), "string"):
            return text
        case (Constant(LiteralKind.BOOLEAN, text), "bool"):
            return text == "true"
        case (Constant(LiteralKind.INTEGER, text), "int64" | "double"):
            whole = int(text) if text.lstrip("-").isdigit() else INT64_MAX + 1
            return None if abs(whole) > INT64_MAX else whole if kind == "int64" else float(whole) + 0.0
        case (Constant(LiteralKind.NUMBER, text), "int64") if "e" in text.lower():
            return _finite(text)
        case (Constant(LiteralKind.NUMBER, text), "double") if "e" in text.lower() or _EXACT_NUMBER.fullmatch(text):
            return _finite(text)
        case (Constant(LiteralKind.TEXT, text), "timestamp") if _TIME.fullmatch(text):
            return _to_time(text)
        case (Operation(OperationKind.CAST, "TIMESTAMP", (Constant(LiteralKind.TEXT, text),)), "timestamp") if (
            _TIME.fullmatch(text)
        ):
            return _to_time(text)
        case (Operation(OperationKind.CAST, "DATE", (Constant(LiteralKind.TEXT, text),)), "timestamp") if re.fullmatch(
            r"[\d-]+", text
        ):
            return _to_time(text) if _TIME.fullmatch(text) else None
    return None


def _finite(text: str) -> float | None:
    number = float(text.replace("_", "")) + 0.0
    return number if math.isfinite(number) else None


def _to_time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _compare(operator: str, value: Values) -> Test:
    """Return a comparison; > and >= are negated <= and <, because DuckDB treats NaN as the greatest number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    functions = {"=": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal}
    opposite = {">": "<=", ">=": "<"}
    function = functions[opposite.get(operator, operator)]

    def test(values: Any) -> Any:
        as_double = isinstance(value, float) and pa.types.is_integer(values.type)
        truth = function(pc.cast(values, pa.float64(), safe=False) if as_double else values, _scalar(value))
        return pc.invert(truth) if operator in opposite else truth

    return test


def _scalar(value: Values) -> pa.Scalar:
    import pyarrow as pa

    return pa.scalar(value, pa.timestamp("us")) if isinstance(value, datetime) else pa.scalar(value)


def _both(first: Test, second: Test) -> Test:
    import pyarrow.compute as pc

    return lambda values: pc.and_kleene(first(values), second(values))


def _membership(options: Sequence[Values]) -> Test:
    import pyarrow as pa
    import pyarrow.compute as pc

    value_set = pa.array(options, pa.timestamp("us")) if isinstance(options[0], datetime) else pa.array(options)

    def test(values: Any) -> Any:
        if pa.types.is_floating(value_set.type):
            values = pc.add(pc.cast(values, pa.float64(), safe=False), 0.0)  # -0.0 equals 0.0
        return pc.if_else(pc.is_valid(values), pc.is_in(values, value_set=value_set.cast(values.type)), None)

    return test


def _pattern_match(pattern: str, operator: str) -> Test | None:
    """Return a test for LIKE with a prefix, suffix, substring or whole text; None for other patterns."""
    import pyarrow.compute as pc

    parts = _LIKE.fullmatch(pattern)
    if parts is None:
        return None
    before, text, after = parts.groups()
    if before and after:
        find: Test = lambda values: pc.match_substring(values, text)  # noqa: E731
    elif before:
        find = lambda values: pc.ends_with(values, text)  # noqa: E731
    elif after:
        find = lambda values: pc.starts_with(values, text)  # noqa: E731
    else:
        find = lambda values: pc.equal(values, text)  # noqa: E731
    return find if operator == "LIKE" else lambda values: pc.invert(find(values))
