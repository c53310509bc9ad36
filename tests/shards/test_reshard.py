"""Another number of shards: everything is there, nothing is read again, and an interrupted run is resumed."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.operations.verify.check import verify
from bindsearch.shards import reshard as resharding
from bindsearch.shards.layout import SHARDS_FILE, read_shard_map
from bindsearch.shards.reshard import PLAN_FILE, reshard
from helpers.sharded import (
    failures_of,
    index,
    items_of,
    left_out_of,
    make_shards,
    shard_paths,
    states_of,
    union,
)
from helpers.stores import connect
from helpers.trees import write_tree


def without_lists(states: dict[str, object]) -> dict[str, object]:
    return {path: state for path, state in states.items() if not path.endswith(".csv (container)")}


def held(root: Path) -> tuple[dict[str, object], ...]:
    """Return all that the shards hold, which must not change."""
    parts = [union(map(what, shard_paths(root))) for what in (items_of, failures_of, left_out_of)]
    return (*parts, union(without_lists(states_of(path)) for path in shard_paths(root)))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place") / "media"
    write_tree(folder, random.Random(5), 30)
    return folder


@pytest.fixture(scope="module")
def indexed(media: Path) -> Path:
    root = make_shards(media.parent / "shards", 2)
    index(root, media)
    return root


@pytest.fixture
def root(indexed: Path, tmp_path: Path) -> Path:
    """Return a sharded store with 2 shards, which may be changed."""
    return Path(shutil.copytree(indexed, tmp_path / "shards"))


def assert_settled(root: Path, media: Path, n: int) -> None:
    """Check that there are only the shards that are listed, and that nothing is read again."""
    assert read_shard_map(root).n == n
    listed = {root / folder.split("/")[0] for folder in read_shard_map(root).folders}
    assert {path for path in root.iterdir() if path.is_dir()} <= listed | {root / "fingerprints"}
    assert not (root / PLAN_FILE).exists()
    for shard in shard_paths(root):
        assert verify(shard).findings == ()
    report = index(root, media)
    assert not report.items
    assert (report.segments, report.removed) == (0, 0)


def test_items_captions_columns_states_and_failures_are_kept(root: Path, media: Path) -> None:
    before = held(root)
    for n in (3, 1, 2):
        report = reshard(root, n, device="cpu")
        assert (report.after, report.items, report.failures) == (n, len(before[0]), len(before[1]))
        assert held(root) == before
        assert_settled(root, media, n)


def test_columns_of_classes_are_kept(root: Path) -> None:
    for shard in shard_paths(root):
        with connect(shard) as store:
            store.classify(["cat", "dog"], column="animal")

    def classes() -> dict[str, str]:
        found: dict[str, str] = {}
        for shard in shard_paths(root):
            with connect(shard) as store:
                for label in ("cat", "dog"):
                    hits = store.search("x", k=1000, copies=True, filter=f"animal = '{label}'", words="off")
                    found |= {str(hit.path): label for hit in hits}
        return found

    before = classes()
    assert {"cat", "dog"} == {*before.values()}
    assert reshard(root, 3, device="cpu").notices == ()
    assert classes() == before


class KilledError(Exception):
    """Stand-in for a kill: nothing of the run that it leaves is tidied up."""


POINTS = [
    ("write_fingerprints", 2),
    ("_delete_old", 1),
    *(
        pytest.param(point, call, marks=pytest.mark.slow)
        for point, call in (
            ("build_shard", 1),
            ("build_shard", 2),
            ("_finish", 1),
            ("_finish", 2),
            ("write_fingerprints", 1),
            ("write_shard_map", 1),
        )
    ),
]


@pytest.mark.parametrize(("point", "call"), POINTS)
def test_a_run_that_is_interrupted_is_resumed(
    root: Path, media: Path, monkeypatch: pytest.MonkeyPatch, point: str, call: int
) -> None:
    before = held(root)
    real, calls = getattr(resharding, point), 0

    def fail(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KilledError
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(resharding, point, fail)
        try:
            reshard(root, 3, device="cpu")
        except KilledError:
            assert held(root) == before  # searched as before, or as after
    if read_shard_map(root).n != 3:
        reshard(root, 3, device="cpu")
    else:
        with pytest.raises(bs.UsageError, match="has 3 shards: give another number"):
            reshard(root, 3, device="cpu")
    assert held(root) == before
    assert_settled(root, media, 3)


def test_a_run_that_finds_the_old_shards_changed_begins_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def fail(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(resharding, "write_shard_map", fail)
        with pytest.raises(KilledError):
            reshard(root, 3, device="cpu")
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "x.txt").write_text("other words")
    index(root, folder)
    before = held(root)
    reshard(root, 3, device="cpu")
    assert held(root) == before


@pytest.mark.slow
def test_another_number_than_the_interrupted_one_begins_again(
    root: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(root)

    def fail(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(resharding, "write_shard_map", fail)
        with pytest.raises(KilledError):
            reshard(root, 3, device="cpu")
    reshard(root, 4, device="cpu")
    assert held(root) == before
    assert_settled(root, media, 4)


def test_a_shard_that_is_missing_or_written_stops_it(root: Path, tmp_path: Path) -> None:
    before = (root / SHARDS_FILE).read_bytes()
    from bindsearch.storage.session import writer_lock

    with writer_lock(root / "shard-0001"), pytest.raises(bs.StoreLockedError, match="shard-0001 is being written"):
        reshard(root, 3, device="cpu")
    shutil.move(root / "shard-0001", tmp_path / "away")
    with pytest.raises(bs.StoreError, match=r"shard-0001 is missing: mount or restore its disk"):
        reshard(root, 3, device="cpu")
    assert (root / SHARDS_FILE).read_bytes() == before
    with pytest.raises(bs.UsageError, match="has 2 shards: give another number"):
        reshard(root, 2, device="cpu")
