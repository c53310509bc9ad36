"""Depth and thermal pictures as ImageBind's towers see them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.encoders.imagebind.preprocessing import Preprocessing, depth
from bindsearch.encoders.imagebind.preprocessing.depth import prepare_depth
from bindsearch.encoders.imagebind.preprocessing.image import prepare_thermal
from bindsearch.encoders.preprocessing.crops import fill_nearest, square_crop_plane
from bindsearch.errors import MediaError
from bindsearch.media import DepthMap

PUBLISHED = Preprocessing()
FX_PX, BASELINE_M = 518.0, 0.075


def depth_map(depth_m: NDArray[np.float32], *, fx_px: float = FX_PX, baseline_m: float = BASELINE_M) -> DepthMap:
    depth_m = np.asarray(depth_m, np.float32)
    return DepthMap(depth_m, np.isfinite(depth_m) & (depth_m > 0), fx_px, baseline_m)


def disparity_of(prepared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Back to 0..1."""
    return prepared[0, 0] * np.float32(0.0295) + np.float32(0.0418)


@pytest.mark.parametrize(
    ("metres", "disparity"),
    [
        (2.5, 518 * 0.075 / 2.5 / 75),  # 0.2072, by hand
        (100.0, 518 * 0.075 / 50 / 75),  # clipped to 50 m
        (0.001, 1.0),  # clipped to 0.01 m, then 51.8 clamped to 1
        (0.4, 1.0),  # 1.295
    ],
)
def test_disparity_by_hand(metres: float, disparity: float) -> None:
    prepared = prepare_depth(depth_map(np.full((1, 1), metres, np.float32)), PUBLISHED)
    assert (prepared.shape, prepared.dtype) == ((1, 1, 224, 224), np.float32)
    np.testing.assert_allclose(disparity_of(prepared), disparity, rtol=1e-5)
    np.testing.assert_allclose(prepared, (disparity - 0.0418) / 0.0295, rtol=1e-4)


def test_a_map_is_turned_into_disparity_then_resized() -> None:
    metres = np.random.default_rng(5).uniform(0.6, 12, (240, 320)).astype(np.float32)
    expected = square_crop_plane(np.minimum(BASELINE_M * FX_PX / metres / 75, 1).astype(np.float32), 224)
    np.testing.assert_allclose(
        disparity_of(prepare_depth(depth_map(metres), PUBLISHED)), expected.clip(0, 1), atol=1e-6
    )


def test_options_are_heeded() -> None:
    options = Preprocessing(depth_min_m=1.0, depth_max_m=2.0, disparity_max=100.0, depth_mean=0.0, depth_std=1.0)
    for metres, clipped in ((0.5, 1.0), (1.5, 1.5), (9.0, 2.0)):
        prepared = prepare_depth(depth_map(np.full((2, 2), metres, np.float32)), options)
        np.testing.assert_allclose(prepared, BASELINE_M * FX_PX / clipped / 100, rtol=1e-5)


