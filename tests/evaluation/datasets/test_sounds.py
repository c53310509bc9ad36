"""Sounds in the layouts of ESC-50, UrbanSound8K, Clotho and AudioCaps."""

from __future__ import annotations

from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import Metric
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.types import Modality
from helpers.data_set_files import write_media, write_texts

ESC = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
2-110389-A-0.wav,2,0,dog,True,110389,A
2-17367-A-10.wav,2,10,rain,True,17367,A
5-1-A-14.wav,5,14,chirping_birds,False,1,A
"""


def esc(folder: Path) -> Path:
    write_media(folder, "audio/1-100032-A-0.wav", "audio/2-110389-A-0.wav", "audio/5-1-A-14.wav")
    return write_texts(folder, {"meta/esc50.csv": ESC})


def test_esc50_has_folds_and_names_in_words_and_counts_missing_clips(tmp_path: Path) -> None:
    data = read_dataset("esc50", esc(tmp_path))
    assert [item.path.name for item in data.items] == ["1-100032-A-0.wav", "2-110389-A-0.wav", "5-1-A-14.wav"]
    assert [item.group for item in data.items] == ["1", "2", "5"]
    assert data.folds == ("1", "2", "5")
    assert data.classes is not None
    assert data.classes.labels == ("chirping_birds", "dog", "rain")
    assert data.classes.texts == (("chirping birds",), ("dog",), ("rain",))
    assert (data.metric, data.templates, data.modality) == (Metric.TOP1, "sound", Modality.AUDIO)
    assert data.listed == 4
    assert data.notes == ("1 of 4 left out: no file (the first: '2-17367-A-10.wav')",)


def test_a_fold_of_esc10_keeps_the_classes_of_all_folds(tmp_path: Path) -> None:
    data = read_dataset("esc10", esc(tmp_path), "fold1")
    assert [item.labels for item in data.items] == [("dog",)]
    assert data.classes is not None
    assert data.classes.labels == ("dog", "rain")
    assert (data.split, data.folds) == ("fold1", ("1",))


def test_urbansound8k_is_in_folders_by_fold(tmp_path: Path) -> None:
    write_media(tmp_path, "audio/fold5/100032-3-0-0.wav", "audio/fold10/100263-2-0-117.wav")
    table = (
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
        "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
        "100263-2-0-117.wav,100263,58.5,62.5,1,10,2,children_playing\n"
    )
    write_texts(tmp_path, {"metadata/UrbanSound8K.csv": table})
    data = read_dataset("urbansound8k", tmp_path)
    assert [(item.group, item.labels) for item in data.items] == [("5", ("dog_bark",)), ("10", ("children_playing",))]
    assert data.folds == ("5", "10")
    assert data.notes == ()


def test_clotho_has_five_captions_a_sound(tmp_path: Path) -> None:
    write_media(tmp_path, "evaluation/Santa Motor.wav")
    table = 'file_name,caption_1,caption_2,caption_3,caption_4,caption_5\nSanta Motor.wav,a,"b, and more",c,d,e\n'
    data = read_dataset("clotho", write_texts(tmp_path, {"clotho_captions_evaluation.csv": table}))
    assert data.items[0].captions == ("a", "b, and more", "c", "d", "e")
    assert (data.metric, data.split, data.classes, data.templates) == (Metric.RECALL, "evaluation", None, "none")


@pytest.mark.parametrize(
    "name",
    ["rqfQRErjfk8.wav", "YrqfQRErjfk8.wav", "rqfQRErjfk8_170.flac", "YrqfQRErjfk8_170000_180000.wav",
     "rqfQRErjfk8_000170.wav", "rqfQRErjfk8_170_180.wav", "rqfQRErjfk8_170.000_180.000.wav"],
)  # fmt: skip
def test_audiocaps_joins_captions_and_finds_clips_by_the_names_of_downloaders(tmp_path: Path, name: str) -> None:
    write_media(tmp_path, f"audio/test/{name}")
    table = (
        "audiocap_id,youtube_id,start_time,caption\n"
        "97151,rqfQRErjfk8,170,A large crowd cheers and applauds\n"
        "97152,rqfQRErjfk8,170,People cheer\n"
        "1,GoneGoneGo0,30,A car\n"
    )
    data = read_dataset("audiocaps", write_texts(tmp_path, {"test.csv": table}))
    assert [(item.path.name, item.captions) for item in data.items] == [
        (name, ("A large crowd cheers and applauds", "People cheer"))
    ]
    assert data.notes == ("1 of 2 left out: no file (the first: 'GoneGoneGo0')",)


def test_messages_name_what_is_missing_and_the_layout(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_dataset("esc50", tmp_path)
    expected = "meta/esc50.csv or esc50.csv is missing: esc50 expects meta/esc50.csv and audio/"
    assert str(caught.value) == f"{tmp_path}: {expected}"
    write_texts(tmp_path, {"meta/esc50.csv": ESC, "audio/readme.txt": "none"})
    with pytest.raises(UsageError) as caught:
        read_dataset("esc50", tmp_path)
    assert "4 of 4 left out: no file (the first: '1-100032-A-0.wav'): esc50 expects" in str(caught.value)
    with pytest.raises(UsageError, match=r"clotho_captions_validation.csv is missing: clotho expects"):
        read_dataset("clotho", tmp_path, "validation")
    with pytest.raises(UsageError, match=r"test.csv or audiocaps_test.csv or dataset/test.csv is missing"):
        read_dataset("audiocaps", tmp_path)
    with pytest.raises(UsageError, match=r"metadata/UrbanSound8K.csv or UrbanSound8K.csv is missing"):
        read_dataset("urbansound8k", tmp_path)


def test_a_list_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    outside = ESC.replace("1-100032-A-0.wav", "../secret.wav")
    with pytest.raises(UsageError, match=r"'\.\./secret\.wav' is not a path in .*without \.\."):
        read_dataset("esc50", write_texts(tmp_path, {"meta/esc50.csv": outside, "audio/x": ""}))
