"""Thumbnails and figures of segments, from the cache beside the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bindsearch.errors import UsageError
from bindsearch.server.limits import Refusal
from bindsearch.server.uploads import Upload
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality

SIDES_PX = (96, 160, 240, 320, 480)
WIDTHS_PX = (480, 720, 960, 1280, 1920)


@dataclass(frozen=True)
class SegmentOf:
    """A segment of an item that a picture shows.

    Attributes:
        item: The item.
        modality: Modality of the segment.
        start_s: Start in seconds; None if it is not a span of time.
        end_s: End in seconds, likewise.
        text: The passage of a text.
    """

    item: Item
    modality: Modality
    start_s: float | None
    end_s: float | None
    text: str | None


def find_segment(snapshot: Snapshot, item: Item, modality: str | None, start_s: float | None) -> SegmentOf:
    """Return the segment of an item that starts at a time, else its first of that modality.

    Raises:
        Refusal: the item has none.
    """
    wanted = item.modality if modality is None else modality
    segments = map(snapshot.segment, snapshot.segments_of(item.item_id).tolist())
    of_modality = [segment for segment in segments if segment.modality == wanted]
    if not of_modality:
        raise Refusal(404, f"item {item.item_id} has no segment of that modality")
    chosen = of_modality[0]
    if start_s is not None:
        chosen = min(of_modality, key=lambda segment: abs((segment.start_s or 0.0) - start_s))
    return SegmentOf(item, chosen.modality, chosen.start_s, chosen.end_s, chosen.text)


def nearest_size(asked: int, sizes: tuple[int, ...]) -> int:
    """Return the least size that is not smaller than asked, so that few sizes are kept."""
    return next((size for size in sizes if size >= asked), sizes[-1])


def picture(store: Path, segment: SegmentOf, size_px: int, *, is_figure: bool) -> bytes:  # noqa: ARG001
    """Return the WebP of a segment.

    Raises:
        UsageError: its file is gone or damaged.
    """
    raise UsageError("pictures are not made yet")


def upload_picture(folder: Path, upload: Upload, size_px: int) -> bytes:  # noqa: ARG001
    """Return the WebP of an upload.

    Raises:
        UsageError: it is damaged.
    """
    raise UsageError("pictures are not made yet")
