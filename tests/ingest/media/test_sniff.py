"""The kinds of files that `sniff` tells are those that have a reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from bindsearch.errors import MediaError
from bindsearch.ingest.media.kinds import ANIMATIONS, PICTURES, SOUNDS, VIDEOS
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.pictures.pillow import _READERS
from bindsearch.ingest.media.recordings.av_container import _DEMUXERS
from bindsearch.ingest.media.sniff import _STARTS, RECORDING_STARTS
from bindsearch.media import DecodeHints

TABLES = frozenset({"npy", "parquet", "zip", "pfm", "exr"})


def test_every_picture_has_a_reader_and_every_recording_a_demuxer() -> None:
    assert set(_READERS) == PICTURES
    assert set(_DEMUXERS) == SOUNDS | VIDEOS
    assert ANIMATIONS <= PICTURES


def test_every_beginning_leads_to_a_known_kind() -> None:
    assert {kind for _, kind in (*_STARTS, *RECORDING_STARTS)} <= PICTURES | SOUNDS | VIDEOS | TABLES


def test_the_message_about_other_files_names_every_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(MediaError) as found:
        read_image(tmp_path / "a.png", DecodeHints(32, 1.0), DecodeOptions())
    assert {kind for kind in PICTURES if kind not in str(found.value).lower()} == set()
