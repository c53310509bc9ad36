"""Thumbnails and figures kept beside a store: made once, bounded in size, safe with several threads and processes.

Pictures lie in SHARDS folders, each with its share of the size: a new picture pushes out those of its folder that were
used least recently, by the time of the last change of their files. Files that are damaged are made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE
from bindsearch.ingest.media.sidecar_file import sidecar_path
from bindsearch.operations.segment_media import Place
from bindsearch.views.cache_files import CACHE, keep, read_kept

if TYPE_CHECKING:
    from PIL import Image

PICTURES = "pictures"
DEFAULT_MAX_BYTES = 256 << 20
SHARDS = 64
VERSION = 1
"""Number of the way in which pictures are drawn; pictures of another one are not used."""

_WEBP_QUALITY = 80

Draw = Callable[[Place, int], "Image.Image"]
"""Draws a place in a size in pixels: `thumbnail`, `figure`."""


def cached_picture(store: Path, place: Place, side_px: int, make: Draw, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """Return a picture of a segment as WebP, from the cache of a store if it is there.

    A store that cannot be written to has no cache; the picture is made then.

    Args:
        store: Folder of the store.
        place: The segment.
        side_px: Size in pixels, for `make`.
        make: Draws the picture.
        max_bytes: Maximum size of the cache.

    Raises:
        MediaError: as `make` does.
    """
    path = _path(store / CACHE / PICTURES, place, side_px, make)
    if (kept := read_kept(path)) is not None:
        return kept
    content = webp(make(place, side_px))
    keep(path, content, max_bytes // SHARDS)
    return content


def webp(picture: Image.Image) -> bytes:
    """Return a picture as a WebP file."""
    from io import BytesIO

    file = BytesIO()
    picture.save(file, "WEBP", quality=_WEBP_QUALITY, method=2)
    return file.getvalue()


def _path(folder: Path, place: Place, side_px: int, make: Draw) -> Path:
    """Return the file of a picture, whose name changes with the media file and with what is declared about it."""
    files = [place.path, sidecar_path(place.path), place.root / SETTINGS_FILE]
    facts = (
        VERSION,
        f"{make.__module__}.{make.__qualname__}",
        side_px,
        os.fsencode(place.path),
        place.modality.value,
        place.start_s,
        place.end_s,
        place.text if place.text is None else place.text.encode(errors="surrogatepass"),
        [_stamp(path) for path in files],
    )
    name = xxhash.xxh3_128_hexdigest(repr(facts).encode())
    return folder / f"{int(name[:8], 16) % SHARDS:02d}" / name


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size in bytes and time of the last change of a file, or of the archive that contains it."""
    for one in (path, *path.parents):
        with suppress(OSError):
            status = one.stat()
            return status.st_size, status.st_mtime_ns
    return None
