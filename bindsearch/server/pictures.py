"""Thumbnails and figures of segments, from the cache beside the store."""

from __future__ import annotations

from pathlib import Path

from bindsearch.operations.segment_media import Place
from bindsearch.server.limits import Refusal
from bindsearch.server.uploads import Upload
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality
from bindsearch.views.figures import figure
from bindsearch.views.picture_cache import cached_picture, webp
from bindsearch.views.thumbnails import thumbnail

SIDES_PX = (96, 160, 240, 320, 480)
WIDTHS_PX = (480, 720, 960, 1280, 1920)


def find_place(snapshot: Snapshot, item: Item, modality: Modality | None, start_s: float | None) -> Place:
    """Return the segment of an item that starts nearest to a time, else its first of that modality.

    Raises:
        Refusal: the item has none.
    """
    wanted = item.modality if modality is None else modality
    segments = map(snapshot.segment, snapshot.segments_of(item.item_id).tolist())
    of_modality = [segment for segment in segments if segment.modality is wanted]
    if not of_modality:
        raise Refusal(404, f"item {item.item_id} has no segment of modality {wanted}")
    chosen = of_modality[0]
    if start_s is not None:
        chosen = min(of_modality, key=lambda segment: abs((segment.start_s or 0.0) - start_s))
    return Place(item.path, item.collection, wanted, chosen.start_s, chosen.end_s, chosen.text)


def nearest_size(asked: int, sizes: tuple[int, ...]) -> int:
    """Return the least size that is not smaller than asked, so that few sizes are kept."""
    return next((size for size in sizes if size >= asked), sizes[-1])


def picture(store: Path, place: Place, size_px: int, *, is_figure: bool) -> bytes:
    """Return the WebP of a segment, from the cache of the store if it is there.

    Raises:
        MediaError: its file is gone, has changed or is damaged.
    """
    return cached_picture(store, place, size_px, figure if is_figure else thumbnail)


def upload_picture(upload: Upload, size_px: int) -> bytes:
    """Return the WebP of an upload.

    Raises:
        MediaError: it is damaged.
    """
    return webp(thumbnail(Place(upload.path, upload.path.parent, upload.modality), size_px))
