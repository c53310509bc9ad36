"""Stores by name: defined in the user's file, in the data directory, and folders of the same name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bindsearch as bs
from helpers.command import Run
from helpers.stores import connect


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of three stores with a text each; `photos` and `work` have names, the working folder is empty."""
    monkeypatch.setenv("BINDSEARCH_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    places = {
        "photos": tmp_path / "far" / "one",
        "work": tmp_path / "data" / "bindsearch" / "stores" / "work",
        "other": tmp_path / "far" / "photos",
    }
    for name, place in places.items():
        (tmp_path / f"{name}.txt").write_text(name)
        with connect(place, encoder="null") as store:
            store.index(tmp_path / f"{name}.txt")
    (tmp_path / "config.toml").write_text(f'[stores]\nphotos = "{places["photos"]}"\n')
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path


def found(run: Run, *options: str) -> list[str]:
    done = run(["search", "text", "--json", *options])
    assert done.returncode == 0, done.stderr
    return [Path(hit["path"]).stem for hit in json.loads(done.stdout)["hits"]]


def test_a_name_is_a_store(bindsearch_command: Run, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(bindsearch_command, "--store", "photos") == ["photos"]
    assert found(bindsearch_command, "--store", "work") == ["work"]
    assert found(bindsearch_command, "--store", f"{stores}/far/photos") == ["other"]
    monkeypatch.setenv("BINDSEARCH_SEARCH_STORE", "work")
    assert found(bindsearch_command) == ["work"]
    monkeypatch.setenv("BINDSEARCH_STORE", "photos")  # for programs, too
    with bs.connect() as opened:
        assert opened.status().path == stores / "far" / "one"
    with bs.connect("photos") as opened:  # a path is a path there
        assert not opened.exists


def test_an_unknown_name_names_those_that_are_known(bindsearch_command: Run, stores: Path) -> None:
    done = bindsearch_command(["search", "text", "--store", "photo"])
    assert done.returncode == 4
    assert done.stderr == (
        "bindsearch: no store at or named 'photo': did you mean 'photos'? the named stores are photos, work\n"
    )
    (stores / "empty" / "photo").mkdir()
    done = bindsearch_command(["search", "text", "--store", "photo"])
    assert done.returncode == 4
    assert "no store at photo: create one with" in done.stderr
    assert bindsearch_command(["index", stores / "work.txt", "--encoder", "null", "--store", "new"]).returncode == 0
    assert (stores / "empty" / "new" / "store.json").is_file()


def test_a_folder_without_a_store_does_not_hide_a_name(bindsearch_command: Run, stores: Path) -> None:
    (stores / "empty" / "photos").mkdir()
    (stores / "empty" / "photos" / "a.jpg").write_text("a")
    assert found(bindsearch_command, "--store", "photos") == ["photos"]


def test_a_store_of_the_working_folder_with_the_same_name_is_ambiguous(
    bindsearch_command: Run, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stores / "far")
    for arguments in (["search", "text"], ["index", stores / "work.txt"], ["status"]):
        done = bindsearch_command([*arguments, "--store", "photos"])
        assert done.returncode == 2
        assert done.stderr == (
            f"bindsearch: the store 'photos' is ambiguous: there are the named store ({stores}/far/one) and the store "
            f"of the working folder ({stores}/far/photos): give a path, such as ./photos\n"
        )
    assert found(bindsearch_command, "--store", "./photos") == ["other"]
    assert found(bindsearch_command, "--store", f"{stores}/far/one") == ["photos"]
    assert bindsearch_command(["config", "set", "stores.photos", "photos"]).returncode == 0  # now they are the same
    assert found(bindsearch_command, "--store", "photos") == ["other"]


def test_set_show_and_unset(bindsearch_command: Run, stores: Path) -> None:
    run = bindsearch_command
    assert run(["config", "set", "stores.later", "later"]).returncode == 0
    assert run(["config", "set", "search.store", "work"]).returncode == 0  # the variable of the test overrides it
    (stores / "far" / "one" / "store.json").write_text("{")
    lines = [" ".join(line.split()) for line in run(["config", "show"]).stdout.splitlines()]
    assert f"store work: {stores}/data/bindsearch/stores/work (null)" in lines
    assert f"store later: {stores}/empty/later (there is no store yet)" in lines
    assert any(
        line.startswith(f"store photos: {stores}/far/one ({stores}/far/one/store.json is damaged") for line in lines
    )
    assert run(["config", "unset", "stores.later"]).returncode == 0
    assert "later" not in run(["config", "show"]).stdout
