"""Small OWLv2 and OWL-ViT detectors with random weights, saved by the library with a tokenizer of CLIP's kind."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch

from bindsearch.encoders.detectors.detector import PROBES
from helpers.hf_models import WORDS, perturb

SIDE_PX, DIM, MAX_TOKENS = 64, 32, 16
PATCHES = (SIDE_PX // 16) ** 2


def save_owl(folder: Path, kind: str = "owlv2", *, seed: int = 0) -> Any:
    """Save a small detector with its processor and tokenizer, and return it.

    Args:
        folder: Folder to write.
        kind: "owlv2" or "owlvit".
        seed: Seed of the weights.
    """
    import transformers

    name = {"owlv2": "Owlv2", "owlvit": "OwlViT"}[kind]
    torch.manual_seed(seed)
    size: dict[str, Any] = {"hidden_size": DIM, "intermediate_size": 48, "num_hidden_layers": 2}
    size |= {"num_attention_heads": 2}
    tokens = _save_tokenizer(folder)
    text = {**size, "vocab_size": tokens, "bos_token_id": tokens - 2, "eos_token_id": tokens - 1}
    vision = {**size, "image_size": SIDE_PX, "patch_size": 16}
    config = getattr(transformers, f"{name}Config")(
        text_config={**text, "max_position_embeddings": MAX_TOKENS}, vision_config=vision, projection_dim=DIM
    )
    model: Any = perturb(getattr(transformers, f"{name}ForObjectDetection")(config), 3.0)
    with torch.no_grad():  # logits that do not hide cosines: in trained models shifts and scales of patches are alike
        model.class_head.logit_scale.weight.mul_(0.001)
        model.class_head.logit_shift.weight.mul_(0.001)
        for layer in (model.box_head.dense0, model.box_head.dense1, model.box_head.dense2):  # boxes near their patches
            layer.weight.mul_(0.05)
    model.save_pretrained(folder)
    size = {"height": SIDE_PX, "width": SIDE_PX}
    getattr(transformers, f"{name}ImageProcessor")(size=size).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return model


def _save_tokenizer(folder: Path) -> int:
    """Save a CLIPTokenizer of letters and a few words; return the size of its vocabulary."""
    from transformers import CLIPTokenizer

    letters = ["!", *string.ascii_lowercase]
    vocabulary = {token: number for number, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    merges: list[Any] = []
    for word in dict.fromkeys([*WORDS, *" ".join(PROBES).split()]):
        left = word[0]
        for number, letter in enumerate(word[1:], 2):
            right = letter + "</w>" * (number == len(word))
            if left + right not in vocabulary:
                merges.append((left, right))
                vocabulary[left + right] = len(vocabulary)
            left += right
    for mark in ("<|startoftext|>", "<|endoftext|>"):  # the last one has the highest number: the tower looks for it
        vocabulary[mark] = len(vocabulary)
    CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="!", model_max_length=MAX_TOKENS).save_pretrained(folder)
    return len(vocabulary)
