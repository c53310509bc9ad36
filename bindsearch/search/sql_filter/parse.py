"""Parsing of `where` expressions: conversion of DuckDB's syntax tree to our own, by an allowlist.

The SQL that is run is generated from our tree, so only what the tree can express is ever run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from bindsearch.errors import QuerySyntaxError, UsageError
from bindsearch.search.sql_filter.ast import Column, Constant, Expression, LiteralKind, Operation, OperationKind, walk
from bindsearch.search.sql_filter.duckdb_sandbox import serialize_select

MAX_LENGTH = 10_000
"""Maximum number of characters of an expression."""
MAX_NESTING = 100
"""Maximum nesting of parentheses and of the syntax tree."""
MAX_JOINED = 32
"""Maximum number of texts concatenated by || and concat in an expression, which limits its memory."""
MAX_PATTERN = 1_000
"""Maximum length of a regular expression times its repetitions; DuckDB checks the time every 2048 rows only."""

_FUNCTIONS = (
    "abs ceil ceiling floor round trunc sign sqrt ln log log2 log10 exp pow power mod greatest least if ifnull nullif "
    "isnan isinf isfinite lower lcase upper ucase length len strlen char_length character_length trim ltrim rtrim "
    "substring substr left right reverse concat contains starts_with ends_with prefix suffix instr strpos position "
    "split_part ascii translate strip_accents like_escape not_like_escape ilike_escape not_ilike_escape "
    "regexp_matches regexp_full_match regexp_extract year month day hour minute second quarter week weekofyear "
    "dayofweek weekday isodow dayofyear dayname monthname date_trunc datetrunc date_part datepart date_diff datediff "
    "last_day epoch strftime to_years to_months to_weeks to_days to_hours to_minutes to_seconds"
)
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Allowed functions: they depend on the values of one row only and cannot multiply the size of a text."""
OPERATORS = frozenset(("+", "-", "*", "/", "//", "%", "**", "^", "||"))
LIKES: Mapping[str, str] = {"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE"}
_ESCAPES = ("like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape")
_AS_OPERATORS = frozenset((*OPERATORS, *LIKES, *_ESCAPES))
PATTERNS = frozenset(("regexp_matches", "regexp_full_match", "regexp_extract"))
"""Functions whose second argument is a regular expression."""
_TYPES = (
    "BOOLEAN BOOL TINYINT SMALLINT INTEGER INT BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT FLOAT REAL DOUBLE "
    "DECIMAL NUMERIC VARCHAR TEXT STRING DATE TIME TIMESTAMP INTERVAL"
)
TYPES = frozenset(_TYPES.split())
"""Allowed types of a cast."""
COMPARISONS: Mapping[str, str] = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "!=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}
REFUSED: Mapping[str, str] = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "LAMBDA": "a lambda",
    "PARAMETER": "a parameter",
    "STAR": "a *",
    "POSITIONAL_REFERENCE": "a #",
    "COLLATE": "a collation",
    "DEFAULT": "DEFAULT",
}
"""Names of other constructs of DuckDB's parser, for error messages."""
_QUERY = "SELECT ("
_TOKEN = re.compile(r"'(?:[^']|'')*'?|\"(?:[^\"]|\"\")*\"?|--|/\*|[()\[\]{};$]|[eExXbBuU]&?(?=')")
_NUMBER = re.compile(r"-?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?")
_REPETITION = re.compile(r"\{(\d*)(?:,(\d*))?\}")
_COMPARED = re.compile(r"(?:[=<>]|\bi?like)\s*$", re.IGNORECASE)
_WIDE_CLASS = re.compile(r"\\[pP]|\(\?[a-z]*i")


