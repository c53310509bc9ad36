"""A bound encoder as an encoder: in a store, in another process, extended, damaged, and with hubs that change."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

import bindsearch as bs
from bindsearch.binding.bind import BindOptions, bind
from bindsearch.binding.data.pair_media import read_pair_media
from bindsearch.encoders.base import encode_media
from bindsearch.encoders.bound.encoder import BoundEncoder
from bindsearch.encoders.model_store.installed import MANIFEST_FILE, model_folder, remove_model
from bindsearch.encoders.model_store.pull import pull_model
from bindsearch.encoders.registry import kept_options, load_encoder
from bindsearch.encoders.timm.model_source import find_timm_source
from bindsearch.errors import BindSearchError, EncoderError
from bindsearch.media import Media
from bindsearch.types import Modality
from helpers.bound_world import make_scenes, write_pairs, write_scenes
from helpers.stores import connect

SCENES = 8
SMALL = ("network=vit-nano", "side_px=32", "patch_px=8", "batch=4", "epochs=0", "validation=0")


@pytest.fixture(autouse=True)
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    write_scenes(tmp_path, make_scenes(SCENES, 1), ["image", "thermal", "depth"])
    write_pairs(tmp_path / "thermal.csv", "thermal", "image", SCENES)
    write_pairs(tmp_path / "depth.csv", "depth", "image", SCENES)
    return tmp_path


def bound(scenes: Path, modality: str = "thermal", hub: str = "mini", name: str = "t", **options: Any) -> BoundEncoder:
    bind(scenes / f"{modality}.csv", modality, hub, name, settings=SMALL, options=BindOptions(**options))
    encoder = load_encoder(f"bound:{name}")
    assert isinstance(encoder, BoundEncoder)
    return encoder


def media(scenes: Path, encoder: BoundEncoder, modality: Modality = Modality.THERMAL) -> list[Media]:
    return [read_pair_media(path, modality, None, encoder.wants) for path in sorted((scenes / modality).iterdir())]


def test_in_a_store(scenes: Path) -> None:
    encoder = bound(scenes)
    with connect(scenes / "store", encoder="bound:t") as store:
        store.index(scenes / "thermal", rules=["thermal=*.png"])
        hits = store.search(bs.thermal(scenes / "thermal/0003.png"), to="thermal", k=3, include_query=True)
        assert hits[0].path.name == "0003.png"
        assert hits[0].cosine == pytest.approx(1.0, abs=1e-3)
        assert len(store.search("a dog", k=SCENES)) == SCENES
    vectors = encode_media(encoder, media(scenes, encoder))
    assert vectors.shape == (SCENES, encoder.dim)
    remove_model("bound:t")
    with pytest.raises(BindSearchError, match="the model bound:t is not installed: `bindsearch model list` lists the"):
        connect(scenes / "store").search("a dog")


def test_vectors_are_those_of_one_and_of_another_process(scenes: Path) -> None:
    encoder = bound(scenes)
    prepared = [encoder.prepare(one) for one in media(scenes, encoder)]
    together = encoder.encode(Modality.THERMAL, prepared)
    for number, one in enumerate(prepared):
        np.testing.assert_allclose(encoder.encode(Modality.THERMAL, [one])[0], together[number], atol=1e-5)
    copy = pickle.loads(pickle.dumps(encoder))
    assert (copy.name, copy.digest, copy.modalities) == (encoder.name, encoder.digest, encoder.modalities)
    np.testing.assert_array_equal(copy.encode(Modality.THERMAL, prepared), together)
    features = encoder.features(Modality.THERMAL, prepared)
    np.testing.assert_allclose(features, together * encoder.temperatures[Modality.THERMAL], rtol=1e-5)
    assert encoder.temperatures[Modality.THERMAL] == pytest.approx(10.0)
    assert encoder.options["thermal_tower"] == "vit-nano"
    mini = load_encoder("mini")
    assert {name: encoder.options[name] for name in mini.options} == dict(mini.options)
    assert encoder.digest != mini.digest


class Hub:
    """The encoder mini with optional members."""

    captioned = frozenset({Modality.IMAGE})

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self.asking = whole
        joint = frozenset({Modality.TEXT})
        self.wants = replace(whole.wants, longest_s={Modality.AUDIO: 3.0, Modality.THERMAL: 1.0}, joint=joint)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def as_query(self, target: Modality | None) -> Any:
        return self.asking if target is Modality.IMAGE else self


def test_optional_members_of_the_hub_are_kept(scenes: Path) -> None:
    hub: Any = Hub(load_encoder("mini"))
    encoder = BoundEncoder(bound(scenes).manifest, hub)
    assert encoder.wants.longest_s == {Modality.AUDIO: 3.0}
    assert (encoder.wants.joint, encoder.captioned) == ({Modality.TEXT}, {Modality.IMAGE})
    asking = encoder.as_query(Modality.IMAGE)
    assert asking.hub is hub.asking
    assert encoder.as_query(Modality.IMAGE) is asking
    assert encoder.as_query(None) is encoder
    one = media(scenes, encoder)[:1]
    np.testing.assert_array_equal(encode_media(asking, one), encode_media(encoder, one))  # of a bound tower


def test_a_store_keeps_the_options_of_the_parts(scenes: Path) -> None:
    bound(scenes)
    file = model_folder("bound:t") / MANIFEST_FILE
    facts = json.loads(file.read_text())
    recorded: dict[str, Any] = {"joint": "sound", "2_joint": "captions", "dim": 8, "thermal_tower": "vit-nano"}
    st, hf = {"encoder": "st:org/a"}, {"encoder": "hf:org/b"}
    for architecture, kept in (
        ({"hub": "st:org/a"}, {"joint": "sound", "2_joint": "captions", "dim": 8}),
        ({"bridge": [st, hf]}, {"joint": "sound", "2_joint": "captions", "dim": 8}),
        ({"hub": "mini"}, {"dim": 8}),
        ([], {}),
    ):
        file.write_text(json.dumps({**facts, "architecture": architecture}))
        assert kept_options("bound:t", recorded).items() >= kept.items()
        assert "thermal_tower" not in kept_options("bound:t", recorded)


def test_a_bound_hub_is_extended_and_may_then_go(scenes: Path) -> None:
    first = bound(scenes)
    both = bound(scenes, "depth", "bound:t", "both")
    assert [*both.manifest.files] == ["depth", "thermal"]
    assert both.hub.name == "mini"
    expected = encode_media(first, media(scenes, first))
    remove_model("bound:t")
    np.testing.assert_array_equal(encode_media(both, media(scenes, both)), expected)
    assert both.temperatures[Modality.THERMAL] == first.temperatures[Modality.THERMAL]
    assert both.temperatures[Modality.DEPTH] == pytest.approx(5.0)


def test_a_replaced_model_is_not_mixed_with_the_old_one(scenes: Path) -> None:
    old = bound(scenes)
    prepared = [old.prepare(one) for one in media(scenes, old)[:1]]
    bind(scenes / "thermal.csv", "thermal", "mini", "t", settings=[*SMALL, "seed=1"], options=BindOptions(replace=True))
    with pytest.raises(EncoderError, match="the model bound:t was replaced meanwhile: run the same command again"):
        old.encode(Modality.THERMAL, prepared)


def test_another_hub_is_refused(scenes: Path) -> None:
    bound(scenes)
    file = model_folder("bound:t") / MANIFEST_FILE
    facts = json.loads(file.read_text())
    facts["architecture"]["hub_digest"] = "0"
    file.write_text(json.dumps(facts))
    with pytest.raises(EncoderError) as raised:
        load_encoder("bound:t")
    assert str(raised.value) == (
        "bound:t was bound to another version of mini than the installed one: bind it again, or install that version "
        "of mini"
    )


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("architecture", [], "it names no hub"),
        ("architecture.hub", None, "it names no hub"),
        ("architecture.hub", "bound:t", "it names no hub"),
        ("architecture.hub_options", "x", "it names no hub"),
        ("architecture.towers", {}, "its towers are not those of their modalities"),
        ("architecture.towers", [1], "'list' object has no attribute 'items'"),
        ("architecture.towers.thermal.network", "vit", "network is 'vit': "),
        ("architecture.towers.thermal.side_px", "32", "side_px is '32'"),
        ("architecture.towers.thermal.side_px", True, "side_px is True"),
        ("architecture.towers.thermal.patch_px", 0, "patch_px is 0: expected 1 to 1024"),
        ("architecture.towers.thermal.more", 1, "unknown settings more"),
        ("architecture.towers.thermal.modality", "depth", "its towers are not those of their modalities"),
        ("architecture.towers.thermal.dim", 7, "dim is 7, mini has "),
        ("temperatures", {}, "the temperature of thermal is None"),
        ("temperatures.thermal", "10", "the temperature of thermal is '10'"),
        ("temperatures.thermal", 0, "the temperature of thermal is 0"),
    ],
)
def test_damaged_manifests(scenes: Path, place: str, value: Any, reason: str) -> None:
    bound(scenes)
    file = model_folder("bound:t") / MANIFEST_FILE
    facts = json.loads(file.read_text())
    *path, last = place.split(".")
    inner = facts
    for name in path:
        inner = inner[name]
    inner[last] = value
    file.write_text(json.dumps(facts))
    with pytest.raises(EncoderError) as raised:
        load_encoder("bound:t")
    message = str(raised.value)
    assert message.startswith(f"model.json of bound:t is damaged ({reason}")
    assert message.endswith("): bind it again (`bindsearch bind --out t --replace ...`)")
    assert "\n" not in message


def test_a_model_of_timm_as_the_hub(scenes: Path) -> None:
    torch.manual_seed(0)
    safetensors.torch.save_file(timm.create_model("test_vit", pretrained=False).state_dict(), scenes / "m.safetensors")
    pull_model(find_timm_source("timm:test_vit"), from_file=scenes / "m.safetensors", dtype="fp32")
    encoder = bound(scenes, hub="timm:test_vit")
    assert encoder.modalities == {Modality.IMAGE, Modality.VIDEO, Modality.THERMAL}
    vectors = encode_media(encoder, media(scenes, encoder))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    with pytest.raises(EncoderError, match="the encoder timm:test_vit has no tower of pictures to start from"):
        bind(scenes / "thermal.csv", "thermal", "timm:test_vit", "h", settings=["network=hub", "epochs=0"])
    remove_model("timm:test_vit")
    with pytest.raises(EncoderError, match="the model timm:test_vit is not installed: download it with `bindsearch mo"):
        load_encoder("bound:t")
