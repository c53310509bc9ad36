"""Columns of classes: as a plain computation has them, kept through every operation, and refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

import bindsearch as bs
from bindsearch.encoders import load_encoder
from bindsearch.encoders.zero_shot import class_names, class_scores, class_vectors, read_templates
from bindsearch.errors import StoreError
from bindsearch.operations.classify import column as writing
from bindsearch.operations.classify import vectors as blocks
from bindsearch.operations.classify.labels import MAX_NAME, to_classes
from bindsearch.storage import writer
from bindsearch.storage.class_columns import MAX_LABELS
from bindsearch.types import Modality
from helpers.media_files import tone, two_tone, write_picture, write_sound
from helpers.stores import connect

LABELS = ("animal", "weather", "music")
TEXTS = {
    "cat.txt": "a cat and a dog play",
    "horse.txt": "a horse eats grass",
    "rain.txt": "rain and snow all day",
    "sun.txt": "clouds, wind and thunder",
    "song.txt": "a song with guitar and drums",
}


def write_texts(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store of `mini`, its media, and a column of classes."""
    place = tmp_path_factory.mktemp("classes")
    write_texts(place / "media")
    with connect(place / "store") as store:
        store.index(place / "media")
        store.classify(LABELS, column="kind", probability_column="kind_p")
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """Return a copy of `made` whose store is to be changed; its media are those of `made`, also copied."""
    shutil.copytree(made, tmp_path / "copy")
    with connect(tmp_path / "copy" / "store") as store:
        store.relocate(made / "media", tmp_path / "copy" / "media")
    return tmp_path / "copy"


def kinds(store: Path, name: str = "kind", labels: tuple[str, ...] = LABELS) -> dict[str, str | None]:
    """Return the class of each item by the file's name, from what filters find."""
    with connect(store) as opened:
        every = {hit.path.name for hit in opened.search("a", k=100, copies=True)}
        found: dict[str, str | None] = dict.fromkeys(every)
        for label in labels:
            hits = opened.search("a", k=100, copies=True, filter=f"{name} = '{label}'")
            found |= {hit.path.name: label for hit in hits}
        nothing = {hit.path.name for hit in opened.search("a", k=100, copies=True, filter=f"{name} is null")}
    assert {key for key, label in found.items() if label is None} == nothing
    return found


EXPECTED = {
    "cat.txt": "animal",
    "horse.txt": "animal",
    "rain.txt": "weather",
    "sun.txt": "weather",
    "song.txt": "music",
}


def test_filters_find_items_by_class_and_by_probability(made: Path) -> None:
    assert kinds(made / "store") == EXPECTED
    with connect(made / "store") as store:
        sure = store.search("a", k=9, filter="kind in ('animal', 'music') and kind_p > 0.5 and KIND is not null")
        assert {hit.path.name for hit in sure} == {"cat.txt", "horse.txt", "song.txt"}
        assert len(store.search("a", k=9, filter="kind_p between 0 and 1 and kind_p * 2 < 3")) == 5
        assert store.search("a", k=9, filter="kind_p > 1") == []
        assert len(store.search("a", k=9, filter="upper(kind) = 'WEATHER' and name like '%.txt'")) == 2
        with pytest.raises(bs.UsageError, match=r"there is no column 'kinds': did you mean 'kind'"):
            store.search("a", filter="kinds = 'animal'")
        (column,) = store.status().columns
    assert (column.name, column.probability, column.labels, column.modality) == ("kind", "kind_p", LABELS, None)
    assert (column.items, column.missing, column.collections, column.encoder) == (5, 0, (), "mini")
    assert column.templates == read_templates("general")
    assert column.digest == load_encoder("mini").digest


