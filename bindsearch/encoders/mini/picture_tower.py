"""The image tower of `mini` in fp32 as a module that can be trained, for towers that start from it."""

from __future__ import annotations

from dataclasses import fields

from torch import Tensor, nn

from bindsearch.encoders.mini.class_prototypes import ClassMap, load_class_map, map_features
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
        by, device = self._class_map, features.device
        if by.weight.device != device:
            self._class_map = ClassMap(*(getattr(by, field.name).to(device) for field in fields(by)))
        return map_features(features, self._class_map)
