"""The configuration of a store: fields of other types and values under a seal that is right, and other encoders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.storage.config import (
    MAX_DIM,
    MAX_SEGMENT_S,
    StoreConfig,
    check_encoder,
    load_store_encoder,
    new_config,
    read_config,
    write_config,
)


@pytest.fixture
def config() -> StoreConfig:
    return new_config(NullEncoder(), DecodeOptions())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder", 1, "is not a text"),
        ("weights_digest", None, "is not a text"),
        ("created", 2.5, "is not a text"),
        ("encoder_options", [], "encoder_options is"),
        ("encoder_options", {"dim": []}, "encoder_options is"),
        ("audio_segment_s", 0, "the lengths of segments are"),
        ("video_segment_s", MAX_SEGMENT_S, "the lengths of segments are"),
        ("imu_segment_s", True, "the lengths of segments are"),
        ("dim", 0, "dim is 0"),
        ("dim", MAX_DIM + 1, "dim is"),
        ("dim", 8.0, "dim is 8.0"),
        ("dim", True, "dim is True"),
    ],
)
def test_a_value_that_cannot_be_is_damage(
    name: str, value: Any, message: str, config: StoreConfig, tmp_path: Path
) -> None:
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    write_config(tmp_path, replace(config, **{name: value}))
    with pytest.raises(bs.StoreError, match=rf"store\.json is damaged \(.*{message}.*put it back"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", 1),
        ("dim", MAX_DIM),
        ("audio_segment_s", 1),
        ("audio_segment_s", MAX_SEGMENT_S - 1.0),
        ("encoder_options", {"a": 1, "b": 0.5, "c": "d", "e": False}),
    ],
)
def test_values_at_the_bounds_are_read(name: str, value: Any, config: StoreConfig, tmp_path: Path) -> None:
    config = replace(config, **{name: value})
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


@pytest.mark.parametrize("digest", [None, "other"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_only_the_first_format_has_no_digest(
    digest: str | None, version: int, config: StoreConfig, tmp_path: Path
) -> None:
    write_config(tmp_path, replace(config, format=version))
    data = json.loads((tmp_path / "store.json").read_text())
    data = {key: value for key, value in data.items() if key != "digest"} | ({"digest": digest} if digest else {})
    (tmp_path / "store.json").write_text(json.dumps(data))
    if version == 1 and digest is None:
        assert read_config(tmp_path) == replace(config, format=1)
    else:
        message = "has format 3, this BindSearch reads up to 2" if version == 3 else "does not match its digest"
        with pytest.raises(bs.StoreError, match=message):
            read_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "mini"}, "holds vectors of encoder mini, not of null: use that encoder"),
        (
            {"weights_digest": "other"},
            r"of other weights of null \(digest other, now .*`bindsearch reindex ",
        ),
        ({"encoder_options": {"a": 1}}, "was made with a=1, not none: leave the encoder's options"),
    ],
)
def test_an_encoder_of_other_vectors_is_refused(changes: dict[str, Any], message: str, config: StoreConfig) -> None:
    encoder = NullEncoder()
    check_encoder(config, encoder, Path("store"))
    with pytest.raises(bs.StoreError, match=message):
        check_encoder(replace(config, **changes), encoder, Path("store"))


def test_every_option_that_differs_is_named(config: StoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = NullEncoder()
    monkeypatch.setattr(type(encoder), "options", {"b": 2, "c": 3}, raising=False)
    with pytest.raises(bs.StoreError, match="was made with a=1, not none, b=1, not 2, no c, not 3: "):
        check_encoder(replace(config, encoder_options={"a": 1, "b": 1}), encoder, Path("store"))


def test_the_encoder_of_a_store_is_loaded_unless_another_is_given(config: StoreConfig, tmp_path: Path) -> None:
    from bindsearch.encoders.torch_runtime.device import Runtime

    write_config(tmp_path, config)
    assert load_store_encoder(tmp_path, None, {}, Runtime()).name == "null"
    assert load_store_encoder(tmp_path / "new", None, {}, Runtime()).name == "mini"
    with pytest.raises(bs.StoreError, match="holds vectors of encoder null, not of mini"):
        load_store_encoder(tmp_path, "mini", {}, Runtime())
