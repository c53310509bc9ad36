"""Context of an operation that writes to a store: its folder, encoder, segment lengths and GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bindsearch.encoders.base import Encoder
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.storage.config import SegmentLengths
from bindsearch.types import DecodeIn


@dataclass(frozen=True)
class StoreContext:
    """Context of an operation that writes to a store.

    Attributes:
        path: Folder of the store.
        encoder: Encoder of the store.
        segments: Segment lengths that a new store is created with.
        gpus: GPUs that indexes are built and searched on.
        decode: Where files are decoded: in worker processes or in threads.
    """

    path: Path
    encoder: Encoder
    segments: SegmentLengths
    gpus: GpuResidency
    decode: DecodeIn = DecodeIn.PROCESS
