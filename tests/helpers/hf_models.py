"""Small models of the transformers library with random weights, saved by the library itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bindsearch.encoders.hf.encoder import HfEncoder
from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.torch_runtime.device import Runtime

SENTENCE = "a dog barks cat meows the rain falls on roof someone speaks bells ring loud quiet engine starts"
WORDS = SENTENCE.split()


def perturb(model: torch.nn.Module, gain: float = 1.0) -> torch.nn.Module:
    """Return a model whose biases, norms and scales are not those of its construction.

    `gain` multiplies matrices, which are drawn so small that all inputs get nearly the same vector.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim <= 1 and "running" not in name:
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and tensor.ndim > 1:
                tensor.mul_(gain)
    return model.eval()


def pulled(folder: Path, name: str, dtype: str = "fp32", **options: Any) -> HfEncoder:
    """Pull a saved model as `bindsearch model pull hf:NAME --from FOLDER` does, and load its encoder."""
    pull_snapshot(name, from_folder=folder, dtype=dtype, consent=lambda _source: True)
    encoder = load_encoder(name, options=options, runtime=Runtime("cpu"))
    assert isinstance(encoder, HfEncoder)
    return encoder


def sounds() -> list[NDArray[np.float32]]:
    """Sounds of three lengths at 48 kHz that differ in pitch and rhythm."""
    rng = np.random.default_rng(0)
    made = []
    for frequency_hz, seconds in ((300, 1.3), (2000, 0.7), (6000, 1.0)):
        times_s = np.arange(round(48_000 * seconds)) / 48_000
        wave = np.sin(2 * np.pi * frequency_hz * times_s) * (1 + 0.5 * np.sin(2 * np.pi * frequency_hz / 99 * times_s))
        made.append((0.3 * wave + 0.05 * rng.standard_normal(len(times_s))).astype(np.float32))
    return made


TEXTS = ("a dog barks", "the rain falls on the roof, loud", "cat")


def save_tokenizer(folder: Path, kind: Any, **special: str) -> None:
    """Save a tokenizer of words as the library does, of a class of byte pairs such as RobertaTokenizer."""
    letters = sorted({letter for word in WORDS for letter in word} | {"Ġ"})
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {token: number for number, token in enumerate([*marks, *letters])}
    merges = []
    for word in WORDS:
        left = "Ġ"
        for letter in word:
            if left + letter not in vocabulary:
                merges.append((left, letter))
                vocabulary[left + letter] = len(vocabulary)
            left += letter
    kind(vocab=vocabulary, merges=merges, **special).save_pretrained(folder)


def save_clap(folder: Path, *, fusion: bool) -> Any:
    """Save a small ClapModel with its processor, and return it."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

    torch.manual_seed(0)
    text = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    audio: dict[str, Any] = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2]}
    audio |= {"hidden_size": 16, "window_size": 4, "spec_size": 64, "num_mel_bins": 16, "num_hidden_layers": 2}
    audio |= {"enable_fusion": True, "fusion_type": "aff_2d"} if fusion else {}
    text |= {"intermediate_size": 64, "max_position_embeddings": 66}
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=24)
    model: Any = perturb(ClapModel(config), 2.0)
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(
        feature_size=16, max_length_s=2, truncation="fusion" if fusion else "rand_trunc", frequency_min=50
    )
    save_tokenizer(folder, RobertaTokenizer)
    ClapProcessor(extractor, RobertaTokenizer.from_pretrained(folder)).save_pretrained(folder)
    return model


def save_pe_audio_video(folder: Path, *, num_frames: int | None = None) -> Any:
    """Save a small PeAudioVideoModel with its processor, and return it."""
    from transformers import (
        PeAudioFeatureExtractor,
        PeAudioVideoConfig,
        PeAudioVideoModel,
        PeAudioVideoProcessor,
        PeVideoVideoProcessor,
        RobertaTokenizer,
    )

    torch.manual_seed(0)
    size = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    codec = {"model_type": "dac", "downsampling_ratios": [2, 8, 10, 12], "encoder_hidden_size": 4}
    codec |= {"codebook_dim": 8, "hidden_size": 64}
    vision = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "num_classes": 16}
    vision |= {"model_args": {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 2}}
    text = {"model_type": "modernbert", "vocab_size": 200, "hidden_size": 24, "intermediate_size": 32}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 128, "pad_token_id": 1}
    text |= {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    both = {
        **size,
        "audio_config": {"model_type": "pe_audio_encoder", **size, "dac_config": codec},
        "video_config": {"model_type": "pe_video_encoder", **size, "vision_config": vision},
    }
    model: Any = perturb(PeAudioVideoModel(PeAudioVideoConfig(text_config=text, audio_video_config=both)), 2.0)
    model.save_pretrained(folder)
    save_tokenizer(folder, RobertaTokenizer)
    steps: dict[str, Any] = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True}
    steps |= {"do_sample_frames": False, "size": {"height": 32, "width": 32}, "num_frames": num_frames}
    frames = PeVideoVideoProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3, **steps)
    tokenizer = RobertaTokenizer.from_pretrained(folder)
    PeAudioVideoProcessor(PeAudioFeatureExtractor(), frames, tokenizer).save_pretrained(folder)
    return model


def save_languagebind(
    folder: Path,
    modality: str,
    vision: torch.nn.Module,
    config: dict[str, Any],
    *,
    seed: int = 0,
    part: str = "vision_config",
) -> None:
    """Save a small model of LanguageBind as its repositories hold them: config.json and pytorch_model.bin.

    Args:
        folder: Folder to write.
        modality: Name in its `model_type`, such as "Video".
        vision: Module with the tensors of `vision_model` and `visual_projection`, under their names.
        config: Sizes of the vision tower.
        seed: Seed of the text tower.
        part: Key of those sizes in config.json.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    text: dict[str, Any] = {"vocab_size": 49_408, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 77, "hidden_act": "gelu", "eos_token_id": 2}
    network = perturb(CLIPTextModelWithProjection(CLIPTextConfig(**text, projection_dim=24)), 2.0)
    tensors = {**network.state_dict(), **vision.state_dict(), "logit_scale": torch.tensor(3.0 + seed)}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save(tensors, folder / "pytorch_model.bin")
    facts = {"model_type": f"LanguageBind{modality}", "projection_dim": 24, "text_config": text, part: config}
    (folder / "config.json").write_text(json.dumps(facts))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
