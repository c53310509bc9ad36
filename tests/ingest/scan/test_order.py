"""Order of a run: pictures are searchable early, long texts come last and are committed one by one."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.ingest.scan import collection
from bindsearch.ingest.scan.collection import estimated_ns
from bindsearch.media import Media, Passage
from bindsearch.types import Modality
from helpers import media_files
from helpers.stores import connect
from helpers.waiting import wait_for

LONG_WORDS = 6000


def write_mixed(folder: Path) -> Path:
    """Write three long texts, two short ones and three pictures; in the order of their names texts come first."""
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name} long.txt").write_text(f"{name}{name} " * LONG_WORDS)
    for name in ("d", "e"):
        (folder / f"{name} short.txt").write_text(f"{name} short")
    for width, name in enumerate(("x", "y", "z"), 32):
        media_files.write_picture(folder / f"{name}.png", media_files.half_and_half(width, 32))
    return folder


class Recorder(NullEncoder):
    """Records the order in which media are prepared: the first word of a passage, else "picture"."""

    def __init__(self) -> None:
        self.prepared: list[str] = []

    def prepare(self, media: Media) -> np.ndarray:
        self.prepared.append(media.text.split()[0] if isinstance(media, Passage) else "picture")
        return super().prepare(media)


def test_pictures_come_first_and_long_texts_last_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "LONG_TEXT_BYTES", 1000)
    encoder = Recorder()
    with connect(tmp_path / "store", encoder=encoder) as store:
        assert store.index(write_mixed(tmp_path / "media")).added == 8
    assert sorted(encoder.prepared[:5]) == ["d", "e", "picture", "picture", "picture"]
    long_passages = [word for word in encoder.prepared if len(word) == 2]
    assert len(long_passages) > 3 * LONG_WORDS / encoder.max_tokens
    assert [word for word, _ in groupby(long_passages)] == ["aa", "bb", "cc"]


def test_a_rule_decides_what_counts_as_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "LONG_TEXT_BYTES", 1000)
    folder = write_mixed(tmp_path / "media")
    (folder / "a long.txt").rename(folder / "a.log")
    encoder = Recorder()
    with connect(tmp_path / "store", encoder=encoder) as store:
        assert store.index(folder, rules=["text=*.log"]).added == 8
    assert [word for word, _ in groupby(word for word in encoder.prepared if len(word) == 2)] == ["aa", "bb", "cc"]


def test_the_estimate_orders_a_photo_a_clip_and_a_book() -> None:
    photo, clip = estimated_ns(Modality.IMAGE, 4_000_000), estimated_ns(Modality.VIDEO, 4_000_000)
    assert photo < clip < estimated_ns(Modality.TEXT, 1_000_000)
    assert estimated_ns(Modality.TEXT, 100) < photo < estimated_ns(None, 1_000_000)


CHILD = """
import sys, time
import numpy as np
import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.ingest import collect
from bindsearch.ingest.scan import collection
from bindsearch.types import Modality

class Slow(NullEncoder):
    def prepare(self, media):
        return np.repeat(super().prepare(media), self.max_tokens, axis=1)

    def encode(self, modality, prepared):
        time.sleep(0.03 * len(prepared) if modality is Modality.TEXT else 0)
        return super().encode(modality, prepared)

collect.COMMIT_SECONDS, collection.LONG_TEXT_BYTES = 0.1, 1000
with bs.connect(sys.argv[1], encoder=Slow(), decode="thread") as store:
    store.index(sys.argv[2])
"""


def test_a_kill_in_a_long_text_costs_only_that_text(tmp_path: Path) -> None:
    folder, place = write_mixed(tmp_path / "media"), tmp_path / "store"
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(place), str(folder)])

    def indexed() -> dict[str, int]:
        try:
            with bs.connect(place) as store:
                return {str(modality): n for modality, n in store.status().items.items()}
        except bs.BindSearchError:  # there is nothing yet
            return {}

    try:
        wait_for(lambda: indexed().get("text", 0) >= 4 or process.poll() is not None)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert indexed() == {"image": 3, "text": 4}
    with connect(place, encoder="null") as store:
        assert [hit.path.name for hit in store.search("aa " * 62, k=1)] == ["a long.txt"]
        report = store.index(folder)
        assert (report.added, report.unchanged) == (1, 7)
