"""Encoding of query terms: texts and files with the encoder, indexed items from their stored vectors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bindsearch.arguments import is_existing_file, looks_like_path, to_absolute, to_path
from bindsearch.encoders.base import Encoder, captioned_modalities, libraries_of, query_encoders
from bindsearch.environment import check_libraries, raise_installation_fault
from bindsearch.errors import BindSearchError, MediaError, UsageError
from bindsearch.hashing import hash_file
from bindsearch.media import NO_CONTENT, NO_READING, Frames, Passage, Picture, merge_readings, missing_content
from bindsearch.search.lru_cache import LruCache
from bindsearch.search.partition import Partition
from bindsearch.search.query import LIKE, Term
from bindsearch.storage.config import StoreConfig
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality, Span
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.ingest.inspect.find_file import FoundFile
    from bindsearch.ingest.media.decode import DecodedSegment

BATCH_SEGMENTS = 32
"""Number of segments that are encoded together."""

MAX_PASSAGES = 64
"""Maximum number of passages of a text file in a query: about 60 KB, which take seconds on a CPU."""

MAX_ID_DIGITS = 18
"""Maximum number of digits of an item id."""

TermCache = LruCache[Any]
"""Encoded texts of a query, and encoded files, by what their vectors depend on."""


Embeddings: TypeAlias = "Mapping[Modality | None, NDArray[np.float32]]"
"""Vectors (d,) of a term by target modality, as of `encoders.base.query_encoders`: None has the usual one."""


@dataclass(frozen=True)
class EncodedTerm:
    """An encoded term.

    Attributes:
        modality: Modality of the term.
        source: The text, path or item.
        embeddings: Vectors float32 (d,), unit norm: the one for all targets under None, and others by their target.
        content_hash: Digest of the file's content; items with the same content are excluded from the hits. None for
            a text.
        cost_note: What encoding required, as text.
        notices: What of the source is not used, and what its decoder noted.
    """

    modality: Modality
    source: str
    embeddings: Embeddings
    content_hash: str | None
    cost_note: str
    notices: tuple[str, ...] = ()

    def for_target(self, target: Modality | None) -> NDArray[np.float32]:
        """Return the vector to search a modality with; None: several, or an unknown one."""
        return self.embeddings.get(target, self.embeddings[None])


@dataclass(frozen=True)
class Source:
    """A resolved term that is not encoded.

    Attributes:
        modality: Modality of the term.
        cost_note: What encoding requires, as text.
        content_hash: Digest of the content of the file or item; None for a text.
    """

    modality: Modality
    cost_note: str
    content_hash: str | None


STORED = "stored vectors, no model"


def resolve_source(term: Term, roots: Sequence[Path], find: Callable[[str], Item]) -> Source:
    """Resolve a term without encoding it; no model is loaded.

    Args:
        term: The term.
        roots: Root folders of the store's collections.
        find: Returns the item with an id or path (`find_item`).

    Raises:
        UsageError: the file or item does not exist, or the modality of the file cannot be detected.
    """
    kind = term.kind or _guess_kind(term.source)
    if kind == LIKE:
        item = find(term.source)
        return Source(item.modality, STORED, item.content_hash)
    modality = modality_of_file(Path(term.source), roots) if kind == _ANY_FILE else Modality(kind)
    if kind == Modality.TEXT:
        return Source(modality, _tower(modality), None)
    path = Path(term.source)
    _check_file(path)
    try:
        return Source(modality, _tower(modality), hash_file(path))
    except OSError as error:
        raise UsageError(f"query file {path} cannot be read: {error}") from error


def encode_terms(
    terms: Sequence[Term],
    encoder: Callable[[], Encoder],
    config: StoreConfig,
    imu_rate_hz: float | None,
    roots: Sequence[Path],
    stored: Callable[[Term], EncodedTerm],
    cache: TermCache | None = None,
) -> list[EncodedTerm]:
    """Encode terms: equal ones once, all texts together.

    Args:
        terms: The terms.
        encoder: Returns the encoder; called only if one is needed.
        config: Configuration of the store.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        roots: Root folders of the store's collections, which declare properties of their files.
        stored: Returns the encoded term of an indexed item (`stored_term`).
        cache: Cache of encoded texts and files of one store's encoder; weights are no part of its keys.

    Returns:
        The encoded terms, in the order of `terms`.

    Raises:
        UsageError: a file or item does not exist or cannot be decoded, or a text has a span.
    """
    encoded: dict[Term, EncodedTerm] = {}
    texts: list[Term] = []
    for term in dict.fromkeys(terms):
        kind = term.kind or _guess_kind(term.source)
        if not term.source.strip():
            raise UsageError("the query is empty: give a text, a file or like:ITEM")
        if kind == LIKE:
            encoded[term] = stored(term)
        elif kind == Modality.TEXT:
            if term.span is not None:
                raise UsageError(f"a text has no span: drop @{term.span.start_s:g}s-{term.span.end_s:g}s")
            texts.append(term)
        else:
            modality = modality_of_file(Path(term.source), roots) if kind == _ANY_FILE else Modality(kind)
            encoded[term] = _file_term(term, modality, encoder, config, imu_rate_hz, roots, cache)
    if texts:
        sources = tuple(term.source for term in texts)  # one key: the same texts are encoded in the same batches
        vectors = _cached(cache, sources, lambda: _embed_texts(sources, encoder()))
        encoded |= {
            term: EncodedTerm(Modality.TEXT, term.source, embeddings, None, _tower(Modality.TEXT))
            for term, embeddings in zip(texts, vectors, strict=True)
        }
    return [encoded[term] for term in terms]


def _cached(cache: TermCache | None, key: Hashable, make: Callable[[], Any]) -> Any:
    return make() if cache is None else cache.get(key, make)


def is_text(term: Term) -> bool:
    """Return whether a term is a text, not a file or an item."""
    return (term.kind or _guess_kind(term.source)) == Modality.TEXT


def _tower(modality: Modality) -> str:
    return f"{modality} tower"


_ANY_FILE = "file"


def _guess_kind(source: str) -> str:
    """Return the kind of a source without a prefix: a file if it exists or looks like a path, else text."""
    return _ANY_FILE if looks_like_path(source) or is_existing_file(Path(source)) else Modality.TEXT


def modality_of_file(path: Path, roots: Sequence[Path]) -> Modality:
    """Return the modality of a query file.

    Raises:
        UsageError: there is no such file, or its modality cannot be detected.
    """
    from bindsearch.ingest.inspect.inspect_file import classify_source

    _check_file(path)
    found = _find_file(path, roots)
    classification = classify_source(found.file, found.options)
    if classification.modality is None:
        reason = classification.why
        raise UsageError(f"cannot detect the modality of {path} ({reason}): add a prefix, such as image:{path}")
    return classification.modality


def _find_file(path: Path, roots: Sequence[Path]) -> FoundFile:
    """Return a query file with what its collection declares about it."""
    from bindsearch.ingest.inspect.find_file import find_file

    try:
        return find_file(path, roots)
    except (MediaError, OSError) as error:
        raise UsageError(f"query file {path} cannot be used: {error}") from error


def _check_file(path: Path) -> None:
    to_path(path)
    if not is_existing_file(path):
        problem = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise UsageError(f"query file {path} {problem}: check the path")


def _embed_texts(texts: Sequence[str], encoder: Encoder) -> list[Embeddings]:
    """Return the vectors of each text; see `_vectors_of_texts`."""
    if Modality.TEXT not in encoder.modalities:
        raise UsageError(f"the encoder {encoder.name} has no text tower: search with a file, such as --image FILE")
    check_libraries(libraries_of(encoder, Modality.TEXT))
    by_target = {target: _vectors_of_texts(texts, head) for target, head in query_encoders(encoder).items()}
    return [{target: vectors[number] for target, vectors in by_target.items()} for number in range(len(texts))]


def _vectors_of_texts(texts: Sequence[str], encoder: Encoder) -> list[NDArray[np.float32]]:
    """Return a unit vector (d,) per text: the normalised mean of its passages, which are encoded in batches."""
    from bindsearch.ingest.media.texts.passages import passages

    split = [list(passages(words, encoder.count_tokens, encoder.max_tokens)) for words in texts]
    prepared = (encoder.prepare(Passage(passage)) for text in split for passage in text)
    embedded = []
    while batch := list(islice(prepared, BATCH_SEGMENTS)):
        embedded.append(encoder.encode(Modality.TEXT, batch))
    ends = np.cumsum([len(text) for text in split])[:-1]
    return [_mean_direction(rows) for rows in np.split(np.concatenate(embedded), ends)]


def _file_term(
    term: Term,
    modality: Modality,
    load_encoder: Callable[[], Encoder],
    config: StoreConfig,
    imu_rate_hz: float | None,
    roots: Sequence[Path],
    cache: TermCache | None,
) -> EncodedTerm:
    """Return the encoded term of a file, from the cache if the file and what is declared about it are the same."""
    from bindsearch.ingest.inspect.inspect_file import declared_of

    path = Path(term.source)
    _check_file(path)
    encoder = load_encoder()
    if cache is None:
        return _encode_file(term, modality, encoder, config, imu_rate_hz, roots)
    found = _find_file(path, roots)
    try:
        declared = declared_of(found.file, found.options).for_modality(modality)
        content_hash = hash_file(path)
    except (MediaError, OSError):  # encoding it tells why
        return _encode_file(term, modality, encoder, config, imu_rate_hz, roots)
    key = (term.source, modality, term.span, term.caption, imu_rate_hz, content_hash, repr(declared))
    encoded: EncodedTerm = cache.get(key, lambda: _encode_file(term, modality, encoder, config, imu_rate_hz, roots))
    return encoded


def _encode_file(
    term: Term,
    modality: Modality,
    encoder: Encoder,
    config: StoreConfig,
    imu_rate_hz: float | None,
    roots: Sequence[Path],
) -> EncodedTerm:
    from bindsearch.ingest.inspect.inspect_file import declared_of  # decoders are imported only if needed
    from bindsearch.ingest.media.decode import pieces, required_libraries
    from bindsearch.ingest.media.options import decode_options

    path = Path(term.source)
    if modality not in encoder.modalities:
        supported = ", ".join(known for known in Modality if known in encoder.modalities)
        raise UsageError(f"the encoder {encoder.name} cannot embed {modality}: it supports {supported}")
    if term.caption and modality not in captioned_modalities(encoder):
        raise UsageError(
            f"the encoder {encoder.name} cannot embed {modality} and text as one input: add the text as a term, with +"
        )
    check_libraries(required_libraries(encoder, [modality]))
    found = _find_file(path, roots)
    try:
        segments = pieces(
            path,
            modality,
            wants=encoder.wants,
            options=decode_options(config, imu_rate_hz),
            sidecar=declared_of(found.file, found.options).for_modality(modality),
            count_tokens=encoder.count_tokens,
            max_tokens=encoder.max_tokens,
            span=term.span,
        )
        if term.caption:
            segments = (_with_caption(segment, term.caption) for segment in segments)
        of_modality = takewhile(lambda segment: segment.modality is modality, segments)
        most = MAX_PASSAGES if modality is Modality.TEXT else None
        embeddings, notes = _embed_segments(islice(of_modality, most), modality, encoder)
        is_cut = most is not None and next(of_modality, None) is not None
        content_hash = hash_file(path)
    except (MediaError, OSError) as error:
        raise_installation_fault(error)
        raise UsageError(f"query file {path} cannot be used as {modality}: {error}") from error
    notices = [f"{path} is long: only its first {MAX_PASSAGES} passages are used"] if is_cut else []
    notices += [f"{path}: {note}" for note in notes]
    return EncodedTerm(modality, term.source, embeddings, content_hash, _tower(modality), tuple(notices))


def _with_caption(segment: DecodedSegment, caption: str) -> DecodedSegment:
    """Return a segment whose picture or frames have a caption; others as they are."""
    if not isinstance(segment.media, Picture | Frames):
        return segment
    media = replace(segment.media, caption=caption)
    return type(segment)(segment.modality, media, segment.start_s, segment.end_s, segment.text, segment.reading)


def _embed_segments(
    segments: Iterator[DecodedSegment], modality: Modality, encoder: Encoder
) -> tuple[Embeddings, Sequence[str]]:
    """Return the mean direction of segments by target, and the notes of the decoder."""
    heads = query_encoders(encoder)
    embeddings: dict[Modality | None, list[NDArray[np.float32]]] = {target: [] for target in heads}
    missing: list[str] = []
    reading = NO_READING
    while batch := list(islice(segments, BATCH_SEGMENTS)):
        for segment in batch:
            reading = merge_readings(reading, segment.reading)
        reasons = [missing_content(segment.media) for segment in batch]
        media = [one.media for one, reason in zip(batch, reasons, strict=True) if reason is None]
        missing += filter(None, reasons)
        if media:
            for target, head in heads.items():
                embeddings[target].append(head.encode(modality, [head.prepare(medium) for medium in media]))
    if not embeddings[None]:
        raise MediaError(NO_CONTENT + missing[0] if missing else f"it contains no {modality} in this span")
    return {target: _mean_direction(np.concatenate(parts)) for target, parts in embeddings.items()}, reading.notes


def stored_term(term: Term, snapshot: Snapshot, partitions: Mapping[Modality, Partition]) -> EncodedTerm:
    """Return the encoded term of an indexed item, from its stored vectors.

    Raises:
        UsageError: there is no such item, or it has no vectors now, or none in the span.
    """
    item = find_item(term.source, snapshot)
    rows = snapshot.segments_of(item.item_id)
    segments = [segment for segment in map(snapshot.segment, rows.tolist()) if segment.modality is item.modality]
    if not segments:  # its vectors were lost, and the next run embeds it again
        raise UsageError(f"item {term.source!r} has no vectors now: run `bindsearch index` on its folder")
    if term.span is not None:
        segments = [segment for segment in segments if _overlaps(segment.start_s, segment.end_s, term.span)]
        if not segments:
            raise UsageError(f"like:{term.source} has no segment from {term.span.start_s:g} s to {term.span.end_s:g} s")
    source = partitions[item.modality]
    ids = np.array([segment.vector_id for segment in segments], np.int64)
    embeddings = source.rows.embeddings(source.rows_of_vectors(ids))
    return EncodedTerm(item.modality, term.source, {None: _mean_direction(embeddings)}, item.content_hash, STORED)


def find_item(source: str, snapshot: Snapshot) -> Item:
    """Return the item with an id or path.

    Raises:
        UsageError: there is none.
    """
    item = snapshot.item(int(source)) if source.isdecimal() and len(source) <= MAX_ID_DIGITS else None
    item = item or snapshot.item_at_path(to_absolute(source))
    if item is None:
        raise UsageError(f"no indexed item {source!r}: give an item_id or the path of an indexed file")
    return item


def _overlaps(start_s: float | None, end_s: float | None, span: Span) -> bool:
    return start_s is not None and end_s is not None and start_s < span.end_s and end_s > span.start_s


def _mean_direction(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the normalised mean of unit vectors (m, d): float32 (d,).

    Raises:
        UsageError: the vectors cancel each other.
    """
    try:
        return l2_normalize(embeddings.mean(axis=0))
    except BindSearchError as error:
        raise UsageError("the segments of a query term cancel each other: choose a span such as @0s-10s") from error
