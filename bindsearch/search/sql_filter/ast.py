"""Syntax trees of `where` expressions, and their SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class LiteralKind(StrEnum):
    """Kind of a constant."""

    TEXT = "STRING"
    INTEGER = "INTEGER"
    NUMBER = "NUMERIC"
    BOOLEAN = "BOOLEAN"
    NULL = "NULL_LITERAL"


class OperationKind(StrEnum):
    """Kind of an operation; comparisons, functions, operators and casts also have a name."""

    COMPARE = "compare"
    AND = "and"
    OR = "or"
    NOT = "not"
    IS_NULL = "is null"
    IS_NOT_NULL = "is not null"
    IN = "in"
    BETWEEN = "between"
    LIKE = "like"
    OPERATOR = "operator"
    FUNCTION = "function"
    COALESCE = "coalesce"
    CASE = "case"
    CAST = "cast"
    TRY_CAST = "try_cast"


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: Name of the column.
        position: Index of its first character in the expression.
    """

    name: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant.

    Attributes:
        kind: Kind of the constant.
        text: The constant as written; a string without its quotes.
    """

    kind: LiteralKind
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation.

    Attributes:
        kind: Kind of the operation.
        name: Operator, function, or type of a cast.
        args: Operands; those of CASE are conditions and values in turn, and the value of ELSE last.
    """

    kind: OperationKind
    name: str
    args: tuple[Expression, ...]


Expression = Column | Constant | Operation


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and its sub-expressions, outermost first."""
    yield expression
    if isinstance(expression, Operation):
        for arg in expression.args:
            yield from walk(arg)


def rename_columns(expression: Expression, names: Mapping[str, str]) -> Expression:
    """Return the expression with columns renamed."""
    match expression:
        case Column(name, position):
            return Column(names[name], position)
        case Operation(kind, name, args):
            return Operation(kind, name, tuple(rename_columns(arg, names) for arg in args))
    return expression


def to_sql(expression: Expression) -> str:
    """Return the expression as SQL for DuckDB, with parentheses around every operation."""
    match expression:
        case Column(name):
            return quote_name(name)
        case Constant(kind, text):
            return "'" + text.replace("'", "''") + "'" if kind is LiteralKind.TEXT else f"({text})"
        case Operation(kind, name, args):
            return f"({_operation_sql(kind, name, [to_sql(arg) for arg in args])})"


def quote_name(name: str) -> str:
    """Return a column name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _operation_sql(kind: OperationKind, name: str, args: Sequence[str]) -> str:
    match kind:
        case OperationKind.COMPARE | OperationKind.LIKE:
            return f"{args[0]} {name} {args[1]}"
        case OperationKind.OPERATOR:
            return f" {name} ".join(args) if len(args) > 1 else f"{name} {args[0]}"
        case OperationKind.AND | OperationKind.OR:
            return f" {kind} ".join(args)
        case OperationKind.NOT:
            return f"not {args[0]}"
        case OperationKind.IS_NULL | OperationKind.IS_NOT_NULL:
            return f"{args[0]} {kind}"
        case OperationKind.IN:
            return f"{args[0]} in ({', '.join(args[1:])})"
        case OperationKind.BETWEEN:
            return f"{args[0]} between {args[1]} and {args[2]}"
        case OperationKind.CASE:
            checks = [f"when {when} then {then}" for when, then in zip(args[:-1:2], args[1:-1:2], strict=True)]
            return f"case {' '.join(checks)} else {args[-1]} end"
        case OperationKind.CAST | OperationKind.TRY_CAST:
            return f"{kind}({args[0]} as {name})"
        case OperationKind.FUNCTION | OperationKind.COALESCE:
            return f"{'strpos' if name == 'position' else name}({', '.join(args)})"
