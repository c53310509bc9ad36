"""A sharded store on a cluster of three nodes is the single store: what it holds and finds, and what kills cost it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.operations.verify.check import verify
from bindsearch.results import Answer
from bindsearch.shards.layout import shard_of
from bindsearch.shards.ray.hosts import RayHosts
from bindsearch.shards.store import ShardedStore
from bindsearch.types import Hit
from helpers.file_bytes import tar_of
from helpers.media_files import write_sound
from helpers.ray_nodes import Nodes, ray_nodes
from helpers.sharded import assert_equal, in_other_shard, is_same, items_of, shard_paths, union, writers
from helpers.stores import connect
from helpers.waiting import wait_for

pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray leaves sockets open, and warns
]

SHARDS = 6
TEXTS, PICTURES, SOUNDS, SAMPLES = 240, 120, 24, 40
QUERIES = 300
ANSWERED_S = 15.0
WATCHED_S = 90.0
"""Time in seconds in which the loss of a process must have been noticed and mended."""
RANKINGS = ("probability", "z", "cosine", "per-modality")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"filter": "rating >= 3"},
    {"diversity": 0.5},
    {"filter": "album = 'trip' and extension = 'txt'"},
    {"to": "image", "k": 30},
    {"to": ["audio", "text"], "min_match": 0.001},
    {"words": "off", "k": 50},
]
WORDS = (
    *("dog", "cat", "fire", "water", "engine", "bird", "forest", "rain"),
    *("piano", "baby", "laughter", "glass", "storm", "wind", "train", "bell"),
)


def write_media(folder: Path) -> None:
    """Write texts, pictures, sounds, sidecars, a manifest and an archive; no two files have the same content."""
    rng = np.random.default_rng(0)
    for number in range(5):
        (folder / f"f{number}").mkdir(parents=True)
    for number in range(TEXTS):
        words = [*rng.choice(WORDS, 5, replace=False), str(number)]
        (folder / f"f{number % 5}" / f"t{number}.txt").write_text(" ".join(words))
    for number in range(PICTURES):
        path = folder / f"f{number % 5}" / f"p{number}.png"
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
        if number % 3 == 0:
            caption = f"picture of a {WORDS[number % len(WORDS)]} with the number {number}"
            sidecar = f'{{"caption": "{caption}", "columns": {{"rating": {number % 6}}}}}'
            path.with_name(f"{path.name}.json").write_text(sidecar)
    for number in range(SOUNDS):
        seconds = 1.0 + number  # some have several segments
        samples = rng.uniform(-0.5, 0.5, round(8000 * seconds)).astype(np.float32)
        write_sound(folder / f"f{number % 5}" / f"s{number}.wav", samples, 8000)
    write_samples(folder / "f0" / "samples.tar", "sample")
    write_list(folder / "list.csv", "trip")


def write_samples(path: Path, word: str) -> None:
    path.write_bytes(tar_of({f"{n:04d}.txt": f"{word} {n} of an archive".encode() for n in range(SAMPLES)}))


def write_list(path: Path, album: str) -> None:
    rows = (f"f{number % 5}/t{number}.txt,the caption of {number},{album}\n" for number in range(0, TEXTS, 2))
    path.write_text("path,caption,album\n" + "".join(rows))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes(3) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_media(folder)
    return folder


def open_sharded(root: Path, nodes: Nodes) -> ShardedStore:
    store = bs.connect(root, on=nodes.address, shards=SHARDS, encoder="null")
    assert isinstance(store, ShardedStore)
    return store


@pytest.fixture(scope="module")
def one(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bs.Store]:
    with connect(tmp_path_factory.mktemp("one") / "store", encoder="null") as store:
        store.index(media)
        yield store


@pytest.fixture(scope="module")
def many(nodes: Nodes, media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardedStore]:
    with open_sharded(tmp_path_factory.mktemp("many") / "store", nodes) as store:
        store.index(media)
        yield store


def queries(media: Path) -> list[bs.Term | bs.Composition]:
    """Return texts, files, sums, differences and indexed items, QUERIES in all."""
    rng = np.random.default_rng(1)
    pictures, sounds, texts = (sorted(media.rglob(f"*.{kind}")) for kind in ("png", "wav", "txt"))

    def words() -> bs.Term:
        return bs.text(" ".join(rng.choice(WORDS, 2, replace=False)))

    def picture() -> bs.Term:
        return bs.image(pictures[rng.integers(len(pictures))])

    def sound() -> bs.Term:
        return bs.audio(sounds[rng.integers(len(sounds))])

    makers: list[Callable[[], bs.Term | bs.Composition]] = [
        words,
        picture,
        sound,
        lambda: 0.5 * words() + 0.5 * picture(),
        lambda: words() - 0.5 * picture(),
        lambda: 0.7 * picture() + 0.3 * sound(),
        lambda: bs.like(pictures[rng.integers(len(pictures))]),
        lambda: bs.like(sounds[rng.integers(len(sounds))]),
        lambda: bs.like(texts[rng.integers(len(texts))]) + words(),
        lambda: bs.text(f"the caption of {rng.integers(TEXTS)}"),
    ]
    return [make() for make, _ in zip(cycle(makers), range(QUERIES), strict=False)]


def test_it_holds_what_the_single_store_holds(many: ShardedStore, one: bs.Store) -> None:
    assert_equal(many.path, one.path)
    status, single = many.status(), one.status()
    assert (status.items, status.segments) == (single.items, single.segments)
    assert sum(status.items.values()) == TEXTS + PICTURES + SOUNDS + SAMPLES


@pytest.mark.parametrize("ranking", RANKINGS)
def test_its_lists_are_those_of_the_single_store(
    many: ShardedStore, one: bs.Store, media: Path, ranking: str, record_property: Callable[[str, object], None]
) -> None:
    hits, different = 0, []
    for query, options in zip(queries(media), cycle(OPTIONS), strict=False):
        expected, found = (store.search(query, ranking=ranking, **options) for store in (one, many))
        hits += len(expected)
        if not is_same(found, expected):
            different.append((query, options, expected, found))
    record_property("queries", QUERIES)
    record_property("hits", hits)
    record_property("different_lists", len(different))
    assert not different, different[0]


def test_batches_give_the_lists_of_the_single_store(many: ShardedStore, one: bs.Store, media: Path) -> None:
    asked = queries(media)[:100]
    expected, found = (store.search_many(asked, filter="rating >= 2 or rating is null") for store in (one, many))
    assert all(map(is_same, found, expected))


def change(folder: Path) -> None:
    """Delete, rename within and across shards, and change files, an archive and a manifest."""
    (folder / "f1" / "t1.txt").unlink()
    (folder / "f2" / "p2.png").unlink()
    (folder / "f3" / "s3.wav").unlink()
    for name in ("f4/t9.txt", "f0/p5.png", "f4/s9.wav"):  # without caption, which would not be renamed
        path = folder / name
        path.rename(in_other_shard(folder, path, SHARDS))
    for name in ("f1/t11.txt", "f2/p7.png", "f1/s6.wav"):
        path = folder / name
        path.rename(in_same_shard(folder, path))
    (folder / "f2" / "t7.txt").write_text("a storm of other words")
    Image.fromarray(np.full((16, 16, 3), 7, np.uint8)).save(folder / "f3" / "p8.png")
    (folder / "f4" / "p9.png.json").write_text('{"caption": "another caption", "columns": {"rating": 5}}')
    (folder / "f0" / "new.txt").write_text("a new text")
    write_samples(folder / "f0" / "samples.tar", "changed sample")
    write_list(folder / "list.csv", "journey")


def in_same_shard(folder: Path, path: Path) -> Path:
    """Return a name in the folder of a file that belongs to the same shard."""
    here = shard_of(path.relative_to(folder).as_posix(), SHARDS)
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(100))
    return next(name for name in names if shard_of(name.relative_to(folder).as_posix(), SHARDS) == here)


def test_changes_of_the_folder_are_those_of_the_single_store(nodes: Nodes, media: Path, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    shutil.copytree(media, folder)
    with open_sharded(tmp_path / "many", nodes) as many, connect(tmp_path / "one", encoder="null") as one:
        many.index(folder)
        one.index(folder)
        assert_equal(many.path, one.path)
        assert len(many.search("storm", k=1000)) == len(one.search("storm", k=1000))
        change(folder)
        ours, single = many.index(folder), one.index(folder)
        assert_equal(many.path, one.path)
        assert (ours.moved, ours.removed, ours.segments) == (single.moved, single.removed, single.segments)
        assert (ours.moved, ours.moved_between) == (6, 3)
        for query, options in zip(queries(folder)[:60], cycle(OPTIONS), strict=False):
            assert is_same(many.search(query, **options), one.search(query, **options)), query
        again = many.index(folder)
        assert (again.added, again.changed, again.removed, again.moved, again.segments) == (0, 0, 0, 0, 0)
        (folder / "f0" / "samples.tar").unlink()
        (folder / "list.csv").unlink()
        many.index(folder)
        one.index(folder)
        assert_equal(many.path, one.path)


@dataclass
class Watched:
    """Answers while something was killed.

    Attributes:
        killed_at: Monotonic time of the kill.
        answers: Time of the end of each answer, how long it took, and the shards that did not answer.
    """

    killed_at: float = 0.0
    answers: list[tuple[float, float, frozenset[int]]] = field(default_factory=list)

    def partial(self) -> list[tuple[float, float, frozenset[int]]]:
        """Return the answers after the kill that lack shards."""
        return [one for one in self.answers if one[2]]

    def figures(self) -> dict[str, float]:
        """Return what is reported, in seconds from the kill, or from the first answer that lacked shards."""
        found = {"slowest_answer_s": max(took for _, took, _ in self.answers), "answers": len(self.answers)}
        if lacking := self.partial():
            complete = next(end for end, _, missing in self.answers if end > lacking[-1][0])
            found["partial_answers"] = len(lacking)
            found["noticed_after_s"] = lacking[0][0] - self.killed_at
            found["complete_after_s"] = complete - self.killed_at
            found["incomplete_for_s"] = complete - (lacking[0][0] - lacking[0][1])
        return {name: round(value, 2) for name, value in found.items()}


def ask(store: ShardedStore, number: int) -> Answer:
    return store.answer(bs.make_query(WORDS[number], ranking="cosine", words="off", k=10))


def cosines(hits: list[Hit]) -> list[tuple[str, float, int]]:
    return [(str(hit.path), round(hit.cosine, 4), hit.item_id % SHARDS) for hit in hits]


def victim_of(kind: str, store: ShardedStore, other: Path, nodes: Nodes, turn: int) -> Callable[[], object]:
    """Return what kills a process: one that writes shards of the other store, or that answers for the store's."""
    hosts = store._open_hosts
    assert isinstance(hosts, RayHosts)
    if kind == "worker":
        pids = writers(other)
        return lambda: os.kill(pids[turn % len(pids)], signal.SIGKILL)
    states = [state for state, _ in hosts.states() if state.node != nodes.cluster.head_node.node_id or kind == "actor"]
    state = states[turn % len(states)]
    if kind == "actor":
        return lambda: os.kill(state.process, signal.SIGKILL)
    return lambda: nodes.kill(state.node, only_raylet=turn % 2 == 0)


