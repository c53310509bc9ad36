"""Thumbnails and figures of segments, from the cache beside the store, and pictures of what was located."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.operations.locate.located import Located
from bindsearch.operations.segment_media import Place
from bindsearch.operations.show.drawing import INFERNO, coloured
from bindsearch.server.limits import MAX_HEAT_CELLS, Refusal
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality
from bindsearch.views.located_hits import frame_at
from bindsearch.views.picture_cache import webp
from bindsearch.views.thumbnails import thumbnail

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDES_PX = (96, 160, 240, 320, 480)
WIDTHS_PX = (480, 720, 960, 1280, 1920)
LOCATED_PX = 960
_HEAT_OPACITY = 170
"""Opacity, of 255, where the relevance is 1."""


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


def located_pictures(place: Place, located: Located, options: DecodeOptions) -> dict[str, str | None]:
    """Return the picture that the boxes are in and its heat map, as data URLs; None: there is none.

    The heat map is a PNG of at most MAX_HEAT_CELLS a side, less transparent where the relevance is higher, that covers
    the picture. Depth and heat are grey: the palettes of their pictures grow lighter with the value.

    Raises:
        MediaError: the file is gone, has changed or is damaged.
    """
    if located.heat is None:
        return {"picture": None, "heat": None}
    at_s = None if located.peak is None else located.peak.at_s
    shown = thumbnail(frame_at(place, at_s), LOCATED_PX, options)
    if place.modality in (Modality.DEPTH, Modality.THERMAL):
        shown = shown.convert("L").convert("RGB")  # false colours would mix with those of the heat map
    return {"picture": _data_url(webp(shown), "webp"), "heat": _data_url(_heat_png(located.heat), "png")}


def _heat_png(heat: NDArray[np.float32]) -> bytes:
    """Return relevance in 0..1, (h, w), NaN where it is not known, as a PNG."""
    known = np.nan_to_num(heat).clip(0, 1)
    pixels = np.concatenate([coloured(known, INFERNO), (_HEAT_OPACITY * known)[..., None].round()], -1)
    picture = Image.fromarray(pixels.astype(np.uint8))
    picture.thumbnail((MAX_HEAT_CELLS, MAX_HEAT_CELLS), Image.Resampling.BOX)
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
