"""docs/scale.md: its tables are of the newest run of benchmarks/scale.py, its formulas name what the model has."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
from results import FOLDER
from scale import newest_figures
from scale_model import Units
from scale_report import (
    PAGE,
    SIZES,
    duration,
    files_on_cores,
    files_on_gpus,
    markdown,
    page_tables,
    plan,
    table_rows,
    units_of,
    with_tables,
)
from synthetic import SHARES

TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return newest_figures()


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_tables_are_those_of_the_newest_run(figures: dict[str, Any]) -> None:
    assert with_tables(TEXT, figures) == TEXT, "run `python benchmarks/scale.py --page`"
    assert set(re.findall(r"<!-- end of (\S+) -->", TEXT)) == set(page_tables(figures))


def test_the_page_names_a_file_of_results(figures: dict[str, Any]) -> None:
    assert set(re.findall(r"benchmarks/results/([\d-]+-scale\.md)", TEXT)) == {figures["file"]}
    assert (FOLDER / figures["file"]).is_file()


def test_every_unit_cost_of_the_model_is_in_the_formulas() -> None:
    names = {field.name for field in fields(Units)} - {"dim", "search_ms", "spread", "send_us"}
    assert names - set(re.findall(r"\w+", section("Formulas"))) == set()


def test_every_cost_of_the_formulas_was_measured(figures: dict[str, Any]) -> None:
    measured = {cost["name"].split()[0] for cost in figures["costs"]}
    named = set(re.findall(r"\b\w+_(?:bytes|ns|us|s)\b", section("Formulas")))
    assert named - measured == set()


def test_every_size_has_a_plan_that_grows(figures: dict[str, Any]) -> None:
    units = units_of(figures)
    machines = [int(plan(figures, units, vectors, False)["machines"].replace(",", "")) for vectors in SIZES.values()]
    assert machines == sorted(machines)
    for vectors in SIZES.values():
        assert plan(figures, units, vectors, True)["rows in the page cache"] == "100%"


def test_every_modality_has_a_cost_of_its_files() -> None:
    for files in (files_on_cores(), files_on_gpus()):
        assert set(files) == set(SHARES)
        assert all(cost.core_s > 0 for cost in files.values())


def test_a_column_of_a_table_is_read_back() -> None:
    text = "# title\n\n" + markdown(("a", "b"), [("x", 1), ("y", 2)]) + "\n\nmore | text\n"
    assert table_rows(text, "a", "b") == {"x": "1", "y": "2"}


def test_times_are_in_units_of_their_length() -> None:
    assert [duration(s) for s in (60, 7200, 86_400 * 3)] == ["1 min", "2 h", "3 days"]
