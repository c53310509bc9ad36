"""Ignore files leave out what git would leave out, and narrowings take what their globs say."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from bindsearch.errors import UsageError
from bindsearch.ingest.scan.ignore import (
    IGNORE_FILE,
    IgnoreRules,
    _grouped,
    _Layer,
    _patterns,
    make_narrowing,
    rules_down_to,
)


def rules_of(folder: Path, *lines: str) -> IgnoreRules:
    """Return the rules of a root with one ignore file."""
    (folder / IGNORE_FILE).write_text("\n".join(lines))
    return IgnoreRules().entering(folder, "")


def ignores(rules: IgnoreRules, path: str, is_dir: bool) -> bool:
    return rules.reason(path, is_dir) is not None


def walk(root: Path) -> set[str]:
    """Return the files that are not ignored, as an indexing run walks."""
    kept: set[str] = set()
    pending = [(root, "", IgnoreRules())]
    while pending:
        folder, rel, outer = pending.pop()
        rules = outer.entering(folder, rel)
        for entry in os.scandir(folder):
            inside = f"{rel}/{entry.name}" if rel else entry.name
            if entry.name.startswith(".") or ignores(rules, inside, entry.is_dir()):
                continue
            if entry.is_dir():
                pending.append((Path(entry.path), inside, rules))
            else:
                kept.add(inside)
    return kept


def test_without_an_ignore_file_nothing_is_ignored(tmp_path: Path) -> None:
    rules = IgnoreRules().entering(tmp_path, "")
    assert rules == IgnoreRules()
    assert not ignores(rules, "a/b.jpg", is_dir=False)


@pytest.mark.parametrize(
    ("lines", "path", "is_dir", "ignored"),
    [
        (["*.tmp"], "a/b/x.tmp", False, True),
        (["*.tmp"], "a/b/x.jpg", False, False),
        (["cache/"], "a/cache", True, True),
        (["cache/"], "a/cache", False, False),
        (["/cache"], "cache", True, True),
        (["/cache"], "a/cache", True, False),
        (["raw/*.jpg"], "raw/x.jpg", False, True),
        (["raw/*.jpg"], "a/raw/x.jpg", False, False),
        (["**/raw/*.jpg"], "a/raw/x.jpg", False, True),
        (["*.jpg", "!best.jpg"], "a/best.jpg", False, False),
        (["!best.jpg", "*.jpg"], "a/best.jpg", False, True),
        (["album/**", "!album/best.jpg"], "album", True, False),
        (["album/**", "!album/best.jpg"], "album/best.jpg", False, False),
        (["album/**", "!album/best.jpg"], "album/other.jpg", False, True),
        (["# *.jpg", "", "\\#1.jpg  "], "#1.jpg", False, True),
        (["# *.jpg", "", "\\#1.jpg  "], "2.jpg", False, False),
        (["[\\]]x"], "]x", False, True),
        (["[a\\-c]"], "b", False, False),
        (["[a\\-c]"], "-", False, True),
        (["[!/a]b"], "cb", False, True),
        (["a/***/c"], "a/b/b/c", False, True),
        (["a\\ \\   "], "a  ", False, True),
        (["a\\\\  "], "a\\", False, True),
        (["a\t"], "a\t", False, True),
        (["a\t"], "a", False, False),
        (["*.jpg"], "ｗｅｉｒｄ \n name.jpg", False, True),
    ],
)
def test_patterns_are_those_of_gitignore(
    tmp_path: Path, lines: list[str], path: str, is_dir: bool, ignored: bool
) -> None:
    assert ignores(rules_of(tmp_path, *lines), path, is_dir) is ignored


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_pattern(tmp_path: Path) -> None:
    (tmp_path / IGNORE_FILE).write_bytes(b"\xef\xbb\xbf*.tmp\r\ncache/\r\n")
    rules = IgnoreRules().entering(tmp_path, "")
    assert ignores(rules, "x.tmp", is_dir=False)
    assert ignores(rules, "cache", is_dir=True)


def test_a_deeper_file_overrides_a_shallower_one_below_its_folder_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    outer = rules_of(tmp_path, "*.png")
    (tmp_path / "a" / IGNORE_FILE).write_text("!*.png\n/x.jpg\n")
    inner = outer.entering(tmp_path / "a", "a")
    assert not ignores(inner, "a/1.png", is_dir=False)
    assert ignores(inner, "a/x.jpg", is_dir=False)
    assert not ignores(inner, "a/b/x.jpg", is_dir=False)
    assert ignores(outer, "1.png", is_dir=False)


def test_taking_a_folder_in_again_takes_in_no_file_that_another_pattern_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    outer = rules_of(tmp_path, "keep/", "*.png")
    (tmp_path / "a" / IGNORE_FILE).write_text("!keep/\n")
    inner = outer.entering(tmp_path / "a", "a")
    assert not ignores(inner, "a/keep", is_dir=True)
    assert ignores(inner, "a/keep/1.png", is_dir=False)


def test_a_caller_that_saw_no_ignore_file_saves_the_look(tmp_path: Path) -> None:
    (tmp_path / IGNORE_FILE).write_text("*")
    assert IgnoreRules().entering(tmp_path, "", has_file=False) == IgnoreRules()


def test_a_run_that_starts_below_the_root_has_the_rules_above_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / IGNORE_FILE).write_text("*.png\nprivate/\n")
    (tmp_path / "a" / IGNORE_FILE).write_text("!1.png\n")
    rules = rules_down_to(tmp_path, "a/b")
    assert ignores(rules, "a/b/2.png", is_dir=False)
    assert not ignores(rules, "a/b/1.png", is_dir=False)
    assert ignores(rules_down_to(tmp_path, ""), "1.png", is_dir=False)
    below = rules_down_to(tmp_path, "a/private/c")
    assert ignores(below, "a/private/c/x.jpg", is_dir=False)
    assert ignores(below, "a/private/c/d", is_dir=True)


PIECES = (
    "a",
    "b",
    "é",
    ".",
    " b",
    "/",
    "/",
    "*",
    "**",
    "/**/",
    "?",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-c]",
    "[",
    "\\a",
    "\\*",
)
PATHS = st.lists(st.text("abcdé.* \\", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@settings(max_examples=1000, deadline=None)
@given(st.booleans(), st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join), PATHS, st.booleans())
def test_random_patterns_match_what_pathspec_matches(negated: bool, text: str, path: str, is_dir: bool) -> None:
    """Pathspec lets a negated class match "/", which git does not, and matches below a folder: then it captures.

    It ends classes at a "/", a backslash in one is a member, and three stars are one; in git none of these is so.
    """
    text = text.rstrip()
    if re.search(r"\[[^\]]*[/\\]|\*\*\*", text):
        return
    try:
        spec = GitIgnoreSpecPattern(text.removesuffix("/"))
    except (ValueError, re.error):
        with pytest.raises(UsageError):
            IgnoreRules((_Layer("", _grouped(_patterns([text], "x"))),))
        return
    found = None
    if spec.regex is not None and (is_dir or not text.endswith("/")):
        found = re.compile(re.sub(r"\[\^(?!/)", "[^/", spec.regex.pattern)).search(path)
    expected = found is not None and found.lastindex is None
    negated &= text.strip("/") != ""
    lines = ["**", "!" + text] if negated else [text]
    rules = IgnoreRules((_Layer("", _grouped(_patterns(lines, "x"))),))
    assert ignores(rules, path, is_dir) is (not expected if negated else expected)


def test_no_ignore_file_takes_long(tmp_path: Path) -> None:
    started = time.process_time()
    hostile = ["*a*" * 300 + "b", "**/*a" * 199 + "b", "a" * 999, "?*" * 499]
    rules = rules_of(tmp_path, *hostile * 40, *(f"{n}*a*[{n % 10}-9]/x" for n in range(40_000)))
    ignores(rules, "a" * 250, is_dir=False)
    ignores(rules, "a/" * 2000 + "b", is_dir=False)
    assert time.process_time() - started < 10


def test_a_pattern_of_absurd_size_is_refused_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 2: pattern '\*+'\.\.\. has 5000 characters: expected at most 1000$"):
        rules_of(tmp_path, "a", "*" * 5000)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_random_trees_are_walked_as_git_walks_them(tmp_path: Path) -> None:
    rng = random.Random(0)
    names = ["a", "b", "ab", "a.png", "b.png", "keep", "x y", "A", "]", "-", "a\\"]
    parts = ["a", "b", "*", "**", "***", "a*", "*.png", "?", "[ab]", "[!a]", "a[!b]*", "keep", "b.png", "x y", "\\a"]
    parts += ["[\\]a]", "[a\\-b]", "[]-a]", "[!/b]", "a[\\\\]", "a\\\\ ", "x\\ y  "]

    def pattern() -> str:
        text = "/".join(rng.choice(parts) for _ in range(rng.choice([1, 1, 2, 2, 3])))
        ends = (rng.choice(["", "", "!"]), rng.choice(["", "", "/"]), rng.choice(["", "", "/"]))
        return f"{ends[0]}{ends[1]}{text}{ends[2]}"

    def fill(folder: Path, depth: int) -> None:
        folder.mkdir()
        for name in rng.sample(names, 5):
            if depth < 3 and rng.random() < 0.5:
                fill(folder / name, depth + 1)
            else:
                (folder / name).touch()
        if depth == 0 or rng.random() < 0.4:
            lines = "\n".join(pattern() for _ in range(rng.randint(1, 5)))
            (folder / ".gitignore").write_text(lines)
            (folder / IGNORE_FILE).write_text(lines)

    kept = 0
    for n in range(40):
        root = tmp_path / str(n)
        fill(root, 0)
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        list_files = ["git", "ls-files", "-o", "-z", "--exclude-per-directory=.gitignore"]
        listed = subprocess.run(list_files, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
        expected = {path for path in listed if path and not Path(path).name.startswith(".")}
        assert walk(root) == expected
        kept += len(expected)
    assert kept > 100


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"*.jpg\n[z-a]\n", r"line 2: pattern '\[z-a\]' is invalid"),
        (b"[[:alpha:]]", r"line 1: pattern '\[\[:alpha:\]\]' is invalid"),
        (b"[a[:digit:]]", r"is invalid \(named classes such as \[:digit:\] are not supported\)"),
        (b"caf\xe9/", r"is not UTF-8 \(byte 3\): save it as UTF-8"),
        (b"x\n" * (1 << 20), r"cannot read .*: larger than 1048576 bytes"),
    ],
)
def test_an_ignore_file_that_is_unreadable_now_sensible_is_an_error_that_names_it(
    tmp_path: Path, raw: bytes, message: str
) -> None:
    (tmp_path / IGNORE_FILE).write_bytes(raw)
    with pytest.raises(UsageError, match=message) as caught:
        IgnoreRules().entering(tmp_path, "")
    assert str(tmp_path / IGNORE_FILE) in str(caught.value)


def test_an_ignore_file_that_is_no_file_is_an_error_and_waits_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "folder" / IGNORE_FILE).mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        IgnoreRules().entering(tmp_path / "folder", "folder")
    os.mkfifo(tmp_path / IGNORE_FILE)
    with pytest.raises(UsageError, match=r"cannot read .*: not a regular file"):
        IgnoreRules().entering(tmp_path, "")


@pytest.mark.parametrize(
    ("include", "exclude", "path", "taken"),
    [
        ([], [], "a/b.jpg", True),
        (["*.jpg"], [], "a/b.JPG", True),
        (["*.jpg"], [], "a/b.png", False),
        (["2024/**", "*.wav"], [], "2024/x/b.png", True),
        (["2024/**", "*.wav"], [], "2023/b.wav", True),
        (["2024/**"], ["*.png"], "2024/b.png", False),
        ([], ["./raw/**"], "raw/b.png", False),
        ([], ["raw/**"], "a/raw/b.png", True),
    ],
)
def test_a_narrowing_takes_what_is_included_and_not_excluded(
    include: list[str], exclude: list[str], path: str, taken: bool
) -> None:
    assert make_narrowing(include, exclude).includes(path) is taken


def test_a_narrowing_of_a_bad_glob_is_an_error_that_names_the_option() -> None:
    with pytest.raises(UsageError, match=r"--include: empty glob, expected one such as '\*\.jpg' or 'folder/\*\*'"):
        make_narrowing([" "], [])
    with pytest.raises(UsageError, match=r"--exclude: glob '\[z-a\]' is invalid"):
        make_narrowing([], ["[z-a]"])
