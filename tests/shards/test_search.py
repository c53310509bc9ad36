"""Searches of sharded stores: the lists of one store, whatever shards the files are in, and answers without a shard."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import bindsearch as bs
from bindsearch.errors import StoreError, UsageError
from bindsearch.search.explain import explain_plan, explain_run
from bindsearch.search.planner import depth_of_shard
from bindsearch.search.scoring.calibration import partition_statistics
from bindsearch.shards.hosts import LocalHosts, Replies
from bindsearch.shards.layout import global_id, local_id, read_shard_map
from bindsearch.shards.place import Place
from bindsearch.shards.search.merge import merge_means, merge_moments
from bindsearch.shards.search.messages import ModalitySummary
from bindsearch.shards.store import ShardedStore
from bindsearch.views.answer_data import answer_data
from helpers.sharded import index, make_shards, shown

SHARDS = 3
WORDS = [
    "dog",
    "cat",
    "fire",
    "water",
    "engine",
    "bird",
    "forest",
    "rain",
    "piano",
    "baby",
    "laughter",
    "glass",
    "storm",
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"ranking": "z"},
    {"ranking": "cosine"},
    {"ranking": "per-modality", "k": 5},
    {"copies": True},
    {"diversity": 0.5},
    {"to": "image"},
    {"filter": "path like '%f1%'"},
    {"include_query": True},
    {"min_match": 0.001},
    {"words": "off", "k": 50},
]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of texts and pictures; `null` has 64 dimensions, so that statistics of all are exact."""
    root = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    for number in range(180):
        folder = root / f"f{number % 5}"
        folder.mkdir(exist_ok=True)
        (folder / f"t{number}.txt").write_text(" ".join([*rng.choice(WORDS, 5, replace=False), str(number)]))
    for number in range(90):
        pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"f{number % 5}" / f"p{number}.png")
    return root


