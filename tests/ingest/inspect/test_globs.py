"""Globs match what regular expressions of them match, in a time that no pattern and no name can blow up."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.globs import FOLDERS, MAX_GLOB, STAR, GlobAutomaton, glob_matches, parse_glob

PIECES = (
    "a",
    "b",
    "B",
    ".",
    "/",
    "*",
    "**",
    "**/",
    "?",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-c]",
    "[-a]",
    "[]a]",
    "[",
    "é",
    "\n",
)
PATHS = st.text("aAbBc.-]/é\n[", min_size=1, max_size=12)


def expression_of(glob: str) -> re.Pattern[str]:
    """Return a glob as a regular expression with backtracking."""
    translations = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    out = ""
    while glob:
        token = re.match(r"\*\*/|\*\*?|\?|\[[!^]?\]?[^\]]*\]|.", glob, re.DOTALL)
        assert token is not None
        text, glob = token[0], glob[token.end() :]
        if len(text) > 1 and text.startswith("["):
            negated = text[1] in "!^"
            out += "(?!/)[" + "^" * negated + text[1 + negated : -1].replace("[", r"\[").replace("]", r"\]") + "]"
        else:
            out += translations.get(text, re.escape(text))
    return re.compile(out, re.IGNORECASE | re.DOTALL)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join), PATHS)
def test_a_glob_matches_what_its_regular_expression_matches(glob: str, path: str) -> None:
    subject = path if "/" in glob else path.rsplit("/", 1)[-1]
    try:
        expression = expression_of(glob)
    except re.error:
        return
    assert glob_matches(glob, path) is (expression.fullmatch(subject) is not None)


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*a" * 25 + "b", "a" * 200 + ".txt"),
        ("*" * MAX_GLOB, "a" * 4000),
        ("*a" * (MAX_GLOB // 2 - 1) + "b", "a" * 4000),
        ("**/*a" * (MAX_GLOB // 5 - 1) + "b", "a/" * 2000),
        ("[a]*?" * (MAX_GLOB // 5 - 1) + "b", "a" * 4000),
    ],
)
def test_no_glob_takes_long(glob: str, path: str) -> None:
    started = time.process_time()
    glob_matches(glob, path)
    assert time.process_time() - started < 2


def test_regular_expressions_of_pathspec_take_longer_with_each_star() -> None:
    name, took = "a" * 120, []
    for stars in (2, 3):
        glob = "*a" * stars + "*b"
        started = time.process_time()
        assert not GitIgnoreSpec.from_lines([glob]).match_file(name)
        took.append(time.process_time() - started)
        started = time.process_time()
        assert not glob_matches(glob, name)
        assert time.process_time() - started < took[-1]
    assert took[1] > 5 * took[0]


def test_many_names_do_not_fill_the_memory() -> None:
    automaton = GlobAutomaton([["a", STAR, "b"], [FOLDERS, STAR, "c"]])
    for n in range(200):
        assert automaton.matches("a" + "".join(map(chr, range(0x4E00 + 90 * n, 0x4E00 + 90 * n + 90))) + "b") == 1
        assert automaton.n_cached < 2500


def test_a_glob_of_absurd_size_is_refused_with_one_line() -> None:
    with pytest.raises(UsageError, match=rf"^x: glob '\*+'\.\.\. has 5000 characters: expected at most {MAX_GLOB}$"):
        parse_glob("*" * 5000, "x")


@pytest.mark.parametrize(("glob", "why"), [("[z-a]", "bad character range z-a"), ("[[:alpha:]]", "not supported")])
def test_an_invalid_glob_is_refused_with_the_reason(glob: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_glob(glob, "x")
