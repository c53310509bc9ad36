"""Thumbnails of hits in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.cli.hits.graphics import cell_px
from bindsearch.cli.hits.pictures import Graphics, picture_lines
from bindsearch.cli.hits.terminal import columns
from bindsearch.errors import BindSearchError
from bindsearch.types import Modality

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL_PX = 320
"""Longer side in pixels of the thumbnails that are made and kept beside the store."""

COLUMNS, ROWS = 32, 12
"""Most columns and rows of the terminal that a picture takes."""

INDENT = 5
BOX_COLOUR = (255, 225, 77)

Preview = Callable[[Mapping[str, Any]], list[str]]
"""Returns the lines below a hit."""


def preview_lines(hit: Mapping[str, Any], store: Path, graphics: Graphics) -> list[str]:
    """Return the lines of a thumbnail of a hit, or why it cannot be shown."""
    from PIL import Image

    from bindsearch.operations.locate.words import boxes_of_one_picture
    from bindsearch.views.located_hits import place_of
    from bindsearch.views.picture_cache import cached_picture
    from bindsearch.views.thumbnails import thumbnail

    if hit["modality"] == Modality.TEXT:
        return []
    try:
        content = cached_picture(store, place_of(hit), THUMBNAIL_PX, thumbnail)
    except BindSearchError as error:
        from bindsearch.cli.output import visible

        return [f"{'':{INDENT}}{visible(f'(no picture: {error})')}"]
    with Image.open(BytesIO(content)) as picture:
        boxes = boxes_of_one_picture(hit["located"]) if hit["located"] else []
        lines = _shown(picture.convert("RGB"), boxes, graphics)
    return [f"{'':{INDENT}}{line}" for line in lines]


def _shown(picture: Image.Image, boxes: Sequence[Mapping[str, float]], graphics: Graphics) -> list[str]:
    """Return the lines of a picture with boxes that fits into COLUMNS and ROWS, and into the terminal."""
    from PIL import ImageDraw

    width = min(COLUMNS, max(1, (columns() or COLUMNS + INDENT) - INDENT))
    cell = (1, 2) if graphics is Graphics.BLOCKS else cell_px()
    scale = min(width * cell[0] / picture.width, ROWS * cell[1] / picture.height)
    pixels = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if graphics in (Graphics.BLOCKS, Graphics.SIXEL):
        picture = picture.resize(pixels)
    line_px = max(1, round(max(picture.size) / (2 * COLUMNS)))  # thick enough to be seen where it takes COLUMNS
    drawing = ImageDraw.Draw(picture)
    right, bottom = picture.width - 1, picture.height - 1
    for box in reversed(boxes):  # the best one last
        sides = (box["left"] * right, box["top"] * bottom, box["right"] * right, box["bottom"] * bottom)
        drawing.rectangle(sides, outline=BOX_COLOUR, width=line_px)
    size = max(1, round(pixels[0] / cell[0])), max(1, round(pixels[1] / cell[1]))
    return picture_lines(picture, graphics, size)
