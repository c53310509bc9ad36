"""Encoders by name; importing this package loads neither weights nor torch."""

from __future__ import annotations

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.encoders.registry import has_options, load_encoder, shipped_calibration
from bindsearch.encoders.torch_runtime.device import Runtime

__all__ = ["Encoder", "Runtime", "encode_media", "has_options", "load_encoder", "shipped_calibration"]
