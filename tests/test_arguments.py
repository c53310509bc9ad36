"""Arguments of the public functions: what is of another type is refused in one line, and harms no later call."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bindsearch as bs
from bindsearch.arguments import shell_command, to_absolute, to_integer, to_number, to_path
from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import UsageError, VectorError
from bindsearch.search.filter import describe_filter
from bindsearch.types import Modality, Span
from helpers.stores import connect

NOT_INTEGERS: tuple[Any, ...] = (True, np.True_, 3.0, "3", None, b"3", [3], np.array([3]), Decimal(3), math.nan, 3 + 0j)
NOT_NUMBERS: tuple[Any, ...] = (True, np.True_, "0.5", None, b"0", [0.5], math.nan, math.inf, 10**400, 1j, Decimal(0))
HUGE = 10**5000
LONG = "x" * 5000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> bs.Store:
    folder = tmp_path_factory.mktemp("arguments")
    (folder / "media").mkdir()
    for number in range(6):
        (folder / "media" / f"{number}.txt").write_text(f"text number {number}")
    store = connect(folder / "store", encoder=NullEncoder())
    store.index(folder / "media")
    return store


def refused(call: Callable[[], object], error: type[Exception] = UsageError) -> str:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert ": " in message
    return message


@pytest.mark.parametrize("value", [*NOT_INTEGERS, 0, -1, -HUGE], ids=lambda value: type(value).__name__)
def test_k_is_an_integer(store: bs.Store, value: Any) -> None:
    assert "k is" in refused(lambda: store.search("a", k=value))
    assert "k is" in refused(lambda: bs.make_query("a", k=value))
    assert "k is" in refused(lambda: bs.Query((bs.text("a"),), k=value))


@pytest.mark.parametrize("k", [np.int64(3), np.uint8(3), np.int32(3)])
def test_integers_of_numpy_are_integers(store: bs.Store, k: Any) -> None:
    vector = np.eye(64, dtype=np.float32)[0]
    wanted = [hit.item_id for hit in store.search(vector, k=4)][:3]
    for wanted_k in (k, 3, k):  # the plan of the first is that of the others
        assert [hit.item_id for hit in store.search(vector, k=wanted_k)] == wanted
        assert type(bs.make_query("a", k=wanted_k).k) is int
    assert len(store.search(vector, k=HUGE)) == 6


@pytest.mark.parametrize("value", [*NOT_NUMBERS, -0.1, 1.1], ids=lambda value: type(value).__name__)
def test_diversity_is_a_number(store: bs.Store, value: Any) -> None:
    assert "diversity is" in refused(lambda: store.search("a", diversity=value))


@pytest.mark.parametrize(
    "value", [value for value in NOT_NUMBERS if value is not None], ids=lambda value: type(value).__name__
)
def test_numbers_are_numbers(store: bs.Store, tmp_path: Path, value: Any) -> None:
    term = bs.text("a")
    for call in (
        lambda: store.near_duplicates(value),
        lambda: store.search("a", imu_rate_hz=value),
        lambda: store.answer(bs.make_query("a"), imu_rate_hz=value),
        lambda: connect(tmp_path, segment_s={"audio": value}),
        lambda: store.index(tmp_path, limits={"max_pixels": value}),
        lambda: store.plan_index(tmp_path, imu_rate_hz=value),
        lambda: store.search(bs.Term("text", "a", value)),
        lambda: term * value,
        lambda: (term + term) * value,
        lambda: term / value,
    ):
        refused(call)


@pytest.mark.parametrize(
    "arguments",
    [
        {"to": 5},
        {"to": [5]},
        {"to": b"image"},
        {"to": "smell"},
        {"to": ()},
        {"to": np.array(5)},
        {"include_query": np.zeros(2)},
        {"ranking": 5},
        {"ranking": []},
        {"ranking": "best"},
        {"filter": 5},
        {"filter": ["name = 'a'"]},
        {"filter": b"true"},
        {"source": "smell"},
        {"source": 5},
        {"source": ["image"]},
        {"source": np.zeros(2)},
    ],
)
def test_wrong_types_are_refused(store: bs.Store, arguments: dict[str, Any]) -> None:
    refused(lambda: store.search("a", **arguments))
    assert len(store.search("a", k=9)) == 6


def test_what_is_no_query_is_refused(store: bs.Store) -> None:
    other: Any
    for other in (5, None, b"a", ["a"], [0.1] * 64, bs.make_query("a"), bs.Term("text", 5), bs.Term("smell", "a")):  # type: ignore[arg-type]
        refused(lambda: store.search(other))  # noqa: B023
    for other in ("a", bs.text("a"), bs.text("a") + bs.text("b"), 5, None, np.array(5)):
        refused(lambda: store.search_many(other))  # noqa: B023
        refused(lambda: store.answer(other))  # noqa: B023
        refused(lambda: store.explain(other))  # noqa: B023
    for other in (np.zeros(64, complex), np.full(64, "a"), np.full(64, None), np.zeros(64, bool)):
        refused(lambda: store.search(other), VectorError)  # noqa: B023
    assert len(store.search_many(iter(["a", "b"]))) == 2  # type: ignore[arg-type]


class Awkward:
    """Something that cannot be shown, and is no path although it says so."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __fspath__(self) -> int:
        return 3


