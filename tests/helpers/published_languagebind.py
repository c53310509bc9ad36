"""Independent transcription of what LanguageBind's published code computes, to compare with.

Written from languagebind/video/modeling_video.py, languagebind/audio/processing_audio.py, data/process_depth.py,
data/process_thermal.py and languagebind/video/processing_video.py of PKU-YuanGroup/LanguageBind (MIT), in plain torch
and torchvision; random squares and mirrors are replaced by the middle square. Published weights were never run: tests
use random ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision import transforms

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def _attend(layer: nn.ModuleDict, states: Tensor) -> Tensor:
    """Attention of CLIP, spelled out: softmax(q k / sqrt(width of a head)) v."""
    count, length, width = states.shape
    size = width // SIZES["num_attention_heads"]
    heads = {}
    for name in ("q", "k", "v"):
        heads[name] = layer[f"{name}_proj"](states).view(count, length, -1, size).permute(0, 2, 1, 3)
    scores = (heads["q"] * size**-0.5) @ heads["k"].transpose(-1, -2)
    mixed = torch.softmax(scores, dim=-1) @ heads["v"]
    out: Tensor = layer["out_proj"](mixed.permute(0, 2, 1, 3).reshape(count, length, width))
    return out


def _attention() -> nn.ModuleDict:
    width = SIZES["hidden_size"]
    return nn.ModuleDict({f"{name}_proj": nn.Linear(width, width) for name in ("k", "v", "q", "out")})


class PublishedTower(nn.Module):
    """`vision_model` and `visual_projection`; `frames` is 0 without attention over frames."""

    vision_model: Any

    def __init__(self, height: int = 224, width: int = 224, *, patch: int = 56, frames: int = 0) -> None:
        super().__init__()
        size, hidden = SIZES["hidden_size"], SIZES["intermediate_size"]
        self.frames = frames
        positions = 1 + (height // patch) * (width // patch)
        embeddings = nn.ParameterDict({"class_embedding": nn.Parameter(torch.randn(size))})
        self.vision_model = nn.Module()
        self.vision_model.embeddings = nn.Module()
        self.vision_model.embeddings.class_embedding = embeddings["class_embedding"]
        self.vision_model.embeddings.patch_embedding = nn.Conv2d(3, size, patch, patch, bias=False)
        self.vision_model.embeddings.position_embedding = nn.Embedding(positions, size)
        self.vision_model.pre_layrnorm = nn.LayerNorm(size)
        self.vision_model.post_layernorm = nn.LayerNorm(size)
        self.vision_model.encoder = nn.Module()
        self.vision_model.encoder.layers = nn.ModuleList()
        for _ in range(SIZES["num_hidden_layers"]):
            layer: Any = nn.Module()
            layer.self_attn, layer.layer_norm1, layer.layer_norm2 = _attention(), nn.LayerNorm(size), nn.LayerNorm(size)
            layer.mlp = nn.ModuleDict({"fc1": nn.Linear(size, hidden), "fc2": nn.Linear(hidden, size)})
            if frames:
                layer.temporal_embedding = nn.Parameter(0.1 * torch.randn(1, frames, size))
                layer.temporal_attn, layer.temporal_layer_norm1 = _attention(), nn.LayerNorm(size)
            self.vision_model.encoder.layers.append(layer)
        self.visual_projection = nn.Linear(size, 24, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, h, w), or (n, 3, t, h, w) as videos are, to unit vectors (n, 24)."""
        count, times = len(pixels), 1
        if pixels.ndim == 5:
            times = pixels.shape[2]
            pixels = pixels.permute(0, 2, 1, 3, 4).reshape(count * times, 3, *pixels.shape[3:])
        model = self.vision_model
        patches = model.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = model.embeddings.class_embedding.expand(len(pixels), 1, -1)
        states = torch.cat([first, patches], dim=1)
        states = model.pre_layrnorm(states + model.embeddings.position_embedding.weight[None])
        for layer in model.encoder.layers:
            if self.frames:
                tokens = states.shape[1]
                grouped = states.view(count, times, tokens, -1).permute(0, 2, 1, 3).reshape(count * tokens, times, -1)
                grouped = grouped + layer.temporal_embedding[:, :times]
                grouped = grouped + _attend(layer.temporal_attn, layer.temporal_layer_norm1(grouped))
                states = grouped.view(count, tokens, times, -1).permute(0, 2, 1, 3).reshape(count * times, tokens, -1)
            states = states + _attend(layer.self_attn, layer.layer_norm1(states))
            inner = nn.functional.gelu(layer.mlp["fc1"](layer.layer_norm2(states)))
            states = states + layer.mlp["fc2"](inner)
        pooled = model.post_layernorm(states[:, 0]).reshape(count, times, -1).mean(1)
        return nn.functional.normalize(self.visual_projection(pooled), dim=1)


