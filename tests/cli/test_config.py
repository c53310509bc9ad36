"""Defaults of options from the environment and from files, and the commands that show and change them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from bindsearch.cli.main import app
from bindsearch.cli.settings.keys import FOLDER_KEYS, KNOWN, settable_options, variable_name
from generate import commands
from helpers.command import Run
from helpers.stores import connect


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "home" / "config.toml"
    monkeypatch.setenv("BINDSEARCH_CONFIG", str(file))
    return file


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of nine texts, the working folder, indexed in the default store."""
    folder = tmp_path / "project" / "texts"
    folder.mkdir(parents=True)
    for n in range(9):
        (folder / f"{n}.txt").write_text(f"text number {n}")
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(folder)
    monkeypatch.chdir(folder)
    return folder


def found(run: Run, *options: str) -> int:
    """Return the number of hits of a search."""
    done = run(["search", "text", "--json", *options])
    assert done.returncode == 0, done.stderr
    return len(json.loads(done.stdout)["hits"])


def test_the_known_keys_are_the_options_of_the_commands() -> None:
    expected = {
        name: " ".join(settable_options(name, command.params))
        for name, command in commands().items()
        if not name.startswith("config ")
    }
    expected = {name: keys for name, keys in expected.items() if keys}
    assert {name: set(keys.split()) for name, keys in KNOWN.items()} == {
        name: set(keys.split()) for name, keys in expected.items()
    }, "bring KNOWN of cli/settings/keys.py up to date"
    variables = [variable_name(command, key) for command, keys in KNOWN.items() for key in keys.split()]
    variables += {variable_name("", key) for keys in KNOWN.values() for key in keys.split()}
    assert len({*variables}) == len(variables), "two options have one variable"
    assert {*KNOWN["search"].split()} >= FOLDER_KEYS


