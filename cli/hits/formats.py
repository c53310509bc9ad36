"""Hits as programs read them: paths, JSON lines, CSV, and lines of a form that the caller gives."""

from __future__ import annotations

import csv
import os
import re
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from bindsearch.arguments import did_you_mean
from bindsearch.cli.output import print_line, visible
from bindsearch.errors import UsageError
from bindsearch.operations.locate.words import place_in_words

FIELD_NAMES = (
    "rank path name folder modality match probability z score cosine item_id collection start_s end_s line text "
    "is_missing found_by place"
)
FIELDS = tuple(FIELD_NAMES.split())
"""Values of a hit in a form and in CSV."""

MAX_WIDTH = 9999
"""Most characters, or digits, that a format specification may ask for."""

_ESCAPES: Mapping[str, str] = MappingProxyType({"t": "\t", "n": "\n", "0": "\0", "\\": "\\"})


def print_paths(hits: Iterable[Mapping[str, Any]], *, end_with_nul: bool) -> None:
    """Print one path a line, with control characters escaped; or the bytes of each path, ended by NUL."""
    for hit in hits:
        if end_with_nul:
            typer.echo(os.fsencode(hit["path"]) + b"\0", nl=False)
        else:
            print_line(hit["path"])


def print_csv(hits: Iterable[Mapping[str, Any]]) -> None:
    """Print hits as CSV (RFC 4180) with a header; texts are as they are, on a terminal escaped."""
    rows = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
    rows.writeheader()
    for hit in hits:
        rows.writerow({name: _as_text(value) for name, value in _values(hit).items()})


def print_form(hits: Iterable[Mapping[str, Any]], form: str) -> None:
    r"""Print each hit in a form such as '{path}\t{start_s}'.

    Args:
        hits: The hits.
        form: Text with fields of FIELDS in braces, each with a format specification of Python at will, such as
            {probability:.2f}; \t, \n, \0 and \\ are understood. A value that a hit does not have is empty.

    Raises:
        UsageError: the form has an unknown field, or a specification that does not fit its values.
    """
    parts = parse_form(form)
    end = "" if form.endswith(("\\n", "\\0")) else "\n"
    for hit in hits:
        values = _values(hit)
        shown = [
            literal + ("" if name is None else _formatted(name, values[name], spec)) for literal, name, spec in parts
        ]
        typer.echo("".join(shown) + end, nl=False, color=True)  # else codes in names are removed


def parse_form(form: str) -> list[tuple[str, str | None, str]]:
    """Return the parts of a form: text, the field after it and its format. Raises UsageError: as for `print_form`."""
    try:
        parsed = list(string.Formatter().parse(_unescaped(form)))
    except ValueError as error:
        raise UsageError(f"--format {form!r}: {error}: write {{{{ for a brace") from None
    parts: list[tuple[str, str | None, str]] = []
    for literal, name, spec, conversion in parsed:
        if name is not None and name not in FIELDS:
            near = did_you_mean(name, FIELDS)
            raise UsageError(f"--format: a hit has no field {name!r}: {near}its fields are {', '.join(FIELDS)}")
        if conversion or (spec and "{" in spec):
            raise UsageError(f"--format: {{{name}}} takes a format such as {{probability:.2f}} only")
        if spec and re.search(r"\d{5}", spec):
            raise UsageError(f"--format: {{{name}:{spec}}} is wider than {MAX_WIDTH} characters: ask for less")
        parts.append((literal, name, spec or ""))
    return parts


def _unescaped(form: str) -> str:
    r"""Return a form with \t, \n, \0 and \\ replaced."""

    def letter(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            raise UsageError(rf"--format {form!r}: \{found[1]} is not known: write \t, \n, \0 or \\")
        return _ESCAPES[found[1]]

    return re.sub(r"\\(.?)", letter, form, flags=re.DOTALL)


def _values(hit: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(hit["path"])
    place = place_in_words(hit["located"]) if hit["located"] else None
    known = {**hit, "name": path.name, "folder": str(path.parent), "place": place}
    return {name: known[name] for name in FIELDS}


def _formatted(name: str, value: object, spec: str) -> str:
    if value is None:
        return ""
    try:
        return _as_text(format(value, spec))
    except (ValueError, TypeError) as error:
        raise UsageError(f"--format: {{{name}:{spec}}} does not fit the value {value!r}: {error}") from None


def _as_text(value: object) -> str:
    """Return a value as text, empty for None; on a terminal without control characters."""
    text = "" if value is None else str(value)
    return visible(text) if sys.stdout.isatty() else text


def one_of(forms: Mapping[str, bool]) -> str | None:
    """Return the one form of output that is asked for; None if none is. Raises UsageError: several are."""
    chosen: Sequence[str] = [name for name, is_asked in forms.items() if is_asked]
    if len(chosen) > 1:
        *others, last = chosen
        raise UsageError(f"{', '.join(others)} and {last} exclude each other: choose one")
    return chosen[0] if chosen else None
