"""Mutation testing: change one expression or statement of the product at a time, and count what the tests notice.

    python benchmarks/mutants.py --seconds 600 --seed 0 --workers 2

`mutants.toml` names the files to change, the tests, and changes that change no behaviour, each with a reason.
First all these tests run once with coverage, which says which of them run a line and how long each takes; a change of a
line is then tried with these tests alone, the quickest first, until one fails. Changes are drawn at random with a seed.

cosmic-ray and mutmut were not used: cosmic-ray has one test command for a session and no sample, limit of time or
selection of tests by line; mutmut needs the sources in one folder and draws no sample with a seed. Both change text and
type annotations too, where most changes are not behaviour.

Not changed: text, type annotations, f-strings, what stands outside functions, such as limits and tuning constants, and
`strict=True` of `zip`, which only guards against mistakes of the program itself.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
SETTINGS = Path(__file__).with_suffix(".toml")
MAPPED = ("cli", "indexes", "ingest")
"""Folders that the package has inside `bindsearch`."""

LONGEST_TEST_S = 8.0
"""Tests that take longer are left out, so that one change is tried in seconds."""

COMPARED: Mapping[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
CALCULATED: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}

SECONDS = "MUTANTS_SECONDS"
"""Variable with the file for the duration of each test."""

PLUGIN = """
import collections
import json
import os
import coverage
import pytest

seconds = collections.Counter()

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    coverage.Coverage.current().switch_context("setup " + item.nodeid.partition("::")[0])

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    coverage.Coverage.current().switch_context(item.nodeid)

def pytest_runtest_logreport(report):
    seconds[report.nodeid] += report.duration

def pytest_sessionfinish():
    with open(os.environ["MUTANTS_SECONDS"], "w") as file:
        json.dump(seconds, file)
