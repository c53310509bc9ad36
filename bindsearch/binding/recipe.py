"""Settings of a training run, with defaults by modality from the ImageBind paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from bindsearch.arguments import did_you_mean, shown
from bindsearch.binding.augmentations.options import OPTIONS, Options, bounded, parse_options
from bindsearch.encoders.bound.tower_config import HUB, LABEL_MOTION, LABEL_NETWORKS, LABEL_SOUND, TowerConfig
from bindsearch.errors import UsageError
from bindsearch.types import Modality

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a run besides those of the tower and of its augmentations.

    Attributes:
        batch: Pairs of a step; each is to be distinguished from the others, so a larger batch is a harder and better
            task (table 7).
        part: Media that are embedded at a time, which bounds memory; gradients do not depend on it.
        epochs: Passes over all pairs.
        replication: How often a pair is drawn in an epoch, each time with another crop.
        crops: Aligned crops of each pair (table 5e) or spans of time (5g), whose hub vectors are computed once and
            kept; 0: the whole files.
        learning_rate: Largest learning rate.
        weight_decay: Weight decay of AdamW, of matrices.
        warmup_epochs: Passes during which the learning rate rises from 0; then it falls as a cosine, to 0.
        clip: Largest norm of the gradient.
        scale: Logit scale of the loss, the inverse of the temperature of the paper.
        learn_scale: 1: the logit scale is learned, up to 100; 0: fixed, which is better but for sound (table 5a).
        average: Steps of the moving average of the weights that is kept; 0: the last weights.
        mix: Probability that a view is mixed with another one of the batch, and the targets with its (mixup), of
            networks that distinguish labels.
        validation: Share of the pairs that are kept for validation if the table has no split.
        patience: Validations without progress after which training stops, and the best weights are kept; 0: never.
        seed: Seed of weights, order, crops and augmentations.
        precision: "fp32", or "bf16" for mixed precision.

    Raises:
        UsageError: a value is out of its bounds.
    """

    batch: int = bounded(512, 2, 1 << 20)
    part: int = bounded(32, 1, 1 << 16)
    epochs: float = bounded(64.0, 0.0, 1e6)
    replication: float = bounded(1.0, 0.01, 1e4)
    crops: int = bounded(0, 0, 1000)
    learning_rate: float = bounded(5e-4, 0.0, 10.0)
    weight_decay: float = bounded(0.05, 0.0, 10.0)
    warmup_epochs: float = bounded(2.0, 0.0, 1e6)
    clip: float = bounded(1.0, 1e-6, 1e6)
    scale: float = bounded(10.0, 0.01, 100.0)
    learn_scale: int = bounded(0, 0, 1)
    average: int = bounded(0, 0, 1_000_000)
    mix: float = bounded(0.0, 0.0, 1.0)
    validation: float = bounded(0.1, 0.0, 0.9)
    patience: int = bounded(0, 0, 1_000_000)
    seed: int = bounded(0, 0, 1 << 31)
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is {shown(self.precision)}: expected {' or '.join(PRECISIONS)}")
        for setting in fields(self):
            value, bounds = getattr(self, setting.name), setting.metadata
            if bounds and not bounds["low"] <= value <= bounds["high"]:  # not a number is not between them either
                expected = f"expected a number from {bounds['low']} to {bounds['high']}"
                raise UsageError(f"{setting.name} is {shown(value)}: {expected}")


BETAS = (0.9, 0.95)
"""Betas of AdamW (paper, appendix C)."""

DEFAULTS: Mapping[Modality, Recipe] = MappingProxyType(
    {
        Modality.AUDIO: Recipe(batch=2048, learning_rate=1.6e-3, weight_decay=0.2, replication=1.25, scale=20.0),
        Modality.DEPTH: Recipe(learning_rate=1.6e-3, weight_decay=0.2, replication=50.0, scale=5.0),
        Modality.THERMAL: Recipe(replication=25.0, clip=5.0),
        Modality.IMU: Recipe(weight_decay=0.5, epochs=8.0, scale=5.0),
        Modality.IMAGE: Recipe(),
    }
)
"""Defaults by modality: table 9 of the paper (appendix C); those of pictures are our own."""

HEAD_DEFAULTS = Recipe(
    batch=256, part=256, epochs=300.0, crops=24, learning_rate=1e-3, weight_decay=0.2, warmup_epochs=20.0, scale=30.0
)
"""Defaults of a head on the hub's own tower: some hundred pairs, whose features are computed once.

Chosen on RoadScene by benchmarks/binding.py, which holds out blocks of frames.
"""

HEAD_DROP_PATH = 0.3