def plain_classes(
    store: bs.Store, labels: tuple[str, ...], templates: str, scale: float, modality: Modality | None = None
) -> dict[int, tuple[int, float]]:
    """Return class and probability of each item, computed one by one with nothing but matrix products."""
    encoder = store.encoder
    names = class_vectors(encoder, class_names(labels), read_templates(templates)).vectors
    generation = store.generation()
    snapshot = generation.snapshot
    found = {}
    for item_id in snapshot.live_tables()[0].column("item_id").to_pylist():
        item = snapshot.item(item_id)
        assert item is not None
        wanted = modality or item.modality
        segments = [snapshot.segment(row) for row in snapshot.segments_of(item_id).tolist()]
        ids = np.array([segment.vector_id for segment in segments if segment.modality is wanted], np.int64)
        if not len(ids):
            continue
        partition = generation.partitions[wanted]
        vector = partition.rows.embeddings(partition.rows_of_vectors(ids)).astype(np.float64).mean(axis=0)
        cosines = names @ (vector / np.linalg.norm(vector))
        best = int(cosines.argmax())
        odds = np.exp(scale * (cosines - cosines.max()))
        found[item_id] = (best, float(odds[best] / odds.sum()))
    return found


def stored_classes(store: bs.Store, name: str) -> dict[int, tuple[int, float]]:
    snapshot = store.generation().snapshot
    stored = snapshot.class_columns
    assert stored is not None
    key = stored.named(name)
    assert key is not None
    column, values = stored.columns[key], stored.values_of(key)
    pairs = zip(values.classes, values.probabilities, strict=True)
    by_vector = dict(zip(values.vector_ids.tolist(), pairs, strict=True))
    keys = snapshot.class_keys(column.modality).tolist()
    alive = np.ones(len(keys), bool) if snapshot.item_alive is None else snapshot.item_alive
    ids = snapshot.items.column("item_id").to_pylist()
    return {
        item_id: (int(by_vector[vector][0]), float(by_vector[vector][1]))
        for item_id, vector, is_alive in zip(ids, keys, alive.tolist(), strict=True)
        if is_alive and vector in by_vector
    }


