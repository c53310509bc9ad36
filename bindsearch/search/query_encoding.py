"""Query terms to vectors: texts and files through the encoder, indexed items from their stored vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.base import Encoder, libraries_of
from bindsearch.environment import check_libraries, raise_installation_fault
from bindsearch.errors import BindSearchError, MediaError, UsageError
from bindsearch.hashing import hash_file
from bindsearch.media import Passage
from bindsearch.search.partition import Partition
from bindsearch.search.query import LIKE, Term
from bindsearch.storage.config import StoreConfig
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality, Span
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.ingest.media.decode import DecodedSegment

BATCH_SEGMENTS = 32

MAX_ID_DIGITS = 18
"""Item numbers have no more."""


@dataclass(frozen=True)
class EncodedTerm:
    """A term as a unit vector float32 (d,), with what it turned out to be.

    `content_hash` is that of the file behind it; hits with the same bytes are left out of the answer. `cost_note`: what
    the vector took, in words."""

    modality: Modality
    source: str
    embedding: NDArray[np.float32]
    content_hash: str | None
    cost_note: str


@dataclass(frozen=True)
class Source:
    """Resolved term, not encoded: its modality, what its vector takes, and its content's hash
    where it is a file or an item."""

    modality: Modality
    cost_note: str
    content_hash: str | None


STORED = "stored vectors, no model"


def find_source(term: Term, snapshot: Snapshot) -> Source:
    """Return what a term is; nothing is encoded and no model is loaded.

    Raises:
        UsageError: its file or item does not exist, or cannot be told.
    """
    kind = term.kind or _guess_kind(term.source)
    if kind == LIKE:
        item = _find_item(term.source, snapshot)
        return Source(item.modality, STORED, item.content_hash)
    modality = _modality_of_file(Path(term.source)) if kind == _ANY_FILE else Modality(kind)
    if kind == Modality.TEXT:
        return Source(modality, _tower(modality), None)
    path = Path(term.source)
    _check_file(path)
    return Source(modality, _tower(modality), hash_file(path))


def encode_terms(
    terms: Sequence[Term],
    encoder: Callable[[], Encoder],
    config: StoreConfig,
    imu_rate_hz: float | None,
    snapshot: Snapshot,
    partitions: Mapping[Modality, Partition],
) -> list[EncodedTerm]:
    """Embed terms: each different one once, all texts together. The encoder is asked for only where one is needed.

    Raises:
        UsageError: a file or item does not exist, cannot be decoded, or a text has a span.
    """
    encoded: dict[Term, EncodedTerm] = {}
    texts: list[Term] = []
    for term in dict.fromkeys(terms):
        kind = term.kind or _guess_kind(term.source)
        if not term.source.strip():
            raise UsageError("the query is empty: give a text, a file or like:ITEM")
        if kind == LIKE:
            encoded[term] = _stored_term(term, snapshot, partitions)
        elif kind == Modality.TEXT:
            if term.span is not None:
                raise UsageError(f"a text has no span: drop @{term.span.start_s:g}s-{term.span.end_s:g}s")
            texts.append(term)
        else:
            modality = _modality_of_file(Path(term.source)) if kind == _ANY_FILE else Modality(kind)
            encoded[term] = _file_term(term, modality, encoder(), config, imu_rate_hz)
    if texts:
        vectors = _embed_texts([term.source for term in texts], encoder())
        encoded |= {
            term: EncodedTerm(Modality.TEXT, term.source, vector, None, _tower(Modality.TEXT))
            for term, vector in zip(texts, vectors, strict=True)
        }
    return [encoded[term] for term in terms]


def _tower(modality: Modality) -> str:
    return f"{modality} tower"


_ANY_FILE = "file"


def _guess_kind(source: str) -> str:
    """A source without a prefix: a file where there is one or where it looks like a path, else text."""
    path = Path(source)
    looks_like_path = "/" in source or (1 < len(path.suffix) <= 6 and " " not in path.suffix)
    return _ANY_FILE if looks_like_path or _is_file(path) else Modality.TEXT


def _modality_of_file(path: Path) -> Modality:
    from bindsearch.ingest.inspect.classify import classify

    _check_file(path)
    verdict = classify(path, path.name, ())
    if verdict.modality is None:
        raise UsageError(f"cannot tell what {path} is ({verdict.why}): name its modality, such as image:{path}")
    return verdict.modality


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that must not be entered
        return False


def _check_file(path: Path) -> None:
    if not _is_file(path):
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise UsageError(f"query file {path} {what}: check the path")


def _embed_texts(texts: Sequence[str], encoder: Encoder) -> list[NDArray[np.float32]]:
    """A unit vector (d,) of each text: the mean of its passages, which are encoded in batches."""
    from bindsearch.ingest.media.text import passages

    check_libraries(libraries_of(encoder, Modality.TEXT))
    split = [list(passages(words, encoder.count_tokens, encoder.max_tokens)) for words in texts]
    everything = (encoder.prepare(Passage(passage)) for text in split for passage in text)
    embedded = []
    while batch := list(islice(everything, BATCH_SEGMENTS)):
        embedded.append(encoder.encode(Modality.TEXT, batch))
    ends = np.cumsum([len(text) for text in split])[:-1]
    return [_mean_direction(rows) for rows in np.split(np.concatenate(embedded), ends)]


def _file_term(
    term: Term, modality: Modality, encoder: Encoder, config: StoreConfig, imu_rate_hz: float | None
) -> EncodedTerm:
    from bindsearch.ingest.media.decode import pieces, required_libraries  # decoders load where a file is to be decoded
    from bindsearch.ingest.media.options import decode_options
    from bindsearch.ingest.media.sidecar import read_sidecar

    path = Path(term.source)
    _check_file(path)
    if modality not in encoder.modalities:
        known = ", ".join(known for known in Modality if known in encoder.modalities)
        raise UsageError(f"the encoder {encoder.name} cannot embed {modality}: it takes {known}")
    check_libraries(required_libraries(encoder, [modality]))
    try:
        found = pieces(
            path,
            modality,
            wants=encoder.wants,
            options=decode_options(config, imu_rate_hz),
            sidecar=read_sidecar(path),
            count_tokens=encoder.count_tokens,
            max_tokens=encoder.max_tokens,
            span=term.span,
        )
        embeddings = _embed_pieces(takewhile(lambda piece: piece.modality is modality, found), modality, encoder)
        content_hash = hash_file(path)
    except (MediaError, OSError) as error:
        raise_installation_fault(error)
        raise UsageError(f"query file {path} cannot be used as {modality}: {error}") from error
    return EncodedTerm(modality, term.source, _mean_direction(embeddings), content_hash, _tower(modality))


def _embed_pieces(found: Iterator[DecodedSegment], modality: Modality, encoder: Encoder) -> NDArray[np.float32]:
    embeddings = []
    while batch := [encoder.prepare(piece.media) for piece in islice(found, BATCH_SEGMENTS)]:
        embeddings.append(encoder.encode(modality, batch))
    if not embeddings:
        raise MediaError(f"it holds no {modality} there")
    return np.concatenate(embeddings)


def _stored_term(term: Term, snapshot: Snapshot, partitions: Mapping[Modality, Partition]) -> EncodedTerm:
    item = _find_item(term.source, snapshot)
    rows = snapshot.segments_of(item.item_id)
    segments = [segment for segment in map(snapshot.segment, rows.tolist()) if segment.modality is item.modality]
    if not segments:  # it has been given up and waits to be embedded again
        raise UsageError(f"item {term.source!r} has no vectors now: run `bindsearch index` on its folder")
    if term.span is not None:
        segments = [segment for segment in segments if _overlaps(segment.start_s, segment.end_s, term.span)]
        if not segments:
            raise UsageError(f"like:{term.source} has nothing from {term.span.start_s:g} s to {term.span.end_s:g} s")
    source = partitions[item.modality]
    ids = np.array([segment.vector_id for segment in segments], np.int64)
    embeddings = source.rows.embeddings(source.rows_of_vectors(ids))
    return EncodedTerm(item.modality, term.source, _mean_direction(embeddings), item.content_hash, STORED)


def _find_item(source: str, snapshot: Snapshot) -> Item:
    item = snapshot.item(int(source)) if source.isdecimal() and len(source) <= MAX_ID_DIGITS else None
    item = item or snapshot.item_at_path(Path(source).expanduser().resolve())
    if item is None:
        raise UsageError(f"no indexed item {source!r}: give an item_id or the path of an indexed file")
    return item


def _overlaps(start_s: float | None, end_s: float | None, span: Span) -> bool:
    return start_s is not None and end_s is not None and start_s < span.end_s and end_s > span.start_s


def _mean_direction(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The normalised mean of unit vectors (m, d): float32 (d,).

    Raises:
        UsageError: they cancel.
    """
    try:
        return l2_normalize(embeddings.mean(axis=0))
    except BindSearchError as error:
        raise UsageError("the segments of a query term cancel each other: choose one with a span, @0s-10s") from error
