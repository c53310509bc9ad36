"""Index folders: what is published is what is opened, and damage is always told."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash

from bindsearch.errors import IndexDamagedError, StoreError
from bindsearch.indexes.index_files import open_index, publish_index, remove_indexes
from bindsearch.indexes.ivf_pq import build_index
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.types import IndexForm, IndexManifest, IndexQuality, IndexSettings, OperatingPoint
from bindsearch.vectors import l2_normalize

N, DIM = 400, 16
FILES = ["index.faiss", "manifest.json", "statistics.npz", "vector_ids.npy"]
ROWS = l2_normalize(np.random.default_rng(0).standard_normal((N, DIM))).astype(np.float16)
VECTOR_IDS = np.arange(N) * 3 + 7
STATISTICS = {
    "mu": ROWS.astype(np.float32).mean(axis=0),
    "factor": np.random.default_rng(1).standard_normal((4, DIM)).astype(np.float32),
    "n": np.int64(N),
    "rest": np.float32(0.25),
}


def publish(store: Path, generation: int = 3, form: IndexForm = IndexForm.IVF_PQ) -> tuple[IndexManifest, str, str]:
    settings = IndexSettings(form=form, memory_bytes=10**6, overrides={"seed": 5})
    parameters = choose_parameters(N, DIM, settings)
    index = None if form == IndexForm.EXACT else build_index([ROWS], parameters)
    points = (
        OperatingPoint("text", 10, 0.5, 1, 200, 0.99, 0.4),
        OperatingPoint("imu", 10, 0.5, 1, 200, 0.99, 0.4, fallback_source="text"),
    )
    manifest = IndexManifest(
        modality="image",
        generation=generation,
        n=N,
        last_vector_id=int(VECTOR_IDS[-1]),
        dim=DIM,
        parameters=parameters,
        settings=settings,
        trained_rows=N,
        tuned_rows=N,
        measured_sources=("text", "image"),
        quality=IndexQuality(0.1, 1.2),
        in_distribution_cosine=0.61,
        points=points,
        files={},
        created="2026-01-01T00:00:00Z",
    )
    folder, digest = publish_index(store, manifest, index, VECTOR_IDS, STATISTICS)
    return manifest, folder, digest


def open_damaged(store: Path, folder: str, digest: str) -> str:
    with pytest.raises(IndexDamagedError) as caught:
        open_index(store, "image", folder, digest)
    return str(caught.value)


@pytest.mark.parametrize("form", list(IndexForm))
def test_what_is_published_is_what_is_opened(tmp_path: Path, form: IndexForm) -> None:
    manifest, folder, digest = publish(tmp_path, form=form)
    assert folder == "00000003"
    opened = open_index(tmp_path, "image", folder, digest)
    assert replace(opened.manifest, files={}) == manifest
    assert sorted([*opened.manifest.files, "manifest.json"]) == (FILES if form != IndexForm.EXACT else FILES[1:])
    np.testing.assert_array_equal(opened.vector_ids, VECTOR_IDS)
    assert not opened.vector_ids.flags.writeable
    assert opened.statistics.keys() == STATISTICS.keys()
    for name, array in STATISTICS.items():
        np.testing.assert_array_equal(opened.statistics[name], array)
        assert opened.statistics[name].dtype == array.dtype
    if form == IndexForm.EXACT:
        assert opened.index is None
    else:
        assert opened.index is not None
        expected = build_index([ROWS], opened.manifest.parameters).candidates(ROWS[:9].astype(np.float32), 20, 1)
        np.testing.assert_array_equal(opened.index.candidates(ROWS[:9].astype(np.float32), 20, 1), expected)


@pytest.mark.parametrize("name", FILES)
def test_every_truncated_or_altered_file_is_told(tmp_path: Path, name: str) -> None:
    _, folder, digest = publish(tmp_path)
    path = tmp_path / "indexes" / "image" / folder / name
    whole = path.read_bytes()
    rng = np.random.default_rng(42)
    for _ in range(40):
        cut = int(rng.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        assert name in open_damaged(tmp_path, folder, digest)
        place, bit = int(rng.integers(0, len(whole))), 1 << int(rng.integers(0, 8))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        assert f"{path}: its content does not match its digest" in open_damaged(tmp_path, folder, digest)
    path.write_bytes(whole)
    open_index(tmp_path, "image", folder, digest)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told(tmp_path: Path, name: str) -> None:
    _, folder, digest = publish(tmp_path)
    (tmp_path / "indexes" / "image" / folder / name).unlink()
    message = open_damaged(tmp_path, folder, digest)
    assert f"{name}: it cannot be read (No such file or directory)" in message
    assert "run `bindsearch optimize` to rebuild the index" in message


def test_a_missing_folder_and_a_longer_file_are_told(tmp_path: Path) -> None:
    _, folder, digest = publish(tmp_path)
    assert "manifest.json: it cannot be read" in open_damaged(tmp_path, "00000004", digest)
    path = tmp_path / "indexes" / "image" / folder / "vector_ids.npy"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"x")
    assert f"it has {size + 1} bytes instead of {size}" in open_damaged(tmp_path, folder, digest)


def rewrite_manifest(path: Path, **changes: object) -> str:
    content = json.dumps(json.loads(path.read_text()) | changes).encode()
    path.write_bytes(content)
    return str(xxhash.xxh3_128(content).hexdigest())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "it is not of format 1, which this version of BindSearch reads"),
        ({"n": N + 1}, "its files do not contain the 401 rows of its manifest"),
        ({"parameters": {"form": "graph"}}, "it is not a valid manifest"),
        ({"points": 3}, "it is not a valid manifest"),
        ({"files": {}}, "it does not list index.faiss"),
    ],
)
def test_a_manifest_of_another_kind_is_told(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    _, folder, _ = publish(tmp_path)
    digest = rewrite_manifest(tmp_path / "indexes" / "image" / folder / "manifest.json", **changes)
    assert message in open_damaged(tmp_path, folder, digest)


def test_a_file_that_cannot_be_parsed_is_told_even_with_the_right_digest(tmp_path: Path) -> None:
    _, folder, _ = publish(tmp_path)
    place = tmp_path / "indexes" / "image" / folder
    for name in ("index.faiss", "statistics.npz", "vector_ids.npy"):
        whole, manifest = (place / name).read_bytes(), (place / "manifest.json").read_bytes()
        (place / name).write_bytes(b"none of this")
        files = json.loads(manifest)["files"] | {name: (12, xxhash.xxh3_128(b"none of this").hexdigest())}
        digest = rewrite_manifest(place / "manifest.json", files=files)
        assert "this version cannot read it" in open_damaged(tmp_path, folder, digest)
        (place / name).write_bytes(whole)
        (place / "manifest.json").write_bytes(manifest)


def test_damage_is_a_store_error() -> None:
    assert issubclass(IndexDamagedError, StoreError)


def test_publishing_a_generation_again_replaces_what_was_left_of_it(tmp_path: Path) -> None:
    place = tmp_path / "indexes" / "image" / "00000003"
    place.mkdir(parents=True)
    (place / "half").write_bytes(b"")
    _, folder, digest = publish(tmp_path)
    assert sorted(path.name for path in place.iterdir()) == FILES
    open_index(tmp_path, "image", folder, digest)
    assert [path.name for path in place.parent.iterdir()] == [folder]


def test_a_failed_publication_leaves_nothing(tmp_path: Path) -> None:
    manifest, _, _ = publish(tmp_path, generation=1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        publish_index(tmp_path, replace(manifest, generation=2, created=object()), None, VECTOR_IDS, {})  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "indexes" / "image").iterdir()] == ["00000001"]


def test_indexes_that_are_not_kept_are_removed_while_open_ones_stay_usable(tmp_path: Path) -> None:
    _, folder, digest = publish(tmp_path, generation=1)
    publish(tmp_path, generation=2)
    (tmp_path / "indexes" / "image" / ".00000003.77.tmp").mkdir()
    opened = open_index(tmp_path, "image", folder, digest)
    remove_indexes(tmp_path, "image", {"00000002"})
    remove_indexes(tmp_path, "audio", set())
    assert [path.name for path in (tmp_path / "indexes" / "image").iterdir()] == ["00000002"]
    assert opened.index is not None
    assert opened.index.candidates(ROWS[:3].astype(np.float32), 1, 1)[:, 0].tolist() == [0, 1, 2]
    assert opened.vector_ids[-1] == VECTOR_IDS[-1]
