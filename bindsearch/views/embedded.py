"""Pictures and clips of segments as data URLs, within a size for each file and for the whole page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field, replace
from functools import partial

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import Media
from bindsearch.operations.segment_media import Place
from bindsearch.types import Modality
from bindsearch.views.clips import clip_of
from bindsearch.views.picture_cache import webp
from bindsearch.views.thumbnails import figure, thumbnail, thumbnail_of

THUMBNAIL_PX, TERM_PX, FIGURE_PX = 400, 128, 640
PLAYED = frozenset((Modality.AUDIO, Modality.VIDEO))
WITH_FIGURE = frozenset((Modality.AUDIO, Modality.IMU, Modality.DEPTH, Modality.THERMAL))
"""Modalities that are shown as figures with scales."""

BASE64 = 4 / 3
"""Characters of base64 a byte."""


@dataclass(frozen=True, slots=True)
class PageLimits:
    """Limits of the media in a page.

    Attributes:
        max_clip_bytes: Size of a clip in the page; larger ones are linked.
        max_bytes: Size of all pictures and clips in the page; later ones are linked, or left out.
    """

    max_clip_bytes: int = 2 << 20
    max_bytes: int = 48 << 20


@dataclass(frozen=True, slots=True)
class Embedded:
    """The parts of a segment in a page.

    Attributes:
        picture: Data URL of a picture; None: there is none.
        is_figure: Whether the picture is a figure with scales.
        clip: Data URL of a clip; None: there is none.
        problem: Why something is missing, one line; "" if nothing is.
    """

    picture: str | None = None
    is_figure: bool = False
    clip: str | None = None
    problem: str = ""


@dataclass
class Embedder:
    """Makes data URLs until the page is full; `options` are those of the store."""

    limits: PageLimits
    options: DecodeOptions
    used_bytes: int = field(default=0, init=False)

    def thumbnail(self, shown: Place | Media, side_px: int = THUMBNAIL_PX) -> Embedded:
        """Return a thumbnail of a segment, or of a decoded medium."""
        try:
            picture = (
                thumbnail(shown, side_px, self.options) if isinstance(shown, Place) else thumbnail_of(shown, side_px)
            )
            return Embedded(self._url(webp(picture), "image/webp"))
        except MediaError as error:
            return Embedded(problem=str(error))

    def segment(self, place: Place) -> Embedded:
        """Return a figure of a segment, or a thumbnail where a figure has no scales, and its clip."""
        is_figure = place.modality in WITH_FIGURE
        draw = partial(figure, width_px=FIGURE_PX) if is_figure else partial(thumbnail, side_px=THUMBNAIL_PX)
        try:
            shown = Embedded(self._url(webp(draw(place, options=self.options)), "image/webp"), is_figure)
            if place.modality not in PLAYED:
                return shown
            clip, media_type = clip_of(place, self.options)
            if len(clip) > self.limits.max_clip_bytes:
                size_mb = self.limits.max_clip_bytes / (1 << 20)
                return replace(shown, problem=f"the clip has more than {size_mb:.3g} MB: open the file to play it")
            return replace(shown, clip=self._url(clip, media_type))
        except MediaError as error:
            return Embedded(problem=str(error))

    def _url(self, content: bytes, media_type: str) -> str:
        """Return a file as a data URL. Raises MediaError: the page is full."""
        size = round(BASE64 * len(content))
        if self.used_bytes + size > self.limits.max_bytes:
            size_mb = self.limits.max_bytes / (1 << 20)
            raise MediaError(f"left out: the pictures and clips of this page have reached {size_mb:.3g} MB")
        self.used_bytes += size
        return f"data:{media_type};base64,{b64encode(content).decode()}"
