"""Vectors of query terms without a store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.search.query import Term
from bindsearch.search.query_encoding import EncodedTerm, encode_terms, stored_term
from bindsearch.storage.config import new_config
from bindsearch.storage.snapshot import Snapshot
from bindsearch.storage.snapshot_format import Manifest


def encode_without_store(terms: Sequence[Term], encoder: Encoder, imu_rate_hz: float | None) -> list[EncodedTerm]:
    """Encode texts and files with the default lengths of segments; there are no indexed items.

    Args:
        terms: The terms.
        encoder: Encoder to use.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.

    Raises:
        UsageError: a file does not exist or cannot be decoded, a text has a span, or a term is an indexed item.
    """
    nothing = Snapshot(Manifest(0, (0,), {}, {}, None), (), None)
    stored = partial(stored_term, snapshot=nothing, partitions={})
    return encode_terms(terms, lambda: encoder, new_config(encoder, DecodeOptions()), imu_rate_hz, (), stored)