def test_flag_environment_folder_user_default(
    bindsearch_command: Run, work: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bindsearch_command
    assert found(run) == 9
    user_file.parent.mkdir()
    user_file.write_text("[options]\nk = 7\n")
    assert found(run) == 7
    user_file.write_text("[options]\nk = 7\n[options.search]\nk = 6\n")
    assert found(run) == 6
    (work.parent / ".bindsearch.toml").write_text("[options]\nk = 5\n")
    assert found(run) == 5
    (work / ".bindsearch.toml").write_text('[as]\ntext = "*.txt"\n')  # has no options: the next one up decides
    assert found(run) == 5
    (work.parent / ".bindsearch.toml").write_text("[options]\nk = 5\n[options.search]\nk = 4\n")
    assert found(run) == 4
    monkeypatch.setenv("BINDSEARCH_K", "3")
    assert found(run) == 3
    monkeypatch.setenv("BINDSEARCH_SEARCH_K", "2")
    assert found(run) == 2
    assert found(run, "-k", "1") == 1
    monkeypatch.setenv("BINDSEARCH_SEARCH_K", "")  # is not set
    assert found(run) == 3


def test_flags_and_repeatable_options(
    bindsearch_command: Run, work: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a b").mkdir()
    (work / "a b" / "x.txt").write_text("x")
    monkeypatch.setenv("BINDSEARCH_INDEX_EXCLUDE", "'a b/*' 1.*")
    planned = bindsearch_command(["index", work, "--dry-run"]).stdout
    assert "x.txt" not in planned
    assert "1.txt" not in planned
    assert "2.txt" in planned
    monkeypatch.delenv("BINDSEARCH_INDEX_EXCLUDE")
    user_file.parent.mkdir()
    user_file.write_text('[options.index]\nexclude = ["a b/*", "2.*"]\n[options.search]\njson = true\nto = "text"\n')
    planned = bindsearch_command(["index", work, "--dry-run"]).stdout
    assert "x.txt" not in planned
    assert "1.txt" in planned
    assert "2.txt" not in planned
    assert json.loads(bindsearch_command(["search", "text"]).stdout)["query"]["to"] == ["text"]
    monkeypatch.setenv("BINDSEARCH_JSON", "no")
    assert not bindsearch_command(["search", "text"]).stdout.startswith("{")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[options]\nkk = 3\n", "{file}: [options]: unknown option 'kk': did you mean 'k'?"),
        ("[options]\nk = 'x'\n", "{file}: k is 'x': expected a whole number"),
        ("[options]\nk = true\n", "{file}: k is True: expected a whole number"),
        ("[options.search]\nto = ['a']\n", "{file}: search.to is ['a']: expected a text"),
        ("[options]\njson = 1\n", "{file}: json is 1: expected true or false"),
        ("[options]\ncollection = [1]\n", "{file}: collection is [1]: expected a text or a list of texts"),
        ("[options]\nranking = 'zz'\n", "unknown ranking 'zz': did you mean 'z'? choose from probability, z, cosine, "
         "per-modality (set by ranking in {file})"),
        ("[options.serch]\nk = 3\n", "{file}: [options]: unknown command 'serch': did you mean 'search'"),
        ("[options.model.pul]\ndtype = 'fp16'\n", "{file}: [options.model]: unknown command 'model pul'"),
        ("[options]\nprune = true\n", "{file}: [options]: prune cannot be set: it is given with each command"),
        ("[options]\nstore = 'a/b'\n", "{file}: store is 'a/b': expected the name of a store or an absolute path"),
        ("[option]\nk = 3\n", "{file}: unknown key 'option': did you mean 'options'?"),
        ("[stores]\np = 'x'\n", "{file}: [stores]: p is 'x': expected an absolute path"),
        ("[stores]\n'a/b' = '/x'\n", "{file}: [stores]: the name 'a/b': expected at most 64 letters"),
        ("stores = 3\n", "{file}: stores is 3: expected a table"),
        ("options = 3\n", "{file}: options is 3: expected a table"),
        ("[options\n", "{file} is not valid TOML: "),
        ("a = " + "[" * 5000, "{file} is not valid TOML: "),
        ("#" * (2 << 20), "cannot read {file}: larger than"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line(
    bindsearch_command: Run, work: Path, user_file: Path, content: str, message: str
) -> None:
    user_file.parent.mkdir()
    user_file.write_text(content)
    done = bindsearch_command(["search", "text", "--store", "nostore"])
    assert done.returncode == 2, done.stderr
    assert message.replace("{file}", str(user_file)) in done.stderr
    assert done.stderr.count("\n") == 1
    assert bindsearch_command(["search", "--help"]).returncode == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BINDSEARCH_K", "x", "$BINDSEARCH_K is 'x': expected a whole number"),
        ("BINDSEARCH_SEARCH_FLAT", "maybe", "$BINDSEARCH_SEARCH_FLAT is 'maybe': expected true or false"),
        ("BINDSEARCH_COLLECTION", "'a", '$BINDSEARCH_COLLECTION is "\'a": No closing quotation'),
        ("BINDSEARCH_TO", "smell", "unknown modality 'smell'"),
        ("BINDSEARCH_TO", "smell", "(set by $BINDSEARCH_TO)"),
    ],
)
def test_a_wrong_variable_is_one_line(
    bindsearch_command: Run, work: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    done = bindsearch_command(["search", "text"])
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_from_elsewhere_sets_harmless_options_alone(
    bindsearch_command: Run, work: Path, tmp_path: Path
) -> None:
    file = work / ".bindsearch.toml"
    file.write_text(f'[options]\nk = 2\nstore = "{tmp_path}/elsewhere"\n[options.index]\nlimit = "pixels=1"\n')
    done = bindsearch_command(["search", "text", "--paths"])
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.splitlines() == [
        f"note: {file}: {key} is ignored, since a folder may not set it: `bindsearch config set {key} VALUE` sets it "
        "for you"
        for key in ("store", "index.limit")
    ]
    done = bindsearch_command(["index", work, "--dry-run"])  # reads the file as settings of the folder, too
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "elsewhere").exists()
    file.write_text("options = 3\n")
    done = bindsearch_command(["index", work, "--dry-run"])
    assert done.returncode == 2
    assert f"{file}: options is 3: expected a table" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_ignored(bindsearch_command: Run, work: Path) -> None:
    file = work.parent / ".bindsearch.toml"
    file.write_text("[options]\nk = 2\n")
    os.chown(file, 12345, 12345)
    assert found(bindsearch_command) == 9
    done = bindsearch_command(["search", "text", "--paths"])
    assert done.stderr == f"note: {file} is ignored: its owner is another user (12345)\n"
    file.write_text("[options\n")  # must not stop the commands of other users
    done = bindsearch_command(["search", "text", "--paths"])
    assert (done.returncode, done.stderr) == (0, f"note: {file} is ignored: its owner is another user (12345)\n")


def show(run: Run, *options: str) -> dict[str, Any]:
    done = run(["config", "show", "--json", *options])
    assert done.returncode == 0, done.stderr
    data: dict[str, Any] = json.loads(done.stdout)
    return data


def test_set_keeps_comments_and_order(bindsearch_command: Run, work: Path, user_file: Path) -> None:
    run = bindsearch_command
    assert run(["config", "set", "k", "3"]).returncode == 0
    assert found(run) == 3
    user_file.write_text('# mine\n[stores]  # of photos\na = "/a"\n\n[options]\nk = 3 # few\nto = "text"\n')
    for arguments in (["k", "4"], ["search.ranking", "z"], ["index.exclude", "a b", "c"], ["search.flat", "true"]):
        done = run(["config", "set", *arguments])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = user_file.read_text()
    assert text.startswith('# mine\n[stores]  # of photos\na = "/a"\n\n[options]\nk = 4 # few\nto = "text"\n')
    values = {row["key"]: row["value"] for row in show(run)["values"]}
    values.pop("store")  # by the variable of the test
    assert values == {
        "k": 4, "to": "text", "search.ranking": "z", "search.flat": True, "index.exclude": ["a b", "c"],
    }  # fmt: skip
    assert run(["config", "unset", "search.ranking"]).returncode == 0
    assert run(["config", "unset", "stores.a"]).returncode == 0
    assert "search.ranking" not in {row["key"] for row in show(run)["values"]}
    done = run(["config", "unset", "search.ranking"])
    assert done.returncode == 2
    assert f"search.ranking is not set in {user_file}" in done.stderr


def test_set_writes_through_a_link_and_keeps_the_mode(
    bindsearch_command: Run, work: Path, user_file: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "dotfiles.toml"
    kept.write_text("")
    kept.chmod(0o600)
    user_file.parent.mkdir()
    user_file.symlink_to(kept)
    assert bindsearch_command(["config", "set", "k", "3"]).returncode == 0
    assert user_file.is_symlink()
    assert kept.read_text() == "[options]\nk = 3\n"
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kk", "3"], "unknown option 'kk': did you mean 'k'?"),
        (["serch.k", "3"], "unknown command 'serch': did you mean 'search'"),
        (["k", "3", "4"], "k: give one value, not 2"),
        (["k", "many"], "k is 'many': expected a whole number"),
        (["k", "0"], "at least 1"),
        (["ranking", "zz"], "unknown ranking 'zz': did you mean 'z'?"),
        (["to", "smell"], "unknown modality 'smell'"),
        (["device", "cpu", "--folder"], "a folder may not set device, only color, copies"),
        (["export.to", "text", "--folder"], "a folder may not set export.to"),
        (["stores.a", "/a", "--folder"], "a folder may not set stores.a"),
        (["stores.a b", "/a"], "the name 'a b': expected"),
        (["prune", "true"], "prune cannot be set: it is given with each command"),
    ],
)
def test_set_refuses_what_no_command_takes(
    bindsearch_command: Run, work: Path, user_file: Path, arguments: list[str], message: str
) -> None:
    done = bindsearch_command(["config", "set", *arguments])
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not user_file.exists()
    assert [*work.glob(".*")] == []