@pytest.mark.parametrize(
    "value", [True, 5, "smell", np.zeros(2), [], {5: 5}, Awkward()], ids=lambda value: str(type(value))
)
def test_terms_limits_and_settings_of_another_type_are_refused(store: bs.Store, tmp_path: Path, value: Any) -> None:
    (tmp_path / "a.txt").touch()
    refused(lambda: bs.Query(value))
    refused(lambda: bs.Query((bs.Term("text", "a", span=value),)))
    refused(lambda: bs.Query((bs.Term(value, "a"),)))
    refused(lambda: bs.Query((bs.Term("audio", "a", span=Span(value, math.nan)),)))
    refused(lambda: store.index(tmp_path, limits=value))
    refused(lambda: store.index(tmp_path, index_settings=value))
    refused(lambda: store.optimize(index_settings=value))
    refused(lambda: bs.connect(tmp_path, segment_s=value))


def test_what_cannot_be_shown_is_told_by_its_type(store: bs.Store) -> None:
    assert "Awkward" in refused(lambda: store.search("a", k=Awkward()))  # type: ignore[arg-type]
    assert "int" in refused(lambda: store.search(bs.like(HUGE)))
    assert "int" in describe_filter(bs.Filter(since_ns=HUGE))


@pytest.mark.parametrize("weight", [1e300, 1e-300, 2.0**70, 5e-324])
def test_the_size_of_a_single_weight_does_not_matter(store: bs.Store, weight: float) -> None:
    wanted = [hit.item_id for hit in store.search(bs.text("a"))]
    assert wanted
    assert [hit.item_id for hit in store.search(bs.text("a") * weight)] == wanted


def test_an_empty_path_is_not_the_current_folder(
    store: bs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.path.parent)
    for call in (store.forget, store.export, store.import_vectors, store.merge):
        assert "empty" in refused(lambda: call(""))  # noqa: B023
    assert len(store.search("a", k=9)) == 6


@pytest.mark.parametrize(
    "path", ["a\0b", LONG, f"folder/{LONG}", "~nobody-has-this-name/x", "\ud800", b"a.txt", 5, None]
)
def test_paths_that_cannot_be(store: bs.Store, tmp_path: Path, path: Any) -> None:
    makers = (bs.image, bs.video, bs.audio, bs.depth, bs.thermal, bs.imu, *((bs.like,) if path != 5 else ()))
    for make in makers:
        refused(lambda: store.search(make(path)))  # noqa: B023
        refused(lambda: store.explain(bs.make_query(make(path))))  # noqa: B023
    refused(lambda: store.index(path))
    refused(lambda: store.plan_index(path))
    refused(lambda: store.forget(path))
    refused(lambda: store.export(path))
    refused(lambda: bs.make_filter(folders=[path]))
    refused(lambda: store.import_vectors(path))
    refused(lambda: store.merge(path))
    if path is not None:
        refused(lambda: connect(path).index(tmp_path))
        refused(lambda: bs.import_vectors(path, tmp_path))
        refused(lambda: bs.import_vectors(tmp_path / "store", tmp_path, root=path))
        refused(lambda: bs.export_vectors(path, tmp_path / "export"))
        refused(lambda: bs.merge_stores(path, store.path))


