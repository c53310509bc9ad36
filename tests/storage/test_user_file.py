"""The user's file and the stores that it names: what is read, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.storage.config import default_store, resolve_store
from bindsearch.storage.user_file import MAX_BYTES, MAX_LISTED, find_store, named_stores, read_user_file, user_file


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place of the user's file, with a home, a data folder and a working folder of the test's own."""
    for name in ("home", "work", "data/bindsearch/stores"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("BINDSEARCH_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("BINDSEARCH_STORE", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "config.toml"


def make_store(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "store.json").touch()
    return folder


def test_places_of_the_file_and_of_the_default_store(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_file() == file
    assert default_store() == resolve_store(None) == file.parent / "data" / "bindsearch" / "store"
    monkeypatch.setenv("BINDSEARCH_CONFIG", "~/own.toml")
    assert user_file() == file.parent / "home" / "own.toml"
    monkeypatch.delenv("BINDSEARCH_CONFIG")
    assert user_file() == file.parent / "config" / "bindsearch" / "config.toml"
    monkeypatch.setenv("BINDSEARCH_STORE", "~/store")
    assert default_store() == file.parent / "home" / "store"
    assert resolve_store("~/other") == file.parent / "home" / "other"
    with pytest.raises(UsageError, match="the path '~nobody-of-this-name/x' cannot be used"):
        resolve_store("~nobody-of-this-name/x")


def test_without_a_file_and_without_a_data_folder_no_store_has_a_name(file: Path) -> None:
    assert read_user_file() == {}
    assert named_stores() == {}
    (file.parent / "data" / "bindsearch" / "stores").rmdir()
    assert named_stores() == {}
    assert find_store("photos") == Path("photos")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[stores", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
        ("[store]", r"unknown key 'store': did you mean 'stores'\? expected \[options\] or \[stores\]"),
        ("stores = 3", r'stores is 3: expected a table of NAME = "/path"'),
        ("[stores]\n'a/b' = '/x'", r"\[stores\]: the name 'a/b': expected at most 64"),
        (f"[stores]\n{'a' * 65} = '/x'", "expected at most 64 letters"),
        ("[stores]\na = 3", "a is 3: expected an absolute path"),
        ("[stores]\na = 'x/y'", "a is 'x/y': expected an absolute path"),
        ('[stores]\na = "/x\\u0000"', "expected an absolute path"),
        ("[stores]\na = '~nobody-of-this-name/x'", r"a is '~nobody-of-this-name/x': "),
        (" " * (MAX_BYTES + 1), f"cannot read .*config.toml: larger than {MAX_BYTES} bytes"),
        (None, "cannot read .*config.toml: Is a directory"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line(content: str | bytes | None, message: str, file: Path) -> None:
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as caught:
        named_stores()
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_of_64_characters_and_a_file_of_the_largest_size_are_read(file: Path) -> None:
    content = f"[stores]\n{'a' * 64} = '~/x'\n"
    file.write_text(content + " " * (MAX_BYTES - len(content)))
    assert named_stores() == {"a" * 64: file.parent / "home" / "x"}


def test_a_name_is_looked_up_in_the_file_the_data_folder_and_the_working_folder(file: Path) -> None:
    data, work = file.parent / "data" / "bindsearch" / "stores", file.parent / "work"
    in_data, in_work = make_store(data / "one"), make_store(work / "two")
    make_store(data / ".hidden")
    (data / "empty").mkdir()
    file.write_text("[stores]\nthree = '/not/there'\n")
    assert named_stores() == {"one": in_data, "three": Path("/not/there")}
    assert [find_store(name) for name in ("one", "two", "three")] == [in_data, in_work, Path("/not/there")]
    for path in ("./two", "~two", "four", "empty", "a/b"):
        assert find_store(path) == Path(path)
    (work / "one").symlink_to(in_data)  # the same folder
    assert find_store("one") == in_data
    make_store(work / "three")
    with pytest.raises(UsageError, match=r"the store 'three' is ambiguous: there are .* and .*: give a path"):
        find_store("three")


def test_so_many_folders_of_the_data_folder_are_looked_at(file: Path) -> None:
    for number in range(MAX_LISTED + 1):
        make_store(file.parent / "data" / "bindsearch" / "stores" / f"s{number}")
    assert len(named_stores()) == MAX_LISTED
