"""Pages of the documentation as users follow them: their blocks run in order, and output is compared where it is shown.

A fenced block is

* `sh`: commands, one a line (a line that ends with a backslash goes on). `bindsearch` runs in this process, everything
  else in bash.
* `python`: run in this process. The blocks of a page share their names.
* `json`, `csv`, `toml`, `gitignore` below a line that ends with "`path`:": a file, written before what follows.
* `text` directly below one of the first two: its output. A line `...` stands for any number of lines.

A comment in the line above a block says what differs:

* `<!-- not run: REASON -->`: commands are parsed by the command line's own parser, Python is compiled.
* `<!-- exit code: N -->`: of the last command.
"""

from __future__ import annotations

import ast
import io
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

import bindsearch
import bindsearch.shards.connect
from bindsearch.cli.main import app
from helpers.command import run_command
from helpers.stores import connect

PROJECT = Path(__file__).parents[2]
FILE_LANGUAGES = {"json", "csv", "toml", "gitignore"}
SHELL_SIGNS = re.compile(r"[|<>&;$~*?`]")
TOLERANCE = 0.05
"""Relative difference of numbers that a page may round away."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: Language of the block.
        text: What is between the fences.
        line: Number of the line of the first fence, from 1.
        file: Path of the file that it shows; None if it shows none.
        not_run: Why it cannot run; None if it can.
        exit_code: Exit code of its last command.
        is_output: Whether it is the output of the block before it.
    """

    language: str
    text: str
    line: int
    file: str | None = None
    not_run: str | None = None
    exit_code: int = 0
    is_output: bool = False


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    found: list[Block] = []
    lines = page.splitlines()
    above: list[str] = []  # lines since the last block
    number = 0
    while number < len(lines):
        match = re.fullmatch(r"```(\w+)", lines[number])
        if match is None:
            above.append(lines[number])
            number += 1
            continue
        end = lines.index("```", number + 1)
        before = [line for line in above if line.strip()]
        notes = dict(re.findall(r"<!-- ([a-z ]+): (.*?) -->", before[-1])) if before else {}
        file = re.search(r"`([^`\n]+)`[^`\n]*:$", before[-1]) if before else None
        found.append(
            Block(
                language=match[1],
                text="\n".join(lines[number + 1 : end]) + "\n",
                line=number + 1,
                file=file[1] if file and match[1] in FILE_LANGUAGES else None,
                not_run=notes.get("not run"),
                exit_code=int(notes.get("exit code", 0)),
                is_output=match[1] == "text" and not before and bool(found) and found[-1].language in ("sh", "python"),
            )
        )
        above, number = [], end + 1
    return found


def commands_of(block: Block) -> list[str]:
    """Return the commands of a block of a shell, without comments and empty lines."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def become_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make a folder the home of this process, with a store of its own, and return the variables that say so.

    Files are decoded in threads.
    """
    variables = {"BINDSEARCH_STORE": str(folder / "store"), "HOME": str(folder), "COLUMNS": "120"}
    variables["BINDSEARCH_CONFIG"] = str(folder / ".config" / "bindsearch" / "config.toml")
    variables |= {f"XDG_{name}_HOME": str(folder / f".{name.lower()}") for name in ("CONFIG", "DATA", "CACHE")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bindsearch.shards.connect, "connect", connect)
    monkeypatch.setattr(bindsearch, "connect", connect, raising=False)
    return variables


