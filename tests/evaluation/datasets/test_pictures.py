"""Photographs in the layouts of ImageNet, Places365, Flickr8k and COCO."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import Metric
from bindsearch.evaluation.datasets.registry import read_dataset
from helpers.data_set_files import write_media, write_texts


def test_imagenet_has_a_folder_a_class_with_the_names_of_a_class_file(tmp_path: Path) -> None:
    write_media(tmp_path, "val/n01440764/a.JPEG", "val/n01443537/b.JPEG", "val/n01443537/c.JPEG")
    data = read_dataset("imagenet", tmp_path)
    assert [item.labels[0] for item in data.items] == ["n01440764", "n01443537", "n01443537"]
    assert data.classes is not None
    assert data.classes.texts == (("tench",), ("goldfish",))
    assert data.notes == ("names of the classes: those that CLIP was published with",)
    assert (data.metric, data.templates) == (Metric.TOP1, "imagenet")
    index = {"0": ["n01440764", "a_fish"], "1": ["n01443537", "a_gold_fish"]}
    write_texts(tmp_path, {"imagenet_class_index.json": json.dumps(index)})
    named = read_dataset("imagenet", tmp_path)
    assert named.classes is not None
    assert named.classes.texts == (("a fish",), ("a gold fish",))
    assert named.notes == ("names of the classes: imagenet_class_index.json",)
    write_texts(tmp_path, {"LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius\n"})
    synsets = read_dataset("imagenet", tmp_path)
    assert synsets.classes is not None
    assert synsets.classes.texts == (("tench",), ("goldfish",))
    write_texts(tmp_path, {"classes.csv": "label,name\nn01440764,tench\nn01440764,doctor fish\n"})
    with pytest.raises(UsageError, match=r"the class n01443537 has no name: give classes\.csv or LOC_synset_mapping"):
        read_dataset("imagenet", tmp_path)


def test_folders_in_words_need_no_class_file(tmp_path: Path) -> None:
    data = read_dataset("imagenet", write_media(tmp_path, "val/tree_frog/a.jpg", "val/cat/a.png"))
    assert data.classes is not None
    assert data.classes.texts == (("cat",), ("tree frog",))
    assert data.notes == ()


def test_imagenet_without_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"val is missing: imagenet expects val/<WordNet id or class>/"):
        read_dataset("imagenet", tmp_path)
    with pytest.raises(UsageError, match=r"val has no folder a class"):
        read_dataset("imagenet", write_media(tmp_path, "val/ILSVRC2012_val_00000001.JPEG"))


def test_places365_joins_its_two_lists(tmp_path: Path) -> None:
    write_media(tmp_path, "val_256/Places365_val_00000001.jpg")
    lists = {
        "categories_places365.txt": "/a/airfield 0\n/a/apartment_building/outdoor 1\n",
        "places365_val.txt": "Places365_val_00000001.jpg 1\nPlaces365_val_00000002.jpg 0\n",
    }
    data = read_dataset("places365", write_texts(tmp_path, lists))
    assert [item.labels for item in data.items] == [("/a/apartment_building/outdoor",)]
    assert data.classes is not None
    assert data.classes.texts == (("airfield",), ("apartment building outdoor",))
    assert data.listed == 2
    write_texts(tmp_path, {"places365_val.txt": "Places365_val_00000001.jpg 7\n"})
    with pytest.raises(UsageError, match=r"has the class 7, which categories_places365\.txt does not list"):
        read_dataset("places365", tmp_path)
    write_texts(tmp_path, {"places365_val.txt": "Places365_val_00000001.jpg\n"})
    with pytest.raises(UsageError, match=r"places365_val\.txt, line 1: expected a name and a number"):
        read_dataset("places365", tmp_path)


TOKENS = "".join(f"{name}.jpg#{number}\t{name} caption, {number} .\n" for name in ("1_a", "2_b") for number in range(5))


def test_flickr8k_has_five_captions_a_photograph_of_the_split(tmp_path: Path) -> None:
    write_media(tmp_path, "Flicker8k_Dataset/1_a.jpg", "Flicker8k_Dataset/2_b.jpg")
    write_texts(tmp_path, {"Flickr8k.token.txt": TOKENS, "Flickr_8k.testImages.txt": "2_b.jpg\n"})
    data = read_dataset("flickr8k", tmp_path)
    assert [item.captions for item in data.items] == [tuple(f"2_b caption, {number} ." for number in range(5))]
    assert len(read_dataset("flickr8k", tmp_path, "all").items) == 2
    with pytest.raises(UsageError, match=r"Flickr_8k\.devImages\.txt or .* is missing: flickr8k expects"):
        read_dataset("flickr8k", tmp_path, "dev")
    write_texts(tmp_path, {"Flickr_8k.testImages.txt": "3_c.jpg\n"})
    with pytest.raises(UsageError, match=r"Flickr8k\.token\.txt has no caption of '3_c\.jpg'"):
        read_dataset("flickr8k", tmp_path)
    write_texts(tmp_path, {"Flickr8k.token.txt": "1_a.jpg a dog\n"})
    with pytest.raises(UsageError, match=r"line 1: expected <picture>#<number>, a tab and the caption"):
        read_dataset("flickr8k", tmp_path)


def test_coco_joins_captions_by_the_id_of_the_photograph(tmp_path: Path) -> None:
    write_media(tmp_path, "val2017/000000000139.jpg")
    content = {
        "images": [{"id": 139, "file_name": "000000000139.jpg"}, {"id": 285, "file_name": "000000000285.jpg"}],
        "annotations": [
            {"image_id": 139, "id": 1, "caption": "A room.\n"},
            {"image_id": 285, "id": 2, "caption": "A bear."},
            {"image_id": 139, "id": 3, "caption": "A television."},
        ],
    }
    name = "annotations/captions_val2017.json"
    data = read_dataset("coco", write_texts(tmp_path, {name: json.dumps(content)}))
    assert [item.captions for item in data.items] == [("A room.", "A television.")]
    assert data.notes == ("1 of 2 left out: no file (the first: '000000000285.jpg')",)
    write_texts(tmp_path, {name: '{"images": []}'})
    with pytest.raises(UsageError, match=r"has no list 'annotations': expected COCO's captions"):
        read_dataset("coco", tmp_path)
    write_texts(tmp_path, {name: '{"images": [{"id": 1}]}'})
    with pytest.raises(UsageError, match=r"a record of 'images' without id and file_name"):
        read_dataset("coco", tmp_path)
    write_texts(tmp_path, {name: "{"})
    with pytest.raises(UsageError, match=r"captions_val2017\.json is not a JSON object"):
        read_dataset("coco", tmp_path)
