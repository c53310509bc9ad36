"""Parsing of `where` expressions: DuckDB's own syntax tree, checked against an allowlist.

DuckDB parses the text, and writes the SQL that is run from the checked tree, so an expression means what it means in
DuckDB. sqlglot would be a second opinion on that: it reads `'1' '2'` and BETWEEN SYMMETRIC, which DuckDB refuses, and
writes log10(x) as log(10, x).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NoReturn

from bindsearch.errors import QuerySyntaxError, UsageError
from bindsearch.search.sql_filter.duckdb_sandbox import parse_select, write_select

Node = dict[str, Any]
"""A node of DuckDB's syntax tree, as `json_serialize_sql` describes it."""
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
_OPERATORS = "+ - * / // % ** ^ || ~~ !~~ ~~* !~~* like_escape not_like_escape ilike_escape not_ilike_escape"
OPERATORS = frozenset(_OPERATORS.split())
"""Allowed functions that are written as operators; ~~ is LIKE, ~~* ILIKE."""
PATTERNS = frozenset(("regexp_matches", "regexp_full_match", "regexp_extract"))
"""Functions whose second argument is a regular expression."""
_TYPES = (
    "BOOLEAN BOOL TINYINT SMALLINT INTEGER INT BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT FLOAT REAL DOUBLE "
    "DECIMAL NUMERIC VARCHAR TEXT STRING DATE TIME TIMESTAMP INTERVAL"
)
TYPES = frozenset(_TYPES.split())
"""Allowed types of a cast."""
_COMPARISONS = (
    "EQUAL NOTEQUAL LESSTHAN LESSTHANOREQUALTO GREATERTHAN GREATERTHANOREQUALTO DISTINCT_FROM NOT_DISTINCT_FROM"
)
KINDS: Mapping[str, frozenset[str]] = {
    "COLUMN_REF": frozenset(("COLUMN_REF",)),
    "CONSTANT": frozenset(("VALUE_CONSTANT",)),
    "COMPARISON": frozenset(f"COMPARE_{name}" for name in _COMPARISONS.split()),
    "CONJUNCTION": frozenset(("CONJUNCTION_AND", "CONJUNCTION_OR")),
    "OPERATOR": frozenset(
        ("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "COMPARE_IN")
    ),
    "BETWEEN": frozenset(("COMPARE_BETWEEN",)),
    "CASE": frozenset(("CASE_EXPR",)),
    "CAST": frozenset(("OPERATOR_CAST",)),
    "FUNCTION": frozenset(("FUNCTION",)),
}
"""Allowed nodes: their classes, and the types of each."""
FIELDS = frozenset(
    (
        *("class", "type", "query_location", "query_location_length", "column_names", "literal", "left", "right"),
        *("children", "input", "lower", "upper", "case_checks", "else_expr", "child", "try_cast", "type_expr"),
        *("function_name", "arguments", "is_operator", "qualified_name"),
    )
)
"""Fields that an allowed node may use; others, such as FILTER and DISTINCT of a function, are empty."""
_EMPTY: tuple[Any, ...] = ("", None, False, [], {"type": "ORDER_MODIFIER", "orders": []})
LOGICAL = frozenset(("CONJUNCTION_AND", "CONJUNCTION_OR", "OPERATOR_NOT"))
"""Types of the nodes that combine conditions."""
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


def parse_where(text: str) -> Node:
    """Parse and check an expression; names of columns are not resolved.

    Raises:
        UsageError: the expression is empty, not UTF-8, too long or nested too deeply, or concatenates too many texts.
        QuerySyntaxError: it does not parse, or something in it is not allowed; the error has the position.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"the filter has {len(text)} characters: write at most {MAX_LENGTH}")
    _check_tokens(text)
    deep = UsageError(f"the filter is nested too deeply: at most {MAX_NESTING} levels")
    try:
        answer = parse_select(f"{_QUERY}{text})")
    except RecursionError:
        raise deep from None
    if answer["error"]:
        message = answer["error_message"]
        if "expression depth" in message:
            raise deep
        message = " ".join(message.split())  # it may repeat several lines of the filter
        refuse(text, position_of(text, answer, "position"), f"the filter does not parse: {message}")
    selected = _take_selected(answer)
    if len(selected) != 1 or answer != _query():
        refuse(text, 0, "the filter must be a single expression")
    expression: Node = selected[0]
    _check(text, expression, MAX_NESTING)
    joins = [
        node["arguments"] for node in walk(expression) if node.get("function_name", "").lower() in ("||", "concat")
    ]
    if (joined := sum(len(arguments) - 1 for arguments in joins)) > MAX_JOINED:
        raise UsageError(f"the filter concatenates {joined} texts: at most {MAX_JOINED}")
    return expression


def children(node: Node) -> list[Node]:
    """Return the nodes right below a node."""
    match node["class"]:
        case "CASE":
            checks = [check[part] for check in node["case_checks"] for part in ("when_expr", "then_expr")]
            return [*checks, node["else_expr"]]
        case "FUNCTION":
            return [argument["expression"] for argument in node["arguments"]]
    single = [node[name] for name in ("left", "right", "input", "lower", "upper", "child") if name in node]
    return single or node.get("children", [])


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and those below it, outermost first."""
    yield node
    for child in children(node):
        yield from walk(child)


def is_condition(node: Node) -> bool:
    """Return whether the values of a node are truth values whatever its operands; False if only DuckDB knows."""
    return node["type"].startswith(("COMPARE_", "OPERATOR_IS_")) or "~~" in node.get("function_name", "")


def to_sql(expressions: Sequence[Node]) -> str:
    """Return expressions as the list of a SELECT, written by DuckDB with parentheses around every operation."""
    statement = _query()["statements"][0]
    query = {"error": False, "statements": [statement | {"node": statement["node"] | {"select_list": expressions}}]}
    return write_select(query).removeprefix("SELECT ")


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


@cache
def _query() -> Any:
    """Return the syntax tree of a plain SELECT without its select list."""
    tree = parse_select("SELECT TRUE")
    _take_selected(tree)
    return tree


def position_of(text: str, node: Node, key: str = "query_location") -> int:
    """Return the character of `text` that a node is at, from its byte in the query."""
    return len(text.encode()[: max(int(node.get(key) or 0) - len(_QUERY), 0)].decode(errors="ignore"))


def _pattern_cost(pattern: str) -> int:
    cost = len(pattern) + 100 * len(_WIDE_CLASS.findall(pattern))
    for bounds in _REPETITION.findall(pattern):
        cost *= max(1, *(int(bound) for bound in bounds if bound), 1)
    return cost


def _check(text: str, node: Node, levels: int) -> None:
    """Refuse an expression with a node that is not allowed, or nested in more levels."""
    kind, form, where = node["class"], node["type"], position_of(text, node)
    if levels == 0:
        refuse(text, where, f"the filter is nested too deeply: at most {MAX_NESTING} levels")
    if kind not in KINDS:
        refuse(text, where, f"{REFUSED.get(kind, kind.lower())} is not allowed in a filter")
    if form not in KINDS[kind]:
        refuse(text, where, f"{form.lower().replace('_', ' ')} is not allowed in a filter")
    match kind:
        case "COLUMN_REF" if len(node["column_names"]) != 1:
            name = ".".join(node["column_names"])
            hint = f'{quotes_hint(text, name, where)}write "{name}" in double quotes if it is a column'
            refuse(text, where, f"columns have no table prefix: {hint}")
        case "CONSTANT":
            literal, value = node["literal"]["kind"], node["literal"].get("text", "")
            is_number = literal in ("INTEGER", "NUMERIC") and _NUMBER.fullmatch(value)
            if not (is_number or literal in ("STRING", "NULL_LITERAL") or value in ("true", "false")):
                refuse(text, where, f"a constant of the kind {literal} is not allowed in a filter")
        case "CAST":
            target = node["type_expr"]
            name = str(target.get("type_name", "")).upper()
            if name not in TYPES or target.get("children") or target["qualified_name"]["path"] != [target["type_name"]]:
                allowed = ", ".join(sorted(TYPES))
                refuse(text, where, f"a cast to {name or 'this type'} is not allowed: cast to one of {allowed}")
        case "FUNCTION":
            _check_function(text, node, where)
    if any(value not in _EMPTY for name, value in node.items() if name not in FIELDS):
        refuse(text, where, f"this form of {kind.lower()} is not allowed in a filter")
    for child in children(node):
        _check(text, child, levels - 1)


def _check_function(text: str, node: Node, where: int) -> None:
    name = node["function_name"].lower()
    if name not in (OPERATORS if node["is_operator"] else FUNCTIONS):
        subject = f"the function {name}" if name.isidentifier() else f"the operator {name}"
        refuse(text, where, f"{subject} is not allowed in a filter")
    is_plain = all(value in _EMPTY for field, value in node.items() if field not in FIELDS)
    if not is_plain or len(node["qualified_name"]["path"]) != 1 or any(arg["name"] for arg in node["arguments"]):
        refuse(text, where, f"{name} is not allowed in this form: write {name}(...)")
    if name in PATTERNS:
        patterns = children(node)[1:]
        if any(pattern["class"] != "CONSTANT" for pattern in patterns):
            refuse(text, where, "a regular expression must be a text in quotes")
        if patterns and _pattern_cost(patterns[0]["literal"].get("text", "")) > MAX_PATTERN:
            refuse(text, where, "the regular expression is too large: shorten it or its repetitions")