def run_page(page: str, folder: Path, variables: Mapping[str, str]) -> None:
    """Run the blocks of a page in a folder; the first that is not as printed is an AssertionError with its line.

    Args:
        page: Markdown.
        folder: Folder to work in.
        variables: Environment of commands that run in bash. Those that run in this process have that of the process.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks_of(page):
        place = f"line {block.line}"
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.not_run is not None:
            check_block(block)
        elif block.language == "sh":
            printed = _run_commands(block, folder, variables)
        elif block.language == "python":
            output = io.StringIO()
            with chdir(folder), redirect_stdout(output):
                exec(compile(block.text, place, "exec"), names)
            printed = output.getvalue()
        elif block.is_output:
            missing = first_difference(block.text, printed.replace(str(folder), "/home/me"))
            assert missing is None, f"{place}: {missing!r} is not in\n{printed}"


def _run_commands(block: Block, folder: Path, variables: Mapping[str, str]) -> str:
    """Return what the commands of a block print on both streams."""
    printed = ""
    commands = commands_of(block)
    for number, command in enumerate(commands):
        expected = block.exit_code if number == len(commands) - 1 else 0
        words = shlex.split(command, comments=True)
        bare = re.sub(r"'[^']*'|\"[^\"$]*\"", "", command.split("  #")[0])
        if words[0] == "bindsearch" and not SHELL_SIGNS.search(bare):
            with chdir(folder):
                done = run_command(words[1:])
        else:
            done = subprocess.run(
                ["bash", "-euc", command],
                cwd=folder,
                env={**os.environ, **variables, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        printed += done.stdout + done.stderr
        assert done.returncode == expected, f"line {block.line}: {command}: {done.returncode}\n{printed}"
    return printed


def check_block(block: Block) -> None:
    """Check a block that is not run: options of commands, syntax and names of Python."""
    if block.language == "sh":
        for command in commands_of(block):
            for part in _simple_commands(command):
                if part[:1] == ["bindsearch"]:
                    check_options(part[1:])
    elif block.language == "python":
        for node in ast.walk(ast.parse(block.text)):
            match node:
                case ast.Attribute(value=ast.Name(id="bs"), attr=name):
                    assert hasattr(bindsearch, name), f"line {block.line}: bindsearch has no {name}"


def _simple_commands(command: str) -> Iterator[list[str]]:
    """Yield the words of each command of a pipe or list."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if re.fullmatch(r"[|&;<>]+", word):
            yield words
            words = []
        elif words or not re.fullmatch(r"[A-Z_]+=.*", word):
            words.append(word)
    yield words


def check_options(arguments: Sequence[str]) -> None:
    """Parse the arguments of `bindsearch` without running anything; an unknown option or command is an error."""
    command: Any = typer.main.get_command(app)
    context, name, rest = None, "bindsearch", list(arguments)
    while hasattr(command, "resolve_command"):
        context = command.make_context(name, rest, parent=context)
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, f"no command {name}"
    command.make_context(name, rest, parent=context)


def first_difference(shown: str, printed: str) -> str | None:
    """Return the first line of a shown output that the printed one lacks; None if it has all of them in order."""
    lines = iter([line for line in map(_words, printed.splitlines()) if line])
    may_skip = True  # what comes before the shown part
    for line in filter(None, map(_words, shown.splitlines())):
        if line == ["..."]:
            may_skip = True
            continue
        for candidate in lines:
            if _match(line, candidate):
                break
            if not may_skip:
                return " ".join(line)
        else:
            return " ".join(line)
        may_skip = False
    return None


def _words(line: str) -> list[str]:
    line = re.sub(r"[▀-▟▁-█░▒▓]+", " ", line)  # bars and curves
    return re.sub(r"(?<=\d) (?=(s|ms|min)\b)", "", line).split()


def _match(shown: Sequence[str], printed: Sequence[str]) -> bool:
    return len(shown) == len(printed) and all(map(_match_word, shown, printed))


def _match_word(shown: str, printed: str) -> bool:
    if shown == printed:
        return True
    pattern = r"[\d,]*\.?\d+"
    if re.sub(pattern, "0", shown) != re.sub(pattern, "0", printed):
        return False
    if re.fullmatch(r"[\d.,]+(s|ms|min)[,;]?", shown):
        return True  # a time that it took
    pairs = zip(re.findall(pattern, shown), re.findall(pattern, printed), strict=True)
    return all(
        math.isclose(float(a.replace(",", "")), float(b.replace(",", "")), rel_tol=TOLERANCE, abs_tol=0.02)
        for a, b in pairs
    )
