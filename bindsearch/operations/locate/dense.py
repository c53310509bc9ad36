"""Cosines of the parts of a picture with vectors: dense features of squares that cover it, put together to one map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bindsearch.encoders.base import Encoder, locatable_modalities
from bindsearch.errors import MediaError
from bindsearch.media import MODALITY_OF, NO_CONTENT, DepthMap, Picture, ThermalPicture

if TYPE_CHECKING:
    from bindsearch.encoders.base import LocatingEncoder

PictureLike: TypeAlias = Picture | DepthMap | ThermalPicture

SQUEEZED_ASPECT = 1.5
"""Greatest ratio of sides that is squeezed to one square.

The class names of two pictures side by side are found in the right one by one squeezed square, of ratio 2, in 92.5% of
200, by three squares in 99%; a ratio of 1.5 is squeezed by less, and costs what embedding the picture costs."""

MAX_SQUARES = 15
"""Most squares along a side; of longer pictures the parts are squeezed."""

MAX_DETAIL = 4
"""Greatest number of squares, side by side, along the shorter side."""

CELLS_WITHOUT_GRID = 4
"""Cells of the map along a part that is embedded as a whole."""

_SQUARES_A_PASS = 16
_LEAST_WEIGHT = 0.05
"""Weight of the edge of a square, as the middle has 1: what is there is seen worse."""

_Matrix: TypeAlias = "NDArray[np.float64]"


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of pixels of a picture."""

    top: int
    left: int
    height: int
    width: int


def areas(height: int, width: int, detail: int = 1) -> list[Area]:
    """Return rectangles that cover a picture, row by row, each at most SQUEEZED_ASPECT from a square.

    Their side is the shorter one of the picture divided by `detail`; they overlap by at least half if there are three
    or more along a side.

    Args:
        height: Height of the picture in pixels, at least 1.
        width: Width in pixels, at least 1.
        detail: Number of squares, side by side, along the shorter side: 1..MAX_DETAIL.
    """
    side = max(1.0, min(height, width) / detail)
    rows, columns = _parts(height, side), _parts(width, side)
    return [Area(top, left, tall, wide) for (top, tall), (left, wide) in product(rows, columns)]


def _parts(length: int, side: float) -> list[tuple[int, int]]:
    """Return the starts and lengths of parts of about `side` pixels that cover a length."""
    ratio = length / side
    if ratio <= SQUEEZED_ASPECT:
        return [(0, length)]
    count = 2 if ratio < 2 else min(MAX_SQUARES, math.ceil(2 * (ratio - 1) - 1e-6) + 1)
    part = min(length, max(math.ceil(side), math.ceil(2 * length / (count + 1))))
    return [(round(number * (length - part) / (count - 1)), part) for number in range(count)]


def cosine_map(
    encoder: Encoder, media: PictureLike, vectors: NDArray[np.float32], detail: int = 1
) -> NDArray[np.float32]:
    """Return the cosines of the parts of a picture with vectors.

    An encoder with dense features embeds each square once. Others embed each of 3 x 3 overlapping parts (at detail 1)
    as a picture of its own; a part that it refuses, such as one of a depth map without a known depth, is left out.

    Args:
        encoder: The encoder.
        media: Picture, depth map or thermal picture, with at least one pixel.
        vectors: Unit vectors, float32 (k, d).
        detail: As for `areas`.

    Returns:
        Cosines over the upright picture, NaN where all parts are left out: float32 (k, h, w).

    Raises:
        MediaError: no part has a content to encode.
    """
    height, width = shape_of(media)
    has_grid = MODALITY_OF[type(media)] in locatable_modalities(encoder)
    cover = areas(height, width, detail if has_grid else 2 * detail)
    parts = [part for start in range(0, len(cover), _SQUARES_A_PASS) for part in _embed(encoder, media, cover, start)]
    cosines = stitched([cells @ vectors.T for cells in parts], cover, (height, width))
    if np.isnan(cosines).all():
        encoder.prepare(media)  # says why, if the parts are no better than the whole
        raise MediaError(f"{NO_CONTENT}no part of it can be embedded")
    return cosines


def shape_of(media: PictureLike) -> tuple[int, int]:
    """Return the height and width of a picture in pixels."""
    height, width = _planes(media)[0].shape[:2]
    return height, width