def _as_image() -> Callable[[Tensor], Tensor]:
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [transforms.Resize(224, interpolation=bicubic), transforms.CenterCrop(224), transforms.Normalize(MEAN, STD)]
    return transforms.Compose(steps)


def picture(rgb: NDArray[np.uint8]) -> Tensor:
    return _as_image()(transforms.ToTensor()(rgb))


def depth(millimetres: NDArray[np.float32], max_depth: float = 10) -> Tensor:
    metres = (millimetres / 1000.0).clip(min=0.01)
    scaled = metres.clip(max=max_depth) / max_depth if max_depth != 0 else metres / metres.max()
    return _as_image()(torch.from_numpy(scaled).float()[None].repeat(3, 1, 1))


def video(frames: NDArray[np.uint8], count: int = 8) -> Tensor:
    chosen = np.linspace(0, len(frames) - 1, count, dtype=int)
    clip = torch.from_numpy(frames[chosen]).permute(3, 0, 1, 2) / 255.0
    clip = (clip - torch.tensor(MEAN)[:, None, None, None]) / torch.tensor(STD)[:, None, None, None]
    height, width = clip.shape[2:]
    tall = width < height
    size = (math.floor(height / width * 224), 224) if tall else (224, math.floor(width / height * 224))
    scaled = nn.functional.interpolate(clip.permute(1, 0, 2, 3), size=size, mode="bilinear", align_corners=False)
    return transforms.CenterCrop(224)(scaled).permute(1, 0, 2, 3)


def sound(samples: NDArray[np.float32], rate_hz: int, bins: int, length: int, mean: float, std: float) -> Tensor:
    wave = torch.from_numpy(samples.copy())
    if rate_hz != 16_000:
        wave = torchaudio.functional.resample(wave, orig_freq=rate_hz, new_freq=16_000)

    def mel_of(audio: Tensor) -> Tensor:
        audio = audio - audio.mean()
        return torchaudio.compliance.kaldi.fbank(
            audio[None], htk_compat=True, sample_frequency=16_000, use_energy=False, window_type="hanning",
            num_mel_bins=bins, dither=0.0, frame_length=25, frame_shift=10,
        )  # fmt: skip

    longest = length * 16_000 // 100
    if len(wave) > longest:
        mel = mel_of(wave)
        ranges = np.array_split(list(range(len(mel) - length + 1)), 3)
        starts = [ranges[0][0], *(part[0] if len(part) else 0 for part in ranges[1:])]
        stacked = torch.stack([mel[start : start + length] for start in starts])
    else:
        if len(wave) < longest:
            wave = wave.repeat(int(longest / len(wave)))
            wave = nn.functional.pad(wave, (0, longest - len(wave)))
        stacked = mel_of(wave)[None].repeat(3, 1, 1)
    missing = length - stacked.shape[1]
    stacked = nn.functional.pad(stacked, (0, 0, 0, missing)) if missing > 0 else stacked[:, :length]
    return (stacked.transpose(1, 2) - mean) / std