def parse_where(text: str) -> Expression:
    """Parse and validate an expression; names of columns are not resolved.

    Raises:
        UsageError: the expression is empty, not UTF-8, too long or nested too deeply, or concatenates too many texts.
        QuerySyntaxError: it does not parse, or something in it is not allowed; the error has the position.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"the filter has {len(text)} characters: write at most {MAX_LENGTH}")
    _check_tokens(text)
    deep = UsageError(f"the filter is nested too deeply: at most {MAX_NESTING} levels")
    try:
        answer = serialize_select(f"{_QUERY}{text})")
    except RecursionError:
        raise deep from None
    if answer["error"]:
        message = answer["error_message"]
        if "expression depth" in message:
            raise deep
        message = " ".join(message.split())  # it may repeat several lines of the filter
        refuse(text, _to_position(text, int(answer.get("position") or 0)), f"the filter does not parse: {message}")
    expected = serialize_select(f"{_QUERY}TRUE)")
    selected = _take_selected(answer)
    _take_selected(expected)
    if len(selected) != 1 or _without_positions(answer) != _without_positions(expected):
        refuse(text, 0, "the filter must be a single expression")
    expression = _Reader(text).read(selected[0], MAX_NESTING)
    if (joined := _count_joined(expression)) > MAX_JOINED:
        raise UsageError(f"the filter concatenates {joined} texts: at most {MAX_JOINED}")
    return expression


def refuse(text: str, position: int, message: str) -> NoReturn:
    """Raise a QuerySyntaxError for a position; of a long expression it quotes an excerpt only.

    Raises:
        QuerySyntaxError: always.
    """
    start = max(position - 60, 0) if len(text) > 200 else 0
    excerpt = text[start : start + 120] if len(text) > 200 else text
    raise QuerySyntaxError(message, excerpt, min(position - start, len(excerpt)))


def quotes_hint(text: str, name: str, position: int) -> str:
    """Return how to write a name that stands where an expression compares with a value; empty if it does not."""
    return f"write '{name}' in single quotes if it is a text; " if _COMPARED.search(text[:position]) else ""


def _check_tokens(text: str) -> None:
    """Reject, before DuckDB parses the text, tokens that its parser is slow at or that could be ambiguous."""
    if not text.strip():
        raise UsageError("the filter is empty: write a condition such as modality = 'audio'")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the filter {text[:120]!r} is not UTF-8: give it in UTF-8") from None
    if (zero := text.find("\0")) >= 0:
        refuse(text, zero, "the filter contains a null character")
    open_brackets: list[int] = []
    for match in _TOKEN.finditer(text):
        token, position = match.group(), match.start()
        if token[0] in "'\"" and token.count(token[0]) % 2 == 1:
            refuse(text, position, f"this {token[0]} is not closed")
        elif token in ("--", "/*"):
            refuse(text, position, "comments are not allowed in a filter")
        elif token in (";", "$"):
            refuse(text, position, f"{token} is not allowed in a filter")
        elif token[0].isalpha() and not text[position - 1 : position].isalnum():
            refuse(text, position, f"write a text in plain quotes, without the prefix {token}")
        elif token in "([{":
            open_brackets.append(position)
            if len(open_brackets) > MAX_NESTING:
                refuse(text, position, f"the filter is nested too deeply: at most {MAX_NESTING} levels")
        elif token in ")]}":
            if not open_brackets:
                refuse(text, position, f"this {token} has no opening bracket")
            open_brackets.pop()
    if open_brackets:
        refuse(text, open_brackets[-1], f"this {text[open_brackets[-1]]} is not closed")


def _take_selected(answer: Any) -> Any:
    """Remove the select list from a syntax tree and return it; empty if the tree is not a plain SELECT."""
    node = answer["statements"][0]["node"] if len(answer["statements"]) == 1 else {}
    return node.pop("select_list", [])


def _without_positions(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_positions(value) for key, value in tree.items() if not key.startswith("query_location")}
    return [_without_positions(value) for value in tree] if isinstance(tree, list) else tree


def _to_position(text: str, location: int) -> int:
    """Convert a byte position in the query to a character position in `text`."""
    return len(text.encode()[: max(location - len(_QUERY), 0)].decode(errors="ignore"))


def _count_joined(expression: Expression) -> int:
    joins = [e for e in walk(expression) if isinstance(e, Operation) and e.name in ("||", "concat")]
    return sum(len(join.args) - 1 for join in joins)


def _pattern_cost(pattern: str) -> int:
    cost = len(pattern) + 100 * len(_WIDE_CLASS.findall(pattern))
    for bounds in _REPETITION.findall(pattern):
        cost *= max(1, *(int(bound) for bound in bounds if bound), 1)
    return cost


@dataclass(frozen=True, slots=True)
class _Reader:
    """Converter of DuckDB's syntax tree; it rejects unknown nodes."""

    text: str

    def read(self, node: Any, levels: int) -> Expression:
        if levels == 0:
            self._refuse(node, f"the filter is nested too deeply: at most {MAX_NESTING} levels")
        if node["class"] == "COLUMN_REF":
            return self._column(node)
        if node["class"] == "CONSTANT":
            return self._constant(node)
        readers: Mapping[str, Callable[[Any, int], Expression]] = {
            "COMPARISON": self._comparison,
            "CONJUNCTION": self._conjunction,
            "OPERATOR": self._operator,
            "BETWEEN": self._between,
            "CASE": self._case,
            "CAST": self._cast,
            "FUNCTION": self._function,
        }
        name = node["class"]
        if name not in readers:
            self._refuse(node, f"{REFUSED.get(name, name.lower())} is not allowed in a filter")
        return readers[name](node, levels - 1)

    def _refuse(self, node: Any, message: str) -> NoReturn:
        refuse(self.text, self._position(node), message)

    def _position(self, node: Any) -> int:
        return _to_position(self.text, int(node.get("query_location") or 0))

    def _all(self, nodes: Sequence[Any], levels: int) -> tuple[Expression, ...]:
        return tuple(self.read(node, levels) for node in nodes)

    def _column(self, node: Any) -> Expression:
        names = node["column_names"]
        if len(names) != 1:
            name = ".".join(names)
            hint = quotes_hint(self.text, name, self._position(node))
            self._refuse(node, f'columns have no table prefix: {hint}write "{name}" in double quotes if it is a column')
        return Column(names[0], self._position(node))

    def _constant(self, node: Any) -> Expression:
        kind, text = node["literal"]["kind"], node["literal"].get("text", "")
        if kind == LiteralKind.NULL:
            return Constant(LiteralKind.NULL, "null")
        if kind == LiteralKind.TEXT or (kind == LiteralKind.BOOLEAN and text in ("true", "false")):
            return Constant(LiteralKind(kind), text)
        if kind not in (LiteralKind.INTEGER, LiteralKind.NUMBER) or not _NUMBER.fullmatch(text):
            self._refuse(node, f"a constant of the kind {kind} is not allowed in a filter")
        return Constant(LiteralKind(kind), text)

    def _comparison(self, node: Any, levels: int) -> Expression:
        if node["type"] not in COMPARISONS:
            self._refuse(node, f"{node['type']} is not allowed in a filter")
        return Operation(
            OperationKind.COMPARE, COMPARISONS[node["type"]], self._all((node["left"], node["right"]), levels)
        )

    def _conjunction(self, node: Any, levels: int) -> Expression:
        kind = {"CONJUNCTION_AND": OperationKind.AND, "CONJUNCTION_OR": OperationKind.OR}[node["type"]]
        return Operation(kind, kind.value, self._all(node["children"], levels))

    def _operator(self, node: Any, levels: int) -> Expression:
        kinds = {
            "OPERATOR_NOT": OperationKind.NOT,
            "OPERATOR_IS_NULL": OperationKind.IS_NULL,
            "OPERATOR_IS_NOT_NULL": OperationKind.IS_NOT_NULL,
            "OPERATOR_COALESCE": OperationKind.COALESCE,
            "COMPARE_IN": OperationKind.IN,
        }
        if node["type"] not in kinds:
            self._refuse(node, f"{node['type'].lower().replace('_', ' ')} is not allowed in a filter")
        kind = kinds[node["type"]]
        return Operation(kind, kind.value, self._all(node["children"], levels))

    def _between(self, node: Any, levels: int) -> Expression:
        args = self._all((node["input"], node["lower"], node["upper"]), levels)
        return Operation(OperationKind.BETWEEN, OperationKind.BETWEEN.value, args)

    def _case(self, node: Any, levels: int) -> Expression:
        parts = [part for check in node["case_checks"] for part in (check["when_expr"], check["then_expr"])]
        return Operation(OperationKind.CASE, OperationKind.CASE.value, self._all((*parts, node["else_expr"]), levels))

    def _cast(self, node: Any, levels: int) -> Expression:
        target = node["type_expr"]
        name = str(target.get("type_name", "")).upper()
        if name not in TYPES or target.get("children") or target["qualified_name"]["path"] != [target["type_name"]]:
            self._refuse(
                node, f"a cast to {name or 'this type'} is not allowed: cast to one of {', '.join(sorted(TYPES))}"
            )
        kind = OperationKind.TRY_CAST if node["try_cast"] else OperationKind.CAST
        return Operation(kind, name, (self.read(node["child"], levels),))

    def _function(self, node: Any, levels: int) -> Expression:
        name = node["function_name"].lower()
        if name not in (FUNCTIONS if not node["is_operator"] else _AS_OPERATORS):
            subject = f"the function {name}" if name.isidentifier() else f"the operator {name}"
            self._refuse(node, f"{subject} is not allowed in a filter")
        is_plain = not (node["filter"] or node["distinct"] or node["export_state"] or node["order_bys"]["orders"])
        if not is_plain or len(node["qualified_name"]["path"]) != 1 or any(arg["name"] for arg in node["arguments"]):
            self._refuse(node, f"{name} is not allowed in this form: write {name}(...)")
        args = self._all([arg["expression"] for arg in node["arguments"]], levels)
        if name in LIKES:
            return Operation(OperationKind.LIKE, LIKES[name], args)
        if name in OPERATORS:
            return Operation(OperationKind.OPERATOR, name, args)
        if name in PATTERNS:
            self._check_pattern(node, args)
        return Operation(OperationKind.FUNCTION, name, args)

    def _check_pattern(self, node: Any, args: tuple[Expression, ...]) -> None:
        if not all(isinstance(arg, Constant) for arg in args[1:]):
            self._refuse(node, "a regular expression must be a text in quotes")
        if len(args) > 1 and isinstance(args[1], Constant) and _pattern_cost(args[1].text) > MAX_PATTERN:
            self._refuse(node, "the regular expression is too large: shorten it or its repetitions")
