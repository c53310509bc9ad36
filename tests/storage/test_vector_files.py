"""Vector files: what goes in comes out, and nothing that must not get in does."""

from pathlib import Path

import numpy as np
import pytest

from bindsearch.errors import StoreError, VectorError
from bindsearch.storage.vector_files import check_vectors, open_vectors, write_vectors
from bindsearch.vectors import l2_normalize


def rows(n: int = 10, d: int = 8) -> np.ndarray:
    return l2_normalize(np.random.default_rng(0).standard_normal((n, d)))


def test_rows_come_back_as_half_floats_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "v.arrow"
    write_vectors(path, np.arange(5, 15), rows())
    opened = open_vectors(path, 8)
    assert opened.vector_ids.tolist() == list(range(5, 15))
    assert opened.embeddings.dtype == np.float16
    np.testing.assert_array_equal(opened.embeddings, rows().astype(np.float16))
    assert not opened.embeddings.flags.owndata
    assert not opened.embeddings.flags.writeable


def test_nothing_is_left_behind_by_a_write_that_fails(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"."):
        write_vectors(tmp_path / "v.arrow", np.arange(3), rows(10))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (rows()[:, :4], "dimensions"),
        (rows()[0], "dimensions"),
        (np.where(np.eye(10, 8) > 0, np.nan, rows()), "NaN"),
        (2 * rows(), "unit length"),
    ],
)
def test_vectors_that_must_not_be_stored_are_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        check_vectors(vectors.astype(np.float32), 8)


@pytest.mark.parametrize("keep", [0, 10, 200, 400])
def test_a_truncated_file_is_an_error_not_wrong_rows(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "v.arrow"
    write_vectors(path, np.arange(10), rows())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match="is damaged"):
        open_vectors(path, 8)


def test_a_file_of_another_space_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "v.arrow"
    write_vectors(path, np.arange(10), rows())
    with pytest.raises(StoreError, match="expected 16 half floats"):
        open_vectors(path, 16)


@pytest.mark.parametrize(("length", "is_unit"), [(1.0009, True), (0.9991, True), (1.002, False), (0.998, False)])
def test_a_length_may_differ_from_one_by_a_thousandth(length: float, is_unit: bool) -> None:
    vectors = (length * rows()).astype(np.float32)
    if is_unit:
        check_vectors(vectors, 8)
    else:
        with pytest.raises(VectorError, match="unit length"):
            check_vectors(vectors, 8)
