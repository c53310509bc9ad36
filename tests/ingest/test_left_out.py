"""Files that are not indexed are counted by reason, listed, and followed from run to run."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bindsearch as bs
from bindsearch.cli.output import reasons_line
from bindsearch.ingest.left_out import at_or_below, counts_by_reason, read_left_out, write_left_out
from helpers.command import run_command
from helpers.stores import connect


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / ".git").mkdir(parents=True)
    (root / "cache").mkdir()
    for name in ("a.txt", "b.dwg", "c.dwg", "d.xyz", ".DS_Store", "cache/e.txt", ".git/f.txt", "noise", "old.txt"):
        (root / name).write_text(f"words of {name}")
    (root / ".bindsearchignore").write_text("cache/\nold.txt\n")
    (root / ".bindsearch.toml").write_text("")
    (root / "table.csv").write_text("x,y\n1,2\n")
    with zipfile.ZipFile(root / "z.zip", "w") as archive:
        archive.writestr("g.txt", "words in an archive")
        archive.writestr("h.dwg", "words")
    return root


REASONS = {
    "b.dwg": "not media: .dwg",
    "c.dwg": "not media: .dwg",
    "d.xyz": "not media: .xyz",
    ".DS_Store": "hidden",
    ".git": "hidden",
    "cache": "named in .bindsearchignore",
    "old.txt": "named in .bindsearchignore",
    "noise": "not media: no extension and no known content",
    "table.csv": "not media: csv without accelerometer and gyroscope columns",
    "z.zip/h.dwg": "not media: .dwg",
}


def listed(store: bs.Store, root: Path) -> dict[str, str]:
    return {file.path.relative_to(root).as_posix(): file.reason for file in store.left_out()}


def test_every_file_is_indexed_or_named_with_its_reason(root: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        for _ in range(2):  # the archive is not read again
            assert store.index(root).skipped == Counter(REASONS.values())
            assert listed(store, root) == REASONS
            assert store.status().left_out == Counter(REASONS.values())


def test_the_record_follows_the_files(root: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(root)
        (root / "d.xyz").unlink()
        (root / "b.dwg").rename(root / "b.txt")
        (root / "new").mkdir()
        (root / "new" / "i.dwg").write_text("x")
        store.index(root / "new")  # the others stay as they are
        assert listed(store, root) == {**REASONS, "new/i.dwg": "not media: .dwg"}
        store.index(root, exclude=["*.xyz"])
        expected = {path: why for path, why in REASONS.items() if path != "b.dwg"} | {"new/i.dwg": "not media: .dwg"}
        assert listed(store, root) == expected
        store.index(root)
        del expected["d.xyz"]
        assert listed(store, root) == expected
        (root / "z.zip").unlink()
        store.index(root)
        del expected["z.zip/h.dwg"]
        assert listed(store, root) == expected
        (root / ".bindsearchignore").unlink()
        store.index(root, rules=["text=*.dwg"])
        assert listed(store, root).keys() == {".DS_Store", ".git", "noise", "table.csv"}
        assert [file.path.name for file in store.left_out(start=1, most=2)] == [".git", "noise"]
        with pytest.raises(bs.UsageError, match="start is -1"):
            store.left_out(start=-1)
        store.forget(root)
        assert store.left_out() == []
    assert [*(tmp_path / "store" / "left_out").iterdir()] == []


def test_the_command_line_counts_and_lists_them(root: Path, tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store")]
    run = run_command(["index", str(root), "--encoder", "null", *store])
    assert (
        "left out: 4 of kinds that are not read (3 .dwg, 1 .xyz); 2 hidden; 2 named in .bindsearchignore; "
        "1 not media: csv without accelerometer and gyroscope columns; 1 not media: no extension and no known content "
        "(bindsearch status --left-out)"
    ) in run.stdout
    assert "left out    4 of kinds that are not read (3 .dwg, 1 .xyz)" in run_command(["status", *store]).stdout
    lines = run_command(["status", "--left-out", "--most", "2", *store]).stdout.splitlines()
    assert lines == [f"{root}/.DS_Store: hidden", f"{root}/.git: hidden", "... and 8 more: --start 2, or --most N"]
    facts = json.loads(run_command(["status", "--left-out", "--start", "9", "--json", *store]).stdout)
    assert facts["left_out"] == Counter(REASONS.values())
    assert facts["left_out_files"] == [{"path": f"{root}/z.zip/h.dwg", "reason": "not media: .dwg"}]


def test_a_damaged_record_is_replaced(root: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(root)
        (path,) = (tmp_path / "store" / "left_out").iterdir()
        for content in (b"", b"x" * 5000, path.read_bytes()[:-40]):
            path.write_bytes(content)
            assert store.left_out() == []
            store.index(root)
            assert listed(store, root).keys() - REASONS.keys() == set()


PATHS = st.dictionaries(st.text("ab/.\u00e4", min_size=1, max_size=4), st.sampled_from(["hidden", "not media: .x"]))


@settings(deadline=None)
@given(PATHS, PATHS)
def test_a_record_is_what_was_found_and_what_was_kept(first: dict[str, str], second: dict[str, str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        write_left_out(store, 1, first, None)
        kept = {path: why for path, why in first.items() if path not in second and path.startswith("a")}
        table = write_left_out(store, 1, second, lambda paths: pa.array([one in kept for one in paths.to_pylist()]))
        expected = {**second, **kept}
        assert table.to_pylist() == [{"rel_path": path, "reason": expected[path]} for path in sorted(expected)]
        assert read_left_out(store, 1).equals(table)
        assert counts_by_reason(table) == Counter(expected.values())
        assert read_left_out(store, 2).num_rows == 0


def test_many_reasons_are_cut() -> None:
    counts = {f"not media: .e{n}": n for n in range(1, 12)} | {"hidden": 3}
    line = reasons_line(counts)
    assert line.startswith("66 of kinds that are not read (11 .e11, 10 .e10, ")
    assert line.endswith("4 .e4, 6 others); 3 hidden")


@given(st.lists(st.text("ab/", max_size=5)), st.sets(st.text("ab/", min_size=1, max_size=3)), st.booleans())
def test_paths_below_others_are_found(paths: list[str], parents: set[str], are_many: bool) -> None:
    more = {f"none{n}" for n in range(200 if are_many else 0)}
    parents = {parent for parent in parents if not parent.startswith("/") and not parent.endswith("/")}
    paths = [path for path in paths if "//" not in path and not path.startswith("/")]
    found = at_or_below(pa.array(paths, pa.string()), parents | more).to_pylist()
    assert found == [any(f"{path}/".startswith(f"{parent}/") for parent in parents) for path in paths]