"""
"""A plugin of pytest: the context of coverage is the test that runs, or a file whose fixtures are set up."""


@dataclass(frozen=True)
class Mutant:
    """A changed source file.

    Attributes:
        path: The file, relative to the project.
        line: Number of the first changed line.
        statement: Numbers of the lines of the statement, of an `if` or a loop those before its body.
        source: The whole changed source.
        diff: The changed lines, before and after.
    """

    path: str
    line: int
    statement: range
    source: str
    diff: tuple[str, ...]


@dataclass(frozen=True)
class Baseline:
    """What the tests do without a change.

    Attributes:
        seconds: Duration of each test by its id.
        tests: Ids of the tests that run a line, by file and line.
    """

    seconds: Mapping[str, float]
    tests: Mapping[str, Mapping[int, Sequence[str]]]


def changes(node: ast.AST) -> Iterator[ast.AST | str]:
    """Yield what may take the place of a node: another node, or a text."""
    match node:
        case ast.Compare(ops=operators):
            for place, operator in enumerate(operators):
                for other in COMPARED[type(operator)]:
                    changed = deepcopy(node)
                    changed.ops[place] = other()
                    yield changed
        case ast.BoolOp(op=operator, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in CALCULATED:
            yield ast.BinOp(left, CALCULATED[type(operator)](), right)
        case ast.AugAssign(target=target, op=operator, value=value) if type(operator) in CALCULATED:
            yield ast.AugAssign(target, CALCULATED[type(operator)](), value)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            yield NAMES[name]
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield ast.UnaryOp(ast.Not(), test)
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Delete():
            yield "pass"
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield "return None"
        case ast.Continue():
            yield "break"
        case ast.Break():
            yield "continue"


def changed_nodes(node: ast.AST, statement: range | None = None) -> Iterator[tuple[ast.AST, range]]:
    """Yield the nodes of functions that may be changed, without annotations, decorators, f-strings and `strict=True`.

    Each with the lines of its statement, of an `if` or a loop those before its body; `statement` None: at the top.
    """
    match node:
        case ast.JoinedStr() | ast.keyword(arg="strict", value=ast.Constant(value=True)):
            return
    if statement is not None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            statement = range(node.lineno, body[0].lineno if body else (node.end_lineno or node.lineno) + 1)
        yield node, statement
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        statement = range(node.lineno, (node.end_lineno or node.lineno) + 1)  # that of defaults
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from changed_nodes(child, statement)


def mutants_of(path: str) -> Iterator[Mutant]:
    """Yield all changed versions of a file."""
    source = (PROJECT / path).read_text()
    lines = source.splitlines(keepends=True)
    for node, statement in changed_nodes(ast.parse(source)):
        for change in changes(node):
            place = node.test if isinstance(node, ast.If | ast.While | ast.IfExp) else node
            first, last = place.lineno - 1, place.end_lineno - 1  # type: ignore[attr-defined]
            start = len(lines[first].encode()[: place.col_offset].decode())  # type: ignore[attr-defined]
            end = len(lines[last].encode()[: place.end_col_offset].decode())  # type: ignore[attr-defined]
            text = change if isinstance(change, str) else ast.unparse(change)
            if isinstance(change, ast.expr) and not isinstance(change, ast.Constant | ast.Name):
                text = f"({text})"
            new = f"{lines[first][:start]}{text}{lines[last][end:]}"
            diff = tuple(
                line.rstrip() for line in difflib.ndiff(lines[first : last + 1], [new]) if not line.startswith("?")
            )
            yield Mutant(path, first + 1, statement, "".join([*lines[:first], new, *lines[last + 1 :]]), diff)


def copy_project(place: Path) -> Path:
    """Copy the working tree, with the package in one folder; return the copy."""
    tree = place / "main"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, tree / name)
    for name in MAPPED:
        (tree / "bindsearch" / name).symlink_to(tree / name)
    if (PROJECT.parent / "shared").exists():
        (place / "shared").symlink_to((PROJECT.parent / "shared").resolve())
    return tree


def pytest(tree: Path, arguments: Sequence[str], limit_s: float, coverage: Sequence[str] = ()) -> int:
    """Run pytest in a copy, seen if it measures coverage; return its exit code, 1 if it exceeds the limit."""
    command = [sys.executable, *coverage, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci"]
    output = None if coverage else subprocess.DEVNULL
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)  # tests read what is below it as another user
        variables = {"PYTHONPATH": f"{tree}{os.pathsep}{tree.parent}", "TMPDIR": temporary}
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=tree,
            env={**os.environ, **variables, SECONDS: str(tree.parent / "seconds")},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return 1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def measure(tree: Path, settings: Mapping[str, Any]) -> Baseline:
    """Run all tests once, with coverage of the files to change.

    Raises:
        SystemExit: a test fails without a change.
    """
    import coverage

    place = tree.parent
    (place / "mutants_plugin.py").write_text(PLUGIN)
    (place / "coveragerc").write_text(f"[run]\ndata_file = {place / 'coverage'}\nsource = bindsearch\n")
    before = ("-m", "coverage", "run", f"--rcfile={place / 'coveragerc'}")
    if code := pytest(tree, [*settings["tests"], "-p", "mutants_plugin"], 3600, before):
        raise SystemExit(f"the tests fail without a change (pytest ended with {code}): run them first")
    seconds = json.loads((place / "seconds").read_text())
    data = coverage.CoverageData(str(place / "coverage"))
    data.read()
    tests = {}
    for path in settings["files"]:
        known = data.contexts_by_lineno(str(tree / path))
        tests[path] = {line: _tests_of(contexts, seconds) for line, contexts in known.items()}
    return Baseline(seconds, tests)


def _tests_of(contexts: Sequence[str], seconds: Mapping[str, float]) -> list[str]:
    """Return the tests of a line: all of a file whose fixtures run it."""
    names = {context.removeprefix("setup ") for context in contexts}
    return [
        test
        for test, time_s in seconds.items()
        if time_s <= LONGEST_TEST_S and (test in names or test.partition("::")[0] in names)
    ]


def tests_of(mutant: Mutant, baseline: Baseline) -> list[str]:
    """Return the tests that run a changed statement, the quickest first."""
    lines = baseline.tests.get(mutant.path, {})
    tests = {test for line in mutant.statement for test in lines.get(line, ())}
    return sorted(tests, key=lambda test: (baseline.seconds[test], test))


def survives(tree: Path, mutant: Mutant, baseline: Baseline, also: Sequence[str], number: int) -> bool:
    """Return whether all tests of a changed statement pass, and then those of its file that run in other processes."""
    tests = tests_of(mutant, baseline)
    path = tree / mutant.path
    original = path.read_bytes()
    limit_s = 20 + 4 * sum(baseline.seconds[test] for test in tests)
    arguments = tree.parent / "arguments"
    arguments.write_text("".join(f"{test}\n" for test in tests))
    try:
        path.write_text(mutant.source)
        os.utime(path, (number, number))  # Python compiles again what has another time
        passed = not tests or pytest(tree, ["-x", f"@{arguments}"], limit_s) == 0
        return passed and (not also or pytest(tree, ["-x", *also], 600) == 0)
    finally:
        path.write_bytes(original)


def run(settings: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Try changes until the time is over, and print the score and what survived."""
    equivalent = {(entry["file"], entry["before"], entry["after"]) for entry in settings["equivalent"]}
    chosen = [path for path in settings["files"] if path.startswith(tuple(options.files))]
    mutants = [mutant for path in chosen for mutant in mutants_of(path)]
    random.Random(options.seed).shuffle(mutants)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        trees: SimpleQueue[Path] = SimpleQueue()
        for worker in range(options.workers):
            trees.put(copy_project(place / str(worker)))
        if options.baseline and options.baseline.exists():
            known = json.loads(options.baseline.read_text())
            lines = {path: {int(line): ids for line, ids in of.items()} for path, of in known["tests"].items()}
            baseline = Baseline(known["seconds"], lines)
        else:
            baseline = measure(place / "0" / "main", settings)
            if options.baseline:
                options.baseline.write_text(json.dumps({"seconds": baseline.seconds, "tests": baseline.tests}))
        (place / "tests").write_text("".join(f"{test}\n" for test in baseline.seconds))
        if pytest(place / "0" / "main", ["--collect-only", f"@{place / 'tests'}"], 600):
            raise SystemExit(f"the tests are not those of {options.baseline}: remove it")
        end = time.monotonic() + options.seconds
        numbers = count(1_000_000_000)
        outcomes: list[tuple[Mutant, bool]] = []

        def attempt(mutant: Mutant) -> None:
            if time.monotonic() > end or (mutant.path, *described(mutant)) in equivalent:
                return
            tree = trees.get()
            try:
                also = settings["also"].get(mutant.path, ())
                outcomes.append((mutant, survives(tree, mutant, baseline, also, next(numbers))))
            finally:
                trees.put(tree)
            if outcomes[-1][1]:
                show(outcomes[-1][0], baseline)

        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(attempt, mutants))
    summarize(outcomes, len(mutants), len(equivalent))


