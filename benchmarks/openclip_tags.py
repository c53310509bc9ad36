"""Table of open_clip's published weights that BindSearch can run: each is built and its checkpoint checked, offline.

    python benchmarks/openclip_tags.py [--largest-gb 4] [--only TEXT]     # saves a table to benchmarks/results

For each pair of model and weights that open_clip lists: both towers are built from the settings that a manifest would
hold, without memory; the names and shapes of the tensors of open_clip's own model are checked as those of a checkpoint.
Each architecture whose weights take less than `--largest-gb` in fp32 is also saved with random weights, pulled as a
user does, loaded, and embeds a text and a picture, one model at a time.

Tokenizer files and configurations of text towers cannot be downloaded here: a tokenizer of four words stands in for the
former, and TOWER_CONFIGS has the latter as their repositories publish them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from results import save_table
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from bindsearch.encoders.model_store.checkpoints import StoredTensor
from bindsearch.encoders.model_store.installed import MODELS_VARIABLE, remove_model
from bindsearch.encoders.model_store.pull import pull_model
from bindsearch.encoders.model_store.source import ModelSource
from bindsearch.encoders.openclip.checkpoint import check_towers
from bindsearch.encoders.openclip.model_source import find_openclip_source
from bindsearch.encoders.openclip.networks import ImageTower, build_text_tower
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.torch_runtime.tensor_files import TensorSpec, write_tensors
from bindsearch.errors import BindSearchError, EncoderError
from bindsearch.media import Passage, Picture
from bindsearch.types import Modality

BYTES_OF_FP32 = 4
_ROBERTA = {
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_NLLB = {
    "model_type": "m2m_100",
    "vocab_size": 256_206,
    "d_model": 1024,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "max_position_embeddings": 1024,
    "scale_embedding": True,
    "pad_token_id": 1,
}
TOWER_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "roberta-base": {"model_type": "roberta", "vocab_size": 50_265, **_ROBERTA, **_BASE},
    "xlm-roberta-base": {"model_type": "xlm-roberta", "vocab_size": 250_002, **_ROBERTA, **_BASE},
    "xlm-roberta-large": {"model_type": "xlm-roberta", "vocab_size": 250_002, **_ROBERTA, **_LARGE},
    "facebook/nllb-200-distilled-600M": {
        **_NLLB,
        "encoder_layers": 12,
        "decoder_layers": 12,
        "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096,
    },
    "facebook/nllb-200-distilled-1.3B": {
        **_NLLB,
        "encoder_layers": 24,
        "decoder_layers": 24,
        "encoder_ffn_dim": 8192,
        "decoder_ffn_dim": 8192,
    },
}
"""Configurations of text towers by their names on the hub."""


@dataclass(frozen=True)
class Row:
    """Result for one model: its tags, what it consists of, and what was done.

    Attributes:
        refusal: Why its weights are refused; "" if they are not.
        loaded: What was loaded.
    """

    model: str
    tags: Sequence[str]
    parameters: int
    picture_tower: str
    text_tower: str
    tokenizer: str
    refusal: str
    loaded: str

    def cells(self) -> list[str]:
        """Return the cells of the row."""
        built = "no" if self.refusal else "yes"
        size = f"{self.parameters / 1e6:,.0f}" if self.parameters else ""
        facts = [self.model, ", ".join(self.tags), self.picture_tower, self.text_tower, self.tokenizer, size]
        return [*facts, built, self.refusal or self.loaded]


def examine(model: str, tags: Sequence[str], largest_bytes: float) -> Row:
    """Build, check and, if it is small enough, load a model."""
    config = open_clip.get_model_config(model)
    vision, text = config["vision_cfg"], config["text_cfg"]
    kind = "ResNet" if isinstance(vision.get("layers"), list) else "ViT"
    row = partial(
        Row,
        model=model,
        tags=tags,
        picture_tower=vision.get("timm_model_name") or kind,
        text_tower=text.get("hf_model_name") or "transformer",
        tokenizer=text.get("hf_tokenizer_name") or "CLIP",
    )
    parameters = 0
    try:
        for tag in tags:
            source = find_openclip_source(f"openclip:{model}/{tag}")
            parameters = check_without_memory(source, config)
        size = parameters * BYTES_OF_FP32
        loaded = f"no: {size / 1e9:.1f} GB"
        if size < largest_bytes:
            loaded = load_with_random_weights(source, config)
    except BindSearchError as error:
        return row(parameters=parameters, refusal=str(error), loaded="")
    except Exception as error:
        traceback.print_exc()
        return row(parameters=parameters, refusal=f"{type(error).__name__}: {error}"[:200], loaded="")
    return row(parameters=parameters, refusal="", loaded=loaded)


def check_without_memory(source: ModelSource, config: Mapping[str, Any]) -> int:
    """Build both towers from the settings of a manifest, and check open_clip's own tensors; return their number."""
    settings = source.architecture["config"]
    with torch.device("meta"):
        towers = {"image": ImageTower(settings), "text": build_text_tower(settings, tower_config(settings))}
        whole = published_model(config)
    stored = {
        name: StoredTensor(tuple(tensor.shape), partial(torch.Tensor.clone, tensor))
        for name, tensor in whole.state_dict().items()
    }
    check_towers(stored, towers, f"the state dict of {source.name}")
    return sum(tensor.numel() for tensor in whole.state_dict().values())