_LABELS = Recipe(epochs=60.0, warmup_epochs=9.0, scale=20.0, average=100, clip=1e6)
LABEL_DEFAULTS: Mapping[str, Recipe] = MappingProxyType(
    {
        LABEL_SOUND: replace(_LABELS, batch=96, part=96, learning_rate=3e-3),
        LABEL_MOTION: replace(_LABELS, batch=192, part=192, learning_rate=2e-3, mix=0.5),
    }
)
"""Defaults of networks that distinguish labels, chosen for the towers of `mini`: a few hundred recordings."""

LABEL_TOWERS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        LABEL_SOUND: MappingProxyType({"members": 3, "sharpness": 2.0, "drop_path": 0.3}),
        LABEL_MOTION: MappingProxyType({"members": 3, "sharpness": 4.0, "drop_path": 0.3}),
    }
)
"""Settings of these towers (benchmarks/QUALITY_SOUNDS.md compares others)."""

DROP_PATH: Mapping[Modality, float] = MappingProxyType({Modality.AUDIO: 0.1, Modality.IMU: 0.7})
"""Stochastic depth by modality (table 9); others have none."""

DEFAULT_NETWORK: Mapping[Modality, str] = MappingProxyType(
    {
        Modality.AUDIO: "vit-base",
        Modality.DEPTH: "vit-small",
        Modality.THERMAL: "vit-base",
        Modality.IMU: "imu-base",
        Modality.IMAGE: HUB,
    }
)
"""Networks of the paper (section 3.3, table 9)."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """All settings of a run.

    Attributes:
        tower: Network, head and tuning.
        recipe: Batches, optimizer and schedule.
        augmentations: Random changes of the media.

    Raises:
        UsageError: settings of a network that distinguishes labels do not fit together.
    """

    tower: TowerConfig
    recipe: Recipe
    augmentations: Options

    def __post_init__(self) -> None:
        network, recipe = self.tower.network, self.recipe
        if network not in LABEL_NETWORKS:
            if recipe.mix:
                raise UsageError(f"mix is {recipe.mix:g}: it is a setting of {' and '.join(LABEL_NETWORKS)} alone")
            return
        if recipe.part < recipe.batch or recipe.batch < 2 * self.tower.members:
            # Batch normalisation takes its statistics from all rows of a member at once.
            raise UsageError(
                f"batch is {recipe.batch} and part {recipe.part}: {network} needs part >= batch, and 2 rows for each "
                f"of {self.tower.members} members"
            )
        if recipe.crops:
            raise UsageError(f"crops is {recipe.crops}: {network} draws views of its own, set crops=0")

    def as_json(self) -> dict[str, Any]:
        """Return all settings by name, for records and comparison."""
        parts = (self.tower, self.recipe, self.augmentations)
        return {name: value for part in parts for name, value in asdict(part).items()}


def parse_settings(modality: Modality, dim: int, texts: Iterable[str]) -> RunSettings:
    """Return the defaults of a modality with some settings changed.

    Args:
        modality: Modality of the tower.
        dim: Dimension d of the hub's space.
        texts: Texts such as "batch=64", "network=vit-tiny", "erase=0.5"; later ones override earlier ones.

    Raises:
        UsageError: the modality cannot be bound, a setting is unknown or its value is out of its bounds.
    """
    if modality not in DEFAULTS:
        raise UsageError(f"towers of {modality} cannot be bound: choose from {', '.join(DEFAULTS)}")
    tower: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    others = []
    recipe_names = [setting.name for setting in fields(Recipe)]
    of_towers = fields(TowerConfig)[4:]
    kinds: dict[str, Any] = {one.name: type(one.default) for one in (*fields(Recipe), *of_towers)}
    kinds["network"] = str
    known = [*kinds, *(setting.name for setting in fields(OPTIONS[modality]))]
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UsageError(f"the setting {shown(text)} is not NAME=VALUE: write for example batch=64")
        if name not in known:
            hint = f"{did_you_mean(name, known)}choose from {', '.join(known)}"
            raise UsageError(f"unknown setting {shown(name)} of {modality}: {hint}")
        if name not in kinds:
            others.append(text)
            continue
        try:
            (recipe if name in recipe_names else tower)[name] = kinds[name](value)
        except ValueError:
            expected = "a whole number" if kinds[name] is int else "a number"
            raise UsageError(f"{name} is {shown(value)}: expected {expected}") from None
    network = tower.setdefault("network", DEFAULT_NETWORK[modality])
    is_head = network == HUB and tower.setdefault("tuning", "head") == "head"
    drop_path = HEAD_DROP_PATH if is_head else DROP_PATH.get(modality, 0.0)
    defaults = {"drop_path": drop_path, **LABEL_TOWERS.get(network, {})}
    chosen = TowerConfig(modality=modality.value, dim=dim, **{**defaults, **tower})
    recipe_of = HEAD_DEFAULTS if is_head else LABEL_DEFAULTS.get(network, DEFAULTS[modality])
    return RunSettings(chosen, replace(recipe_of, **recipe), parse_options(modality, others))
