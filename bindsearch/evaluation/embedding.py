"""NDArray[np.float32] of the items of a data set: decoded as indexing does, embedded in batches, kept in a cache.

An item of several segments, such as a sound of a minute, has the mean of their vectors, normalised. What cannot be
decoded is listed with the reason. Unlike in an index, an item without content (silence, a picture of one colour) has a
vector: published protocols count every item.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bindsearch.environment import check_libraries
from bindsearch.errors import MediaError, UsageError, VectorError, first_line
from bindsearch.hashing import fingerprint_of, hash_bytes, hash_file
from bindsearch.ingest.inspect.find_file import find_file
from bindsearch.ingest.inspect.inspect_file import declared_of
from bindsearch.ingest.media.decode import pieces, reason_of, required_libraries
from bindsearch.ingest.media.options import DecodeOptions, limit_segments
from bindsearch.ingest.media.sidecar import FACTS, Sidecar, merge_sidecars
from bindsearch.ingest.media.texts.passages import passages
from bindsearch.media import Frames, Media, Passage, Picture, ThermalPicture
from bindsearch.reports import OnRows, ignore_rows
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder
    from bindsearch.evaluation.datasets.dataset import EvalItem
    from bindsearch.evaluation.vector_cache import VectorCache

BATCH = 32
"""Items that are decoded and embedded together; two batches are in memory."""

TEXTS_PER_BATCH = 256
PREPARED_PER_CALL = 64
MAX_SEGMENTS = 64
"""Most segments of an item: ten minutes of sound."""

WORKERS = 4
WHOLE_PX = 1 << 15
"""Shorter side in pixels that is asked for where a part is cut out of a picture: all of it is decoded."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that has no vector: its name in reports, its file, and why in one line."""

    name: str
    path: Path
    reason: str


class ItemVectors(NamedTuple):
    """NDArray[np.float32] of items.

    Attributes:
        vectors: Unit vectors of the items that could be embedded: float32 (m, d).
        kept: Their positions among the items: int64 (m,), ascending.
        failures: The others.
    """

    vectors: NDArray[np.float32]
    kept: NDArray[np.int64]
    failures: tuple[Failure, ...]


def embed_items(
    encoder: Encoder,
    items: Sequence[EvalItem],
    on_progress: OnRows = ignore_rows,
    *,
    cache: VectorCache | None = None,
    options: DecodeOptions | None = None,
) -> ItemVectors:
    """Embed items of one or several modalities.

    Args:
        encoder: Encoder to use.
        items: The items.
        on_progress: Called with the number of items done and their number.
        cache: NDArray[np.float32] that are known; new ones are added. None: all are made.
        options: Lengths of segments and limits; None: the defaults of a store.

    Raises:
        EncoderError: the encoder has no tower for a modality, or its model is missing.
        InstallationError: a library is missing.
        UsageError: a modality is none of the encoder's.
    """
    import numpy as np

    options = options or limit_segments(DecodeOptions(), encoder.wants)
    modalities = {item.modality for item in items}
    if missing := modalities - encoder.modalities:
        raise UsageError(f"the encoder {encoder.name} embeds no {', '.join(sorted(missing))}: choose another encoder")
    check_libraries(required_libraries(encoder, modalities))
    vectors: list[NDArray[np.float32] | None] = []
    failures: list[Failure] = []
    groups = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        waiting: list[list[Future[_Decoded]]] = []
        try:
            for number in range(len(groups) + 1):
                if number < len(groups):  # the next batch is decoded while this one is embedded
                    waiting.append([pool.submit(_decode, item, encoder, options, cache) for item in groups[number]])
                if number:
                    decoded = [future.result() for future in waiting.pop(0)]
                    found = _embed(encoder, groups[number - 1], decoded, failures)
                    for one, vector in zip(decoded, found, strict=True):
                        if cache is not None and vector is not None and one.cached is None:
                            cache.add(one.key, vector)
                    vectors += found
                    on_progress(len(vectors), len(items))
        finally:
            for future in (future for group in waiting for future in group):
                future.cancel()
            if cache is not None:
                cache.flush()
    kept = np.array([position for position, vector in enumerate(vectors) if vector is not None], np.int64)
    known = [vector for vector in vectors if vector is not None]
    return ItemVectors(np.stack(known) if known else np.zeros((0, encoder.dim), np.float32), kept, tuple(failures))


