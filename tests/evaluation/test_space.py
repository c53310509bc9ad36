"""The geometry of a space: hand-worked cases, plain versions, known manifolds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import skew

from bindsearch.errors import UsageError
from bindsearch.evaluation.space import (
    alignment,
    hubness,
    intrinsic_dimension,
    modality_gap,
    sample_rows,
    uniformity,
)
from bindsearch.vectors import l2_normalize

AXES = np.eye(4, dtype=np.float32)
Rows = NDArray[np.float32]


def in_space(coordinates: NDArray[np.floating], d: int = 64) -> Rows:
    """Return points (n, k) of the unit sphere in k dimensions, turned into d dimensions."""
    basis, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((d, d)))
    return l2_normalize(coordinates @ basis[: coordinates.shape[1]])


def on_sphere(n: int, dimension: int, seed: int = 0) -> Rows:
    """Return points that are uniform on the sphere of that dimension, which is in one dimension more."""
    return in_space(l2_normalize(np.random.default_rng(seed).standard_normal((n, dimension + 1))))


def test_a_gap_by_hand() -> None:
    assert modality_gap(AXES[:2], AXES[2:]) == pytest.approx(1.0)  # (1/2, 1/2, 0, 0) and (0, 0, 1/2, 1/2)
    assert modality_gap(AXES[:1], -AXES[:1]) == pytest.approx(2.0)
    assert modality_gap(AXES, AXES[::-1]) == pytest.approx(0.0)


def test_alignment_by_hand() -> None:
    assert alignment(AXES, AXES) == 0.0
    assert alignment(AXES[:2], AXES[2:]) == pytest.approx(2.0)
    assert alignment(AXES[:2], np.stack([AXES[0], -AXES[1]])) == pytest.approx(2.0)  # 0 and 4


def test_uniformity_by_hand() -> None:
    assert uniformity(AXES) == pytest.approx(-4.0)  # all squared distances are 2
    assert uniformity(np.repeat(AXES[:1], 5, axis=0)) == pytest.approx(0.0)
    mixed = np.concatenate([AXES[:1], AXES[:1], AXES[1:2]])
    assert uniformity(mixed) == pytest.approx(math.log((1 + 2 * math.exp(-4)) / 3))


@settings(max_examples=30)
@given(st.integers(2, 30), st.integers(0, 9999))
def test_uniformity_is_that_of_a_plain_version_in_any_blocks(n: int, seed: int) -> None:
    rows = l2_normalize(np.random.default_rng(seed).standard_normal((n, 6)))
    pairs = [np.exp(-2 * np.square(rows[i] - rows[j]).sum()) for i in range(n) for j in range(n) if i != j]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bindsearch.evaluation.space.BLOCK_PAIRS", 3 * n)
        assert uniformity(rows) == pytest.approx(math.log(np.mean(pairs)), abs=1e-5)


def test_hubness_by_hand() -> None:
    """Four vectors of which all others have the first as nearest: N_1 = 3, 1, 0, 0."""
    rows = l2_normalize(np.array([[1, 0, 0, 0], [1, 0.1, 0, 0], [0.8, 0, 0.6, 0], [0.8, 0, 0, 0.6]]))
    found = hubness(rows, k=1)
    assert found.skewness == pytest.approx(skew([3, 1, 0, 0]))
    assert (found.largest, found.never) == (3.0, 0.5)


@settings(max_examples=30)
@given(st.integers(3, 30), st.integers(1, 20), st.integers(1, 2), st.integers(0, 9999))
def test_hubness_is_that_of_a_plain_version(n: int, m: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, queries = (l2_normalize(random.standard_normal((size, 5))) for size in (n, m))
    counts = np.bincount(np.argsort(-(queries @ rows.T), axis=1)[:, :k].ravel(), minlength=n)
    found = hubness(rows, queries, k)
    assert found.largest == pytest.approx(counts.max())
    assert found.never == pytest.approx((counts == 0).mean())
    expected = skew(counts) if np.ptp(counts) else 0.0
    assert found.skewness == pytest.approx(expected, abs=1e-6)
    own = rows @ rows.T - 9 * np.eye(n)
    counts = np.bincount(np.argsort(-own, axis=1)[:, :k].ravel(), minlength=n)
    assert hubness(rows, k=k).largest == pytest.approx(counts.max())


def test_vectors_near_the_mean_of_all_are_hubs_in_many_dimensions() -> None:
    """Radovanović et al. 2010, section 4: nearness to the mean makes hubs; on a sphere all are as near to it."""
    random = np.random.default_rng(0)
    mean, distance = np.eye(40)[0], random.uniform(0, 0.3, (600, 1))
    around = l2_normalize(mean + distance * random.standard_normal((600, 40)))
    queries = l2_normalize(mean + 0.1 * random.standard_normal((600, 40)))
    found = hubness(around, queries)
    assert found.skewness > 2
    assert found.never > 0.5
    assert abs(hubness(on_sphere(600, 39)).skewness) < 0.6


def test_vectors_that_are_all_alike_are_no_hubs() -> None:
    alike = hubness(np.repeat(AXES[:1], 30, axis=0))
    assert (alike.skewness, alike.never) == (0.0, 0.0)
    assert alike.largest == pytest.approx(10.0)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5, 8])
def test_the_dimension_of_spheres_is_found(dimension: int) -> None:
    found = intrinsic_dimension(on_sphere(2000, dimension))
    assert found.dimension == pytest.approx(dimension, rel=0.08)
    assert found.n + found.copies == 2000


def test_the_dimension_of_other_manifolds_is_found() -> None:
    """A torus in four dimensions, a curve that winds, and a cube bent onto a sphere."""
    random = np.random.default_rng(1)
    angles = random.uniform(0, 2 * math.pi, (2000, 2))
    torus = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / math.sqrt(2)
    assert intrinsic_dimension(in_space(torus)).dimension == pytest.approx(2, rel=0.08)
    t = random.uniform(0, 2 * math.pi, 2000)
    curve = np.stack([f(n * t) for n in (1, 2, 3) for f in (np.cos, np.sin)], axis=1) / math.sqrt(3)
    assert intrinsic_dimension(in_space(curve)).dimension == pytest.approx(1, rel=0.08)
    cube = np.concatenate([random.uniform(-0.3, 0.3, (3000, 4)), np.ones((3000, 1))], axis=1)
    assert intrinsic_dimension(in_space(l2_normalize(cube))).dimension == pytest.approx(4, rel=0.08)


def test_the_dimension_does_not_depend_on_the_space_around_and_on_copies() -> None:
    rows = on_sphere(1500, 4)
    alone = intrinsic_dimension(rows)
    copied = intrinsic_dimension(np.concatenate([rows, rows[:300], rows[:100]]))
    assert (copied.n, copied.copies) == (1500, 400)
    assert copied.dimension == pytest.approx(alone.dimension)


def test_random_directions_have_more_dimensions_than_a_manifold() -> None:
    assert intrinsic_dimension(on_sphere(1000, 40)).dimension > 20


def test_a_sample_is_the_same_every_time_and_has_no_row_twice() -> None:
    rows = sample_rows(1000, 50)
    assert len(set(rows.tolist())) == 50
    assert rows.tolist() == sorted(rows.tolist()) == sample_rows(1000, 50).tolist()
    assert sample_rows(50, 50).tolist() == list(range(50))
    assert sample_rows(1000, 50, seed=1).tolist() != rows.tolist()


def test_wrong_arrays_give_one_line() -> None:
    with pytest.raises(UsageError, match="alignment of 4 and 2 vectors: give pairs, row by row"):
        alignment(AXES, AXES[:2])
    with pytest.raises(UsageError, match="uniformity of 1 vectors: give at least 2"):
        uniformity(AXES[:1])
    with pytest.raises(UsageError, match="k is 4, with 4 vectors: give a shorter length of the lists, or more vectors"):
        hubness(AXES, k=4)
    with pytest.raises(UsageError, match="the intrinsic dimension of 4 different vectors: give at least 20"):
        intrinsic_dimension(np.repeat(AXES, 10, axis=0))
    with pytest.raises(UsageError, match="vectors on a grid"):
        intrinsic_dimension(np.eye(30, dtype=np.float32))
    with pytest.raises(UsageError, match="the first vectors have 4 dimensions, the second 3"):
        modality_gap(AXES, np.eye(3, dtype=np.float32))
    with pytest.raises(UsageError, match="row 0 of vectors has the norm 2"):
        uniformity(2 * AXES)
