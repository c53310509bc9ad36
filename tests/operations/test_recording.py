from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bindsearch.operations.recording import KEY, MAX_RECORD_BYTES, png_info, read_record


def test_a_record_is_read_back(tmp_path: Path) -> None:
    record = {"made_by": "bindsearch", "query": [{"source": "дог 🐕.png", "weight": 0.5}], "nothing": None}
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=png_info(record))
    assert read_record(tmp_path / "a.png") == record


def test_other_files_have_no_record(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.jpg")
    (tmp_path / "text.png").write_text("no picture")
    for number, text in enumerate(["{", "[1]", '"a"', "[" * 5000, '{"a": "' + "b" * MAX_RECORD_BYTES + '"}']):
        info = PngInfo()
        info.add_text(KEY, text)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png", pnginfo=info)
    whole = (tmp_path / "plain.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:20])
    os.mkfifo(tmp_path / "pipe.png")
    for path in sorted(tmp_path.iterdir()):
        assert read_record(path) is None, path
    assert read_record(tmp_path / "missing.png") is None


def test_a_record_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="more than"):
        png_info({"query": "a" * MAX_RECORD_BYTES})
