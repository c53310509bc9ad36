"""Filter expressions that must be refused, where errors point, and that the connection reaches nothing else."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from bindsearch.errors import QuerySyntaxError, UsageError
from bindsearch.search.sql_filter.columns import FilterColumns
from bindsearch.search.sql_filter.duckdb_sandbox import parse_select, run_select
from bindsearch.search.sql_filter.evaluate import where_mask
from bindsearch.search.sql_filter.parse import parse_where, walk
from bindsearch.types import Modality


@dataclass(frozen=True)
class Roots:
    collections: dict[int, str] = field(default_factory=lambda: {1: "/media/x"})


@dataclass(frozen=True)
class Tables:
    items: pa.Table
    segments: pa.Table
    manifest: Roots = Roots()
    class_columns: None = None

    def class_keys(self, modality: Modality | None) -> NDArray[np.int64]:
        raise AssertionError(modality)

    @property
    def item_of_segment_rows(self) -> NDArray[np.int64]:
        return np.arange(self.segments.num_rows)


@pytest.fixture(scope="module")
def columns() -> FilterColumns:
    items = pa.table({"item_id": [1, 2], "collection_id": [1, 1], "rel_path": ["a.jpg", "b.wav"]})
    items = items.append_column("size_bytes", pa.array([3, 2**62])).append_column("mtime_ns", pa.array([0, 10**18]))
    return FilterColumns(Tables(items, pa.table({"modality": ["image", "audio"], "text": ["a dog", None]})))


@pytest.mark.parametrize("position", [0, 1, 12])
def test_a_null_character_is_refused_where_it_stands(position: int) -> None:
    text = "size_bytes > 3"
    with pytest.raises(QuerySyntaxError, match=f"contains a null character.*character {position + 1}\\b"):
        parse_where(f"{text[:position]}\0{text[position:]}")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("durations > 3", "no column 'durations'.*did you mean 'duration_s'.*columns are path, name, .*item_id"),
        ("size_bytes", "gives int64.*true or false"),
        ("modality and true", "gives .*string.*true or false"),
        ("cast(name as integer) > 3", "cannot be evaluated: Could not convert string .* to INT32"),
        ("text < 5", "cannot be evaluated: Cannot compare values of type VARCHAR"),
        ("modified > 'yesterday'", "cannot be evaluated: .*yesterday"),
        ("lower(1, 2, 3) = 'a'", "cannot be evaluated: No function matches"),
        ("size_bytes * size_bytes > 1", "cannot be evaluated: Overflow"),
        (
            "size_bytes // 0 = 1",
            r"Division by zero in expression [^.]*: exclude such values .* or use try_cast or nullif",
        ),
        ("modality = 'image' and 8 % 0 = 1", "Division by zero in expression [^.]*: exclude such values"),
        ("size_bytes // 0 = 1 and name", "gives .*string.*true or false"),
        ("", "empty"),
        ("   \n", "empty"),
        ("a" * 10_001, "10001 characters"),
        ("name = '\ud800'", "not UTF-8"),
    ],
)
def test_errors_are_one_line(columns: FilterColumns, expression: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        where_mask(expression, columns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "position"),
    [
        ("é = 'é' and foo(1)", 12),
        ("modality = 'audio' and (select 1) = 1", 23),
        ("name = 'é' and nam = 'a'", 15),
        ("1 = = 2", 4),
        ("text = 'é' and )", 15),
        ("text = 'a", 7),
        ("true -- false", 5),
    ],
)
def test_errors_point_at_the_character(columns: FilterColumns, expression: str, position: int) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        where_mask(expression, columns)
    assert caught.value.position == position


def test_a_long_expression_is_not_repeated_whole(columns: FilterColumns) -> None:
    with pytest.raises(QuerySyntaxError, match="foo") as caught:
        where_mask("modality = 'audio' or " * 300 + "foo(1)", columns)
    assert len(str(caught.value)) < 300
    assert caught.value.expression[caught.value.position :].startswith("foo")


HOSTILE = (
    "read_text('/etc/passwd') is not null",
    "(select content from read_text('/etc/passwd')) like '%root%'",
    "exists (select * from read_csv('/etc/passwd'))",
    "modality = 'audio' or exists (from '/etc/passwd')",
    "modality in (select modality from source)",
    "modality = any (select 'audio')",
    "(from glob('/*')) is not null",
    "glob('/*') is not null",
    "read_blob('/etc/passwd') is null",
    "getenv('HOME') like '%'",
    "query('select 1') = 1",
    "query_table('items') = 1",
    "sqlite_scan('/tmp/x.db', 't') = 1",
    "true; DROP TABLE source",
    "true; COPY (SELECT 1) TO '{folder}/out.csv'",
    "true) ; ATTACH '{folder}/x.db' AS x; SELECT (true",
    "1=1) UNION SELECT (true",
    "true) FROM read_text('/etc/passwd') WHERE (true",
    "true), (select 1",
    "true) ORDER BY (1",
    "COPY source TO '{folder}/out.csv'",
    "ATTACH '{folder}/x.db'",
    "PRAGMA version",
    "SET threads = 4",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE MACRO f(x) AS x",
    "true -- and false",
    "true /* and false */",
    "/**/ true",
    "$$a$$ = 'a'",
    "$1 = 1",
    "? = 1",
    "E'\\'' = 'a'",
    "name = ‘a’",
    "“name” = 'a'",
    "*",
    "columns('.*') is not null",
    "source.name = 'a'",
    "#1 = 1",
    "count(*) > 1",
    "sum(size_bytes) over () > 1",
    "row_number() over () < 10",
    "list_filter([1], lambda x: x > 0) = [1]",
    "list_transform([1], x -> x + 1) = [2]",
    "[1, 2] = [1, 2]",
    "{{'a': 1}} = {{'a': 1}}",
    "unnest([true])",
    "range(10000000000) is not null",
    "generate_series(1, 10000000000) is not null",
    "repeat('x', 1000000000) = name",
    "lpad(name, 1000000000, 'x') = name",
    "printf('%1000000000d', 1) = name",
    "format('{{:1000000000}}', 1) = name",
    "replace(replace(name, 'a', 'aaaaaaaaaa'), 'a', 'aaaaaaaaaa') = name",
    "name" + " || name" * 33 + " = name",
    "duckdb_settings() is not null",
    "(select count(*) from duckdb_settings()) > 0",
    "information_schema.tables is not null",
    "getvariable('x') is null",
    "current_setting('memory_limit') = '1GB'",
    "current_user = 'duckdb'",
    "version() = 'v2'",
    "nextval('x') = 1",
    "random() < 0.5",
    "now() > modified",
    "uuid() is not null",
    "txid_current() > 0",
    "sleep_ms(10000) is null",
    "write_log('x') is null",
    "json_execute_serialized_sql('x') = 1",
    "main.lower(name) = 'a'",
    "system.main.lower(name) = 'a'",
    "lower(distinct name) = 'a'",
    "name collate nocase = 'A'",
    "cast(name as varchar[]) is not null",
    "cast('a' as enum('a')) = 'a'",
    "cast(name as struct(a integer)) is null",
    "name[1] = 'a'",
    "name.lower() = 'a'",
    "name = default",
    "name glob '*a*a*a*b'",
    "'1' '2' = name",
    "size_bytes between symmetric 2 and 1",
    "lower(name) filter (where true) = 'a'",
    "lower(name order by name) = 'a'",
    "lower(a := name) = 'a'",
    "try(size_bytes > 1)",
    "regexp_matches(text, name)",
    "regexp_matches(text, '(x+x+)+y|(a?){{900}}a{{900}}')",
    "(" * 5_000 + "true" + ")" * 4_990,
    "(" * 4_990 + "true" + ")" * 4_990,
    "(" * 9_990,
    "not " * 2_000 + "true",
    "- " * 2_000 + "1 = 1",
    "1" + "+1" * 3_000 + " = 1",
    "case when " * 300 + "true" + " then true end" * 300,
    "[" * 4_000 + "]" * 4_000,
    "true\0",
)


@pytest.mark.parametrize("expression", HOSTILE, ids=lambda text: text[:40].encode("unicode_escape").decode())
def test_hostile_expressions_are_refused_in_one_line(
    columns: FilterColumns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    with pytest.raises(UsageError) as caught:
        where_mask(expression.replace("{{", "{").replace("}}", "}").replace("{folder}", str(tmp_path)), columns)
    assert time.monotonic() - started < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/x.db' AS x",
        "EXPORT DATABASE '{folder}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET memory_limit",
        "SET threads = 8",
        "PRAGMA enable_external_access",
        "SELECT getenv('HOME')",
        "SELECT * FROM reachable",
    ],
)
def test_the_connection_reaches_nothing_even_unchecked(tmp_path: Path, sql: str) -> None:
    reachable = pa.table({"a": [1]})
    assert reachable.num_rows == 1
    with pytest.raises(UsageError):
        run_select(sql.replace("{folder}", str(tmp_path)), {})
    assert [*tmp_path.iterdir()] == []


def test_the_time_limit_stops_a_query() -> None:
    started = time.monotonic()
    with pytest.raises(UsageError, match=r"took longer than 0\.2 s"):
        run_select("SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range % 7 = b.range", {}, 0.2)
    assert time.monotonic() - started < 3
    assert run_select("SELECT 1 AS a", {}).to_pylist() == [{"a": 1}]
    assert threading.active_count() < 20


def test_parsing_binds_nothing() -> None:
    assert not parse_select("SELECT (nothing(there))")["error"]
    names = {name for node in walk(parse_where("a = b and c is null")) for name in node.get("column_names", ())}
    assert names == {"a", "b", "c"}


def spaces(expression: str, length: int) -> str:
    return expression + " " * (length - len(expression))


@pytest.mark.parametrize(
    "expression",
    [
        spaces("name = 'a'", 10_000),
        "(" * 100 + "true" + ")" * 100,
        "name" + " || name" * 32 + " = 'a'",
        "concat(name, name) || name = 'a'",
        f"regexp_matches(text, '{'a' * 1000}')",
        f"regexp_matches(text, '{'a' * 95}{{10}}')",
        f"regexp_matches(text, '{'a' * 195}{{2,5}}')",
        f"regexp_matches(text, '{'a' * 195}{{5,}}')",
        f"regexp_matches(text, '{'a' * 996}{{0}}')",
        f"regexp_matches(text, '(?i){'a' * 896}')",
        f"regexp_matches(text, '\\pL{'a' * 897}')",
        "name like'x%'",
        "name = 'it''s' or \"name\" = 'a'",
        "size_bytes in (1, 1.5, .5, 1e3, -2) and name is not null and true",
    ],
    ids=range(14),
)
def test_expressions_at_the_limits_are_answered(expression: str, columns: FilterColumns) -> None:
    assert len(where_mask(expression, columns)) == 2


@pytest.mark.parametrize(
    ("expression", "message", "position"),
    [
        (spaces("name = 'a'", 10_001), "has 10001 characters: write at most 10000", None),
        ("(" * 101 + "true" + ")" * 101, "nested too deeply: at most 100 levels", 60),
        ("name" + " || name" * 33 + " = 'a'", "concatenates 33 texts: at most 32", None),
        (f"regexp_matches(text, '{'a' * 1001}')", "the regular expression is too large", 0),
        (f"regexp_matches(text, '{'a' * 96}{{10}}b')", "the regular expression is too large", 0),
        (f"regexp_matches(text, '{'a' * 196}{{2,5}}')", "the regular expression is too large", 0),
        (f"regexp_matches(text, '(?i){'a' * 897}')", "the regular expression is too large", 0),
        (f"regexp_matches(text, '\\pL{'a' * 898}')", "the regular expression is too large", 0),
        ("true and (true or (false or (true", r"this \( is not closed", 28),
        ("true and (true or (false)", r"this \( is not closed", 9),
        ("true)", r"this \) has no opening bracket", 4),
        ("(true]) or )", r"this \) has no opening bracket", 6),
        ("name = e'x'", "write a text in plain quotes, without the prefix e", 7),
        ("e'x' = name", "write a text in plain quotes, without the prefix e", 0),
        ("name = U&'x'", "write a text in plain quotes, without the prefix U&", 7),
        ("name = 'it''s", "this ' is not closed", 7),
        ('"name = 1', 'this " is not closed', 0),
        ("foo(1) = 1", "the function foo is not allowed", 0),
        ("1 << 2 = 4", "the operator << is not allowed", None),
        ("main.lower(name) = 'a'", r"lower is not allowed in this form: write lower\(...\)", 0),
        ("regexp_matches(text, name)", "a regular expression must be a text in quotes", 0),
        ("x.name = 'a'", 'columns have no table prefix: write "x.name" in double quotes if it is a column', 0),
        ("name = x.name", "write 'x.name' in single quotes if it is a text; write \"x.name\" in double quotes", 7),
        ("cast(name as json) is null", "a cast to JSON is not allowed: cast to one of BIGINT, ", None),
        ("x'00' = name", "without the prefix x", 0),
        ("true, false", "the function row is not allowed", 0),
        ("true) from (select 1", "has no opening bracket", 4),
        ("name = colour", "there is no column 'colour': write 'colour' in single quotes if it is a text; columns", 7),
    ],
)
def test_what_is_beyond_is_refused_where_it_is(
    expression: str, message: str, position: int | None, columns: FilterColumns
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        where_mask(expression, columns)
    if position is not None:
        assert isinstance(caught.value, QuerySyntaxError)
        assert caught.value.position == position


@pytest.mark.parametrize("position", [0, 59, 60, 61, 150, 194])
@pytest.mark.parametrize("length", [200, 201])
def test_of_a_long_expression_what_surrounds_the_position_is_quoted(position: int, length: int) -> None:
    text = spaces(" " * position + "foo(1)", length)
    with pytest.raises(QuerySyntaxError) as caught:
        parse_where(text)
    start = max(0, position - 60) if length > 200 else 0
    assert caught.value.expression == (text[start : start + 120] if length > 200 else text)
    assert caught.value.position == position - start


def test_an_expression_has_no_time_left_before_it_runs() -> None:
    with pytest.raises(UsageError, match="took longer than 2 s: make it simpler"):
        run_select("SELECT 1", {}, 2.0, time.monotonic() - 2.5)
    assert run_select("SELECT 1 AS x", {}, 2.0, time.monotonic() - 0.5).column("x").to_pylist() == [1]
