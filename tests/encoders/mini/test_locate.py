"""Dense features of `mini`: the class activation map, carried through the map of the classes to the text space."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from bindsearch.encoders.base import locatable_modalities
from bindsearch.encoders.mini import MiniEncoder
from bindsearch.encoders.mini.efficientnet import PIXEL_MEAN, POOLING_LAYERS, build_network, read_weights
from bindsearch.encoders.mini.weights import image_network_file
from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import UsageError
from bindsearch.media import DepthMap, Picture, ThermalPicture
from bindsearch.types import Modality


def _picture(seed: int) -> Picture:
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return Picture(np.kron(small, np.ones((32, 32, 1), np.uint8)))


def test_mean_of_the_logits_of_cells_is_exactly_that_of_the_picture() -> None:
    weights = read_weights(image_network_file())
    network = build_network(weights)
    pixels = torch.from_numpy(_picture(0).rgb)[None].permute(0, 3, 1, 2).float() - PIXEL_MEAN
    with torch.inference_mode():
        cells = network[:-POOLING_LAYERS](pixels).permute(0, 2, 3, 1) @ weights["_fc.weight"].T + weights["_fc.bias"]
        whole = network(pixels) @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert cells.shape == (1, 7, 7, 1000)
    torch.testing.assert_close(cells.mean((1, 2)), whole, atol=1e-4, rtol=1e-4)


def test_views_have_grids_of_unit_vectors_that_do_not_depend_on_each_other() -> None:
    encoder = pickle.loads(pickle.dumps(MiniEncoder()))
    prepared = [encoder.prepare(_picture(seed)) for seed in range(5)]
    together = encoder.locate(Modality.IMAGE, prepared)
    assert together.shape == (5, 7, 7, 384)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=-1), 1, atol=1e-5)
    alone = np.concatenate([encoder.locate(Modality.IMAGE, [one]) for one in prepared])
    assert np.sum(together * alone, axis=-1).min() > 0.99  # bfloat16, where the CPU has it


def test_depth_and_thermal_are_located_as_grey_pictures() -> None:
    encoder = MiniEncoder()
    values = np.random.default_rng(0).random((64, 64), np.float32)
    depth = DepthMap(values + 1, np.ones((64, 64), bool), 500.0, 0.1)
    for media, modality in ((depth, Modality.DEPTH), (ThermalPicture(values), Modality.THERMAL)):
        assert encoder.locate(modality, [encoder.prepare(media)]).shape == (1, 7, 7, 384)


def test_other_modalities_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^mini has no dense features of audio, but of depth, image, thermal$"):
        MiniEncoder().locate(Modality.AUDIO, [])
    assert locatable_modalities(MiniEncoder()) == {Modality.IMAGE, Modality.DEPTH, Modality.THERMAL}
    assert locatable_modalities(NullEncoder()) == frozenset()
