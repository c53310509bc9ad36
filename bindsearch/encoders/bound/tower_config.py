"""Settings that a bound tower is built with, as they stand in model.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from bindsearch.arguments import did_you_mean
from bindsearch.errors import UsageError
from bindsearch.types import Modality

HUB = "hub"
"""Network that is a copy of the hub's own tower of pictures."""

LABEL_SOUND, LABEL_MOTION = "label-sound", "label-motion"
LABEL_NETWORKS: Mapping[str, Modality] = MappingProxyType({LABEL_SOUND: Modality.AUDIO, LABEL_MOTION: Modality.IMU})
"""Networks whose vectors are mixtures of the hub's vectors of the labels of the pairs, and their modalities."""

MAX_LABELS = 10_000


@dataclass(frozen=True, slots=True)
class TransformerSize:
    """Size of a Transformer: width of a token, number of blocks, and heads of attention."""

    width: int
    blocks: int
    heads: int


PLANE_SIZES: Mapping[str, TransformerSize] = MappingProxyType(
    {
        "vit-nano": TransformerSize(64, 4, 4),
        "vit-tiny": TransformerSize(192, 12, 3),
        "vit-small": TransformerSize(384, 12, 6),
        "vit-base": TransformerSize(768, 12, 12),
    }
)
"""Networks of depth, thermal pictures and spectrograms.

Tiny, small and base are those of DeiT (arXiv 2012.12877, table 1); nano is for tests and very small data.
"""

SIGNAL_SIZES: Mapping[str, TransformerSize] = MappingProxyType(
    {
        "imu-nano": TransformerSize(64, 3, 4),
        "imu-tiny": TransformerSize(128, 4, 4),
        "imu-small": TransformerSize(256, 6, 8),
        "imu-base": TransformerSize(512, 6, 8),
    }
)
"""Networks of motion: patches of samples, then a Transformer; base has the size of ImageBind's (section 3.3)."""

MAX_PATCHES = 4096
"""Most patches of a picture: the attention of a Transformer grows with their square."""

HEADS = ("linear", "mlp")
"""Last layers: a linear map, or one hidden layer (table 5b of the ImageBind paper compares them)."""

TUNINGS = ("full", "lora", "head")
"""Trained parts of a network that starts from the hub's: all of it, additions of low rank, or the head alone."""


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """Settings of one bound tower.

    Attributes:
        modality: Modality that it embeds.
        network: A name of PLANE_SIZES, SIGNAL_SIZES or LABEL_NETWORKS, or HUB.
        dim: Dimension d of the hub's space.
        labels: Number of labels of a network of LABEL_NETWORKS, which the pairs determine; 0 of others.
        head: "linear", or "mlp" with one hidden layer.
        tuning: "full", "lora" or "head"; of a network that does not start from the hub's, "full".
        lora_rank: Rank of the additions of "lora", 1 to 256.
        side_px: Side of the squares of depth and thermal pictures, a multiple of `patch_px`, 8 to 1024; the network
            "hub" has the size of the hub's pictures.
        patch_px: Side of their patches.
        drop_path: Probability of stochastic depth in training, of the networks "hub" and "label-..." of dropout before
            the head; 0 or more, below 1. It does not affect the vectors of a finished tower.
        members: Number of networks "label-..." whose probabilities are averaged, 1 to 16; 1 of others.
        sharpness: Factor of their logits after training, 0.1 to 100; 1 of others. InfoNCE leaves probabilities too
            even, and an even mixture is near other things than its parts are.
    """

    modality: str
    network: str
    dim: int
    labels: int = 0
    head: str = "linear"
    tuning: str = "full"
    lora_rank: int = 8
    side_px: int = 224
    patch_px: int = 16
    drop_path: float = 0.0
    members: int = 1
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        _check_name("modality", self.modality, [*Modality])
        _check_name("network", self.network, networks_of(Modality(self.modality)))
        _check_name("head", self.head, HEADS)
        _check_name("tuning", self.tuning, TUNINGS)
        if self.network != HUB and self.tuning != "full":
            raise UsageError(f"tuning is {self.tuning!r}: a new network is trained in full, or set network=hub")
        ranges = {"patch_px": (1, 1024), "lora_rank": (1, 256), "members": (1, 16), "sharpness": (0.1, 100)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} is {getattr(self, name):g}: expected {low:g} to {high:g}")
        if self.side_px % self.patch_px or not 8 <= self.side_px <= 1024:
            raise UsageError(f"side_px is {self.side_px}: expected a multiple of patch_px, {self.patch_px}, up to 1024")
        if (patches := (self.side_px // self.patch_px) ** 2) > MAX_PATCHES:
            raise UsageError(f"patch_px is {self.patch_px}: a picture has {patches} patches, at most {MAX_PATCHES}")
        if not 0.0 <= self.drop_path < 1.0:
            raise UsageError(f"drop_path is {self.drop_path:g}: expected 0 or more, below 1")
        if not 0 <= self.labels <= MAX_LABELS:
            raise UsageError(f"there are {self.labels} labels: at most {MAX_LABELS} can be distinguished")
        if self.network not in LABEL_NETWORKS and (self.members, self.sharpness, self.labels) != (1, 1.0, 0):
            raise UsageError(f"members and sharpness are settings of {' and '.join(LABEL_NETWORKS)} alone")
        if self.network in LABEL_NETWORKS and self.head != "linear":
            raise UsageError(f"head is {self.head!r}: {self.network} has a linear one, head=linear")


_KINDS: Mapping[str, tuple[type, ...]] = MappingProxyType({"str": (str,), "int": (int,), "float": (int, float)})


def networks_of(modality: Modality) -> list[str]:
    """Return the names of the networks that can embed a modality."""
    match modality:
        case Modality.IMU:
            return [*SIGNAL_SIZES, LABEL_MOTION]
        case Modality.AUDIO:
            return [*PLANE_SIZES, LABEL_SOUND]
        case Modality.DEPTH | Modality.THERMAL:
            return [*PLANE_SIZES, HUB]
        case Modality.IMAGE:
            return [HUB]
    return []


def read_config(data: Mapping[str, Any]) -> TowerConfig:
    """Return the settings that stand in model.json.

    Raises:
        UsageError: a value is not valid.
        TypeError: a key is missing or unknown.
    """
    known = {field.name: _KINDS[str(field.type)] for field in fields(TowerConfig)}
    if unknown := data.keys() - known.keys():
        raise TypeError(f"unknown settings {', '.join(sorted(unknown))}")
    for name, value in data.items():
        if not isinstance(value, known[name]) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}")
    return TowerConfig(**data)


def _check_name(what: str, name: str, known: list[str] | list[Modality] | tuple[str, ...]) -> None:
    if name not in known:
        near = did_you_mean(name, known)
        raise UsageError(f"{what} is {name!r}: {near}expected {', '.join(known) or 'none of this modality'}")
