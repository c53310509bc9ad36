"""Tables of pairs: a CSV file with a row for each file of the new modality and its partner in the hub's space."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bindsearch.arguments import shown, to_path
from bindsearch.errors import UsageError
from bindsearch.small_files import NOT_REGULAR, is_not_regular, open_regular
from bindsearch.types import Modality, PathLike, Span

MAX_PAIRS = 20_000_000
MAX_FIELD_CHARACTERS = 100_000
"""Characters of a cell: a long text, not a file that is no CSV at all."""

COLUMNS = frozenset({"split", "group", "label", "start_s", "end_s"})
"""Columns besides those of the two modalities."""

TRAIN, VALIDATION = "train", "validation"
SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "val", "valid"), VALIDATION),
}
"""Splits by the words that tables have for them; rows of others, such as test, are left out with a count."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A file of the new modality, and what it belongs to.

    Attributes:
        path: The file.
        hub: Path of the hub's file, or the text itself.
        span: Part of both recordings; None: whole files.
        label: Class in words, for validation; "": none.
        is_validation: Whether it is kept for validation.
    """

    path: Path
    hub: str
    span: Span | None
    label: str
    is_validation: bool


@dataclass(frozen=True)
class PairTable:
    """The pairs of a table.

    Attributes:
        folder: Folder that paths are relative to: that of the table.
        hub_modality: Modality of the other member of each pair.
        pairs: The pairs, in the order of the table.
        notes: What was left out, one line each.
    """

    folder: Path
    hub_modality: Modality
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def read_pairs(
    table: PathLike, modality: Modality, hub_modalities: frozenset[Modality], validation: float
) -> PairTable:
    """Read a table of pairs.

    Its header names a column for the new modality (such as `thermal`) and one for another that the hub embeds (`image`,
    `video`, `text`, ...); texts stand in the cell themselves. Optional columns: `split` (train, validation), `group`
    (rows of one group are never split, such as frames of one video), `label` (class in words), `start_s` and `end_s`
    (seconds of both recordings). Others are ignored.

    Args:
        table: CSV file in UTF-8; paths are relative to its folder.
        modality: The new modality.
        hub_modalities: Modalities of the hub.
        validation: Share of the groups that are kept for validation if there is no column `split`; a group is a
            `group`, or all rows with the same member of the hub.

    Raises:
        UsageError: the file cannot be read, a column is missing, a row is incomplete, or there are no pairs.
    """
    path = to_path(table)
    others_limit = csv.field_size_limit(MAX_FIELD_CHARACTERS)
    try:
        with open_regular(path) as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            rows.fieldnames = [name.strip() for name in rows.fieldnames or []]
            hub_modality = _hub_column(path, rows.fieldnames, modality, hub_modalities)
            pairs, left_out = _read_rows(path, rows, modality, hub_modality, validation)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, OSError) and is_not_regular(error):
            reason = NOT_REGULAR
        expected = "give a CSV file in UTF-8 with a row for each pair"
        raise UsageError(f"{path} cannot be read ({reason}): {expected}") from None
    finally:
        csv.field_size_limit(others_limit)
    if not any(not pair.is_validation for pair in pairs):
        raise UsageError(f"{path} has no pairs to train on: give rows, with split=train if there is a column split")
    notes = [
        f"{count} row{'s are' if count > 1 else ' is'} left out: the split is {shown(split)}"
        for split, count in sorted(left_out.items())
    ]
    return PairTable(path.absolute().parent, hub_modality, tuple(pairs), tuple(notes))


def _hub_column(path: Path, names: Sequence[str], modality: Modality, hub_modalities: frozenset[Modality]) -> Modality:
    """Return the modality of the other column; raise UsageError unless there is the new one and one other."""
    others = [name for name in names if name in list(Modality) and name != modality]
    usable = ", ".join(sorted(hub_modalities - {modality}))
    if modality not in names or len(others) != 1:
        found = ", ".join(map(shown, names[:10])) or "none"
        raise UsageError(f"{path} has the columns {found}: expected {modality} and one of {usable}")
    if others[0] not in hub_modalities:
        raise UsageError(f"the hub cannot embed {others[0]}, a column of {path}: it embeds {usable}")
    if twice := next((name for name in COLUMNS | {modality} if names.count(name) > 1), None):
        raise UsageError(f"{path} has the column {twice} twice: leave one out")
    return Modality(others[0])


def _read_rows(
    path: Path, rows: csv.DictReader[str], modality: Modality, hub_modality: Modality, validation: float
) -> tuple[list[Pair], dict[str, int]]:
    """Return the pairs, and how many rows of other splits there are."""
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    folder = path.absolute().parent
    has_split = "split" in (rows.fieldnames or [])
    for row in rows:
        line = rows.line_num
        if len(pairs) >= MAX_PAIRS:
            raise UsageError(f"{path} has more than {MAX_PAIRS} pairs: divide it")
        if None in row:
            raise UsageError(f'line {line} of {path} has more cells than there are columns: write "..." around commas')
        file, other = (row.get(modality) or "").strip(), (row.get(hub_modality) or "").strip()
        if not file or not other:
            raise UsageError(f"line {line} of {path} has an empty {modality if not file else hub_modality}: fill it in")
        if "\0" in file + other:
            raise UsageError(f"line {line} of {path} has a zero byte: write the table as plain text")
        split = (row.get("split") or "").strip().lower()
        if has_split and split not in SPLITS:
            left_out[split] += 1
            continue
        group = (row.get("group") or "").strip() or other
        hub = other if hub_modality is Modality.TEXT else str(folder / other)
        label = (row.get("label") or "").strip()
        is_validation = SPLITS[split] == VALIDATION if has_split else share_of(group) < validation
        pairs.append(Pair(folder / file, hub, _span(row, line, path), label, is_validation))
    return pairs, left_out


def share_of(group: str) -> float:
    """Return a number in 0..1 that depends on a group alone, so that more rows do not move others between splits."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "big") / 2.0**64


def _span(row: Mapping[str, str | None], line: int, path: Path) -> Span | None:
    """Return the span of a row; None if it has none."""
    texts = [(row.get(name) or "").strip() for name in ("start_s", "end_s")]
    if not any(texts):
        return None
    try:
        start_s, end_s = map(float, texts)
        if not 0 <= start_s < end_s < math.inf:
            raise ValueError
        return Span(start_s, end_s)
    except ValueError:
        raise UsageError(f"line {line} of {path} has the span {' to '.join(map(shown, texts))}: give seconds") from None