def test_terms_from_expressions_are_checked_too(store: bs.Store) -> None:
    for source in (f"like:{LONG}", "like:'a\0b'", f"image:{LONG}", f"./{LONG}"):
        refused(lambda: store.answer(bs.make_query(bs.parse_query(source))))  # noqa: B023


@pytest.mark.parametrize("value", [5, b"a", [5], np.zeros(2)])
def test_filters_are_checked(store: bs.Store, value: Any) -> None:
    refused(lambda: bs.make_filter(where=value))
    refused(lambda: bs.make_filter(folders=value))
    refused(lambda: bs.make_filter(collections=value))
    refused(lambda: bs.make_filter(since=value))
    refused(lambda: bs.Filter(where=value))
    refused(lambda: bs.Filter(since_ns=[value]))  # type: ignore[arg-type]
    refused(lambda: bs.make_filter(since=date(2024, 5, 1)))  # type: ignore[arg-type]
    refused(lambda: store.export("/nowhere", filter=value))
    assert bs.Filter(folders="/a").folders == ("/a",)  # type: ignore[arg-type]


def test_lists_of_texts_may_be_one_text(store: bs.Store, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert store.plan_index(tmp_path, include="*.md") == []
    assert len(store.plan_index(tmp_path, include="*.txt", rules="text=*.txt")) == 1
    wrong: tuple[Any, ...] = ([5], 5)
    for value in wrong:
        refused(lambda: store.plan_index(tmp_path, rules=value))  # noqa: B023
        refused(lambda: store.plan_index(tmp_path, include=value))  # noqa: B023
        refused(lambda: store.plan_index(tmp_path, exclude=value))  # noqa: B023


@pytest.mark.parametrize("item", [True, 1.0, None, -1])
def test_ids_are_integers(store: bs.Store, item: Any) -> None:
    refused(lambda: bs.like(item))
    refused(lambda: store.forget(item_ids=[item]))
    of_numpy: Any = np.int64(3)
    assert bs.like(of_numpy) == bs.like(3)


@pytest.mark.parametrize(
    "arguments",
    [{"device": 5}, {"decode": "nowhere"}, {"decode": 5}, {"segment_s": 5}, {"segment_s": {"smell": 5.0}}],
)
def test_connect_checks_its_arguments(tmp_path: Path, arguments: dict[str, Any]) -> None:
    refused(lambda: bs.connect(tmp_path, **arguments))


SCALARS = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(),
    st.binary(),
    st.none(),
    st.complex_numbers(),
    st.decimals(),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.floats(width=32).map(np.float32),
    st.booleans().map(np.bool_),
)


@given(value=SCALARS)
def test_a_number_is_of_pythons_own_type_or_refused(value: Any) -> None:
    for convert, kind in ((to_integer, int), (to_number, float)):
        try:
            converted = convert(value, "it", "give another")
        except UsageError:
            continue
        assert type(converted) is kind
        assert converted == kind(value)
        assert not isinstance(value, bool | np.bool_ | str | bytes)


@given(text=st.text(st.characters(), max_size=400))
def test_a_path_is_one_that_can_be_looked_up(text: str) -> None:
    for convert in (to_path, to_absolute):
        try:
            path = convert(text)
        except UsageError:
            continue
        assert path.exists() in (True, False)