@pytest.mark.parametrize("small", [False, True])
def test_a_column_is_what_a_plain_computation_gives(
    small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sounds of several segments, pictures with captions, copies, dead rows and several parts; blocks of any size."""
    if small:
        monkeypatch.setattr(blocks, "BLOCK_ITEMS", 3)
        monkeypatch.setattr(blocks, "BLOCK_SEGMENTS", 2)
    media = tmp_path / "media"
    media.mkdir()
    for n in range(9):
        (media / f"{n}.txt").write_text(f"text number {n} " * (1 + 40 * (n % 3)))
    for n in range(4):
        write_sound(media / f"{n}.wav", tone(8.0 * (n + 1), frequency_hz=200.0 + 40 * n) * (0.2 + 0.1 * n))
        write_picture(media / f"{n}.png", two_tone(8, 40 * n))
    (media / "0.png.json").write_text(json.dumps({"caption": "a caption"}))
    shutil.copy(media / "1.wav", media / "copy.wav")
    labels = tuple(f"label {n}" for n in range(7))
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(media)
        (media / "2.txt").write_text("another text")
        (media / "3.wav").unlink()
        store.index(media)
        done: list[tuple[int, int]] = []
        report = store.classify(labels, column="kind", on_rows=lambda *counts: done.append(counts))
        assert_close(stored_classes(store, "kind"), plain_classes(store, labels, "general", 1.0))
        assert (report.items, report.classified, report.without_vectors, report.replaced) == (17, 17, 0, False)
        assert sum(report.counts.values()) == 17
        assert done[0] == (0, 16)  # the copy shares the vectors of another
        assert done[-1] == (16, 16)
        captions = store.classify(labels, column="said", modality="text", templates="none")
        assert_close(stored_classes(store, "said"), plain_classes(store, labels, "none", 1.0, Modality.TEXT))
        assert (captions.items, captions.without_vectors) == (10, 7)


def assert_close(found: dict[int, tuple[int, float]], expected: dict[int, tuple[int, float]]) -> None:
    assert {key: value[0] for key, value in found.items()} == {key: value[0] for key, value in expected.items()}
    for key, (_, probability) in expected.items():
        assert found[key][1] == pytest.approx(probability, abs=1e-5)


def test_several_names_are_one_class_and_the_scale_is_that_of_texts(place: Path) -> None:
    with connect(place / "store") as store:
        store.classify(["pets|cat|horse", "rain"], column="pets", probability_column="pets_p")
        found = {hit.path.name for hit in store.search("a", k=9, filter="pets = 'pets'")}
        assert {"cat.txt", "horse.txt"} <= found
        names = class_vectors(store.encoder, to_classes(["pets|cat|horse", "rain"]), read_templates())
        item = store.search("horse", k=1)[0]
        (shown,) = store.classify_files([item.path], ["pets|cat|horse", "rain"], top=1)
        assert shown.classes[0].label == "pets"
        stored = stored_classes(store, "pets")[item.item_id]
        assert stored[0] == 0
        assert stored[1] == pytest.approx(shown.classes[0].probability, abs=1e-3)
        pets, rain = class_scores(names, names.vectors[[1]])[0].tolist()  # of the name "cat"
        assert pets == pytest.approx(1.0, abs=1e-5)
        assert rain < 0.8


def test_new_changed_copied_and_moved_files(place: Path) -> None:
    store, media = place / "store", place / "media"
    (media / "new.txt").write_text("a dog barks")
    (media / "cat.txt").write_text("thunder and rain")
    shutil.copy(media / "song.txt", media / "copy of song.txt")
    (media / "horse.txt").rename(media / "mare.txt")
    with connect(store) as opened:
        notices = opened.index(media).notices
    expected = "2 items have no class in the column kind yet: run `bindsearch classify --write-column kind`"
    assert expected in notices
    now = {"new.txt": None, "cat.txt": None, "copy of song.txt": "music", "mare.txt": "animal"}
    kept = {name: EXPECTED[name] for name in ("rain.txt", "sun.txt", "song.txt")}
    assert kinds(store) == now | kept
    with connect(store) as opened:
        assert [(column.items, column.missing) for column in opened.status().columns] == [(5, 2)]
        before = stored_classes(opened, "kind")
        report = opened.classify(column="kind")
        assert (report.classified, report.items, report.labels, report.replaced) == (2, 7, 3, False)
        assert stored_classes(opened, "kind").items() >= before.items()
        assert opened.classify(LABELS, column="kind").classified == 0
    assert kinds(store) == now | kept | {"new.txt": "animal", "cat.txt": "weather"}
    with connect(store) as opened:
        opened.forget(media / "rain.txt")
        opened.index(media)  # it has a new vector
    assert kinds(store)["rain.txt"] is None


def retried(place: Path) -> Path:
    with connect(place / "store") as store:
        store.retry()
    return place / "store"


def compacted(place: Path) -> Path:
    with connect(place / "store") as store:
        assert store.compact().remaining == ()
    return place / "store"


def recovered(place: Path) -> Path:
    (place / "store" / "catalog.duckdb").unlink()
    with connect(place / "store") as store:
        assert store.recover().source == "snapshot"
        assert store.recover().source == ""
    return place / "store"


def without_snapshot(place: Path) -> Path:
    (place / "store" / "CURRENT").write_text("{}")
    assert kinds(place / "store") == EXPECTED  # readers read the catalog
    return compacted(place)


def optimized(place: Path) -> Path:
    with connect(place / "store") as store:
        store.optimize(force=True)
    return place / "store"


def imported(place: Path) -> Path:
    bs.export_vectors(place / "store", place / "export")
    bs.import_vectors(place / "imported", place / "export")
    return place / "imported"


def imported_arrays(place: Path) -> Path:
    bs.export_vectors(place / "store", place / "export", layout="npy")
    bs.import_vectors(place / "imported", place / "export", root=place / "elsewhere")
    return place / "imported"


def merged(place: Path) -> Path:
    bs.merge_stores(place / "merged", place / "store")
    return place / "merged"


def reindexed(place: Path) -> Path:
    with connect(place / "store") as store:
        encoder = load_encoder("mini", options={})
        store.reindex(encoder)
    return place / "store"


@pytest.mark.parametrize(
    "operation",
    [retried, compacted, recovered, without_snapshot, optimized, imported, imported_arrays, merged, reindexed],
)
def test_a_column_survives(operation: Callable[[Path], Path], place: Path) -> None:
    store = operation(place)
    assert kinds(store) == EXPECTED
    with connect(store) as opened:
        assert opened.verify().findings == ()
        (column,) = opened.status().columns
        assert (column.name, column.probability, column.labels) == ("kind", "kind_p", LABELS)
        assert (column.items, column.missing) == (5, 0)
        assert len(opened.search("a", k=9, filter="kind_p > 0")) == 5


def test_reindexing_with_another_encoder_computes_it_again(place: Path) -> None:
    with connect(place / "store") as store:
        store.reindex("null")
        assert_close(stored_classes(store, "kind"), plain_classes(store, LABELS, "general", 1.0))
        (column,) = store.status().columns
        assert (column.encoder, column.digest, column.items) == ("null", store.encoder.digest, 5)
        assert store.verify().findings == ()


def test_many_parts_are_merged_with_columns_in_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_PARTS", 3)
    with connect(place / "store") as store:
        for n in range(6):
            (place / "media" / f"more {n}.txt").write_text(f"a dog and {n} cats")
            store.index(place / "media")
            store.classify(column="kind")
            store.classify([f"a {n}", "b"], column="other")
        assert store.verify().findings == ()
    found = kinds(place / "store")
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert [found[f"more {n}.txt"] for n in range(6)] == ["animal"] * 6


def test_exports_hold_the_values_for_other_programs(place: Path) -> None:
    import pyarrow.parquet as pq

    bs.export_vectors(place / "store", place / "export")
    (file,) = (place / "export").glob("*.parquet")
    rows = pq.read_table(file).select(["path", "classes"]).to_pylist()
    values = {Path(row["path"]).name: json.loads(row["classes"]) for row in rows}
    assert {name: value["kind"] for name, value in values.items()} == EXPECTED
    assert all(0 < value["kind_p"] <= 1 for value in values.values())


def test_columns_of_collections(tmp_path: Path) -> None:
    for folder in ("first", "second", "third"):
        write_texts(tmp_path / folder)
        (tmp_path / folder / f"own of {folder}.txt").write_text(f"a sheep of the {folder}")
    with connect(tmp_path / "store") as store:
        store.index(tmp_path / "first", tmp_path / "second", tmp_path / "third")

        def counted(**options: Any) -> tuple[int, dict[str, int]]:
            report = store.classify(column="kind", **options)
            filters = {
                folder: bs.make_filter("kind is not null", collections=folder)
                for folder in ("first", "second", "third")
            }
            by_folder = {
                folder: len(store.search("a", k=99, copies=True, filter=one)) for folder, one in filters.items()
            }
            return report.items, by_folder

        assert counted(labels=LABELS, collections="first") == (6, {"first": 6, "second": 0, "third": 0})
        assert counted() == (6, {"first": 6, "second": 0, "third": 0})
        assert counted(labels=LABELS, collections=["second"]) == (12, {"first": 6, "second": 6, "third": 0})
        assert [path.name for path in store.status().columns[0].collections] == ["first", "second"]
        with pytest.raises(bs.UsageError, match="there is no collection 'fourth': "):
            store.classify(LABELS, column="kind", collections="fourth")
        assert counted(labels=LABELS) == (18, {"first": 6, "second": 6, "third": 6})
        assert counted(labels=["one", "two"], collections="third") == (6, {"first": 0, "second": 0, "third": 6})
        store.forget(tmp_path / "third")
        assert store.status().columns[0].items == 0
        merged = bs.merge_stores(tmp_path / "merged", tmp_path / "store")
        assert merged.notices == [
            f"the column kind of {tmp_path / 'store'} is left out: its collections are not in this store"
        ]


def test_stores_with_other_columns_of_one_name_are_merged_without_one(place: Path) -> None:
    with connect(place / "store") as store:
        store.classify(LABELS, column="same")
    shutil.copytree(place / "store", place / "other")
    with connect(place / "other") as store:
        store.classify(["noun", "verb"], column="kind")
    report = bs.merge_stores(place / "other", place / "store")
    assert report.notices == [
        f"the column kind of {place / 'store'} is left out: the store has another one of this name: remove or rename "
        "one of them"
    ]
    assert kinds(place / "other", "same") == EXPECTED


def test_a_dry_run_writes_nothing(place: Path) -> None:
    before = {path: path.read_bytes() for path in sorted((place / "store").rglob("*")) if path.is_file()}
    with connect(place / "store") as store:
        report = store.classify(["noun", "verb"], column="word", dry_run=True)
        assert (report.items, report.dry_run, sum(report.counts.values())) == (5, True, 5)
        assert [column.name for column in store.status().columns] == ["kind"]
    assert {path: path.read_bytes() for path in sorted((place / "store").rglob("*")) if path.is_file()} == before


def test_a_column_is_replaced_and_removed(place: Path) -> None:
    with connect(place / "store") as store:
        assert store.classify(["noun", "verb"], column="Kind").replaced
        (column,) = store.status().columns
        assert (column.name, column.probability, column.labels) == ("kind", "kind_p", ("noun", "verb"))
        store.remove_column("KIND")
        assert store.status().columns == ()
        assert store.verify().findings == ()
        with pytest.raises(bs.UsageError, match="there is no column 'kind'"):
            store.search("a", filter="kind = 'noun'")
        with pytest.raises(bs.UsageError, match=r"`classify` has written no column 'kind' in .*: there is none$"):
            store.remove_column("kind")
        with pytest.raises(bs.UsageError, match=r"the store has no column 'kind' to write again: give labels"):
            store.classify(column="kind")


NAMES: list[tuple[dict[str, Any], str]] = [
    ({"column": "path"}, "path is a column that every store has: give another name"),
    ({"column": "Modality"}, "modality is a column that every store has: give another name"),
    ({"column": "k2", "probability_column": "camera"}, "camera is a column that every store has: give another name"),
    ({"column": "rating"}, "rating is a column of your own, of sidecars or lists: give another name"),
    ({"column": "k2", "probability_column": "RATING"}, "rating is a column of your own, of sidecars or lists: "),
    ({"column": "kind_p"}, "kind_p is another column that `classify` has written: give another name"),
    ({"column": "k2", "probability_column": "kind"}, "kind is another column that `classify` has written: "),
    ({"column": "k2", "probability_column": "K2"}, "the class and its probability have one name, k2: "),
    ({"column": "2k"}, "'2k' cannot be the name of a column: give at most 64 letters, digits and underscores"),
    ({"column": "k" * 65}, "' cannot be the name of a column: "),
    ({"column": "a b"}, "'a b' cannot be the name of a column: "),
    ({"column": ""}, "'' cannot be the name of a column: "),
    ({"column": "k2", "modality": "smell"}, "unknown modality 'smell'"),
    ({"column": "k2", "templates": "no such"}, "unknown set of templates 'no such'"),
]


@pytest.fixture(scope="module")
def with_own_column(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    write_texts(place / "media")
    (place / "media" / "cat.txt.json").write_text(json.dumps({"columns": {"rating": 5}}))
    with connect(place / "store") as store:
        store.index(place / "media")
        store.classify(LABELS, column="kind", probability_column="kind_p")
    return place / "store"


@pytest.mark.parametrize(("options", "message"), NAMES)
def test_names_that_are_taken_or_none(options: dict[str, Any], message: str, with_own_column: Path) -> None:
    with connect(with_own_column) as store, pytest.raises(bs.UsageError) as raised:
        store.classify(LABELS, **options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_name_that_a_sidecar_takes_later_is_told_by_the_filter(place: Path) -> None:
    (place / "media" / "cat.txt.json").write_text(json.dumps({"columns": {"kind": "mine"}}))
    with connect(place / "store") as store:
        store.index(place / "media")
        with pytest.raises(bs.UsageError) as raised:
            store.search("a", filter="kind = 'mine'")
        assert str(raised.value).startswith(
            "the column kind is written by `bindsearch classify`, and sidecars or lists state one of that name: remove "
            "the first (`bindsearch classify --remove-column kind`)"
        )
        store.remove_column("kind")
        assert [hit.path.name for hit in store.search("a", filter="kind = 'mine'")] == ["cat.txt"]


HOSTILE: list[tuple[Any, str]] = [
    ([], "the list of labels holds no labels: give at least one"),
    (["dog", "cat", " Dog "], "the labels: the name 'Dog' is given twice: leave one out"),
    (["dog|puppy", "cat|puppy"], "the labels: the name 'puppy' is given twice"),
    (["dog", ""], "the labels: a name in '' is empty"),
    (["dog||cat"], "the labels: a name in 'dog||cat' is empty"),
    (["dog", "x" * (MAX_NAME + 1)], f" is longer than {MAX_NAME} characters or holds characters that cannot be shown"),
    (["dog", "c\x1b[31mat"], "the name 'c\\x1b[31mat' is longer than"),
    (["dog", "c\nat"], "the name 'c\\nat' is longer than"),
    (["..."], "has a name without letters or digits"),
    ([1, 2], "labels"),
    (map(str, range(MAX_LABELS + 1)), f"the list of labels holds {MAX_LABELS + 1} labels: give at most {MAX_LABELS}"),
]


@pytest.mark.parametrize(("labels", "message"), HOSTILE)
def test_hostile_labels_are_told_in_one_line(labels: Any, message: str, made: Path) -> None:
    with connect(made / "store") as store, pytest.raises(bs.UsageError) as raised:
        store.classify(labels, column="other")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_of_labels(tmp_path: Path, made: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("# animals\n\nanimal|dog|cat\nweather, rain | storm\n", "utf-8")
    classes = to_classes(file)
    assert classes.labels == ("animal", "weather, rain")
    assert classes.texts == (("animal", "dog", "cat"), ("weather, rain", "storm"))
    for content, message in (
        (b"", f"{file} holds no labels"),
        (b"dog\ncat\n\nDOG\n", f"line 4 of {file}: the name 'DOG' is given twice, first in line 1 of {file}"),
        (b"\xff\xfe\xff", f"the labels {file} cannot be read"),
        (b"x" * (5 << 20), f"the labels {file} cannot be read"),
    ):
        file.write_bytes(content)
        with connect(made / "store") as store, pytest.raises(bs.UsageError) as raised:
            store.classify(file, column="other")
        assert message in str(raised.value)
    with pytest.raises(bs.UsageError, match=r"the labels .*none.txt cannot be read \(No such file or directory\)"):
        to_classes(tmp_path / "none.txt")
    with pytest.raises(bs.UsageError, match=r"the labels .* cannot be read"):
        to_classes(tmp_path)


def test_labels_are_data_in_filters(place: Path) -> None:
    """Quotes and SQL in labels, and words of SQL as names of columns."""
    labels = ("it's; DROP TABLE items--", 'a "quoted" animal', "weather %_", "müßig 狗")
    with connect(place / "store") as store:
        report = store.classify(labels, column="select")
        filters = {label: f""""select" = '{label.replace("'", "''")}'""" for label in labels}
        found = {label: len(store.search("a", k=9, filter=one)) for label, one in filters.items()}
        assert {label: n for label, n in found.items() if n} == dict(report.counts)
        assert store.verify().findings == ()
        assert store.status().columns[-1].labels == labels


