"""Calibration of a store: the probabilities after a fit are right, and what cannot be fitted is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.errors import UsageError
from bindsearch.operations.calibrate import MIN_MATCHES, read_pairs
from bindsearch.search.scoring.calibration_file import CALIBRATION_FILE
from bindsearch.types import Modality
from helpers import vector_store
from helpers.command import Run
from helpers.media_files import two_tone, write_picture
from helpers.stores import connect

N = 600


@pytest.fixture
def store(tmp_path: Path) -> bs.Store:
    """Return a store whose n-th text and n-th picture share their content."""
    store = connect(tmp_path / "store", encoder="null")
    vectors = vector_store.gap_vectors(np.random.default_rng(5), {"text": N, "image": N, "audio": 50})
    vector_store.write_items(store.path, vectors)
    return store


def path(name: str, number: int) -> Path:
    return vector_store.ROOT / name / str(number)


def labelled(numbers: range) -> list[tuple[bs.Term, list[Path]]]:
    return [(bs.like(path("text", number)), [path("image", number)]) for number in numbers]


def test_stated_probabilities_are_right_after_a_fit(store: bs.Store) -> None:
    fitted = store.calibrate(labelled(range(0, N, 2)))
    assert {(one.source, one.target) for one in fitted if one.coefficients is not None} == {
        (Modality.TEXT, Modality.IMAGE)
    }
    stated, right = [], []
    for query, (answer,) in labelled(range(1, N, 2)):
        for hit in store.search(query, to="image", k=10):
            stated.append(hit.probability)
            right.append(hit.path == answer)
    probability, is_right = np.array(stated), np.array(right)
    assert is_right.mean() > 0.05  # there is something to find
    assert probability.mean() == pytest.approx(is_right.mean(), abs=0.03)
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.01)):
        mask = (probability >= low) & (probability < high)
        if mask.sum() >= 50:
            assert probability[mask].mean() == pytest.approx(is_right[mask].mean(), abs=0.15)


def test_a_fit_is_kept_by_the_store_and_followed_by_others(store: bs.Store) -> None:
    before = store.search(bs.like(path("text", 3)), to="image", k=1)[0].probability
    store.calibrate(labelled(range(0, N, 2)))
    after = store.search(bs.like(path("text", 3)), to="image", k=1)[0].probability
    assert after != before
    assert (store.path / CALIBRATION_FILE).is_file()
    other = connect(store.path)
    assert other.search(bs.like(path("text", 3)), to="image", k=1)[0].probability == after
    assert not store.verify().findings


def test_queries_without_an_answer_lower_the_probability(store: bs.Store) -> None:
    store.calibrate(labelled(range(0, N, 2)))
    before = store.search(bs.like(path("text", 3)), to="image", k=1)[0].probability
    unanswered = [(query, list[Path]()) for query, _ in labelled(range(1, N, 2))]
    store.calibrate([*labelled(range(0, N, 2)), *unanswered])
    assert store.search(bs.like(path("text", 3)), to="image", k=1)[0].probability < before


def test_a_damaged_fit_is_told_by_searches(store: bs.Store) -> None:
    store.calibrate(labelled(range(0, N, 2)))
    (store.path / CALIBRATION_FILE).write_bytes(b"{")
    answer = connect(store.path).answer(bs.make_query(bs.like(path("text", 3))))
    assert any("calibration.json is damaged" in notice for notice in answer.notices)


def test_too_few_matches_and_unknown_answers_are_refused(store: bs.Store) -> None:
    with pytest.raises(UsageError, match=f"no pair of modalities has {MIN_MATCHES} matches"):
        store.calibrate(labelled(range(5)))
    with pytest.raises(UsageError, match=r"nowhere\.jpg is not in the store"):
        store.calibrate([(bs.like(path("text", 0)), ["/nowhere.jpg"])])
    assert not (store.path / CALIBRATION_FILE).exists()


def test_captions_in_sidecars_are_the_default_and_find_no_captions(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for number in range(MIN_MATCHES):  # so that every picture is a candidate of every caption
        write_picture(media / f"{number}.png", two_tone(16, number))
        (media / f"{number}.png.json").write_text(json.dumps({"caption": f"caption {number}"}))
    store = connect(tmp_path / "store", encoder="null")
    store.index(media)
    fitted = {(one.source, one.target) for one in store.calibrate() if one.coefficients is not None}
    assert fitted == {(Modality.TEXT, Modality.IMAGE)}  # not TEXT to TEXT: a caption is its own best hit


def test_one_answer_to_all_queries_is_too_few(tmp_path: Path) -> None:
    store = connect(tmp_path / "store", encoder="null")
    vectors = vector_store.gap_vectors(np.random.default_rng(5), {"text": 60, "image": 15})
    vector_store.write_items(store.path, vectors)
    queries = [(bs.like(path("text", number)), [path("image", 0)]) for number in range(60)]  # it is a candidate of each
    with pytest.raises(UsageError, match="with different answers"):
        store.calibrate(queries)


def test_pairs_are_read_from_a_file(tmp_path: Path, bindsearch_command: Run, store: bs.Store) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("query,answer\na dog,dogs/1.jpg\na dog,/abs/2.jpg\nimage:q.jpg,\ntext:image: of a cat,c.jpg\n")
    assert read_pairs(file) == [
        (bs.text("a dog"), [tmp_path / "dogs/1.jpg", Path("/abs/2.jpg")]),
        (bs.image(tmp_path / "q.jpg"), []),
        (bs.text("image: of a cat"), [tmp_path / "c.jpg"]),
    ]
    rows = [f"like:{path('text', number)},{path('image', number)}" for number in range(0, N, 2)]
    file.write_text("\n".join(["query,answer", *rows]))
    done = bindsearch_command(["calibrate", file, "--store", store.path])
    assert done.returncode == 0, done.stderr
    assert "text     -> image" in done.stdout
    assert ": fitted" in done.stdout


@pytest.mark.parametrize("content", ["", "query\na dog\n", "a,b\n1,2\n", "\xff\xfe"])
def test_a_file_that_is_no_list_of_pairs_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match="columns query and answer"):
        read_pairs(file)