def described(mutant: Mutant) -> tuple[str, str]:
    """Return the changed lines before and after, without spaces at the ends, as `mutants.toml` has them."""
    before = " ".join(line[2:].strip() for line in mutant.diff if line.startswith("- "))
    after = " ".join(line[2:].strip() for line in mutant.diff if line.startswith("+ "))
    return before, after


def show(mutant: Mutant, baseline: Baseline) -> None:
    """Print a change that survived."""
    print(
        f"\n{mutant.path}:{mutant.line} survived {len(tests_of(mutant, baseline))} tests",
        *mutant.diff,
        sep="\n",
        flush=True,
    )


def summarize(outcomes: Sequence[tuple[Mutant, bool]], total: int, equivalent: int) -> None:
    """Print the number of changes and of those that a test noticed, by file and in all."""
    by_file: dict[str, list[bool]] = {}
    for mutant, survived in outcomes:
        by_file.setdefault(mutant.path, []).append(survived)
    print(f"\n{'file':<50} tried killed")
    for path, results in sorted(by_file.items()):
        print(f"{path:<50} {len(results):>5} {results.count(False):>6}")
    killed = sum(not survived for _, survived in outcomes)
    print(
        f"\n{killed} of {len(outcomes)} died ({killed / max(1, len(outcomes)):.1%}), drawn from {total}; "
        f"{equivalent} known to change no behaviour are left out"
    )


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="time for all changes, after the first run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--workers", type=int, default=2, help="changes that are tried at once")
    parser.add_argument("--baseline", type=Path, help="file that keeps the first run, for more draws of the same tree")
    parser.add_argument("files", nargs="*", default=[""], help="beginnings of the files' paths; default: all")
    settings = tomllib.loads(SETTINGS.read_text())
    found = {path for pattern in settings["files"] for path in PROJECT.glob(pattern)}
    settings["files"] = sorted(path.relative_to(PROJECT).as_posix() for path in found)
    run(settings, parser.parse_args())


if __name__ == "__main__":
    main()
