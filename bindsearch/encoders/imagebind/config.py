"""Sizes of an ImageBind model, with the names of the published constructor."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from bindsearch.errors import UsageError

CONTEXT_TOKENS = 77
VOCABULARY = 49_408
PICTURE_SIDE_PX = 224
IMU_SAMPLES = 2000
IMU_AXES = 6


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Arguments of the published constructor with its defaults (facebookresearch/ImageBind, `ImageBindModel`).

    Drop path is used in training only; the arguments exist for compatibility.
    """

    video_frames: int = 2
    kernel_size: tuple[int, int, int] = (2, 14, 14)
    audio_kernel_size: int = 16
    audio_stride: int = 10
    out_embed_dim: int = 768
    vision_embed_dim: int = 1024
    vision_num_blocks: int = 24
    vision_num_heads: int = 16
    audio_embed_dim: int = 768
    audio_num_blocks: int = 12
    audio_num_heads: int = 12
    audio_num_mel_bins: int = 128
    audio_target_len: int = 204
    audio_drop_path: float = 0.1
    text_embed_dim: int = 768
    text_num_blocks: int = 12
    text_num_heads: int = 12
    depth_embed_dim: int = 384
    depth_kernel_size: int = 16
    depth_num_blocks: int = 12
    depth_num_heads: int = 8
    depth_drop_path: float = 0.0
    thermal_embed_dim: int = 768
    thermal_kernel_size: int = 16
    thermal_num_blocks: int = 12
    thermal_num_heads: int = 12
    thermal_drop_path: float = 0.0
    imu_embed_dim: int = 512
    imu_kernel_size: int = 8
    imu_num_blocks: int = 6
    imu_num_heads: int = 8
    imu_drop_path: float = 0.7


def make_config(**config: Any) -> ModelConfig:
    """Build a configuration from published arguments; the others have their published defaults.

    Raises:
        UsageError: an argument is unknown, or values do not fit together.
    """
    known = {field.name for field in fields(ModelConfig)}
    for name in config:
        if name not in known:
            raise UsageError(f"unknown argument {name!r} of an ImageBind model: it takes {', '.join(sorted(known))}")
    if "kernel_size" in config:
        config["kernel_size"] = tuple(config["kernel_size"])
    result = ModelConfig(**config)
    frames, kernel = result.video_frames, result.kernel_size
    if frames != kernel[0]:
        raise UsageError(f"video_frames is {frames}: the kernel {kernel} takes all frames at once")
    for tower in ("vision", "text", "audio", "depth", "thermal", "imu"):
        width, heads = getattr(result, f"{tower}_embed_dim"), getattr(result, f"{tower}_num_heads")
        if width % heads:
            raise UsageError(f"{tower}_embed_dim is {width}: expected a multiple of {tower}_num_heads, {heads}")
    return result


HUGE = ModelConfig(
    vision_embed_dim=1280,
    vision_num_blocks=32,
    vision_num_heads=16,
    text_embed_dim=1024,
    text_num_blocks=24,
    text_num_heads=16,
    out_embed_dim=1024,
)
"""Configuration of the published model, `imagebind_huge`.

Paper, section 3.3: ViT-H for image and text, ViT-B for audio and thermal, ViT-S for depth, 6-layer Transformer for IMU.
"""
