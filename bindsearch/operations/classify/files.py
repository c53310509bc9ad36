"""Classification of files: each is decoded and embedded as a query, and compared with the names of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bindsearch.arguments import to_choice, to_integer, to_list, to_path_text
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.zero_shot import (
    DEFAULT_TEMPLATES,
    ClassNames,
    class_probabilities,
    class_scores,
    class_vectors,
    read_templates,
)
from bindsearch.environment import installation_faults
from bindsearch.errors import InstallationError, MediaError, UsageError, VectorError
from bindsearch.operations.classify.labels import check_prompts, to_classes
from bindsearch.operations.classify.vectors import logit_scale
from bindsearch.operations.encode_query import encode_without_store
from bindsearch.operations.show.show_file import parse_file
from bindsearch.reports import OnRows, ignore_rows
from bindsearch.search.query import LIKE, Term
from bindsearch.search.query_encoding import EncodedTerm
from bindsearch.types import Modality, PathLike

SHOWN_CLASSES = 5
"""Classes of a file that are returned, best first."""

EncodeTerm = Callable[[Term], EncodedTerm]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """A class of a file.

    Attributes:
        label: Label of the class.
        probability: Probability among the given classes, 0..1; all of them have the sum 1.
        cosine: Cosine of the file's vector and that of the class: of its nearest name, if it has several.
    """

    label: str
    probability: float
    cosine: float


@dataclass(frozen=True, slots=True)
class ClassifiedFile:
    """Classes of a file.

    Attributes:
        source: The file, as given.
        modality: Modality of the file; None if it could not be read.
        classes: Classes, best first; none if the file could not be read.
        notices: What of the file is not used, and what its decoder noted.
        failure: Why the file could not be read; empty if it could.
    """

    source: str
    modality: Modality | None
    classes: tuple[ClassScore, ...]
    notices: tuple[str, ...] = ()
    failure: str = ""


@installation_faults()
def classify(
    files: PathLike | Iterable[PathLike],
    labels: Iterable[str] | ClassNames | Path,
    *,
    templates: PathLike = DEFAULT_TEMPLATES,
    encoder: str | Encoder = "mini",
    encoder_options: Mapping[str, str | int | float | bool] = MappingProxyType({}),
    top: int = SHOWN_CLASSES,
    modality: str | Modality | None = None,
    imu_rate_hz: float | None = None,
    device: str = "auto",
    on_rows: OnRows = ignore_rows,
) -> list[ClassifiedFile]:
    """Return the classes of files, without a store.

    Args:
        files: Files of any modality; as texts also MODALITY:FILE or FILE@10s-20s, as in queries.
        labels: Names of classes, several of one class separated by `|`; or a Path of a file with a class a line.
        templates: Set of templates, such as "general", "imagenet" or "sound", or a file with one a line.
        encoder: Encoder, or its name.
        encoder_options: Preprocessing options of the encoder.
        top: Number of classes to return for each file.
        modality: Modality of files that are given without one (None: it is detected).
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        device: Device as in `connect`.
        on_rows: Called with the number of files that are done, and their total.

    Returns:
        One result a file, in their order; a file that cannot be read has a failure in place of classes.

    Raises:
        UsageError: there are no files, or the labels, the templates or an option are invalid.
        EncoderError: there is no such encoder, or its model is not installed.
    """
    from bindsearch.encoders import load_encoder
    from bindsearch.encoders.torch_runtime.device import Runtime

    if isinstance(encoder, str):
        encoder = load_encoder(encoder, options=encoder_options, runtime=Runtime(device=device))
    encode_all = partial(encode_without_store, encoder=encoder, imu_rate_hz=imu_rate_hz)
    return classify_files(files, labels, templates, encoder, lambda term: encode_all([term])[0], top, modality, on_rows)


def classify_files(
    files: PathLike | Iterable[PathLike],
    labels: Iterable[str] | ClassNames | Path,
    templates: PathLike,
    encoder: Encoder,
    encode: EncodeTerm,
    top: int,
    modality: str | Modality | None,
    on_rows: OnRows,
) -> list[ClassifiedFile]:
    """Return the classes of files; arguments as of `classify`, and `encode`, which encodes one file.

    Raises:
        UsageError: as for `classify`.
    """
    sources = [to_path_text(file) for file in to_list(files, "the list of files")]
    if not sources:
        raise UsageError("nothing to classify: give at least one file")
    given = None if modality is None else to_choice(modality, Modality, "modality")
    shown = to_integer(top, "top", "give the number of classes to show", lowest=1)
    classes = to_classes(labels)
    prompts = read_templates(templates)
    check_prompts(classes, prompts, encoder)
    names = class_vectors(encoder, classes, prompts)
    classified = []
    on_rows(0, len(sources))
    for done, source in enumerate(sources, 1):
        try:
            encoded = encode(_term_of(source, given))
        except InstallationError:
            raise
        except (UsageError, MediaError, VectorError) as error:
            classified.append(ClassifiedFile(source, None, (), failure=str(error)))
        else:
            scores = class_scores(names, encoded.for_target(Modality.TEXT)[None])
            probabilities = class_probabilities(scores, logit_scale(encoder, encoded.modality))[0].tolist()
            order = np.argsort(-scores[0], kind="stable")[:shown].tolist()  # of equal ones the first comes first
            best = tuple(ClassScore(names.labels[row], probabilities[row], float(scores[0, row])) for row in order)
            classified.append(ClassifiedFile(source, encoded.modality, best, encoded.notices))
        on_rows(done, len(sources))
    return classified


def _term_of(source: str, modality: Modality | None) -> Term:
    """Return the term of a file, of `modality` if it is given without one; else, as `text:WORDS`, as in queries."""
    kind, _, rest = source.partition(":")
    if kind in (LIKE, Modality.TEXT) and rest.strip():
        return Term(kind, rest.strip())
    term = parse_file(source)
    return replace(term, kind=modality.value) if term.kind is None and modality is not None else term
