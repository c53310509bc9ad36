"""Zero-shot classification: classes are names in words, and a vector has the class whose name is nearest.

Letters: n vectors, m names, c classes, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import did_you_mean, looks_like_path, shown, to_number, to_path, to_texts
from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.errors import EncoderError, UsageError
from bindsearch.media import Passage
from bindsearch.small_files import read_small_file
from bindsearch.types import Modality, PathLike
from bindsearch.vectors import MIN_SUM_NORM, cosines

PLACE = "{}"
"""Place of the name in a template."""

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
DEFAULT_TEMPLATES = "general"

MAX_TEMPLATES = 1000
MAX_TEMPLATE_BYTES = 1 << 20
"""Size of a file of templates."""

MAX_NAMES = 100_000
"""Names of all classes together; ImageNet-21k has about 50,000."""

BATCH_PROMPTS = 64
"""Prompts that are embedded at a time."""


@dataclass(frozen=True, slots=True)
class ClassNames:
    """Classes, each with one or several names in words.

    Attributes:
        labels: Label of each class, as answers and tables have it; no two are equal.
        texts: The names of each class that are embedded, such as ("kitchen",), or several for a class that has no one
            name, such as "other".
    """

    labels: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            UsageError: there are no classes or too many, two have the same label, or a class has no name or an empty
                one.
        """
        if not self.labels:
            raise UsageError("there are no classes: give at least one name")
        if len(self.texts) != len(self.labels):
            raise UsageError(f"{len(self.labels)} labels have names for {len(self.texts)}: give names for each label")
        if len(set(self.labels)) < len(self.labels):
            twice = next(label for number, label in enumerate(self.labels) if label in self.labels[:number])
            raise UsageError(f"the label {shown(twice)} is given twice: give each class a label of its own")
        for label, texts in zip(self.labels, self.texts, strict=True):
            if not texts or not all(any(map(str.isalnum, text)) for text in texts):
                raise UsageError(f"the class {shown(label)} has a name without letters or digits: give names in words")
        total = sum(map(len, self.texts))
        if total > MAX_NAMES:
            raise UsageError(f"the classes have {total} names: give at most {MAX_NAMES}")


@dataclass(frozen=True, slots=True)
class ClassVectors:
    """Vectors of the names of classes.

    Attributes:
        labels: Label of each class.
        vectors: Vector of each name: float32 (m, d), unit norm.
        class_of: Number of the class of each name, ascending: int64 (m,).
    """

    labels: tuple[str, ...]
    vectors: NDArray[np.float32]
    class_of: NDArray[np.int64]


def class_names(labels: Sequence[str]) -> ClassNames:
    """Return classes with one name each, which is their label.

    Raises:
        UsageError: as for `ClassNames`.
    """
    texts = tuple(text.strip() for text in to_texts(labels, "labels"))
    return ClassNames(texts, tuple((text,) for text in texts))


def template_sets() -> list[str]:
    """Return the names of the sets of templates that are part of BindSearch."""
    return sorted(path.stem for path in TEMPLATE_FOLDER.glob("*.txt"))


def read_templates(name_or_file: PathLike = DEFAULT_TEMPLATES) -> tuple[str, ...]:
    """Return the templates of a set.

    Args:
        name_or_file: Name of a set of `template_sets`, or a file in UTF-8 with a template a line, each with `{}` in the
            place of the name. Empty lines and lines that begin with # are left out.

    Raises:
        UsageError: there is no such set or file, or a line is not a template.
    """
    names = template_sets()
    path = TEMPLATE_FOLDER / f"{name_or_file}.txt" if name_or_file in names else to_path(name_or_file)
    try:
        text = read_small_file(path, MAX_TEMPLATE_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        if looks_like_path(str(name_or_file)):
            raise UsageError(f"{path} is not there: give a file of templates, or one of {', '.join(names)}") from None
        suggestion = did_you_mean(str(name_or_file), names)
        raise UsageError(
            f"unknown set of templates {shown(str(name_or_file))}: {suggestion}choose from {', '.join(names)}, "
            "or give a file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read ({reason}): give a text file in UTF-8 of at most 1 MiB") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    templates = [(number, line) for number, line in lines if line and not line.startswith("#")]
    for number, line in templates:
        if line.count(PLACE) != 1:
            raise UsageError(f"line {number} of {path} is {shown(line)}: a template has {PLACE} once, for the name")
    if not 1 <= len(templates) <= MAX_TEMPLATES:
        raise UsageError(f"{path} has {len(templates)} templates: give 1 to {MAX_TEMPLATES}, one a line")
    return tuple(line for _, line in templates)


def class_vectors(
    encoder: Encoder,
    classes: ClassNames,
    templates: Sequence[str],
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ClassVectors:
    """Embed the names of classes: a name's vector is the normalised mean of its vectors in all templates.

    Radford et al. 2021, 3.1.4: the mean is of unit vectors, not of probabilities. A name that several classes have is
    embedded once.

    Args:
        encoder: Encoder to use.
        classes: The classes.
        templates: Templates, as `read_templates` returns them.
        on_progress: Called with the number of prompts that are embedded and the total.

    Raises:
        UsageError: the encoder has no text, or there is no template.
        EncoderError: the vectors of a name cancel each other.
        MediaError: a prompt is longer than the encoder takes.
    """
    if Modality.TEXT not in encoder.modalities:
        raise UsageError(f"the encoder {encoder.name} has no text: classes are named in words, choose another encoder")
    if not templates:
        raise UsageError("there are no templates: give at least one, such as {}")
    texts = [text for names in classes.texts for text in names]
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    sums = np.zeros((len(row_of), encoder.dim), np.float64)
    done, total = 0, len(row_of) * len(templates)
    prompts = ((row, template.replace(PLACE, name)) for row, name in enumerate(row_of) for template in templates)
    while batch := list(islice(prompts, BATCH_PROMPTS)):
        vectors = encode_media(encoder, [Passage(prompt) for _, prompt in batch])
        np.add.at(sums, [row for row, _ in batch], vectors)
        done += len(batch)
        on_progress(done, total)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    if (norms <= MIN_SUM_NORM * len(templates)).any():
        name = list(row_of)[int(norms.argmin())]
        raise EncoderError(f"the vectors of the name {shown(name)} cancel each other: use fewer templates")
    rows = [row_of[text] for text in texts]
    counts = [len(names) for names in classes.texts]
    unit = (sums / norms).astype(np.float32)
    return ClassVectors(classes.labels, unit[rows], np.repeat(np.arange(len(counts), dtype=np.int64), counts))


def class_scores(classes: ClassVectors, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the score of each class for vectors (n, d): the greatest cosine of its names, float32 (n, c).

    Cosines are rounded, see `bindsearch.vectors.cosines`, so that names with equal vectors have equal scores.
    """
    starts = np.flatnonzero(np.diff(classes.class_of, prepend=-1))
    return np.asarray(np.maximum.reduceat(cosines(vectors, classes.vectors), starts, axis=1), np.float32)


def class_probabilities(scores: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Return probabilities of classes, softmax(temperature * scores): float32 (n, c); each row has the sum 1.

    Args:
        scores: Scores of `class_scores`: (n, c).
        temperature: Logit scale of the vectors' modality, of `encoder.temperatures`.

    Raises:
        UsageError: the temperature is not a positive number.
    """
    scale = to_number(temperature, "temperature", "give a positive number")
    if scale <= 0:
        raise UsageError(f"temperature is {shown(temperature)}: give a positive number")
    logits = scale * np.asarray(scores, np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)
