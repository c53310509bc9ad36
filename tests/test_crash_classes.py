"""Kill -9 at any moment of writing a column of classes: readers see the old or the new one, and a run completes it."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.operations.verify.check import verify
from helpers.children.indexing import CLASS_POINTS
from helpers.crash_world import child
from helpers.stores import connect

N = 40
LABELS = {"old": "up,down,left,right", "new": "red,green,blue"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    (place / "media").mkdir()
    for n in range(N):
        (place / "media" / f"{n}.txt").write_text(f"text number {n}")
    with connect(place / "store", encoder="null") as store:
        store.index(place / "media")
        store.classify(LABELS["old"].split(","), column="kind", probability_column="kind_p")
    return place / "store"


def classes(store: Path) -> dict[str, str]:
    """Return the label of each file, from what filters find."""
    with connect(store) as opened:
        (column,) = opened.status().columns
        return {
            hit.path.name: label
            for label in column.labels
            for hit in opened.search("a", k=2 * N, filter=f"kind = '{label}' and kind_p > 0")
        }


@pytest.fixture(scope="module")
def expected(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    undisturbed = tmp_path_factory.mktemp("undisturbed") / "store"
    shutil.copytree(stored, undisturbed)
    with connect(undisturbed) as store:
        store.classify(LABELS["new"].split(","), column="kind")
    found = {"old": classes(stored), "new": classes(undisturbed)}
    assert [len(one) for one in found.values()] == [N, N]
    return found


def classified(store: Path, *options: str) -> tuple[int, str]:
    """Write the column with the new labels in a process of its own; its exit code and what it says."""
    process = child(store, options=("--labels", LABELS["new"], *options))
    _, errors = process.communicate(timeout=60)
    assert process.returncode is not None
    return process.returncode, errors


@pytest.mark.parametrize("moment", CLASS_POINTS)
def test_killed_and_run_again(moment: str, stored: Path, expected: dict[str, dict[str, str]], tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(stored, store)
    code, errors = classified(store, "--kill", moment)
    assert code == -signal.SIGKILL, f"{moment} was never reached: {errors}"
    is_published = moment in ("after CURRENT with the columns is renamed", "after the columns are published")
    assert classes(store) == expected["new" if is_published else "old"]
    with connect(store) as opened:
        opened.compact()  # any writer recovers what was left
        assert opened.verify().findings == ()
    was_committed = is_published or moment in (
        "after the transaction",
        "half of the columns are written",
        "before the part is complete",
        "half of CURRENT with the columns is written",
        "before CURRENT with the columns is renamed",
    )
    assert classes(store) == expected["new" if was_committed else "old"]
    code, errors = classified(store)
    assert code == 0, errors
    assert classes(store) == expected["new"]
    assert verify(store).findings == ()
    assert not [path for path in store.rglob("*") if ".tmp" in path.name]


def test_a_store_without_the_column_has_none_after_a_kill(stored: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(stored, store)
    with connect(store) as opened:
        opened.remove_column("kind")
    code, _ = classified(store, "--kill", "inside the transaction")
    assert code == -signal.SIGKILL
    with connect(store) as opened:
        assert opened.status().columns == ()
        with pytest.raises(bs.UsageError, match="there is no column 'kind'"):
            opened.search("a", filter="kind = 'red'")
        assert opened.verify().findings == ()