def test_a_column_that_changes_meanwhile_is_not_overwritten(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = class_vectors

    def changing(*args: Any) -> Any:
        monkeypatch.setattr(writing, "class_vectors", real)
        with connect(place / "store") as other:
            other.classify(["noun", "verb"], column="kind")
        return real(*args)

    monkeypatch.setattr(writing, "class_vectors", changing)
    with connect(place / "store") as store:
        with pytest.raises(StoreError, match="the column kind was changed by another process meanwhile: run it again"):
            store.classify(["up", "down"], column="kind")
        assert store.status().columns[0].labels == ("noun", "verb")


def test_too_many_columns(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_COLUMNS", 2)
    with connect(place / "store") as store:
        store.classify(LABELS, column="second")
        with pytest.raises(bs.UsageError, match="the store has 2 columns of classes: remove one with --remove-column"):
            store.classify(LABELS, column="third")
        store.classify(LABELS, column="second")


def test_a_store_of_an_earlier_schema_opens_and_gains_columns(tmp_path: Path) -> None:
    write_texts(tmp_path / "media")
    with connect(tmp_path / "store") as store:
        store.index(tmp_path / "media")
    with duckdb.connect(str(tmp_path / "store" / "catalog.duckdb")) as catalog:
        for statement in (
            "DROP TABLE class_columns",
            "DROP TABLE class_values",
            "DELETE FROM schema_version WHERE version = 7",
        ):
            catalog.execute(statement)
    assert "class_columns" not in json.loads((tmp_path / "store" / "CURRENT").read_text())
    with connect(tmp_path / "store") as store:
        assert len(store.search("a", k=9)) == 5
        assert store.status().columns == ()
        store.classify(LABELS, column="kind")
        assert store.verify().findings == ()
    assert kinds(tmp_path / "store") == EXPECTED


@pytest.mark.parametrize("damage", ["removed", "cut", "other bytes"])
def test_a_damaged_file_of_columns_is_found_and_made_again(damage: str, place: Path) -> None:
    number = json.loads((place / "store" / "CURRENT").read_text())["class_columns"]
    path = place / "store" / "snapshots" / str(number) / "class_columns.arrow"
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-20])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with connect(place / "store") as store:
        assert [finding.kind for finding in store.verify().findings] == ["snapshot"]
    assert kinds(place / "store") == EXPECTED
    compacted(place)
    with connect(place / "store") as store:
        assert store.verify().findings == ()
    assert kinds(place / "store") == EXPECTED


