"""Order of the work: files that are embedded quickly come first, so that searches find most files early."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bindsearch.types import Modality

LONG_TEXT_BYTES = 256 << 10
"""A text above this size takes about half a minute on 2 cores; such texts are processed one after the other."""

_NS_PER_BYTE: Mapping[Modality | None, int] = MappingProxyType({Modality.IMAGE: 5, Modality.TEXT: 100_000})
_OTHER_NS_PER_BYTE = 100
"""Time to decode and embed a byte with `mini` on 2 cores, to a power of ten."""


def estimated_ns(modality: Modality | None, size_bytes: int) -> int:
    """Estimate the time that a file takes, in nanoseconds; `modality`: what its name says, None if nothing."""
    return size_bytes * _NS_PER_BYTE.get(modality, _OTHER_NS_PER_BYTE)


def is_long_text(modality: Modality | None, size_bytes: int) -> bool:
    """Return whether a file is a text so long that it should be processed alone."""
    return modality is Modality.TEXT and size_bytes > LONG_TEXT_BYTES
