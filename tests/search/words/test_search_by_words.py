"""Searches by words in stores of real files: names, captions, metadata, columns and passages."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.errors import UsageError
from bindsearch.search.words import index as word_index
from bindsearch.search.words.index import words_path
from bindsearch.store import Store
from bindsearch.types import FoundBy, Hit
from helpers.stores import connect


def write_picture(path: Path, seed: int, **sidecar: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 32, 3), np.uint8)).save(path)
    if sidecar:
        path.with_name(f"{path.name}.json").write_text(json.dumps(sidecar))


def write_media(media: Path) -> None:
    for number in range(12):
        write_picture(media / "camera" / f"IMG_{4200 + number}.JPG", number)
    write_picture(media / "MyHolidayPhoto.png", 20)
    write_picture(media / "captioned.png", 21, caption="a heron stands in the marsh")
    write_picture(media / "owned.png", 22, columns={"project": "Wolkenkuckucksheim", "year": 1987})
    prose = [f"Paragraph {number} about weather, trains and food. {'It goes on and on. ' * 8}" for number in range(80)]
    prose[41] = f"My flight LH 1234 leaves from gate seven. {'It goes on and on. ' * 8}"
    prose[60] = f"The café in Zürich had closed. {'It goes on and on. ' * 8}"
    (media / "diary.txt").write_text("\n\n".join(prose), encoding="utf-8")
    for number in range(30):
        (media / f"note {number}.txt").write_text(f"note {number} about weather")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Return a store that no test changes."""
    place = tmp_path_factory.mktemp("words")
    write_media(place / "media")
    with connect(place / "store", encoder="null") as store:
        store.index(place / "media")
        yield store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    write_media(tmp_path / "media")
    with connect(tmp_path / "store", encoder="null") as opened:
        opened.index(tmp_path / "media")
        yield opened


def names(hits: list[Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("IMG_4208.JPG", "IMG_4208.JPG"),
        ("img_4208", "IMG_4208.JPG"),
        ("4208", "IMG_4208.JPG"),
        ("img 4208", "IMG_4208.JPG"),
        ("camera 4208", "IMG_4208.JPG"),
        ("holiday photo", "MyHolidayPhoto.png"),
        ("holiday", "MyHolidayPhoto.png"),
        ("heron in the marsh", "captioned.png"),
        ("wolkenkuckucksheim", "owned.png"),
        ("wolkenkuckucksheim 1987", "owned.png"),
        ("LH 1234", "diary.txt"),
        ("LH1234", "diary.txt"),
        ("zurich cafe", "diary.txt"),
    ],
)
@pytest.mark.parametrize("words", ["auto", "only"])
def test_words_find_names_captions_columns_and_passages(shared: Store, query: str, name: str, words: str) -> None:
    best = shared.search(query, k=1, words=words)[0]
    assert best.path.name == name
    assert best.found_by is not FoundBy.VECTOR


def test_the_hit_shows_the_passage_with_the_words(shared: Store) -> None:
    (best,) = shared.search("LH 1234", k=1)
    assert best.text is not None
    assert "LH 1234" in best.text


def test_an_exact_name_is_exact_and_comes_before_a_mention(store: Store, tmp_path: Path) -> None:
    (tmp_path / "media" / "list.txt").write_text("see IMG_4208.JPG")
    store.index(tmp_path / "media")
    best, second = store.search("IMG_4208.JPG", k=2, copies=True)
    assert (best.path.name, second.path.name) == ("IMG_4208.JPG", "list.txt")
    assert (best.probability, best.match) == (1.0, "exact")
    assert second.probability < best.probability


def test_a_query_vector_has_no_words(store: Store, tmp_path: Path) -> None:
    (tmp_path / "media" / "vector.txt").write_text("a vector")
    store.index(tmp_path / "media")
    vector = np.random.default_rng(0).standard_normal(store.config.dim)
    assert {hit.found_by for hit in store.search(vector, k=50)} == {FoundBy.VECTOR}
    with pytest.raises(UsageError, match="a query vector has no words"):
        store.search(vector, words="only")