METHODS: dict[str, Callable[[bs.Store, Path], object]] = {
    "__enter__": lambda store, _: store.__enter__(),
    "search": lambda store, _: store.search("a"),
    "search_many": lambda store, _: store.search_many(["a"]),
    "answer": lambda store, _: store.answer(bs.make_query("a")),
    "explain": lambda store, _: store.explain(bs.make_query("a")),
    "encode_query": lambda store, _: store.encode_query(bs.make_query("a")),
    "generation": lambda store, _: store.generation(),
    "cache_terms": lambda store, _: store.cache_terms(9),
    "status": lambda store, _: store.status(),
    "left_out": lambda store, _: store.left_out(),
    "index": lambda store, path: store.index(path),
    "retry": lambda store, _: store.retry(),
    "watch": lambda store, path: store.watch(path, on_report=print, stop=threading.Event()),
    "reindex": lambda store, _: store.reindex(NullEncoder()),
    "forget": lambda store, path: store.forget(path),
    "relocate": lambda store, path: store.relocate(path, path),
    "optimize": lambda store, _: store.optimize(),
    "plan_index": lambda store, path: store.plan_index(path),
    "show": lambda store, path: store.show(path / "a.txt"),
    "verify": lambda store, _: store.verify(),
    "compact": lambda store, _: store.compact(),
    "recover": lambda store, _: store.recover(),
    "duplicates": lambda store, _: store.duplicates(),
    "near_duplicates": lambda store, _: store.near_duplicates(),
    "export": lambda store, path: store.export(path / "out"),
    "import_vectors": lambda store, path: store.import_vectors(path),
    "merge": lambda store, path: store.merge(path),
    "calibrate": lambda store, path: store.calibrate(),
    "classify": lambda store, _: store.classify(["cat", "dog"], column="animal"),
    "classify_files": lambda store, path: store.classify_files(path / "a.txt", ["cat", "dog"]),
    "locate": lambda store, path: store.locate("a", path / "a.txt"),
    "locate_files": lambda store, path: store.locate_files("a", path / "a.txt"),
    "locate_by_detector": lambda store, path: store.locate_by_detector("a", path / "a.txt", "owlv2:a/b"),
    "remove_column": lambda store, _: store.remove_column("animal"),
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash, whose words are compared")
@pytest.mark.parametrize(
    "word",
    [
        "a",
        "",
        "it's",
        "a b",
        "é🙂",
        "a\nb",
        "\x1b[201~\x03rm -rf x\n",
        "a'\\\t!$(id)",
        "\u202egpj.exe",
        "\u202f7",
        "bad\udcff",
    ],
)
def test_a_word_of_a_command_line_is_one_word_and_does_not_act_on_a_terminal(word: str) -> None:
    line = shell_command("index", word)
    assert line.isprintable()
    words = line.removeprefix("bindsearch index ")
    done = subprocess.run(["bash", "-c", f"printf %s {words}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(word)


def test_a_closed_store_refuses(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with connect(tmp_path / "store", encoder=NullEncoder()) as store:
        store.index(tmp_path)
        assert len(store.search("a")) == 1
    store.close()
    public = {name for name in vars(bs.Store) if not name.startswith("_") and callable(getattr(bs.Store, name))}
    assert public - METHODS.keys() == {"close"}
    for call in METHODS.values():
        assert refused(lambda: call(store, tmp_path)).endswith("is closed: connect again")  # noqa: B023
    assert store.exists
    assert len(connect(tmp_path / "store").search("a")) == 1


def test_searches_that_run_while_another_thread_closes_finish(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with connect(tmp_path / "store", encoder=NullEncoder()) as first:
        first.index(tmp_path)
    ended: list[object] = []

    def search(store: bs.Store, begun: threading.Event) -> None:
        try:
            while True:
                assert len(store.search("a", to=Modality.TEXT)) == 1
                begun.set()
        except Exception as error:
            ended.append(error)

    for _ in range(5):
        store, events = connect(tmp_path / "store"), [threading.Event() for _ in range(4)]
        threads = [threading.Thread(target=search, args=(store, begun)) for begun in events]
        for thread in threads:
            thread.start()
        for begun in events:
            assert begun.wait(60)
        store.close()
        for thread in threads:
            thread.join(60)
    assert len(ended) == 20
    assert {(type(error), str(error).endswith("is closed: connect again")) for error in ended} == {(UsageError, True)}