@pytest.mark.parametrize("share_known", [0.02, 0.3, 0.9])
def test_missing_values_are_the_nearest_known_ones(share_known: float) -> None:
    """Against brute force; between equally near ones either will do."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=(23, 31)).astype(np.float32)
    known = rng.random(values.shape) < share_known
    filled = fill_nearest(values, known)
    np.testing.assert_array_equal(filled[known], values[known])
    places = np.argwhere(known)
    for pixel in np.argwhere(~known):
        distances = ((places - pixel) ** 2).sum(axis=1)
        nearest = places[distances == distances.min()]
        assert filled[tuple(pixel)] in values[tuple(nearest.T)]


def test_holes_do_not_reach_the_tower() -> None:
    metres = np.full((50, 60), 2.0, np.float32)
    metres[10:30, 20:50] = 0
    metres[0, 0], metres[0, 1], metres[0, 2] = np.nan, np.inf, -1
    whole = prepare_depth(depth_map(np.full((50, 60), 2.0, np.float32)), PUBLISHED)
    np.testing.assert_array_equal(prepare_depth(depth_map(metres), PUBLISHED), whole)
    careless = DepthMap(metres, np.ones(metres.shape, np.bool_), FX_PX, BASELINE_M)
    np.testing.assert_array_equal(prepare_depth(careless, PUBLISHED), whole)


@pytest.mark.parametrize("shape", [(300, 400), (700, 500), (451, 1999)])
def test_a_large_map_is_averaged_down_to_the_same(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    metres = (2 + np.sin(x / 40) + 0.5 * np.cos(y / 30)).astype(np.float32)
    metres[100:130, 90:140] = 0
    exact = prepare_depth(depth_map(metres), PUBLISHED)
    monkeypatch.setattr(depth, "LARGEST_MAP", 1_000)
    np.testing.assert_allclose(
        disparity_of(prepare_depth(depth_map(metres), PUBLISHED)), disparity_of(exact), atol=0.02
    )


def test_a_huge_map_is_bounded() -> None:
    metres = np.full((2_700, 4_100), 3.0, np.float32)
    metres[:, ::3] = 0
    prepared = prepare_depth(depth_map(metres), PUBLISHED)
    np.testing.assert_allclose(disparity_of(prepared), BASELINE_M * FX_PX / 3 / 75, rtol=1e-4)
    thin = np.full((2, 3_000_000), 3.0, np.float32)
    np.testing.assert_allclose(disparity_of(prepare_depth(depth_map(thin), PUBLISHED)), 0.1727, atol=1e-3)
    thin[:, 1_000_000:2_000_000] = 0
    with pytest.raises(MediaError, match="no pixel in the middle of the depth map"):
        prepare_depth(depth_map(thin), PUBLISHED)


@pytest.mark.parametrize(("fx_px", "baseline_m"), [(1e-30, 1e-9), (1e200, 0.075), (1e-300, 1e-7)])
def test_odd_cameras_give_finite_values(fx_px: float, baseline_m: float) -> None:
    metres = np.random.default_rng(7).uniform(0.001, 99, (30, 40)).astype(np.float32)
    assert np.isfinite(prepare_depth(depth_map(metres, fx_px=fx_px, baseline_m=baseline_m), PUBLISHED)).all()


def test_maps_without_value_camera_or_shape_are_refused() -> None:
    with pytest.raises(MediaError, match="no pixel of the depth map has a value above 0"):
        prepare_depth(depth_map(np.zeros((4, 4), np.float32)), PUBLISHED)
    with pytest.raises(MediaError, match="no pixel of the depth map has a value above 0"):
        prepare_depth(depth_map(np.zeros((0, 4), np.float32)), PUBLISHED)
    with pytest.raises(MediaError, match=r"focal length nan px and baseline 0\.075 m: both must be numbers above 0"):
        prepare_depth(depth_map(np.ones((4, 4), np.float32), fx_px=float("nan")), PUBLISHED)
    with pytest.raises(MediaError, match=r"depth of shape \(4, 4\) with a mask of shape \(4, 5\)"):
        prepare_depth(DepthMap(np.ones((4, 4), np.float32), np.ones((4, 5), np.bool_), 1.0, 1.0), PUBLISHED)


def test_threads_give_the_same() -> None:
    rng = np.random.default_rng(8)
    maps = [depth_map(rng.uniform(-1, 8, (90 + i, 120)).astype(np.float32)) for i in range(8)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda one: prepare_depth(one, PUBLISHED), maps))
    for prepared, one in zip(together, maps, strict=True):
        np.testing.assert_array_equal(prepared, prepare_depth(one, PUBLISHED))


def test_thermal_pictures_are_resized_and_left_in_0_to_1() -> None:
    values = np.random.default_rng(9).random((240, 320)).astype(np.float32)
    prepared = prepare_thermal(values, PUBLISHED)
    assert (prepared.shape, prepared.dtype) == ((1, 1, 224, 224), np.float32)
    np.testing.assert_array_equal(prepared[0, 0], square_crop_plane(values, 224).clip(0, 1))
    hard = np.zeros((50, 50), np.float32)
    hard[:, 25:] = 1.0  # an edge that bicubic interpolation overshoots
    assert (prepare_thermal(hard, PUBLISHED).min(), prepare_thermal(hard, PUBLISHED).max()) == (0.0, 1.0)


def test_a_thermal_mean_and_deviation_are_subtracted_where_asked_for() -> None:
    values = np.full((5, 5), 0.7, np.float32)
    prepared = prepare_thermal(values, Preprocessing(thermal_mean=0.2, thermal_std=0.5))
    np.testing.assert_allclose(prepared, 1.0, rtol=1e-5)


def test_thermal_pictures_of_other_shape_or_without_values_are_refused() -> None:
    with pytest.raises(MediaError, match=r"thermal picture of shape \(4, 4, 3\): expected \(height, width\)"):
        prepare_thermal(np.zeros((4, 4, 3), np.float32), PUBLISHED)
    with pytest.raises(MediaError, match="NaN or infinite"):
        prepare_thermal(np.full((4, 4), np.nan, np.float32), PUBLISHED)
    with pytest.raises(MediaError, match="no pixels"):
        prepare_thermal(np.zeros((0, 4), np.float32), PUBLISHED)