def test_without_words_the_list_is_of_vectors(shared: Store) -> None:
    hits = shared.search("LH 1234", k=20, words="off")
    assert {hit.found_by for hit in hits} == {FoundBy.VECTOR}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    by_cosine = shared.search("LH 1234", k=20, ranking="cosine")
    assert {hit.found_by for hit in by_cosine} == {FoundBy.VECTOR}


def test_common_words_alone_change_nothing(shared: Store) -> None:
    assert shared.search("it goes on", k=20) == shared.search("it goes on", k=20, words="off")


def test_words_alone_find_nothing_that_lacks_them(shared: Store) -> None:
    assert shared.search("xylophone", words="only") == []
    assert names(shared.search("heron xylophone", words="only")) == ["captioned.png"]
    assert shared.search("the", words="only") == []


def test_filters_and_targets_apply_to_words(shared: Store) -> None:
    folder = bs.make_filter(folders=shared.path.parent / "media" / "camera")
    for words in ("auto", "only"):
        assert "diary.txt" not in names(shared.search("LH 1234", to="image", k=50, words=words))
        assert "MyHolidayPhoto.png" not in names(shared.search("holiday", filter=folder, k=50, words=words))
        assert "diary.txt" not in names(shared.search("LH 1234", filter="name like 'note%'", k=50, words=words))
        (heron,) = shared.search("heron marsh", to="image", k=1, words=words)
        assert (heron.path.name, heron.modality.value) == ("captioned.png", "image")
        (kept,) = shared.search("LH 1234", filter="name = 'diary.txt'", k=1, words=words)
        assert kept.path.name == "diary.txt"
        assert kept.text is not None
        assert "LH 1234" in kept.text


def test_only_positive_text_terms_have_words(shared: Store) -> None:
    picture = bs.image(shared.path.parent / "media" / "camera" / "IMG_4200.JPG")
    for query in (picture - bs.text("LH 1234"), picture):
        assert {hit.found_by for hit in shared.search(query, k=50)} == {FoundBy.VECTOR}
    hits = shared.search(picture + bs.text("LH 1234"), k=50)
    assert [hit.path.name for hit in hits if hit.found_by is not FoundBy.VECTOR] == ["diary.txt"]
    with pytest.raises(UsageError, match="no words"):
        shared.search(picture, words="only")
    with pytest.raises(UsageError, match="no words"):
        shared.search("?!", words="only")
    with pytest.raises(UsageError, match="auto, off, only"):
        shared.search("LH 1234", words="maybe")


def test_deleted_and_renamed_files_are_not_found_by_old_words(store: Store, tmp_path: Path) -> None:
    media = tmp_path / "media"
    (media / "camera" / "IMG_4208.JPG").rename(media / "camera" / "heidelberg.jpg")
    (media / "diary.txt").unlink()
    store.index(media)
    assert store.search("4208", words="only") == []
    assert store.search("LH 1234", words="only") == []
    assert names(store.search("heidelberg", words="only")) == ["heidelberg.jpg"]
    store.forget(media / "camera" / "heidelberg.jpg")
    assert store.search("heidelberg", words="only") == []


def words_files(store: Store) -> set[str]:
    return {path.name for path in (store.path / "indexes" / "words").iterdir()}


def test_items_without_an_index_are_searched_in_memory(store: Store, tmp_path: Path) -> None:
    for path in (store.path / "indexes" / "words").iterdir():
        path.unlink()
    with connect(store.path) as reader:
        answer = reader.answer(bs.make_query("LH 1234", k=1, words="only"))
        assert names(list(answer.hits)) == ["diary.txt"]
        assert answer.notices == ()
        assert answer.plan.words is not None
        assert answer.plan.words.tail == answer.plan.words.fields > 0
    store.optimize()
    with connect(store.path) as reader:
        plan = reader.explain(bs.make_query("LH 1234"))
        assert plan.words is not None
        assert plan.words.tail == 0


