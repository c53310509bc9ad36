"""Small pointing games with `mini` and real files; benchmarks/pointing.py plays the large ones."""

from __future__ import annotations

from pathlib import Path

from pointing import class_names, joined_motions, joined_sounds, play, sounds_in_pictures

import bindsearch as bs

USUAL = bs.LocateOptions()


def test_class_names_point_at_their_picture(shared_data: Path, tmp_path: Path) -> None:
    encoder = bs.load_encoder("mini")
    two = play(list(class_names(shared_data, tmp_path, 2, 16)), USUAL, encoder)
    assert two.pointed >= 0.85
    assert two.right >= 0.8
    assert two.false <= 0.25
    four = play(list(class_names(shared_data, tmp_path, 4, 12)), USUAL, encoder)
    assert four.pointed >= 0.7


def test_sounds_point_at_pictures_of_their_source(shared_data: Path, tmp_path: Path) -> None:
    score = play(list(sounds_in_pictures(shared_data, tmp_path, 8)), USUAL, bs.load_encoder("mini"))
    assert score.pointed >= 0.8
    assert score.found >= 0.7
    assert score.false <= 0.2


def test_labels_point_at_their_half_of_recordings(shared_data: Path, tmp_path: Path) -> None:
    encoder = bs.load_encoder("mini")
    sounds = play(list(joined_sounds(shared_data, tmp_path, 6, by_sound=False)), USUAL, encoder)
    assert sounds.pointed >= 0.8
    assert sounds.right >= 0.8
    motions = play(list(joined_motions(shared_data, tmp_path, 6)), USUAL, encoder)
    assert motions.pointed >= 0.8
