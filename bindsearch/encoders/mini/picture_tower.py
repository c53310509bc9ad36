"""The image tower of `mini` in fp32 as a module that can be trained, for towers that start from it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from bindsearch.encoders.mini.class_map import Appearance, ClassMap, ClassTexts, map_features
from bindsearch.encoders.mini.class_prototypes import load_class_map
from bindsearch.encoders.mini.efficientnet import FEATURES, PIXEL_MEAN, build_network, read_weights
from bindsearch.encoders.mini.weights import image_network_file


class MiniPictureTower(nn.Module):
    """EfficientNet-Lite0 and the map of its features to the text space; see `encoders.bound.networks.PictureTower`."""

    width = FEATURES

    def __init__(self) -> None:
        super().__init__()
        weights = read_weights(image_network_file())
        self.network = build_network(weights)
        self._class_map = load_class_map(weights)

    def features(self, squares: Tensor) -> Tensor:
        """Return features, float32 (n, 1280), of squares, uint8 (n, 224, 224, 3)."""
        features: Tensor = self.network(squares.permute(0, 3, 1, 2).float() - PIXEL_MEAN)
        return features

    def project(self, features: Tensor) -> Tensor:
        """Return unit vectors of the text space, float32 (n, 384), of features (n, 1280)."""
        if self._class_map.weight.device != features.device:
            self._class_map = _on_device(self._class_map, features.device)
        return map_features(features, self._class_map)


def _on_device(by: ClassMap, device: torch.device) -> ClassMap:
    """Return a map with its tensors on a device."""
    return replace(
        by,
        weight=by.weight.to(device),
        bias=by.bias.to(device),
        texts=ClassTexts(by.texts.names.to(device), by.texts.scenes.to(device)),
        linear=by.linear.to(device),
        appearance=Appearance(by.appearance.features.to(device), by.appearance.texts.to(device)),
    )