@pytest.fixture(scope="module")
def folders(media: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folder of a store and of a sharded store with the same files."""
    root = tmp_path_factory.mktemp("stores")
    with bs.connect(root / "one", encoder="null", decode="thread") as store:
        store.index(media)
    index(make_shards(root / "many", SHARDS), media)
    return root / "one", root / "many"


@pytest.fixture(scope="module")
def one(folders: tuple[Path, Path]) -> Iterator[bs.Store]:
    with bs.connect(folders[0]) as store:
        yield store


@pytest.fixture(scope="module")
def many(folders: tuple[Path, Path]) -> Iterator[ShardedStore]:
    with ShardedStore(folders[1]) as store:
        yield store


def queries(media: Path) -> list[bs.Term | bs.Composition]:
    pictures = [bs.image(path) for path in sorted(media.rglob("*.png"))[:6]]
    texts = [bs.text(word) for word in WORDS[:6]]
    named = [bs.text("t33"), bs.text("dog cat 17"), bs.text("p5.png")]
    sums = [0.5 * texts[0] + 0.5 * pictures[1], texts[1] - texts[2], 0.7 * pictures[2] + 0.3 * pictures[3]]
    likes = [bs.like(media / "f1" / "t11.txt"), bs.like(media / "f2" / "p7.png")]
    return [*texts, *pictures, *named, *sums, *likes]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())) or "default")
def test_the_lists_are_those_of_one_store(
    one: bs.Store, many: ShardedStore, media: Path, options: Mapping[str, Any]
) -> None:
    for query in queries(media):
        assert shown(many.search(query, **options)) == shown(one.search(query, **options)), query


def test_several_queries_and_vectors_give_the_same_lists(one: bs.Store, many: ShardedStore) -> None:
    rng = np.random.default_rng(1)
    asked = ["a dog", bs.text("rain"), *rng.standard_normal((6, 64)).astype(np.float32)]
    expected, found = (store.search_many(asked, words="off", k=7) for store in (one, many))
    assert list(map(shown, found)) == list(map(shown, expected))


def test_words_alone_give_the_same_list(one: bs.Store, many: ShardedStore) -> None:
    expected, found = (store.search("dog storm", words="only", k=8) for store in (one, many))
    assert {hit.path for hit in found} == {hit.path for hit in expected}
    assert [hit.probability for hit in found] == pytest.approx([hit.probability for hit in expected])


def test_copies_in_two_shards_are_one_hit(media: Path, tmp_path: Path) -> None:
    files = tmp_path / "media"
    shutil.copytree(media, files)
    for number in range(8):
        shutil.copy(files / "f0" / "p0.png", files / f"copy{number}.png")
        shutil.copy(files / "f0" / "t0.txt", files / f"copy{number}.txt")
    index(make_shards(tmp_path / "many", SHARDS), files)
    with ShardedStore(tmp_path / "many") as store:
        for name, query in (
            ("p0.png", bs.image(media / "f0" / "p0.png")),
            ("t0.txt", bs.text((files / "f0" / "t0.txt").read_text())),
        ):
            hit, *others = store.search(query, k=5)
            stem = Path(name).suffix
            assert {path.name for path in (hit.path, *hit.copies)} == {name, *(f"copy{i}{stem}" for i in range(8))}
            assert not {path for path in map(str, (one.path for one in others)) if "copy" in path}
        answer = store.answer(bs.make_query(bs.image(files / "f0" / "p0.png")))
        assert "copies of the query's own files are left out: 8 (--include-query)" in answer.notices
        assert all("copy" not in hit.path.name for hit in answer.hits)


def test_item_ids_are_unique_and_find_their_items(many: ShardedStore) -> None:
    hits = many.search("dog", k=100)
    assert len({hit.item_id for hit in hits}) == 100
    for hit in hits[:10]:
        again = many.search(bs.like(hit.item_id), k=1, include_query=True)[0]
        assert (again.path, again.item_id) == (hit.path, hit.item_id)
    with pytest.raises(UsageError, match=r"no indexed item '999999': give an item_id or the path"):
        many.search(bs.like(999999))


def test_the_plan_shows_each_shard(many: ShardedStore) -> None:
    query = bs.make_query("dog", to="image")
    answer = many.answer(query)
    assert [step.shard for step in many.explain(query).partitions] == [0, 1, 2]
    assert [run.shard for run in answer.run.partitions] == [0, 1, 2]
    assert sum(step.rows for step in answer.plan.partitions) == 90
    assert "shard  strategy" in explain_plan(answer.plan)
    assert "scored" in explain_run(answer.plan, answer.run)


def test_an_invalid_filter_is_refused(many: ShardedStore) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        many.search("dog", filter="nonsense > 3")


def test_a_generation_of_all_shards_is_refused(many: ShardedStore) -> None:
    with pytest.raises(UsageError, match="each with its own generation: connect to one of them"):
        many.generation()


class LosesShards(LocalHosts):
    """Hosts of which some shards do not answer calls of some methods."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        super().__init__(paths)
        self.lost: dict[str, set[int]] = {}

    def run(self, method: str, requests: Mapping[int, object], timeout_s: float = 30.0) -> Replies:
        lost = self.lost.get(method, set()) | self.lost.get("all", set())
        replies = super().run(method, {number: one for number, one in requests.items() if number not in lost})
        return Replies(replies.results, {**replies.missing, **dict.fromkeys(lost & requests.keys(), "it was killed")})


class LosingPlace(Place):
    """This process with hosts of which some shards do not answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.lossy = LosesShards(dict(enumerate(read_shard_map(folder).paths(folder))))

    def hosts(self, root: Path, paths: Mapping[int, Path]) -> LosesShards:
        return self.lossy


def loses_shards(folder: Path, **options: Any) -> tuple[LosesShards, ShardedStore]:
    place = LosingPlace(folder)
    return place.lossy, ShardedStore(folder, place=place, **options)


@pytest.mark.parametrize("method", ["summary", "prepare", "search", "details", "all"])
def test_an_answer_without_a_shard_is_partial_and_names_it(folders: tuple[Path, Path], method: str) -> None:
    hosts, store = loses_shards(folders[1])
    with store:
        query = bs.make_query("dog", k=200, words="off")
        full = store.answer(query) if method != "summary" else None
        hosts.lost = {method: {1}}
        answer = store.answer(query)
        assert answer.partial
        assert answer.missing_shards == {1: "it was killed"}
        assert "shard 1 did not answer, its files are not among the hits: it was killed" in answer.notices
        assert answer_data(answer)["missing_shards"] == [{"shard": 1, "reason": "it was killed"}]
        assert {local_id(hit.item_id, SHARDS)[1] for hit in answer.hits} == {0, 2}
        if full is not None:
            of_others = {hit.path for hit in full.hits if hit.item_id % SHARDS != 1}
            assert of_others <= {hit.path for hit in answer.hits}


def test_a_lost_shard_is_asked_again(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    hosts, store = loses_shards(folders[1])
    with store:
        query = bs.make_query("dog")
        full = store.answer(query)
        hosts.lost = {"all": {1}}
        assert store.answer(query).partial
        hosts.lost = {}
        monkeypatch.setattr("bindsearch.shards.search.router.RETRY_S", 0.0)
        store.answer(query)  # still within the pause of the last attempt, or asked again already
        store._router._retry_at = 0.0
        again = store.answer(query)
        assert not again.partial
        assert shown(list(again.hits)) == shown(list(full.hits))


def test_all_shards_can_be_required(folders: tuple[Path, Path]) -> None:
    hosts, store = loses_shards(folders[1], require_all=True)
    with store:
        hosts.lost = {"all": {0, 2}}
        with pytest.raises(StoreError, match=r"shard 0 and 1 more of 3 does not answer: it was killed"):
            store.search("dog")


def test_no_shard_that_answers_is_an_error(folders: tuple[Path, Path]) -> None:
    hosts, store = loses_shards(folders[1])
    with store:
        hosts.lost = {"all": {0, 1, 2}}
        with pytest.raises(StoreError, match="does not answer"):
            store.search("dog")


def test_a_missing_shard_folder_is_reported(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[1], tmp_path / "many")
    shutil.rmtree(tmp_path / "many" / "shard-0001")
    with ShardedStore(tmp_path / "many") as store:
        answer = store.answer(bs.make_query("dog"))
        assert list(answer.missing_shards) == [1]
        assert "there is no shard in" in answer.missing_shards[1]


def test_new_generations_of_shards_are_found(media: Path, tmp_path: Path) -> None:
    files = tmp_path / "media"
    shutil.copytree(media, files)
    root = make_shards(tmp_path / "many", SHARDS)
    index(root, files)
    with ShardedStore(root) as store:
        assert len(store.search("unheard", k=500)) == 270
        for number in range(9):
            (files / f"new{number}.txt").write_text(f"unheard of {number}")
        index(root, files)
        hits = store.search("unheard", k=500)
        assert len(hits) == 279
        with bs.connect(tmp_path / "one", encoder="null", decode="thread") as one:
            one.index(files)
            assert shown(hits[:50]) == shown(one.search("unheard", k=500)[:50])


def test_shards_of_two_encoders_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[1], tmp_path / "many")
    shutil.rmtree(tmp_path / "many" / "shard-0001")
    (tmp_path / "a.txt").write_text("a dog")
    with bs.connect(tmp_path / "other", encoder="mini", decode="thread") as store:
        store.index(tmp_path / "a.txt")
    (tmp_path / "other").rename(tmp_path / "many" / "shard-0001")
    with (
        ShardedStore(tmp_path / "many") as many,
        pytest.raises(StoreError, match=r"shard 1 has vectors of mini .* shard 0 of null"),
    ):
        many.search("dog")


@given(st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=20), min_size=1, max_size=6))
def test_merged_moments_are_those_of_the_whole(groups: list[list[float]]) -> None:
    parts = [(len(group), (float(np.mean(group)), float(np.var(group)))) for group in groups]
    mean, variance = merge_moments(parts)
    whole = np.concatenate(groups)
    assert mean == pytest.approx(float(whole.mean()), abs=1e-9)
    assert variance == pytest.approx(float(whole.var()), abs=1e-9)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(2, 40))
def test_merged_statistics_are_those_of_the_whole(seed: int, groups: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(groups):
        rows = rng.standard_normal((int(rng.integers(1, 60)), d)) + rng.standard_normal(d)
        parts.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    query = parts[0][0]
    of_parts = [partition_statistics(part) for part in parts]
    whole = partition_statistics(np.concatenate(parts))
    summaries = [ModalitySummary(one.n, one.mu, one.n) for one in of_parts]
    n, pair = merge_means(summaries)
    assert (n, pair) == (whole.n, pytest.approx(whole.pair_cosine, abs=1e-4))
    moments = merge_moments([(one.n, one.moments(query)[2:]) for one in of_parts])
    assert moments == pytest.approx(whole.moments(query)[2:], abs=1e-4)


@given(st.integers(0, 10**6), st.integers(1, 1000), st.data())
def test_global_ids_are_those_of_their_shard(local: int, n: int, data: st.DataObject) -> None:
    shard = data.draw(st.integers(0, n - 1))
    assert local_id(global_id(local, shard, n), n) == (local, shard)


@pytest.mark.parametrize(("depth", "shards", "expected"), [(10, 1, 10), (10, 8, 6), (100, 16, 17), (100, 2, 79)])
def test_a_shard_holds_a_part_of_the_best_results(depth: int, shards: int, expected: int) -> None:
    assert depth_of_shard(depth, shards) == expected


def test_a_shard_takes_no_files_of_its_own(folders: tuple[Path, Path], media: Path) -> None:
    with bs.connect(folders[1] / "shard-0001") as shard:
        assert shard.search("dog")
        assert not shard.verify().findings
        for run in (lambda: shard.index(media), lambda: shard.retry(), lambda: shard.relocate(media, media)):
            with pytest.raises(UsageError, match=rf"is a shard of {folders[1]}: run `bindsearch .* --store"):
                run()


def test_an_open_store_follows_a_change_of_the_number_of_shards(media: Path, tmp_path: Path) -> None:
    root = tmp_path / "many"
    with bs.connect(root, encoder="null", decode="thread", shards=2) as other:
        other.index(media)
    with bs.connect(root) as store:
        before = store.answer(bs.make_query("dog"))
        with bs.connect(root) as other:
            assert isinstance(other, ShardedStore)
            assert other.reshard(3).items == 270
        after = store.answer(bs.make_query("dog"))
        assert {step.shard for step in after.plan.partitions} == {0, 1, 2}
        assert not after.partial
        assert shown(list(after.hits)) == shown(list(before.hits))


def test_the_methods_of_a_store_work_on_all_shards(media: Path, tmp_path: Path) -> None:
    files = tmp_path / "media"
    shutil.copytree(media, files)
    (files / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (files / "table.xyz").write_bytes(b"?")
    with bs.connect(tmp_path / "many", encoder="null", decode="thread", shards=SHARDS) as store:
        report = store.index(files)
        assert (sum(report.items.values()), len(report.failures)) == (270, 1)
        status = store.status()
        assert (sum(status.items.values()), len(status.shards), len(status.failures)) == (270, SHARDS, 1)
        assert [file.path.name for file in store.left_out()] == ["table.xyz"]
        assert not store.verify().findings
        assert store.optimize(force=False) is not None
        hit = store.search("dog", to="image")[0]
        assert store.forget(item_ids=[hit.item_id]) == 1
        assert store.forget(files / "f0") > 0
        assert hit.path not in {one.path for one in store.search("dog", k=300)}
        assert store.compact().after_bytes > 0
        assert len(store.retry().failures) == 1
        for method in ("calibrate", "near_duplicates"):
            with pytest.raises(UsageError, match=r"store without shards: give one shard, such as .*shard-0000"):
                getattr(store, method)()
        with pytest.raises(UsageError, match="keep their encoder"):
            store.reindex("mini")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 0}, "shards is 0: give a number from 1"),
        ({"shards": 2, "on": "nowhere"}, "is not an address of a cluster"),
        ({"shards": 2, "workers": 0}, "workers is 0"),
        ({"on": 3}, "the cluster is 3"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bs.connect(tmp_path / "many", **options)


def test_another_number_of_shards_is_refused(folders: tuple[Path, Path], media: Path) -> None:
    with (
        bs.connect(folders[1], encoder="null", shards=5) as store,
        pytest.raises(UsageError, match=r"has 3 shards, not 5: leave out the number, or change it with `b"),
    ):
        store.index(media)
    with pytest.raises(UsageError, match="has no shards: leave out `on` and `shards`"):
        bs.connect(folders[0], shards=2)


def test_suggestions_know_the_words_of_all_shards(one: bs.Store, many: ShardedStore) -> None:
    for text in ("pianp", "laughter", "engime glass"):
        expected, found = (store.answer(bs.make_query(text, words="only")) for store in (one, many))
        assert found.suggestions == expected.suggestions, text
    assert many.answer(bs.make_query("pianp", words="only")).suggestions[0].query == "piano"


def test_names_that_are_not_utf8_do_not_hinder_a_change_of_shards(media: Path, tmp_path: Path) -> None:
    files = tmp_path / "media"
    shutil.copytree(media / "f0", files)
    for letter in (b"\xff", b"\xfe", b"\xfd", b"\xfc"):
        (Path(os.fsdecode(os.fsencode(files) + b"/bad" + letter + b".txt"))).write_text("a dog")
    with bs.connect(tmp_path / "many", encoder="null", decode="thread", shards=4) as store:
        assert len(store.index(files).failures) == 4
        assert isinstance(store, ShardedStore)
        assert store.reshard(2).failures == 4
        assert store.reshard(6).failures == 4
        assert len(store.index(files).failures) == 4


def test_shards_that_are_one_folder_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[1], tmp_path / "many")
    data = json.loads((tmp_path / "many" / "shards.json").read_text())
    del data["digest"]
    data["folders"][1] = "./shard-0000"
    (tmp_path / "many" / "shards.json").write_text(json.dumps(data))
    with pytest.raises(StoreError, match="its numbers and folders do not fit"), bs.connect(tmp_path / "many") as store:
        store.search("dog")