def test_values_of_vectors_that_are_gone_are_dropped_by_compact(place: Path) -> None:
    def held() -> int:
        with connect(place / "store") as store:
            stored = store.generation().snapshot.class_columns
            assert stored is not None
            return stored.values.num_rows

    with connect(place / "store") as store:
        store.forget(place / "media" / "cat.txt")
    assert held() == 5
    compacted(place)
    assert held() == 4
    assert kinds(place / "store") == {name: label for name, label in EXPECTED.items() if name != "cat.txt"}


class WithoutTexts:
    """An encoder of pictures alone."""

    name, dim, digest = "pictures", 8, "0"
    options: Mapping[str, str] = {}
    modalities = frozenset({Modality.IMAGE})


def test_an_encoder_without_texts_cannot_classify(tmp_path: Path) -> None:
    with pytest.raises(bs.UsageError, match="the encoder pictures cannot embed texts, which classes are named by"):
        bs.classify([tmp_path / "a.png"], LABELS, encoder=WithoutTexts())  # type: ignore[arg-type]


def test_files_without_a_store(tmp_path: Path) -> None:
    write_texts(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    write_sound(tmp_path / "tone.wav", tone(1.0))
    files: list[str | Path] = [tmp_path / "cat.txt", tmp_path / "bad.png", "text:rain and snow", tmp_path / "none.txt"]
    found = bs.classify([*files, f"audio:{tmp_path / 'tone.wav'}"], LABELS, top=2)
    assert [one.modality for one in found] == ["text", None, "text", None, "audio"]
    assert [one.classes[0].label for one in found if one.classes][:2] == ["animal", "weather"]
    assert [len(one.classes) for one in found] == [2, 0, 2, 0, 2]
    assert "bad.png" in found[1].failure
    assert found[3].failure == f"the file {tmp_path / 'none.txt'} does not exist: check the path"
    (every,) = bs.classify(tmp_path / "cat.txt", LABELS, top=99)
    assert sum(one.probability for one in every.classes) == pytest.approx(1.0, abs=1e-5)
    assert sorted(every.classes, key=lambda one: -one.cosine) == list(every.classes)
    (as_text,) = bs.classify(tmp_path / "cat.txt", LABELS, modality="text")
    assert as_text.modality is Modality.TEXT
    with pytest.raises(bs.UsageError, match="top is 0: give the number of classes to show"):
        bs.classify(tmp_path / "cat.txt", LABELS, top=0)
    with pytest.raises(bs.UsageError, match="unknown modality 'smell'"):
        bs.classify(tmp_path / "cat.txt", LABELS, modality="smell")
    with pytest.raises(bs.UsageError, match="nothing to classify: give at least one file"):
        bs.classify([], LABELS)


def test_an_item_of_a_store_has_the_class_of_its_file(made: Path) -> None:
    with connect(made / "store") as store:
        item = store.search("a horse", k=1)[0]
        by_file, by_item = store.classify_files([item.path, f"like:{item.item_id}"], LABELS)
    assert [one.label for one in by_file.classes] == [one.label for one in by_item.classes]
    difference: NDArray[np.float64] = np.array(
        [a.cosine - b.cosine for a, b in zip(by_file.classes, by_item.classes, strict=True)]
    )
    assert np.abs(difference).max() < 2e-3  # stored in half precision
