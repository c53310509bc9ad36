"""`bindsearch classify` as it is typed: what it prints, where, and which options belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.command import run_command
from helpers.stores import connect

LIMIT = "note: probabilities compare the given labels with each other: one of them is best even if none fits"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("classify")
    (place / "media").mkdir()
    for name, text in (("cat", "a cat and a dog"), ("horse", "a horse eats"), ("rain", "rain and snow")):
        (place / "media" / f"{name}.txt").write_text(text)
    (place / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    with connect(place / "store") as store:
        store.index(place / "media")
    return place


def test_files_are_printed_with_label_probability_and_cosine(place: Path) -> None:
    cat, bad = place / "media" / "cat.txt", place / "bad.png"
    done = run_command(
        ["classify", cat, bad, "--labels", "animal,weather,music", "--top", "2", "--store", place / "no"]
    )
    assert done.returncode == 3
    first, best, second = done.stdout.splitlines()
    assert first == f"{cat}  (text)"
    assert best.split()[1:] == ["cosine", best.split()[2], "animal"]
    assert float(best.split()[0].rstrip("%")) + float(second.split()[0].rstrip("%")) <= 100.1
    assert -1 <= float(best.split()[2]) <= 1
    failed, limit = done.stderr.splitlines()
    assert failed.startswith(f"failed: {bad}: query file {bad} cannot be used as image: ")
    assert limit == LIMIT
    assert not (place / "no").exists()


def test_a_column_is_written_filtered_by_shown_and_removed(place: Path) -> None:
    store = ("--store", str(place / "store"))
    dry = run_command(["classify", "--write-column", "kind", "--labels", "animal,weather", "--dry-run", *store])
    assert dry.stdout.splitlines()[-1] == "column kind: 3 items with a class, 3 of them new; nothing was written"
    assert "files that are indexed from now on" not in dry.stderr
    done = run_command(["classify", "--write-column", "kind", "--labels", "animal,weather", *store])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "       2  animal",
        "       1  weather",
        "column kind: 3 items with a class, 3 of them new; written",
    ]
    assert done.stderr.splitlines() == [
        LIMIT,
        "note: files that are indexed from now on have no class until it is written again: bindsearch classify "
        "--write-column kind",
    ]
    found = run_command(["search", "a", "--where", "kind = 'weather'", "--paths", "--no-server", *store])
    assert found.stdout == f"{place / 'media' / 'rain.txt'}\n"
    status = run_command(["status", *store]).stdout
    assert "column      kind: 3 items, 2 labels (animal, weather), written 20" in status
    (place / "media" / "new.txt").write_text("a sheep")
    run_command(["index", place / "media", *store])
    assert "            1 item without a class yet: bindsearch classify --write-column kind" in (
        run_command(["status", *store]).stdout.splitlines()
    )
    assert run_command(["classify", "--remove-column", "kind", *store]).stdout == "removed the column kind\n"
    assert "column" not in run_command(["status", *store]).stdout.replace("collection", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("classify", "nothing to classify: give files, or --write-column NAME for the items of the store"),
        ("classify a.png", "there are no labels: give --labels a,b,c or --labels-file FILE"),
        ("classify a.png --labels a --labels-file b", "--labels and --labels-file are both given: leave one out"),
        ("classify a.png --labels a --write-column k", "files are not written into a column: give either files or "),
        ("classify a.png --labels a --collection c", "--collection belongs to --write-column: leave it out"),
        ("classify a.png --labels a --dry-run", "--dry-run belongs to --write-column: leave it out"),
        ("classify --write-column k --labels a --encoder null", "--encoder belongs to files: leave it out"),
        ("classify --write-column k --labels a,,b", "the labels: a name in '' is empty"),
        ("classify --write-column k --labels a,A", "the labels: the name 'A' is given twice"),
        ("classify --write-column k --labels-file none.txt", "the labels none.txt cannot be read (No such file"),
        ("classify --write-column k", "the store has no column 'k' to write again: give labels (--labels a,b,c)"),
        ("classify --write-column k --labels a --templates x", "unknown set of templates 'x'"),
        ("classify --write-column path --labels a", "path is a column that every store has: give another name"),
        ("classify --remove-column k --write-column k", "--remove-column only removes: classify in another command"),
        ("classify --remove-column k", "`classify` has written no column 'k' in "),
    ],
)
def test_wrong_uses_are_one_line(line: str, message: str, place: Path) -> None:
    done = run_command([*line.split(), "--store", place / "store"])
    assert done.returncode == 2
    assert done.stdout == ""
    (printed,) = done.stderr.splitlines()
    assert printed.startswith(f"bindsearch: {message}")


def test_a_column_needs_a_store(tmp_path: Path) -> None:
    done = run_command(["classify", "--write-column", "k", "--labels", "a", "--store", tmp_path / "none"])
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "none" in done.stderr
    assert not (tmp_path / "none").exists()