def embed_texts(
    encoder: Encoder, texts: Sequence[str], on_progress: OnRows = ignore_rows, *, cache: VectorCache | None = None
) -> tuple[NDArray[np.float32], int]:
    """Embed texts, each by what fits the encoder's context window.

    Args:
        encoder: Encoder to use.
        texts: At least one text.
        on_progress: Called with the number of texts done and their number.
        cache: As for `embed_items`.

    Returns:
        Unit vectors, float32 (n, d); and the number of texts of which only the beginning is embedded.

    Raises:
        MediaError: a text has no words.
    """
    import numpy as np

    check_libraries(required_libraries(encoder, {Modality.TEXT}))
    vectors: dict[str, NDArray[np.float32]] = {}
    unknown: list[str] = []
    cut = 0
    for text in dict.fromkeys(texts):
        known = None if cache is None else cache.get(fingerprint_of("text", text))
        if known is None:
            unknown.append(text)
        else:
            vectors[text] = known
        cut += encoder.count_tokens(text) > encoder.max_tokens
    for start in range(0, len(unknown), TEXTS_PER_BATCH):
        batch = unknown[start : start + TEXTS_PER_BATCH]
        prepared = []
        for text in batch:
            is_whole = encoder.count_tokens(text) <= encoder.max_tokens
            fitting = text if is_whole else next(iter(passages(text, encoder.count_tokens, encoder.max_tokens)))
            prepared.append(encoder.prepare(Passage(fitting)))
        for text, vector in zip(batch, encoder.encode(Modality.TEXT, prepared), strict=True):
            vectors[text] = vector
            if cache is not None:
                cache.add(fingerprint_of("text", text), vector)
        on_progress(len(vectors), len(vectors) + len(unknown) - start - len(batch))
    if cache is not None:
        cache.flush()
    return np.stack([vectors[text] for text in texts]), cut


class _Decoded(NamedTuple):
    """An item that is ready to be embedded: its vector if the cache has it, else its media, else the reason of none."""

    key: str = ""
    cached: NDArray[np.float32] | None = None
    prepared: tuple[NDArray[Any], ...] = ()
    reason: str = ""


def _decode(item: EvalItem, encoder: Encoder, options: DecodeOptions, cache: VectorCache | None) -> _Decoded:
    """Decode an item, unless the cache has its vector."""
    try:
        sidecar = _declared(item)
        key = "" if cache is None else _key(item, sidecar, options)
        if cache is not None and (cached := cache.get(key)) is not None:
            return _Decoded(key, cached)
        prepared: list[NDArray[Any]] = []
        for media in _media(item, sidecar, encoder, options):
            if len(prepared) == MAX_SEGMENTS:
                raise MediaError(f"it has more than {MAX_SEGMENTS} segments: give a span of it")
            prepared.append(encoder.prepare(media))
        return _Decoded(key, prepared=tuple(prepared))
    except UsageError as error:
        return _Decoded(reason=first_line(error))
    except OSError as error:
        return _Decoded(reason=reason_of(error))


def _declared(item: EvalItem) -> Sidecar:
    """Return what is declared about the file of an item: by the data set, then by a sidecar beside it."""
    if item.media is not None or item.modality not in (Modality.DEPTH, Modality.THERMAL, Modality.IMU, Modality.TEXT):
        return item.sidecar
    found = find_file(item.path, ())
    return merge_sidecars(item.sidecar, declared_of(found.file, found.options).for_modality(item.modality))


