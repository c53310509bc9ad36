"""Dense features of encoders that are made of others: those of the encoder that embeds the pictures."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.binding.bind import bind
from bindsearch.encoders import load_encoder
from bindsearch.encoders.base import Encoder, locatable_modalities, locating
from bindsearch.encoders.combined.encoder import Bridge, CombinedEncoder
from bindsearch.encoders.mini import MiniEncoder
from bindsearch.encoders.null import NullEncoder
from bindsearch.encoders.shortened import shorten
from bindsearch.errors import UsageError
from bindsearch.media import Picture, ThermalPicture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize
from helpers.bound_world import make_scenes, write_pairs, write_scenes

PICTURE_LIKE = frozenset({Modality.IMAGE, Modality.DEPTH, Modality.THERMAL})
TOLERANCE = 1e-5


class Shortenable(MiniEncoder):
    shorter_dims = (64, 128)


def prepared_by(encoder: Encoder) -> list[NDArray[Any]]:
    rng = np.random.default_rng(0)
    return [encoder.prepare(Picture(rng.integers(0, 256, (80, 80, 3), np.uint8))) for _ in range(2)]


def located_by(encoder: Encoder, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    return locating(encoder, Modality.IMAGE).locate(Modality.IMAGE, prepared)


def test_shortened_vectors_of_cells_are_the_first_dimensions() -> None:
    whole = Shortenable()
    short = pickle.loads(pickle.dumps(shorten(whole, 64)))
    assert locatable_modalities(short) == PICTURE_LIKE
    prepared = prepared_by(whole)
    expected = l2_normalize(located_by(whole, prepared)[..., :64])
    np.testing.assert_allclose(located_by(short, prepared), expected, atol=TOLERANCE)
    for modality in (Modality.VIDEO, Modality.TEXT):
        with pytest.raises(
            UsageError, match=rf"^mini has no dense features of {modality}, but of depth, image, thermal$"
        ):
            short.locate(modality, prepared)


def test_a_bound_encoder_locates_with_its_hub_what_the_hub_embeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    write_scenes(tmp_path, make_scenes(4, 1), ["image", "thermal"])
    write_pairs(tmp_path / "thermal.csv", "thermal", "image", 4)
    settings = ("network=vit-nano", "side_px=32", "patch_px=8", "batch=4", "epochs=0", "validation=0")
    bind(tmp_path / "thermal.csv", "thermal", "mini", "t", settings=settings)
    encoder = pickle.loads(pickle.dumps(load_encoder("bound:t")))
    assert locatable_modalities(encoder) == {Modality.IMAGE, Modality.DEPTH}
    prepared = prepared_by(encoder)
    np.testing.assert_allclose(located_by(encoder, prepared), located_by(encoder.hub, prepared), atol=TOLERANCE)
    thermal = [encoder.prepare(ThermalPicture(np.random.default_rng(0).random((32, 32), np.float32)))]
    with pytest.raises(UsageError, match=r"^bound:t has no dense features of thermal, but of depth, image$"):
        encoder.locate(Modality.THERMAL, thermal)


def combined(taken: frozenset[Modality], bridge: Bridge | None = None) -> Any:
    first, second = NullEncoder(), MiniEncoder()
    return pickle.loads(pickle.dumps(CombinedEncoder("null+mini", first, second, taken, bridge)))


def test_combined_encoders_locate_with_the_one_that_embeds_the_modality() -> None:
    encoder = combined(frozenset({Modality.IMAGE}))
    assert locatable_modalities(encoder) == {Modality.IMAGE}
    prepared = prepared_by(encoder)
    np.testing.assert_allclose(located_by(encoder, prepared), located_by(MiniEncoder(), prepared), atol=TOLERANCE)
    assert locatable_modalities(combined(frozenset({Modality.AUDIO}))) == frozenset()
    with pytest.raises(UsageError, match=r"^null has no dense features of thermal, but of no modality$"):
        encoder.locate(Modality.THERMAL, [])


def test_a_bridge_maps_each_cell_as_it_maps_a_picture() -> None:
    rng = np.random.default_rng(1)
    mini, dim = MiniEncoder(), NullEncoder().dim
    means = {Modality.TEXT: rng.normal(0, 0.05, mini.dim).astype(np.float32)}
    matrix, target = rng.normal(size=(mini.dim, dim)).astype(np.float32), rng.normal(size=dim).astype(np.float32)
    bridge = Bridge(matrix, means, target, "random")
    encoder = combined(frozenset({Modality.IMAGE}), bridge)
    prepared = prepared_by(encoder)
    located = located_by(encoder, prepared)
    cells = located_by(mini, prepared)
    assert located.shape == (2, 7, 7, dim)
    expected = l2_normalize(bridge.map(Modality.IMAGE, cells.reshape(-1, mini.dim))).reshape(located.shape)
    np.testing.assert_allclose(located, expected, atol=TOLERANCE)
