"""Clips of YouTube in the layouts of AudioSet, VGGSound, Kinetics and MSR-VTT."""

from __future__ import annotations

from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import Metric
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.types import Modality
from helpers.data_set_files import write_media, write_texts

SEGMENTS = """# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=20371, num_segs=20371, num_unique_labels=527, num_positive_labels=51804
# YTID, start_seconds, end_seconds, positive_labels
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"
--BfvyPmVMo, 20.000, 30.000, "/m/03l9g"
gone0000000, 5.000, 15.000, "/m/068hy"
"""
LABELS = """index,mid,display_name
0,/m/068hy,"Domestic animals, pets"
1,/m/07q6cd_,Squeak
2,/m/03l9g,Hammer
"""


def test_audioset_has_several_labels_a_clip_and_says_how_many_clips_are_gone(tmp_path: Path) -> None:
    write_media(tmp_path, "clips/--4gqARaEJE.wav", "clips/Y--BfvyPmVMo.wav")
    write_texts(tmp_path, {"eval_segments.csv": SEGMENTS, "class_labels_indices.csv": LABELS})
    data = read_dataset("audioset", tmp_path)
    assert [item.labels for item in data.items] == [("/m/068hy", "/m/07q6cd_"), ("/m/03l9g",)]
    assert data.classes is not None
    assert data.classes.texts == (("domestic animals, pets",), ("squeak",), ("hammer",))
    assert (data.metric, data.listed, data.split) == (Metric.MAP, 3, "eval")
    assert data.notes == ("1 of 3 left out: no file (the first: 'gone0000000')",)
    write_texts(tmp_path, {"class_labels_indices.csv": LABELS.replace("/m/03l9g", "/m/other")})
    with pytest.raises(UsageError, match=r"the label '/m/03l9g' is not in class_labels_indices.csv"):
        read_dataset("audioset", tmp_path)


def test_vggsound_takes_the_sound_of_videos_and_the_classes_of_both_splits(tmp_path: Path) -> None:
    write_media(tmp_path, "videos/---g-f_I2yQ_000001.mp4", "videos/--0PQM4-hqg_000030.mp4")
    table = (
        '---g-f_I2yQ,1,"people marching",test\n'
        "--0PQM4-hqg,30,waterfall burbling,train\n"
        "--56QUhyDQM,185,playing tennis,test\n"
    )
    data = read_dataset("vggsound", write_texts(tmp_path, {"vggsound.csv": table}))
    assert [(item.path.name, item.modality, item.labels) for item in data.items] == [
        ("---g-f_I2yQ_000001.mp4", Modality.AUDIO, ("people marching",))
    ]
    assert data.classes is not None
    assert data.classes.labels == ("people marching", "playing tennis", "waterfall burbling")
    assert data.notes == ("1 of 2 left out: no file (the first: '--56QUhyDQM_185')",)
    assert [item.labels for item in read_dataset("vggsound", tmp_path, "train").items] == [("waterfall burbling",)]


def test_a_sound_file_is_preferred_to_a_video_of_its_name(tmp_path: Path) -> None:
    write_media(tmp_path, "a/---g-f_I2yQ_000001.mp4", "b/---g-f_I2yQ_000001.wav")
    write_texts(tmp_path, {"vggsound.csv": '---g-f_I2yQ,1,"people marching",test\n'})
    assert read_dataset("vggsound", tmp_path).items[0].path.suffix == ".wav"


def test_kinetics_finds_clips_by_their_times(tmp_path: Path) -> None:
    write_media(tmp_path, "val/abseiling/0wR5jVB-WPk_000417_000427.mp4")
    table = (
        "label,youtube_id,time_start,time_end,split\n"
        "abseiling,0wR5jVB-WPk,417,427,validate\n"
        "air drumming,--nQbRBEz2s,104,114,validate\n"
    )
    data = read_dataset("kinetics", write_texts(tmp_path, {"annotations/validate.csv": table}))
    assert [(item.labels, item.modality) for item in data.items] == [(("abseiling",), Modality.VIDEO)]
    assert data.classes is not None
    assert data.classes.labels == ("abseiling", "air drumming")
    assert data.notes == ("1 of 2 left out: no file (the first: '--nQbRBEz2s')",)
    with pytest.raises(UsageError, match=r"test.csv or annotations/test.csv is missing: kinetics expects val.csv"):
        read_dataset("kinetics", tmp_path, "test")


def test_msrvtt_has_one_caption_a_video(tmp_path: Path) -> None:
    write_media(tmp_path, "MSRVTT_Videos/video9770.mp4")
    table = (
        "key,vid_key,video_id,sentence\n"
        "ret0,msr9770,video9770,a person is connecting something to system\n"
        'ret1,msr9771,video9771,"a little girl does gymnastics, twice"\n'
    )
    data = read_dataset("msrvtt", write_texts(tmp_path, {"MSRVTT_JSFUSION_test.csv": table}))
    assert [item.captions for item in data.items] == [("a person is connecting something to system",)]
    assert (data.metric, data.listed) == (Metric.RECALL, 2)
    with pytest.raises(UsageError, match=r"MSRVTT_JSFUSION_test.csv or .* is missing: msrvtt expects"):
        read_dataset("msrvtt", tmp_path / "MSRVTT_Videos")


def test_a_link_of_folders_that_leads_back_is_followed_once(tmp_path: Path) -> None:
    write_media(tmp_path, "videos/video1.mp4")
    (tmp_path / "videos" / "again").symlink_to(tmp_path)
    write_texts(tmp_path, {"MSRVTT_JSFUSION_test.csv": "video_id,sentence\nvideo1,a film\n"})
    assert len(read_dataset("msrvtt", tmp_path).items) == 1