def _embed(encoder: Encoder, media: PictureLike, cover: Sequence[Area], start: int) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors of the cells of some areas: float32 (h, w, d) each."""
    modality = MODALITY_OF[type(media)]
    squares = [square(media, area) for area in cover[start : start + _SQUARES_A_PASS]]
    if modality not in locatable_modalities(encoder):
        accepted = {}  # the vectors of pictures that the encoder refuses are NaN
        for row, one in enumerate(squares):
            with suppress(MediaError):
                accepted[row] = encoder.prepare(one)
        vectors = np.full((len(squares), encoder.dim), np.nan, np.float32)
        if accepted:
            vectors[list(accepted)] = encoder.encode(modality, list(accepted.values()))
        yield from vectors[:, None, None]
        return
    prepared = [encoder.prepare(one) for one in squares]
    locating: LocatingEncoder = encoder  # type: ignore[assignment]  # as it says of itself
    cells = locating.locate(modality, prepared)
    ends = np.cumsum([len(views) for views in prepared])
    for views in np.split(cells, ends[:-1]):
        yield views.mean(axis=0)


def _planes(media: PictureLike) -> list[NDArray[Any]]:
    if isinstance(media, DepthMap):
        return [media.depth_m, media.valid]
    return [media.rgb if isinstance(media, Picture) else media.values]


def square(media: PictureLike, area: Area) -> PictureLike:
    """Return an area of a picture, squeezed to a square; of depth and temperature the nearest values are taken."""
    rows, columns = slice(area.top, area.top + area.height), slice(area.left, area.left + area.width)
    planes = [np.ascontiguousarray(plane[rows, columns]) for plane in _planes(media)]
    side = min(area.height, area.width)
    if isinstance(media, Picture):
        if area.height != area.width:
            from PIL import Image

            planes = [np.asarray(Image.fromarray(planes[0]).resize((side, side), Image.Resampling.BICUBIC))]
        return Picture(planes[0])
    down, right = ((np.arange(side) + 0.5) * length // side for length in (area.height, area.width))
    planes = [plane[down.astype(np.int64)[:, None], right.astype(np.int64)] for plane in planes]
    if isinstance(media, DepthMap):
        return DepthMap(planes[0], planes[1], media.fx_px, media.baseline_m)
    return ThermalPicture(planes[0])


def stitched(
    parts: Sequence[NDArray[np.floating]], cover: Sequence[Area], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return one map of a picture from those of the areas that cover it.

    Each is interpolated linearly between the middles of its cells; where areas overlap, they are averaged with weights
    that fall linearly from the middle of an area to its edges.

    Args:
        parts: Values of the cells of each area, (h, w, k), of the same shape; NaN: not known.
        cover: The areas, in rows.
        shape: Height and width of the picture in pixels.

    Returns:
        Values of k maps, float32 (k, H, W), with about as many cells a pixel as the areas have; NaN: not known.
    """
    grid = parts[0].shape[:2]
    size = tuple(
        max(1, round((CELLS_WITHOUT_GRID if cells == 1 else cells) * length / getattr(cover[0], name)))
        for cells, length, name in zip(grid, shape, ("height", "width"), strict=True)
    )
    total = np.zeros((*size, parts[0].shape[2]))
    weights = np.zeros(size)
    for part, area in zip(parts, cover, strict=True):
        rows, down, down_weight = _along(size[0], shape[0], area.top, area.height, grid[0])
        columns, right, right_weight = _along(size[1], shape[1], area.left, area.width, grid[1])
        values = np.einsum("yi,xj,ijk->yxk", down, right, part, optimize=True)
        weight = down_weight[:, None] * right_weight * ~np.isnan(values).any(axis=-1)
        values = np.nan_to_num(values)
        total[rows, columns] += weight[..., None] * values
        weights[rows, columns] += weight
    known = weights[..., None] > 0
    found = np.divide(total, weights[..., None], out=np.full_like(total, np.nan), where=known)
    return found.transpose(2, 0, 1).astype(np.float32)


def _along(cells: int, length: int, start: int, part: int, grid: int) -> tuple[slice, _Matrix, _Matrix]:
    """Return the n cells of a map whose middle is in a part of a side, how they are interpolated, and their weights.

    The side has `cells` cells and `length` pixels; the part begins at pixel `start`, and has `part` pixels and `grid`
    cells. The matrix is (n, grid), the weights are (n,).
    """
    shares = ((np.arange(cells) + 0.5) / cells * length - start) / part
    (inside,) = np.nonzero((shares >= 0) & (shares <= 1))
    shares = shares[inside]
    place = np.clip(shares * grid - 0.5, 0, grid - 1)
    matrix = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(grid)))
    weight = np.maximum(_LEAST_WEIGHT, 2 * np.minimum(shares, 1 - shares))
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0), matrix, weight