def test_many_texts_without_an_index_are_named_and_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (store.path / "indexes" / "words").iterdir():
        path.unlink()
    monkeypatch.setattr(word_index, "TAIL_BYTES", 1000)
    with connect(store.path) as reader:
        answer = reader.answer(bs.make_query("LH 1234", words="only"))
        assert answer.hits == ()
        assert ["bindsearch optimize" in notice for notice in answer.notices] == [True]
        store.optimize()
        again = reader.answer(bs.make_query("LH 1234", words="only"))
        assert names(list(again.hits)) == ["diary.txt"]
        assert again.notices == ()


def test_new_files_are_found_at_once_and_old_indexes_go(store: Store, tmp_path: Path) -> None:
    write_picture(tmp_path / "media" / "kingfisher.png", 30)
    store.index(tmp_path / "media")
    assert names(store.search("kingfisher", words="only")) == ["kingfisher.png"]
    assert names(store.search("LH 1234", k=1, words="only")) == ["diary.txt"]
    store.optimize()
    assert len(words_files(store)) == 1
    assert names(store.search("kingfisher", words="only")) == ["kingfisher.png"]
    store.compact()
    assert len(words_files(store)) == 1
    assert not [found for found in store.verify().findings if found.kind == "orphans"]


def middle_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [middle_bit, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 99), folder_instead]
)
def test_a_damaged_index_is_named_and_not_used(store: Store, damage: Callable[[Path], object]) -> None:
    store.optimize()
    (number,) = store.generation().manifest.parts
    damage(words_path(store.path, number))
    with connect(store.path) as reader:
        answer = reader.answer(bs.make_query("LH 1234", k=1))
        assert names(list(answer.hits)) == ["diary.txt"]
        assert ["word index not used" in notice for notice in answer.notices] == [True]
    assert [found.kind for found in store.verify().findings] == ["index"]
    store.optimize()
    assert store.verify().findings == ()
    with connect(store.path) as reader:
        assert reader.answer(bs.make_query("LH 1234")).notices == ()


def test_a_crash_between_the_files_of_two_parts_leaves_a_way_on(store: Store, tmp_path: Path) -> None:
    write_picture(tmp_path / "media" / "kingfisher.png", 30)
    store.index(tmp_path / "media")
    newest = store.generation().manifest.parts[-1]
    words_path(store.path, newest).unlink()
    (store.path / "indexes" / "words" / f".{newest}.words.1.tmp").write_bytes(b"half")
    with connect(store.path) as reader:
        assert names(reader.search("kingfisher", words="only")) == ["kingfisher.png"]
        assert names(reader.search("4208", words="only")) == ["IMG_4208.JPG"]
    store.index(tmp_path / "media")
    assert words_files(store) == {f"{number}.words" for number in store.generation().manifest.parts}


WORDS_ALONE = """
import sys
import bindsearch as bs
hits = bs.connect(sys.argv[1]).search("LH 1234", k=1, words="only")
print(hits[0].path.name, sorted({"torch", "transformers", "open_clip"} & set(sys.modules)))
"""


def test_words_alone_load_no_torch(shared: Store) -> None:
    command = [sys.executable, "-c", WORDS_ALONE, str(shared.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["diary.txt", "[]\n"]


def test_a_store_of_an_earlier_version_is_searched_by_words(shared: Store, tmp_path: Path) -> None:
    """Without `indexes/words`, as versions before wrote it, and without writing to it."""
    shutil.copytree(shared.path, tmp_path / "old", ignore=shutil.ignore_patterns("words"))
    before = sorted(path for path in (tmp_path / "old").rglob("*"))
    with connect(tmp_path / "old") as reader:
        assert names(reader.search("LH 1234", k=1)) == ["diary.txt"]
    assert sorted(path for path in (tmp_path / "old").rglob("*")) == before


def test_function_words_do_not_hide_a_name_and_short_words_are_found_alone(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"line {number} of a poem in the book")
    (folder / "playing_guitar.txt").write_text("strings")
    (folder / "night.txt").write_text("a dog barks at night")
    with connect(tmp_path / "store", encoder="null") as opened:
        opened.index(folder)
        for query in ("guitar", "a guitar", "the guitar of it"):
            (hit,) = opened.search(query, words="only")
            assert hit.path.name == "playing_guitar.txt"
            assert hit.probability > 0.3
        assert [hit.path.name for hit in opened.search("dog", words="only")] == ["night.txt"]
