"""Caches beside a store: thumbnails and figures, made once, bounded in size, safe with several threads and processes.

Each file is followed by its digest, written at once, and made anew if it is damaged. Pictures are in SHARDS folders,
each with its share of the size: a new picture pushes out those of its folder that were used least recently, by the time
of the last change of their files.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import xxhash

from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE
from bindsearch.ingest.media.sidecar_file import sidecar_path
from bindsearch.operations.segment_media import Place
from bindsearch.small_files import read_small_file

if TYPE_CHECKING:
    from PIL import Image

CACHE = "cache"
"""Folder of the caches in a store, which may be deleted at any time."""

TOUCHED_EVERY_S = 3600.0
"""A file that is read counts as used if its time is older than this."""

_DIGEST_BYTES = 16
_OWN_NAME = re.compile(r"[0-9a-f]{32}|\..*\.tmp")
"""Names of files of a cache, and of one being written; others are not its own, such as those of a linked folder."""

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


def read_kept(path: Path) -> bytes | None:
    """Return the content of a file that was kept; None if there is none, or it is damaged."""
    try:
        raw = read_small_file(path)
    except OSError:
        return None
    content, digest = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
    if xxhash.xxh3_128_digest(content) != digest:
        return None
    with suppress(OSError):
        if path.stat().st_mtime < time.time() - TOUCHED_EVERY_S:
            os.utime(path)
    return content


def keep(path: Path, content: bytes, max_bytes: int) -> None:
    """Keep a file, and delete those used least recently until its folder has at most `max_bytes`.

    Nothing is kept in a store that cannot be written to, and nothing that is larger than that.
    """
    if len(content) + _DIGEST_BYTES > max_bytes:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
            try:
                file.write(content + xxhash.xxh3_128_digest(content))
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _shrink(path.parent, max_bytes)


def _shrink(folder: Path, max_bytes: int) -> None:
    """Delete the files of a folder that were used least recently, until the others have at most `max_bytes`."""
    files = []
    for path in folder.iterdir():
        if not _OWN_NAME.fullmatch(path.name):
            continue
        with suppress(FileNotFoundError):  # another process deletes, too
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size, path))
    left = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if left <= max_bytes:
            return
        path.unlink(missing_ok=True)
        left -= size
