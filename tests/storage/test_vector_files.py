"""Vector files: what goes in comes out, and nothing that must not get in does."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bindsearch.errors import StoreError, VectorError, VectorFileLostError
from bindsearch.storage.vector_files import (
    BLOCK_DIGESTS_KEY,
    BLOCK_ROWS_KEY,
    IDS_DIGEST_KEY,
    VectorFileEntry,
    check_dim,
    check_vectors,
    dim_of_vectors,
    generation_of,
    open_stored_vectors,
    open_vectors,
    vector_files_in,
    write_vectors,
)
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


def multi_block(tmp_path: Path) -> Path:
    """Return a vector file of three blocks of 4096 rows, the last one shorter, whose second block is damaged."""
    path = tmp_path / "1-1.arrow"
    vectors = rows(10_000).astype(np.float16)
    write_vectors(path, np.arange(1, 10_001), vectors)
    content = bytearray(path.read_bytes())
    at = content.index(vectors[5000].tobytes())
    content[at] ^= 1
    path.unlink()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("first", "stop", "is_damaged"),
    [(0, 4096, False), (8192, 10_000, False), (5, 5, False), (4096, 4097, True), (8191, 8192, True), (0, 10_000, True)],
)
def test_damage_is_found_in_the_block_that_is_used(first: int, stop: int, is_damaged: bool, tmp_path: Path) -> None:
    wanted = np.arange(first, stop)
    for call in ("check", "check_rows"):
        opened = open_vectors(multi_block(tmp_path), 8)
        assert opened.checks is not None
        for _ in range(2):
            damage = pytest.raises(VectorFileLostError, match="rows 4096 and following do not match their digest")
            with damage if is_damaged else nullcontext():
                opened.checks.check(first, stop) if call == "check" else opened.checks.check_rows(wanted)
        assert not opened.checks.done
    with pytest.raises(VectorFileLostError, match="rows 4096"):
        opened.checked_embeddings()


def test_each_block_is_checked_once(tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.arrow", np.arange(10_000), rows(10_000))
    checks = open_vectors(tmp_path / "v.arrow", 8).checks
    assert checks is not None
    for first, stop, done in ((4000, 5000, False), (5000, 5001, False), (8192, 10_000, True)):
        checks.check(first, stop)
        assert checks.done is done
    write_vectors(tmp_path / "v.arrow", np.arange(0), rows(0))
    none = open_vectors(tmp_path / "v.arrow", 8).checks
    assert none is not None
    assert none.done


def write_batch(path: Path, columns: dict[str, pa.Array], metadata: dict[bytes, bytes] | None = None) -> Path:
    batch = pa.record_batch(columns).replace_schema_metadata(metadata)
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    return path


def vectors_column(n: int, *, null: bool = False) -> pa.Array:
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows(n).astype(np.float16).reshape(-1)), 8)
    return pa.array([None, *column.to_pylist()[1:]], column.type) if null else column


IDS = pa.array([1, 2, 3], pa.int64())
SOUND = {BLOCK_ROWS_KEY: b"4096", BLOCK_DIGESTS_KEY: b"AAAAAAAAAAA=", IDS_DIGEST_KEY: b"0"}


@pytest.mark.parametrize(
    ("columns", "metadata", "message"),
    [
        ({"vector_id": IDS, "embedding": vectors_column(3, null=True)}, None, "it has rows without a vector"),
        ({"embedding": vectors_column(3)}, None, "vector_id"),
        ({"vector_id": IDS}, None, "embedding"),
        ({"vector_id": IDS, "embedding": vectors_column(3)}, SOUND, "the ids do not match their digest"),
        ({"vector_id": IDS, "embedding": vectors_column(3)}, {BLOCK_ROWS_KEY: b"1"}, "block_digests"),
        (
            {"vector_id": IDS, "embedding": vectors_column(3)},
            SOUND | {BLOCK_ROWS_KEY: b"2"},
            "1 digests do not fit 3 rows",
        ),
        (
            {"vector_id": IDS, "embedding": vectors_column(3)},
            SOUND | {BLOCK_ROWS_KEY: b"0"},
            "1 digests do not fit 3 rows",
        ),
    ],
)
def test_a_file_that_contradicts_itself_is_damaged(
    columns: dict[str, pa.Array], metadata: dict[bytes, bytes] | None, message: str, tmp_path: Path
) -> None:
    path = write_batch(tmp_path / "v.arrow", columns, metadata)
    with pytest.raises(VectorFileLostError, match=rf"v\.arrow is damaged \(.*{message}.*\): run `bindsearch compact`"):
        open_vectors(path, 8)


def test_a_file_of_a_version_without_digests_is_read(tmp_path: Path) -> None:
    path = write_batch(tmp_path / "v.arrow", {"vector_id": IDS, "embedding": vectors_column(3)})
    opened = open_vectors(path, 8)
    assert opened.checks is None
    assert opened.checked_embeddings().shape == (3, 8)


@pytest.mark.parametrize(
    ("ids", "listed", "is_right"),
    [
        ([1, 2, 5], 3, True),
        ([1, 2, 5], 2, False),
        ([1, 2, 5], 4, False),
        ([2, 3, 5], 3, False),
        ([1, 2, 2], 3, False),
        ([1, 3, 2], 3, False),
        ([], 0, False),
    ],
)
def test_a_file_holds_the_rows_that_the_store_lists(
    ids: list[int], listed: int, is_right: bool, tmp_path: Path
) -> None:
    write_vectors(tmp_path / "1-1.arrow", np.array(ids, np.int64), rows(len(ids)))
    damage = pytest.raises(VectorFileLostError, match=f"it does not hold the {listed} rows from id 1 on")
    with nullcontext() if is_right else damage:
        open_stored_vectors(tmp_path, VectorFileEntry("1-1.arrow", listed), 8)


def test_dimensions_are_those_of_readable_files(tmp_path: Path) -> None:
    good, other = tmp_path / "1-1.arrow", write_batch(tmp_path / "2-1.arrow", {"vector_id": IDS})
    write_vectors(good, np.arange(10), rows())
    damaged = tmp_path / "3-1.arrow"
    damaged.write_bytes(b"damaged")
    paths = [good, other, damaged, tmp_path / "missing"]
    assert [dim_of_vectors(path) for path in paths] == [8, None, None, None]
    check_dim(paths, 8)
    check_dim(paths[1:], 9)
    with pytest.raises(StoreError, match=r"store\.json has 9 dimensions, the vector files have 8: put the right"):
        check_dim(paths, 9)


@pytest.mark.parametrize(
    ("name", "generation"),
    [
        ("000000000012-00000034.arrow", 34),
        ("12-.arrow", None),
        ("12.arrow", None),
        ("1-2-3.arrow", None),
        ("12-x.arrow", None),
    ],
)
def test_the_generation_of_a_file_is_in_its_name(name: str, generation: int | None) -> None:
    assert generation_of(name) == generation


def test_only_vector_files_and_unfinished_ones_are_listed(tmp_path: Path) -> None:
    for name in ("b.arrow", "a.arrow", ".a.arrow.1.2.tmp", "a.txt", ".tmp", ".a.arrow.tmp.x"):
        (tmp_path / name).touch()
    assert [path.name for path in vector_files_in(tmp_path)] == [".a.arrow.1.2.tmp", "a.arrow", "b.arrow"]
    assert vector_files_in(tmp_path / "missing") == vector_files_in(tmp_path / "a.txt") == []


def test_no_vectors_and_a_length_of_just_one_thousandth_more_are_stored() -> None:
    check_vectors(np.zeros((0, 8), np.float32), 8)
    for n, dim in ((1, 1), (3, 70_000)):
        ones = np.zeros((n, dim), np.float32)
        ones[:, 0] = 1.0
        check_vectors(ones, dim)


def test_a_row_that_is_larger_than_a_block_has_a_block_of_its_own(tmp_path: Path) -> None:
    ones = np.zeros((2, 40_000), np.float32)
    ones[:, 0] = 1.0
    write_vectors(tmp_path / "v.arrow", np.arange(2), ones)
    opened = open_vectors(tmp_path / "v.arrow", 40_000)
    assert opened.checks is not None
    opened.checks.check(0, 1)
    assert not opened.checks.done
    assert opened.checked_embeddings()[:, 0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("error", [MemoryError("full"), ValueError("first\nsecond"), ValueError()])
def test_a_lack_of_memory_is_not_damage(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: object) -> None:
        raise error

    write_vectors(tmp_path / "v.arrow", np.arange(10), rows())
    monkeypatch.setattr(pa.ipc, "open_file", fail)
    message = {"full": "^full$", "": r"is damaged \(ValueError\)"}.get(str(error), r"is damaged \(first\): ")
    with pytest.raises(MemoryError if isinstance(error, MemoryError) else VectorFileLostError, match=message):
        open_vectors(tmp_path / "v.arrow", 8)