def tower_config(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the configuration of a text tower of the transformers library; None if there is none."""
    name = settings["text_cfg"].get("hf_model_name")
    return None if name is None else TOWER_CONFIGS[name]


def published_model(config: Mapping[str, Any]) -> nn.Module:
    """Return open_clip's own model, as its `create_model` builds it."""
    settings = json.loads(json.dumps(config))
    custom = settings.pop("custom_text", False)
    with tempfile.TemporaryDirectory() as folder:
        if known := tower_config(config):
            (Path(folder) / "config.json").write_text(json.dumps(known))
            settings["text_cfg"] |= {"hf_model_name": folder, "hf_model_pretrained": False}
            custom = True
        build: Any = open_clip.CustomTextCLIP if custom else open_clip.CLIP
        if custom and "multimodal_cfg" in settings:
            build = open_clip.CoCa
        model: nn.Module = build(**settings)
    return model


def load_with_random_weights(source: ModelSource, config: Mapping[str, Any]) -> str:
    """Save a model with random weights, pull it, and embed a text and a picture; return what was done."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[MODELS_VARIABLE] = str(folder / "models")
        with torch.device("meta"):
            tensors = published_model(config).state_dict()
        specs = [
            TensorSpec(key, tuple(tensor.shape), "bf16", partial(random_tensor, key, tuple(tensor.shape)))
            for key, tensor in tensors.items()
        ]
        write_tensors(folder / "open_clip_model.safetensors", specs)
        write_extra_files(folder, source)
        pull_model(source, from_file=folder, dtype="bf16")
        encoder = load_encoder(source.name)
        rgb = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
        for modality, medium in ((Modality.TEXT, Passage("dog")), (Modality.IMAGE, Picture(rgb))):
            (vector,) = encoder.encode(modality, [encoder.prepare(medium)])
            if vector.shape != (encoder.dim,) or not np.isclose(np.linalg.norm(vector), 1, atol=1e-3):
                raise EncoderError(f"the vector of {modality} is not of unit length")
        del encoder
        remove_model(source.name)
    return f"yes, {time.perf_counter() - started:.0f} s"


def random_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return small random weights; variances are 1."""
    count = int(np.prod(shape))
    if name.endswith("running_var"):
        return torch.ones(shape)
    few = torch.randn(min(count, 65_537), generator=torch.Generator().manual_seed(count)) * 0.02
    return few.repeat(-(-count // max(1, len(few))))[:count].reshape(shape)


def write_extra_files(folder: Path, source: ModelSource) -> None:
    """Write a tokenizer of four words and the configuration of the text tower, where a model needs them."""
    settings = source.architecture["config"]
    names = {extra.local_name for extra in source.extra_files}
    if "config.json" in names:
        (folder / "config.json").write_text(json.dumps(tower_config(settings)))
    if "tokenizer.json" in names:
        words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "dog": 4}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
        ends = [("<s>", 0), ("</s>", 2)]
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, ends)
        tokenizer.save(str(folder / "tokenizer.json"))


def render(rows: Sequence[Row]) -> str:
    """Return the totals and the table."""
    count = sum(len(row.tags) for row in rows)
    built = sum(len(row.tags) for row in rows if not row.refusal)
    loaded = [row for row in rows if row.loaded.startswith("yes")]
    unloaded = [row for row in rows if row.loaded and not row.loaded.startswith("yes")]
    needs = [row for row in rows if row.text_tower != "transformer"]
    lines = [
        f"Of {count} weights of {len(rows)} models that open_clip lists, {built} are built and accepted, "
        f"{count - built} refused.",
        "",
        f"* {len(loaded)} models with {sum(len(row.tags) for row in loaded)} weights were also saved with random "
        "weights, pulled, loaded and run.",
        f"* {len(unloaded)} models with {sum(len(row.tags) for row in unloaded)} weights are larger: they were built "
        "without memory, and the names and shapes of their tensors checked.",
        f"* {len(needs)} models with {sum(len(row.tags) for row in needs)} weights have a text tower of the library "
        "transformers: without it they are refused, by its name.",
        "* Nothing was downloaded: a tokenizer of four words stands in for published ones, and the weights are random.",
        "",
    ]
    header = ["model", "weights", "picture tower", "text tower", "tokenizer", "million parameters", "built", "loaded"]
    table = [header, ["---"] * len(header), *(row.cells() for row in rows)]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in table)]) + "\n"


def main() -> None:
    """Examine all models and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest-gb", type=float, default=4.0, help="load models whose weights take less in fp32")
    parser.add_argument("--only", default="", help="examine models whose name contains this, and save nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if find_spec("transformers") is None:
        print("transformers is not installed: the models that need it are refused")
    tags: dict[str, list[str]] = {}
    for model, tag in open_clip.list_pretrained():
        tags.setdefault(model, []).append(tag)
    rows = []
    for model in (model for model in tags if options.only in model):
        rows.append(examine(model, tags[model], options.largest_gb * 1e9))
        print(" | ".join(rows[-1].cells()), flush=True)
    if options.only:
        return
    packages = ("open_clip_torch", "timm", "transformers", "tokenizers", "torch")
    title = f"Weights of open_clip {version('open_clip_torch')} that can be run"
    print(save_table("openclip-tags", title, render(rows), packages))


if __name__ == "__main__":
    main()
