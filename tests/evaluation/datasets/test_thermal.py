"""Thermal pictures in the layouts of LLVIP and RoadScene."""

from __future__ import annotations

from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import Metric
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.types import Modality
from helpers.data_set_files import write_media, write_texts

Box = tuple[int, int, int, int]


def annotation(*boxes: Box, name: str = "person", size: tuple[int, int] = (640, 512)) -> str:
    things = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for a, b, c, d in boxes
    )
    width, height = size
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{things}</annotation>"


def overlap(a: Box, b: Box) -> bool:
    return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])


def test_each_person_has_a_crop_of_background_of_its_size_without_persons(tmp_path: Path) -> None:
    boxes: list[Box] = [(100, 100, 140, 200), (300, 50, 360, 250), (0, 0, 20, 400)]
    write_media(tmp_path, "infrared/test/190001.jpg", "infrared/test/190002.jpg", "visible/test/190001.jpg")
    write_texts(tmp_path, {f"Annotations/{name}.xml": annotation(*boxes) for name in ("190001", "190002")})
    data = read_dataset("llvip", tmp_path)
    persons = [item.crop for item in data.items if item.labels == ("person",)]
    places = [item.crop for item in data.items if item.labels == ("background",)]
    assert persons == 2 * boxes
    assert len(places) == 6
    for person, place in zip(persons, places, strict=True):
        assert person is not None
        assert place is not None
        assert (place[2] - place[0], place[3] - place[1]) == (person[2] - person[0], person[3] - person[1])
        assert place[0] >= 0
        assert place[1] >= 0
        assert place[2] <= 640
        assert place[3] <= 512
        assert not any(overlap(place, box) for box in boxes)
    assert places[:3] != places[3:]
    assert read_dataset("llvip", tmp_path).items == data.items
    assert data.classes is not None
    assert data.classes.labels == ("person", "background")
    assert "woman" in data.classes.texts[0]
    assert (data.metric, data.modality, data.notes) == (Metric.TOP1, Modality.THERMAL, ())
    assert {item.group for item in data.items} == {"190001", "190002"}


def test_small_persons_crowded_pictures_and_pictures_without_annotation_are_counted(tmp_path: Path) -> None:
    write_media(tmp_path, *(f"infrared/test/{name}.jpg" for name in "abcd"))
    texts = {
        "a": annotation((5, 5, 15, 60)),
        "b": annotation((0, 0, 640, 512)),
        "d": annotation((9, 9, 99, 99), name="car"),
    }
    write_texts(tmp_path, {f"Annotations/{name}.xml": text for name, text in texts.items()})
    data = read_dataset("llvip", tmp_path)
    assert [(item.path.name, item.labels) for item in data.items] == [("b.jpg", ("person",))]
    assert data.notes == (
        "1 of 4 left out: a person of less than 16 pixels (the first: 'a.jpg, person 1')",
        "1 of 4 left out: no place of its size without persons (the first: 'b.jpg, person 1')",
        "1 of 4 left out: no annotation (the first: 'c.jpg')",
    )


@pytest.mark.parametrize(
    "text",
    ["<annotation>", "<annotation/>", '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>',
     annotation((1, 2, 3, 4)).replace("<xmin>1", "<xmin>inf"), annotation((1, 2, 3, 4)).replace("640", "wide")],
)  # fmt: skip
def test_damaged_annotations_are_named(tmp_path: Path, text: str) -> None:
    write_media(tmp_path, "infrared/test/a.jpg")
    with pytest.raises(UsageError, match=r"a\.xml is not an annotation of PASCAL VOC: "):
        read_dataset("llvip", write_texts(tmp_path, {"Annotations/a.xml": text}))


def test_llvip_without_its_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_dataset("llvip", tmp_path)
    expected = "infrared/test is missing: llvip expects infrared/<split>/ and Annotations/"
    assert str(caught.value) == f"{tmp_path}: {expected}"


def test_roadscene_pairs_pictures_of_one_name(tmp_path: Path) -> None:
    write_media(tmp_path, "cropinfrared/FLIR_1.jpg", "crop_LR_visible/FLIR_1.jpg", "cropinfrared/FLIR_2.jpg")
    data = read_dataset("roadscene", tmp_path)
    assert [(item.path.parent.name, item.others[Modality.IMAGE].parent.name) for item in data.items] == [
        ("cropinfrared", "crop_LR_visible")
    ]
    assert data.notes == ("1 of 2 left out: no file of its pair (the first: 'FLIR_2.jpg')",)
    assert data.metric is Metric.RECALL
    with pytest.raises(
        UsageError, match=r"labels.csv is missing: roadscene-time expects labels.csv with path and time"
    ):
        read_dataset("roadscene-time", tmp_path)


def test_roadscene_by_person_and_by_time_from_a_list(tmp_path: Path) -> None:
    write_media(tmp_path, "thermal/1.jpg", "thermal/2.jpg", "visible/1.jpg", "visible/2.jpg")
    table = (
        "path,label,visible_path,time\n"
        "thermal/1.jpg,person,visible/1.jpg,day\n"
        "thermal/2.jpg,empty,visible/2.jpg,night\n"
    )
    write_texts(tmp_path, {"labels.csv": table})
    assert len(read_dataset("roadscene", tmp_path).items) == 2
    persons = read_dataset("roadscene-person", tmp_path)
    assert [item.labels for item in persons.items] == [("person",)]
    assert persons.notes == ("1 of 2 left out: its label is none of person, no_person (the first: 'thermal/2.jpg')",)
    times = read_dataset("roadscene-time", tmp_path)
    assert [item.labels for item in times.items] == [("day",), ("night",)]
    assert times.metric is Metric.MEAN_CLASS
