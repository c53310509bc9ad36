from __future__ import annotations

import json
from pathlib import Path

import pytest

from bindsearch.errors import MediaError
from bindsearch.ingest.sidecar import MAX_SIDECAR_BYTES, Sidecar, parse_sidecar, read_sidecar, sidecar_path


def test_there_need_not_be_one(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path / "a.png") == Sidecar()


def test_it_lies_next_to_the_file_under_its_full_name(tmp_path: Path) -> None:
    assert sidecar_path(Path("x/a.tar.PNG")) == Path("x/a.tar.PNG.json")
    (tmp_path / "a.png.json").write_text('{"fx": 519}')
    assert read_sidecar(tmp_path / "a.png").fx == 519


def test_every_key_is_read() -> None:
    facts = {
        "fx": 500, "baseline_m": 0.1, "depth_unit": "cm", "sample_rate_hz": 50.5, "axes": list("abcdef"),
        "units": {"accelerometer": "g", "gyroscope": "deg/s"}, "caption": "A hall.",
    }  # fmt: skip
    sidecar = parse_sidecar(json.dumps(facts).encode())
    assert sidecar == Sidecar(
        500.0, 0.1, "cm", 50.5, ("a", "b", "c", "d", "e", "f"), {"accelerometer": "g", "gyroscope": "deg/s"}, "A hall."
    )


def test_null_is_absent_and_a_blank_caption_none() -> None:
    assert parse_sidecar(b'{"fx": null, "axes": null, "caption": "  "}') == Sidecar()


def test_a_number_of_metres_is_a_unit() -> None:
    assert parse_sidecar(b'{"depth_unit": 0.0002}').depth_unit == "0.0002 m"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "expected an object, found list"),
        (b'{"focal": 1, "fx": 2}', "unknown key 'focal': expected fx, baseline_m"),
        (b'{"fx": "wide"}', "fx is wide: expected a number"),
        (b'{"fx": true}', "fx is True: expected a number"),
        (b'{"fx": 0}', "fx is 0: expected a number above 0"),
        (b'{"fx": NaN}', "fx is nan: expected a number above 0"),
        (b'{"fx": 1e999}', "fx is inf"),
        (b'{"fx": 1' + b"0" * 400 + b"}", "fx is a huge number"),
        (b'{"baseline_m": -1}', "baseline_m is -1"),
        (b'{"sample_rate_hz": [50]}', r"sample_rate_hz is \[50\]: expected a number"),
        (b'{"depth_unit": {}}', "depth_unit is"),
        (b'{"axes": ["x"]}', "axes is .*expected six column names"),
        (b'{"axes": [1, 2, 3, 4, 5, "f"]}', "axes is"),
        (b'{"axes": [1, 1, 1, 1, 1, 1]}', "each once"),
        (b'{"units": "g"}', "units is g: expected"),
        (b'{"units": {"accelerometer": 1}}', "units is"),
        (b'{"caption": 3}', "caption is 3: expected a text"),
        (b'{"caption": ' + b"1" * 4400 + b"}", "not JSON"),
    ],
)
def test_what_is_wrong_is_named_on_one_short_line(raw: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        parse_sidecar(raw)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_message_names_the_sidecar(tmp_path: Path) -> None:
    (tmp_path / "a.png.json").write_text("{}]")
    with pytest.raises(MediaError, match=r"sidecar a\.png\.json: not JSON"):
        read_sidecar(tmp_path / "a.png")


def test_a_huge_or_unreadable_one_fails(tmp_path: Path) -> None:
    (tmp_path / "a.png.json").write_bytes(b" " * (MAX_SIDECAR_BYTES + 1))
    with pytest.raises(MediaError, match="larger than"):
        read_sidecar(tmp_path / "a.png")
    (tmp_path / "b.png.json").mkdir()
    with pytest.raises(MediaError, match="cannot be read: Is a directory"):
        read_sidecar(tmp_path / "b.png")


def test_another_programs_json_is_no_sidecar() -> None:
    assert parse_sidecar(b'{"title": "IMG_1.jpg", "description": "my dog", "creationTime": {}}') == Sidecar()