MOMENTS = [
    *(("worker", turn, delay_s) for turn, delay_s in enumerate((0.0, 0.3, 1.0, 2.5))),
    *(("actor", turn, delay_s) for turn, delay_s in enumerate((0.0, 0.5, 2.0))),
    *(("raylet", turn, delay_s) for turn, delay_s in enumerate((0.0, 0.7, 2.0))),
]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    for number in range(1500):
        (folder / f"{number}.txt").write_text(f"a text with the number {number}")
    write_samples(folder / "samples.tar", "sample")
    return folder


@pytest.mark.parametrize(("kind", "turn", "delay_s"), MOMENTS)
def test_a_kill_loses_nothing_and_answers_are_partial_or_complete(
    many: ShardedStore,
    nodes: Nodes,
    words: Path,
    tmp_path: Path,
    kind: str,
    turn: int,
    delay_s: float,
    record_property: Callable[[str, object], None],
) -> None:
    expected = {
        number: cosines(many.search(WORDS[number], ranking="cosine", words="off", k=10_000)) for number in range(8)
    }
    other = open_sharded(tmp_path / "other", nodes)
    outcome: list[object] = []
    watched = Watched()

    def index() -> None:
        try:
            outcome.append(other.index(words))
        except BaseException as error:
            outcome.append(error)

    def kill() -> None:
        try:
            kill_in_time()
        except BaseException as error:
            outcome.append(error)

    def kill_in_time() -> None:
        wait_for(lambda: (other.path / "shards.json").exists() and writers(other.path))
        time.sleep(delay_s)
        while kind == "worker" and not writers(other.path):  # between two shards
            time.sleep(0.01)
        kill_it = victim_of(kind, many, other.path, nodes, turn)
        watched.killed_at = time.monotonic()
        kill_it()
        outcome.append("killed")

    threads = [threading.Thread(target=run) for run in (index, kill)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    number = 0
    while True:
        began = time.monotonic()
        answer = ask(many, number % 8)
        end = time.monotonic()
        watched.answers.append((end, end - began, frozenset(answer.missing_shards)))
        of_others = [hit for hit in expected[number % 8] if hit[2] not in answer.missing_shards]
        assert cosines(list(answer.hits)) == of_others[:10], answer.missing_shards
        number += 1
        assert end - started < 240
        if kind == "raylet" and "killed" in outcome and "added" not in outcome:
            nodes.add()  # here, as Ray does it in the main thread alone
            outcome.append("added")
        time.sleep(0.05)  # leaves the cores to the processes that are started
        if any(thread.is_alive() for thread in threads) or answer.partial:
            continue
        if kind == "worker" or (watched.partial() and end > watched.partial()[-1][0] + 2):
            break
        if end > watched.killed_at + WATCHED_S:
            break
    figures = watched.figures()
    for name, value in figures.items():
        record_property(name, value)
    record_property("took_s", round(time.monotonic() - started, 1))
    errors = [str(one) for one in outcome if isinstance(one, BaseException)]
    assert not errors
    report = other.index(words)
    record_property("indexed_again", report.added)
    other.close()
    assert "killed" in outcome
    items = union(map(items_of, shard_paths(other.path)))  # raises for items that are doubled
    assert len(items) == 1500 + SAMPLES
    for shard in shard_paths(other.path):
        assert verify(shard).findings == ()
    if kind == "worker":
        assert not watched.partial()
    else:
        assert figures.get("incomplete_for_s", 0.0) < ANSWERED_S, figures
    with connect(tmp_path / "one", encoder="null") as one:
        one.index(words)
        assert_equal(other.path, one.path)