def test_show_says_where_each_value_is_from(
    bindsearch_command: Run, work: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = bindsearch_command
    assert run(["config", "set", "k", "5"]).returncode == 0
    assert run(["config", "set", "search.k", "4", "--folder"]).returncode == 0
    assert run(["config", "set", "device", "cpu"]).returncode == 0
    monkeypatch.setenv("BINDSEARCH_SEARCH_K", "3")
    monkeypatch.setenv("BINDSEARCH_SERCH_TO", "text")
    monkeypatch.setenv("COLUMNS", "300")
    folder_file = work / ".bindsearch.toml"
    done = run(["config", "show"])
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        f'device = "cpu" device in {user_file}',
        f"k = 5 k in {user_file}",
        f'store = "{tmp_path}/store" $BINDSEARCH_STORE',
        f"search.k = 3 $BINDSEARCH_SEARCH_K; overrides 4 of search.k in {folder_file}; overrides 5 of k in {user_file}",
    ]
    assert done.stderr == "note: $BINDSEARCH_SERCH_TO is not used: did you mean $BINDSEARCH_SEARCH_TO?\n"
    every = {row["key"]: row for row in show(run, "--all")["values"]}
    assert every["explain.k"]["source"] == "user"
    assert every["search.ranking"] == {
        "key": "search.ranking", "command": "search", "option": "ranking", "value": "probability", "source": "default",
        "name": None, "overrides": [],
    }  # fmt: skip
    done = run(["config", "path"])
    assert done.stdout == f"user    {user_file}\nfolder  {folder_file}\n"


def test_config_works_where_the_file_is_wrong(bindsearch_command: Run, work: Path, user_file: Path) -> None:
    user_file.parent.mkdir()
    user_file.write_text("[options]\nkk = 3\n")
    assert bindsearch_command(["config", "show"]).returncode == 2
    assert bindsearch_command(["config", "unset", "kk"]).returncode == 0
    assert user_file.read_text() == "[options]\n"
    assert found(bindsearch_command) == 9


def test_settings_import_little(tmp_path: Path) -> None:
    """Without a file nothing is parsed, and tomlkit is for changes alone."""
    code = (
        "import sys\nfrom bindsearch.cli.main import main\n"
        "try:\n    main(['status'])\nexcept SystemExit: pass\n"
        "print([name for name in ('tomllib', 'tomlkit') if name in sys.modules])"
    )
    environment = {**os.environ, "BINDSEARCH_STORE": str(tmp_path / "none")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_root_command_has_the_group() -> None:
    assert "config" in typer.main.get_command(app).commands  # type: ignore[attr-defined]