def _media(item: EvalItem, sidecar: Sidecar, encoder: Encoder, options: DecodeOptions) -> Iterator[Media]:
    """Yield the media of an item's segments."""
    if item.media is not None:
        yield item.media
        return
    wants = encoder.wants if item.crop is None else replace(encoder.wants, picture_side_px=WHOLE_PX)
    path, kind, count, most = item.path, item.modality, encoder.count_tokens, encoder.max_tokens
    segments = pieces(
        path, kind, wants=wants, options=options, sidecar=sidecar, count_tokens=count, max_tokens=most, span=item.span
    )
    with closing(segments):
        for segment in segments:
            if segment.modality is kind:
                yield segment.media if item.crop is None else cropped(segment.media, item.crop)
            elif kind is Modality.VIDEO:  # pictures come first, then sound
                return


def cropped(media: Media, crop: tuple[int, int, int, int]) -> Media:
    """Return a part of a picture.

    Args:
        media: A picture, thermal picture or frames.
        crop: Left, top, right and bottom in pixels; what is outside of the picture is left out.

    Raises:
        MediaError: nothing of the picture is inside, or the medium is no picture.
    """
    left, top, right, bottom = (max(0, edge) for edge in crop)
    match media:
        case Picture(rgb=rgb):
            part: Media = Picture(rgb[top:bottom, left:right])
            size = rgb[top:bottom, left:right].size
        case Frames(rgb=rgb, times_s=times_s):
            part, size = Frames(rgb[:, top:bottom, left:right], times_s), rgb[:, top:bottom, left:right].size
        case ThermalPicture(values=values):
            part, size = ThermalPicture(values[top:bottom, left:right]), values[top:bottom, left:right].size
        case _:
            raise MediaError("only pictures can be cropped: remove the crop")
    if not size:
        raise MediaError(f"the crop {crop} is outside of the picture")
    return part


def _embed(
    encoder: Encoder, items: Sequence[EvalItem], decoded: Sequence[_Decoded], failures: list[Failure]
) -> list[NDArray[np.float32] | None]:
    """Return the vector of each item of a batch, None where there is none: those are added to `failures`."""
    import numpy as np

    segments: defaultdict[Modality, list[tuple[int, NDArray[Any]]]] = defaultdict(list)
    for position, (item, one) in enumerate(zip(items, decoded, strict=True)):
        segments[item.modality] += [(position, prepared) for prepared in one.prepared]
    parts: dict[int, list[NDArray[np.float32]]] = {}
    for modality, waiting in segments.items():
        for start in range(0, len(waiting), PREPARED_PER_CALL):
            call = waiting[start : start + PREPARED_PER_CALL]
            for (position, _), vector in zip(call, encoder.encode(modality, [one for _, one in call]), strict=True):
                parts.setdefault(position, []).append(vector)
    found: list[NDArray[np.float32] | None] = []
    for position, (item, one) in enumerate(zip(items, decoded, strict=True)):
        reason, vector, own = one.reason or "it has no segment", one.cached, parts.get(position, [])
        if own:
            try:
                vector = own[0] if len(own) == 1 else l2_normalize(np.mean(own, axis=0))
            except VectorError:
                reason = "the vectors of its segments cancel each other"
        if vector is None:
            failures.append(Failure(item.name or item.path.name, item.path, reason))
        found.append(vector)
    return found


def _key(item: EvalItem, sidecar: Sidecar, options: DecodeOptions) -> str:
    """Return the key of an item's vector: all that it depends on besides the encoder."""
    import numpy as np

    if item.media is None:
        content = hash_file(item.path)
    else:
        parts = [type(item.media).__name__]
        for name in type(item.media).__dataclass_fields__:
            one = getattr(item.media, name)
            is_array = isinstance(one, np.ndarray)
            parts.append(
                f"{one.shape}{one.dtype}{hash_bytes(np.ascontiguousarray(one).data)}" if is_array else repr(one)
            )
        content = fingerprint_of(*parts)
    facts = {name: getattr(sidecar, name) for name in FACTS.get(item.modality, ())}
    # the unit of depth may be told by the path, and the kind of a file by its extension
    place = str(item.path) if item.modality is Modality.DEPTH and item.media is None else item.path.suffix
    lengths = (options.audio_segment_s, options.video_segment_s, options.imu_segment_s, options.imu_rate_hz)
    return fingerprint_of(item.modality, content, place, repr((item.span, item.crop, facts, lengths)))
