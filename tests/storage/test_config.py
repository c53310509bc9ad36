"""Fields of store.json with values of other types, under a seal that is right."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.storage.config import new_config, read_config, write_config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder", 1),
        ("weights_digest", None),
        ("created", 2.5),
        ("encoder_options", []),
        ("encoder_options", {"dim": []}),
    ],
)
def test_a_value_of_another_type_is_damage(name: str, value: Any, tmp_path: Path) -> None:
    config = new_config(NullEncoder(), DecodeOptions())
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    write_config(tmp_path, replace(config, **{name: value}))
    with pytest.raises(bs.StoreError, match=r"store\.json is damaged \((encoder|.*is not a text)"):
        read_config(tmp_path)
