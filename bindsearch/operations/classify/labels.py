"""Labels that a user gives: classes with their names, from a list or a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bindsearch.arguments import shown, to_path, to_texts
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.zero_shot import ClassNames
from bindsearch.errors import UsageError
from bindsearch.small_files import read_small_file
from bindsearch.storage.class_columns import MAX_LABELS
from bindsearch.types import Modality, PathLike

BETWEEN_NAMES = "|"
"""Between several names of one class; the first one is its label."""

MAX_LABELS_BYTES = 4 << 20
"""Size of a file of labels."""

MAX_NAME = 300
"""Characters of a name."""

MAX_PROMPTS = 2_000_000
"""Names times templates: CLIP's 80 for the 21,000 classes of ImageNet, some hours on a CPU."""


ONLY_COMPARED = "probabilities compare the given labels with each other: one of them is best even if none fits"
"""Limit of probabilities of classes: nothing tells whether a cosine of a text and a file is high by itself."""


def read_labels(file: PathLike) -> ClassNames:
    """Return the classes of a file: one a line, several names separated by `|`, of which the first is the label.

    Empty lines and lines that begin with # are left out.

    Args:
        file: Text file in UTF-8.

    Raises:
        UsageError: the file cannot be read, holds no labels or too many, or a name is empty, long or given twice.
    """
    path = to_path(file)
    try:
        text = read_small_file(path, MAX_LABELS_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        way_out = f"give a text file in UTF-8 of at most {MAX_LABELS_BYTES >> 20} MiB, one class a line"
        raise UsageError(f"the labels {path} cannot be read ({reason}): {way_out}") from None
    lines = [(f"line {number} of {path}", line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return _classes([(where, line) for where, line in lines if line and not line.startswith("#")], str(path))


def to_classes(labels: Iterable[str] | ClassNames | Path) -> ClassNames:
    """Return classes that a caller gave.

    Args:
        labels: Names of classes, each one a class, or several names of a class separated by `|`; a Path is a file.

    Raises:
        UsageError: as for `read_labels`.
    """
    if isinstance(labels, ClassNames):
        return labels
    if isinstance(labels, Path):
        return read_labels(labels)
    return _classes([("the labels", text.strip()) for text in to_texts(labels, "labels")], "the list of labels")


def check_prompts(classes: ClassNames, templates: Sequence[str], encoder: Encoder) -> None:
    """Check that the encoder has a text tower, and that there are not too many names.

    Raises:
        UsageError: there is no text tower, or too many names.
    """
    if Modality.TEXT not in encoder.modalities:
        fault = f"the encoder {encoder.name} cannot embed texts, which classes are named by"
        raise UsageError(f"{fault}: choose another encoder")
    prompts = sum(map(len, classes.texts)) * len(templates)
    if prompts > MAX_PROMPTS:
        way_out = f"give at most {MAX_PROMPTS}, with fewer templates, such as --templates none"
        raise UsageError(f"{prompts} texts would be embedded (names times templates): {way_out}")


def _classes(lines: Sequence[tuple[str, str]], whole: str) -> ClassNames:
    """Return classes from lines, each with the place that messages name."""
    if not lines:
        raise UsageError(f"{whole} holds no labels: give at least one, such as --labels dog,cat")
    if len(lines) > MAX_LABELS:
        raise UsageError(f"{whole} holds {len(lines)} labels: give at most {MAX_LABELS}")
    texts = []
    seen: dict[str, str] = {}
    for where, line in lines:
        names = tuple(name.strip() for name in line.split(BETWEEN_NAMES))
        for name in names:
            if not name:
                raise UsageError(f"{where}: a name in {shown(line)} is empty: give names separated by {BETWEEN_NAMES}")
            if len(name) > MAX_NAME or not name.isprintable():
                fault = f"is longer than {MAX_NAME} characters or holds characters that cannot be shown"
                raise UsageError(f"{where}: the name {shown(name)} {fault}: give a short name")
            if (key := " ".join(name.casefold().split())) in seen:
                place = "" if seen[key] == where else f", first in {seen[key]}"
                raise UsageError(f"{where}: the name {shown(name)} is given twice{place}: leave one out")
            seen[key] = where
        texts.append(names)
    return ClassNames(tuple(names[0] for names in texts), tuple(texts))
