"""Record of what made a picture, in a text chunk of its PNG file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.small_files import open_regular

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

KEY = "bindsearch"
"""Keyword of the text chunk."""

MAX_RECORD_BYTES = 1 << 20
"""Size of a record; longer ones are neither written nor read."""


def png_info(record: Mapping[str, Any]) -> PngInfo:
    """Return the text chunk that holds a record, for `Image.save(..., pnginfo=...)`.

    The text is JSON of ASCII characters, which a tEXt chunk holds unchanged (PNG specification, 11.3.3).

    Raises:
        ValueError: the record has more than MAX_RECORD_BYTES.
    """
    from PIL.PngImagePlugin import PngInfo

    text = json.dumps({**record}, ensure_ascii=True)
    if len(text) > MAX_RECORD_BYTES:
        raise ValueError(f"the record has {len(text):,} bytes, more than {MAX_RECORD_BYTES:,}")
    info = PngInfo()
    info.add_text(KEY, text)
    return info


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a PNG file; None if it is not a readable, regular PNG file with one.

    Pixels are not decoded: only chunks before them are read, which is where `png_info` is written.
    """
    from PIL import Image

    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as picture:
            text = picture.info.get(KEY)
        record = json.loads(text) if isinstance(text, str) and len(text) <= MAX_RECORD_BYTES else None
    except (OSError, ValueError, SyntaxError, RecursionError, Image.DecompressionBombError):
        return None
    return record if isinstance(record, dict) else None
