"""Small unCLIP pipelines with random weights, built and saved by the real classes of the libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from bindsearch.encoders.unclip.folder import PIPELINE_FILE

SIDE_PX = 32
"""Side of a picture by default."""

README = "---\nlicense: openrail++\n---\nRandom weights.\n"


def save_unclip(folder: Path, dim: int = 24, *, seed: int = 0, clip: Path | None = None, dtype: str = "fp32") -> Path:
    """Save a pipeline as its users find it: a folder a component, model_index.json and a model card.

    Args:
        folder: Folder to write.
        dim: Dimension of the embedding, an even number.
        seed: Seed of the weights.
        clip: Folder of a CLIPModel whose picture tower the image encoder is; None: one of its own.
        dtype: Number format of the saved weights, "fp32" or "fp16".
    """
    from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
    from transformers import CLIPImageProcessor

    torch.manual_seed(seed)
    blocks: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4}
    unet = UNet2DConditionModel(
        sample_size=SIDE_PX // 2,
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=16,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * dim,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **blocks,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        **blocks,
    )
    normalizer = StableUnCLIPImageNormalizer(dim)
    normalizer.mean.data.normal_()
    normalizer.std.data.uniform_(0.5, 2.0)
    steps: dict[str, Any] = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "clip_sample": False}
    parts: dict[str, Any] = {
        "image_encoder": _image_encoder(dim, clip),
        "image_normalizer": normalizer,
        "text_encoder": _text_encoder(),
        "unet": unet,
        "vae": vae,
    }
    for name, part in parts.items():
        (part.half() if dtype == "fp16" else part).save_pretrained(folder / name)
    DDIMScheduler(steps_offset=1, set_alpha_to_one=False, **steps).save_pretrained(folder / "scheduler")
    DDPMScheduler(**{**steps, "beta_schedule": "squaredcos_cap_v2"}).save_pretrained(folder / "image_noising_scheduler")
    crop = {"height": SIDE_PX, "width": SIDE_PX}
    CLIPImageProcessor(size={"shortest_edge": SIDE_PX}, crop_size=crop).save_pretrained(folder / "feature_extractor")
    _save_tokenizer(folder / "tokenizer")
    index = {"_class_name": "StableUnCLIPImg2ImgPipeline", "_diffusers_version": "0.19.0"}
    kinds = {"image_normalizer": ["stable_diffusion", "StableUnCLIPImageNormalizer"]}
    kinds |= {name: ["diffusers", type(part).__name__] for name, part in parts.items() if name in ("unet", "vae")}
    (folder / PIPELINE_FILE).write_text(json.dumps(index | kinds, indent=2))
    (folder / "README.md").write_text(README)
    return folder


def _image_encoder(dim: int, clip: Path | None) -> Any:
    from transformers import CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    if clip is not None:
        whole: Any = CLIPModel.from_pretrained(clip)
        config = CLIPVisionConfig(**{**whole.config.vision_config.to_dict(), "projection_dim": dim})
        network: Any = CLIPVisionModelWithProjection(config)
        of_pictures = {k: v for k, v in whole.state_dict().items() if k.startswith(("vision_model.", "visual_"))}
        network.load_state_dict(of_pictures)
        return network
    tower: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 4, "image_size": SIDE_PX, "patch_size": 8, "initializer_factor": 5.0}
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**tower, projection_dim=dim))


def _text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    tower: dict[str, Any] = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    return CLIPTextModel(CLIPTextConfig(**tower, pad_token_id=1))


def _save_tokenizer(folder: Path) -> None:
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(vocab={token: n for n, token in enumerate(vocabulary)}, merges=[], model_max_length=16)
    tokenizer.save_pretrained(folder)
