"""Bridge two encoders: a linear map from the space of the second to that of the first, fitted to what both embed.

Both embed the same captions. Ridge regression maps the vectors of the second encoder to those of the first. Each
modality is centred by its own mean, since the vectors of a modality share a direction that says nothing about their
content (the modality gap, arXiv 2203.02053). Where the table also has media of the second encoder, such as the sounds
of the captions, these are regressed to the captions too. No medium of the first encoder is needed: what is near a
caption there is near the sound that is mapped to it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bindsearch.arguments import to_path
from bindsearch.binding.bind import BindOptions, check_name, ignore_progress, model_files, new_folder, publish_bound
from bindsearch.binding.data.pair_data import OnProgress
from bindsearch.binding.data.pairs import read_pairs, share_of
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.combined.encoder import BRIDGE_TOWER, Bridge, bridge_tensors
from bindsearch.encoders.model_store.installed import BOUND_PREFIX, ModelManifest, model_lock
from bindsearch.encoders.registry import kept_options, load_part
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.encoders.torch_runtime.tensor_files import TensorSpec, write_tensors
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.embedding import embed_items, embed_texts
from bindsearch.evaluation.retrieval import retrieval_figures
from bindsearch.small_files import open_regular
from bindsearch.types import Modality, PathLike

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_TEXTS, MAX_TEXTS = 50, 200_000
"""Bounds of the number of captions: fewer determine no map, more are a gigabyte of vectors."""

VALIDATION_SHARE = 0.1
MAX_SHOWN = 10
"""Files without a vector that are named."""

RIDGES = tuple(10.0**exponent for exponent in range(-6, 2))
"""Strengths of the ridge, relative to the mean variance of a dimension; held-out captions decide."""


@dataclass(frozen=True)
class BridgeFigures:
    """Figures of held-out members of the second space that look for their captions in the first.

    Attributes:
        modality: Their modality.
        candidates: Number of held-out captions.
        recall_at_1: Share whose own caption is first.
        recall_at_10: Share whose own caption is among the first ten.
    """

    modality: str
    candidates: int
    recall_at_1: float
    recall_at_10: float


@dataclass(frozen=True)
class BridgeResult:
    """Result of a bridge.

    Attributes:
        manifest: Manifest of the installed encoder.
        captions: Number of captions that were fitted to.
        figures: Figures of each modality on held-out captions.
        notes: What was left out or assumed, one line each.
    """

    manifest: ModelManifest
    captions: int
    figures: tuple[BridgeFigures, ...]
    notes: tuple[str, ...]


def bind_bridge(
    table: PathLike,
    first: str,
    second: str,
    out: str,
    *,
    options: BindOptions = BindOptions(),  # noqa: B008  (frozen)
    on_embedded: OnProgress = ignore_progress,
) -> BridgeResult:
    """Fit a bridge between two encoders and install both as one encoder, "bound:NAME".

    Args:
        table: CSV file with a column `text` of captions, and perhaps one of media of the second encoder, such as
            `audio`; or a text file with a caption a line.
        first: Name of the encoder whose space is kept.
        second: Name of the encoder whose vectors are mapped.
        out: Name of the new encoder.
        options: `device` and `replace` are used.
        on_embedded: Called while captions and media are embedded.

    Raises:
        UsageError: the table, a name or the encoders do not fit, or the model exists.
        EncoderError: an encoder cannot be loaded.
    """
    name = check_name(out, replace=options.replace)
    if wrong := next((one for one in (first, second) if one.startswith(BOUND_PREFIX) or "+" in one), None):
        raise UsageError(f"{wrong} cannot be bridged: give the encoders that it is made of, one at a time")
    to_encoder, from_encoder = (load_part(one, None, Runtime(options.device)) for one in (first, second))
    for encoder in (to_encoder, from_encoder):  # both embed the captions
        if Modality.TEXT not in encoder.modalities:
            raise UsageError(f"the encoder {encoder.name} embeds no text: captions cannot bridge it")
    if not from_encoder.modalities - to_encoder.modalities:
        raise UsageError(f"{first} embeds all that {second} does: there is nothing to add")
    captions = _read_captions(table, from_encoder.modalities - to_encoder.modalities)
    texts = captions.texts
    targets, cut_first = embed_texts(to_encoder, texts, partial(on_embedded, first))
    sources, cut_second = embed_texts(from_encoder, texts, partial(on_embedded, second))
    notes = [*captions.notes]
    if cut := max(cut_first, cut_second):
        notes.append(f"{cut} captions are longer than a context window: only their beginnings count")
    vectors = {Modality.TEXT: (sources, np.arange(len(texts)))}
    if captions.items:
        modality = captions.items[0].modality
        found = embed_items(from_encoder, captions.items, partial(on_embedded, f"{second} {modality}"))
        notes += [f"{failure.name} is left out: {failure.reason}" for failure in found.failures[:MAX_SHOWN]]
        if (more := len(found.failures) - MAX_SHOWN) > 0:
            notes.append(f"{more} more files are left out")
        if len(found.kept) < MIN_TEXTS:
            why = f", {found.failures[0].name} not: {found.failures[0].reason}" if found.failures else ""
            raise UsageError(f"{len(found.kept)} files of {modality} can be embedded{why}: give at least {MIN_TEXTS}")
        vectors[modality] = found.vectors, found.kept
    for one, (_, of_captions) in vectors.items():
        _check_sides(one, captions.held_out[of_captions])
    bridge, figures = fit_bridge(vectors, targets, captions.held_out)
    if len(texts) < (dim := from_encoder.dim):
        notes.append(f"{len(texts)} captions are fewer than the {dim} dimensions: more make a better bridge")
    manifest = _install(name, to_encoder, from_encoder, bridge, f"{len(texts)} captions, with `bindsearch bind`")
    return BridgeResult(manifest, int((~captions.held_out).sum()), figures, tuple(notes))


def _check_sides(modality: Modality, held_out: NDArray[np.bool_]) -> None:
    """Raise UsageError unless there are members of a modality to fit to, and some that are held out."""
    if held_out.all() or not held_out.any():
        count = f"all of the {len(held_out)}" if held_out.all() else f"none of the {len(held_out)}"
        what = "captions are" if modality is Modality.TEXT else f"files of {modality} are"
        raise UsageError(
            f"{count} {what} held out to measure the bridge, where about {VALIDATION_SHARE:.0%} should be: equal "
            "captions stay together, so give more different ones, or rows of train and validation in a column split"
        )


def fit_bridge(
    vectors: Mapping[Modality, tuple[NDArray[np.float32], NDArray[np.int64]]],
    targets: NDArray[np.float32],
    held_out: NDArray[np.bool_],
) -> tuple[Bridge, tuple[BridgeFigures, ...]]:
    """Fit the linear map from one space to another.

    Args:
        vectors: For TEXT and other modalities the unit vectors in the second space, float32 (m, d2), and the caption of
            each, int64 (m,).
        targets: Unit vectors of the n captions in the first space: float32 (n, d1).
        held_out: Whether a caption is kept for choosing the ridge and for the figures: bool (n,).

    Returns:
        The bridge, and its figures on the captions that are held out.
    """
    trained = {modality: ~held_out[captions] for modality, (_, captions) in vectors.items()}
    means = {modality: rows[trained[modality]].mean(axis=0) for modality, (rows, _) in vectors.items()}
    target_mean = targets[~held_out].mean(axis=0)
    centred = targets - target_mean
    inputs = np.concatenate([(rows - means[one])[trained[one]] for one, (rows, _) in vectors.items()]).astype("f8")
    wanted = np.concatenate([centred[captions[trained[one]]] for one, (_, captions) in vectors.items()])
    values, directions = np.linalg.eigh(inputs.T @ inputs)
    projected = directions.T @ (inputs.T @ wanted)
    best: tuple[float, NDArray[np.float32]] | None = None
    for ridge in RIDGES:
        matrix = (directions @ (projected / (values + ridge * values.mean())[:, None])).astype(np.float32)
        cosines = []
        for modality, (rows, captions) in vectors.items():
            kept = held_out[captions]
            mapped, right = (rows[kept] - means[modality]) @ matrix, centred[captions[kept]]
            norms = np.linalg.norm(mapped, axis=1) * np.linalg.norm(right, axis=1)
            cosines.append((mapped * right).sum(axis=1) / np.maximum(norms, 1e-12))
        score = float(np.concatenate(cosines).mean())  # of what is held out with its centred caption
        if best is None or score > best[0]:
            best = score, matrix
    assert best is not None
    matrix = best[1]
    # regression shrinks vectors towards the mean: they get the spread of the captions back
    spread = np.linalg.norm(wanted, axis=1).mean() / np.linalg.norm(inputs @ matrix, axis=1).mean()
    matrix = np.ascontiguousarray(matrix * np.float32(spread))
    digest = hashlib.sha256()
    for array in (matrix, target_mean, *(means[one] for one in sorted(means))):
        digest.update(np.ascontiguousarray(array).tobytes())
    bridge = Bridge(matrix, means, target_mean, digest.hexdigest())
    return bridge, tuple(_figures(bridge, one, vectors[one], targets, held_out) for one in vectors)


def _figures(
    bridge: Bridge,
    modality: Modality,
    members: tuple[NDArray[np.float32], NDArray[np.int64]],
    targets: NDArray[np.float32],
    held_out: NDArray[np.bool_],
) -> BridgeFigures:
    rows, captions = members
    kept = held_out[captions]
    mapped = bridge.map(modality, rows[kept])
    mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
    position = np.cumsum(held_out) - 1
    relevant = position[captions[kept]][:, None]
    found = retrieval_figures(mapped, targets[held_out], list(relevant), ks=(1, 10))
    recalls = [float(found.hits[k].mean()) for k in (1, 10)]
    return BridgeFigures(modality.value, int(held_out.sum()), *recalls)


@dataclass(frozen=True)
class _Captions:
    """The n captions of a table, which are kept for the figures (bool (n,)), and perhaps a medium of each."""

    texts: tuple[str, ...]
    held_out: NDArray[np.bool_]
    items: tuple[EvalItem, ...] = ()
    notes: tuple[str, ...] = ()


def _read_captions(table: PathLike, media: frozenset[Modality]) -> _Captions:
    """Read a table of captions, perhaps with a column of one of some modalities; raise UsageError if it cannot be."""
    path = to_path(table)
    try:
        with open_regular(path) as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as file:
            if path.suffix.lower() != ".csv":
                return _checked(path, list(islice((line.strip() for line in file if line.strip()), MAX_TEXTS + 1)))
            rows = csv.DictReader(file)
            rows.fieldnames = [name.strip() for name in rows.fieldnames or []]
            if not {*rows.fieldnames} & media:
                if "text" not in rows.fieldnames:
                    raise UsageError(f"{path} has no column text: expected captions there")
                texts = ((row.get("text") or "").strip() for row in rows)
                return _checked(path, list(islice(filter(None, texts), MAX_TEXTS + 1)))
            modality = next(Modality(name) for name in rows.fieldnames if name in media)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read ({reason}): give a CSV file or a text file in UTF-8") from None
    pairs = read_pairs(path, modality, frozenset({Modality.TEXT}), VALIDATION_SHARE)
    captions = _checked(path, [pair.hub for pair in pairs.pairs])
    items = tuple(EvalItem(pair.path, modality, span=pair.span) for pair in pairs.pairs)
    held_out = np.array([pair.is_validation for pair in pairs.pairs], np.bool_)
    return replace(captions, held_out=held_out, items=items, notes=pairs.notes)


def _checked(path: Path, texts: list[str]) -> _Captions:
    """Return captions, equal ones on the same side; raise UsageError if they are too few or too many."""
    if not MIN_TEXTS <= len(texts) <= MAX_TEXTS:
        many = f"more than {MAX_TEXTS}" if len(texts) > MAX_TEXTS else str(len(texts))
        raise UsageError(f"{path} has {many} captions: give {MIN_TEXTS} to {MAX_TEXTS}")
    return _Captions(tuple(texts), np.array([share_of(text) < VALIDATION_SHARE for text in texts], np.bool_))


def _install(name: str, first: Encoder, second: Encoder, bridge: Bridge, source: str) -> ModelManifest:
    """Install an encoder of two encoders and a bridge."""
    specs = [
        TensorSpec(key, array.shape, "fp32", partial(torch.from_numpy, np.ascontiguousarray(array)))
        for key, array in bridge_tensors(bridge).items()
    ]
    sides = [
        {"encoder": one.name, "digest": one.digest, "options": kept_options(one.name, one.options)}
        for one in (first, second)
    ]
    temperatures = {one.value: second.temperatures[one] for one in second.modalities - first.modalities}
    with model_lock(name):
        new = new_folder(name)
        write_tensors(new / f"{BRIDGE_TOWER}.safetensors", specs)
        files = model_files(new, [BRIDGE_TOWER])
        return publish_bound(name, {"bridge": sides}, files, temperatures, source, bridge.digest)
