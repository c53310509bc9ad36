"""Output of commands: JSON on stdout for programs, plain lines for people, messages and progress on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from bindsearch.arguments import escaped, is_existing_file
from bindsearch.errors import UsageError

SCHEMA = 1
NOT_MEDIA = "not media: "
SUBTITLES_OF = "subtitles of "
SHOWN_REASONS = 8
"""Reasons for which files are left out, most frequent first."""

_NUMBERS = re.compile(r"\[\n *-?[0-9][-+.0-9eE]*(?:,\n *-?[0-9][-+.0-9eE]*)*\n *\]")
"""A list of numbers in indented JSON; texts of JSON have no line breaks."""


def print_json(data: dict[str, Any], *, indent: int | None = 2) -> None:
    """Print one JSON object on stdout, with the schema's number first; it has no characters that act on a terminal."""
    text = json_text(data, indent=indent)
    typer.echo(escaped(text, lambda letter: letter if letter == "\n" else json.dumps(letter)[1:-1]))


def json_text(data: dict[str, Any], *, indent: int | None = 2) -> str:
    """Return one JSON object with the schema's number first; a list of numbers takes one line."""
    text = json.dumps({"schema": SCHEMA, **data}, ensure_ascii=False, indent=indent, default=_path_text)
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text)


def _path_text(value: object) -> str:
    if not isinstance(value, Path):
        raise TypeError(f"{type(value).__name__} cannot be printed as JSON")
    return str(value)


def picked(source: object, names: str) -> dict[str, Any]:
    """Return attributes of an object as data, in the order of their names, which spaces separate."""
    return {name: getattr(source, name) for name in names.split()}


def print_line(text: str) -> None:
    """Print a line on stdout."""
    typer.echo(visible(text))


def print_message(text: str) -> None:
    """Print a line on stderr."""
    typer.echo(visible(text), err=True)


def print_notices(notices: Iterable[str]) -> None:
    """Print notices on stderr, a line each."""
    for notice in notices:
        print_message(f"note: {notice}")


@contextmanager
def show_stages() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current stage on a terminal, in place of the previous one."""
    from rich.console import Console
    from rich.text import Text

    if not sys.stderr.isatty():
        yield lambda _stage: None
        return
    with Console(stderr=True).status("") as line:
        yield lambda stage: line.update(Text(visible(stage)))  # rich reads the brackets of a plain text as markup


def visible(text: str) -> str:
    """Return `text` with control characters escaped, so that it stays on one line and cannot change the terminal."""
    return escaped(text, lambda letter: ascii(letter)[1:-1])


def human_bytes(n: int) -> str:
    """1536 as "1.5 KB"."""
    size = float(n)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def plural(n: int, thing: str) -> str:
    """Return a count with its noun: `1 file`, `2 files`."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def shorten_middle(text: str, columns: int) -> str:
    """Return `text`, with its middle replaced by "…" if it needs more columns of a terminal than there are."""
    from rich.cells import cell_len

    if cell_len(text) <= columns:
        return text
    half = max(1, columns // 2)
    head, tail = text[:half], text[-half:]  # too wide with letters of two columns
    while head and cell_len(f"{head}…{tail}") > columns:
        head, tail = (head[:-1], tail) if cell_len(head) > cell_len(tail) else (head, tail[1:])
    return f"{head}…{tail}"


def can_print(text: str) -> bool:
    """Return whether the encoding of stdout has all characters of a text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def check_output(option: str, path: Path, suffixes: Sequence[str], sources: Iterable[str]) -> None:
    """Check that a file can be written without replacing one that is read.

    The `sources` are read; they are as they were given: also MODALITY:FILE or FILE@10s-20s.

    Raises:
        UsageError: the name has another ending, its folder is missing, or it is one of the sources.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{option} {path}: expected a name that ends in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: the folder {path.parent} does not exist")
    for given in sources:
        names = {name for part in (given, given.rpartition("@")[0]) for name in (part, part.partition(":")[2])}
        if is_existing_file(path) and any(is_existing_file(Path(name)) and path.samefile(name) for name in names):
            raise UsageError(f"{option} {path} is the file to show: give another name")


def reasons_line(counts: Mapping[str, int]) -> str:
    """Return numbers of files by reason in words: extensions together, the most frequent reasons first."""
    extensions, others = Counter[str](), Counter[str]()
    of_recordings = [reason for reason in counts if reason.startswith(SUBTITLES_OF)]
    if len(of_recordings) > 1:
        total = sum(counts[reason] for reason in of_recordings)
        counts = {reason: n for reason, n in counts.items() if not reason.startswith(SUBTITLES_OF)}
        counts[f"{SUBTITLES_OF}recordings"] = total
    for reason, n in counts.items():
        extension = reason.removeprefix(NOT_MEDIA)
        is_extension = reason.startswith(f"{NOT_MEDIA}.") and " " not in extension
        (extensions if is_extension else others)[extension if is_extension else reason] += n
    parts = _most_common(others, "for other reasons")
    if extensions:
        shown = ", ".join(_most_common(extensions, "others"))
        parts.insert(0, f"{extensions.total()} of kinds that are not read ({shown})")
    return "; ".join(parts)


def _most_common(counts: Counter[str], rest: str) -> list[str]:
    shown = counts.most_common(SHOWN_REASONS)
    left = counts.total() - sum(n for _, n in shown)
    return [f"{n} {name}" for name, n in shown] + ([f"{left} {rest}"] if left else [])
