"""Help texts, pages and messages are in plain technical English: none of them has a word or phrase of a table.

Messages are the string literals of the package that hold a space, docstrings excepted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from bindsearch.cli.aliases import FORMER_OPTIONS
from bindsearch.cli.main import app

PROJECT = Path(__file__).parents[1]
FOLDERS = ("bindsearch", "cli", "indexes", "ingest")
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md")

BANNED = {
    r"a line says so": "a warning is printed",
    r"\banew\b": "again; rebuilt",
    r"\b(add|adds|added) up\b": "are combined",
    r"\bagainst each other\b": "for consistency",
    r"\bagree\w* .{0,40}\bto rounding": "match within rounding error",
    r"\b(all|every\w*|it) is (good|well)\b": "up to date; no problems",
    r"\bask(s|ed)? of the machine": "resource limits",
    r"\bas (it|they) (was|were)\b": "unchanged",
    r"\bbeliev\w+": "say what the option does",
    r"\bbeyond all measure": "out of range",
    r"\bbring(s|ing)? (?!.{0,40}\bup to date)": "install; download; restore",
    r"\bby one another": "with any of them as the query",
    r"\bcap(s|ped)?\b": "limit",
    r"\bcounts (against|before)\b": "say what overrides what",
    r"\bdearest\b": "slowest",
    r"\bitems, each once\b": "one hit each",
    r"\bdigests? holds?\b": "checksums match",
    r"\bexchange them": "swap them",
    r"(?<![`\[])\b(facts|the facts)\b": "metadata",  # not the table [facts] of .bindsearch.toml
    r"\bfor good\b": "permanently",
    r"\bforbids? to\b": "cannot ... in offline mode",
    r"\bgives? back\b": "frees",
    r"\b(go|goes) on\b": "resume; continue",
    r"\bgone at once": "disappeared",
    r"\bhas lost its\b": "is missing",
    r"\bhold(s|ing)? .{0,60}\bagainst\b": "compare; check",
    r"\bhow (far|wide)\b": "tune search parameters",
    r"\binsists?\b": "say what the option does",
    r"(?<!there )\bis no\b(?! longer)": "is not a",
    r"\bis (not )?here\b": "is (not) installed; is (not) available",
    r"\bkeep(s|ing)? up\b": "watch",
    r"\blies?\b": "is in; is at",
    r"\blikeness\b": "similarity",
    r"\bmend(s|ed|ing)?\b": "repair",
    r"\bnearly the same\b": "near-duplicate",
    r"\bno GPU: the CPU": "no GPU, using the CPU",
    r"\bnobody\b": "nothing; unreferenced",
    r"\bof two minds\b": "the file changed while it was read",
    r"\bpays? for\b": "worth it for",
    r"\bread to their end\b": "read completely",
    r"\b(store|catalog|them|it) small\b": "compact",
    r"\bsums? of anything\b": "weighted sums of inputs",
    r"\btaken? for\b": "detected as",
    r"\btells?\b(?<!cannot tell)": "reports; states",
    r"\bthe room\b": "disk space",
    r"\btold\b": "reported",
    r"\btrue nearest\b": "recall",
    r"\bwaited for\b": "waits for",
    r"\bwhere (there is|there are|none)\b": "if",
    r"\bwhoever\b": "say who",
    r"\bwhole by\b": "sizes match",
    r"\bwish(ed|es)\b(?!\.json|`)": "settings",
}
"""What to write instead, by a pattern of what not to write; case does not matter."""

BANNED_OPTIONS = {rf"(?<!\w)--{former}\b(?!-)": f"--{current}" for former, current in FORMER_OPTIONS.items()}


def help_texts(command: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the help of a command, of its options and of all commands below it, each with where it is from."""
    for text in (command.help, command.epilog):
        yield f"{path} --help", text or ""
    for parameter in command.params:
        yield f"{path} --help, {parameter.opts[0]}", getattr(parameter, "help", None) or ""
    for name, below in getattr(command, "commands", {}).items():
        yield from help_texts(below, f"{path} {name}")


def page_texts() -> Iterator[tuple[str, str]]:
    """Yield the paragraphs of the pages, unwrapped."""
    for pattern in PAGES:
        for page in sorted(PROJECT.glob(pattern)):
            for paragraph in re.split(r"\n\s*\n|\n(?=[|*] )", page.read_text(encoding="utf-8")):
                yield page.name, " ".join(paragraph.split())


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of the string literals that hold a space, docstrings excepted; {} for values in them."""
    skipped: set[ast.AST] = set()  # docstrings, and parts of strings that are yielded whole
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr) and node not in skipped:
            parts = []
            for part in node.values:
                skipped.add(part)
                parts.append(str(part.value) if isinstance(part, ast.Constant) else "{}")
                if isinstance(part, ast.FormattedValue) and part.format_spec is not None:
                    skipped.update(ast.walk(part.format_spec))
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node.lineno, node.value


def message_texts() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((PROJECT / folder).rglob("*.py")):
            for line, text in messages(ast.parse(path.read_text(encoding="utf-8"))):
                if " " in text.strip():
                    yield f"{path.relative_to(PROJECT)}:{line}", text


def banned_words(text: str) -> list[str]:
    """Return what of the tables a text has, each with what to write instead."""
    return [
        f"{found[0]!r}: write {instead!r}"
        for pattern, instead in (BANNED | BANNED_OPTIONS).items()
        for found in re.finditer(pattern, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("kind", ["help", "pages", "messages"])
def test_texts_have_no_banned_words(kind: str) -> None:
    texts = {
        "help": lambda: help_texts(typer.main.get_command(app), "bindsearch"),
        "pages": page_texts,
        "messages": message_texts,
    }[kind]
    checked = list(texts())
    assert len(checked) > 50
    found = [f"{where}: {word}" for where, text in checked for word in banned_words(text)]
    assert found == [], "\n".join(found)


def test_every_command_has_help_with_an_example_and_every_option_has_help() -> None:
    for where, text in help_texts(typer.main.get_command(app), "bindsearch"):
        if ", " in where:
            assert text, f"{where} is missing"
    assert [
        name for name, text in _commands(typer.main.get_command(app), "bindsearch") if "bindsearch " not in text
    ] == []


def _commands(command: Any, path: str) -> Iterator[tuple[str, str]]:
    yield path, f"{command.help or ''} {command.epilog or ''}"
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, f"{path} {name}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Every index is made anew.", ["anew"]),
        ("the store lies there; run it with --max pixels=3 or --max-depth 3", ["lies", "--max"]),
        ("bring the index up to date", []),
        ("bring it back", ["bring "]),
        ("there is no store", []),
        ("3 is no number", ["is no"]),
    ],
)
def test_banned_words_are_found(text: str, words: list[str]) -> None:
    assert [found.split("'")[1] for found in banned_words(text)] == words


def test_messages_are_found() -> None:
    text = 'def f(n):\n    """Docstring of f."""\n    raise E(f"{n:03d} is " "wrong" if n else "too " + "small")\n'
    assert [text for _, text in messages(ast.parse(text))] == ["{} is wrong", "too ", "small"]
