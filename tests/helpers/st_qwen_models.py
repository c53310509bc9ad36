"""Qwen3-VL and Qwen2.5-Omni with random weights as models of sentence-transformers: the real classes, built small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.st_models import save, word_tokenizer

_TOKENS = (
    *("<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"),
    *("<|video_pad|>", "<|audio_pad|>", "<|audio_start|>", "<|audio_end|>"),
)

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
}
_ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10_000.0}


def _tokenizer(**named: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    made = word_tokenizer(
        _TOKENS,
        PreTrainedTokenizerFast,
        wrap=("<|im_start|>", "<|im_end|>"),
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        extra_special_tokens=named,
        model_max_length=4096,
    )
    made.add_special_tokens({"additional_special_tokens": [token for token in _TOKENS[2:] if token != "<|im_end|>"]})
    return made


def save_qwen3_vl(folder: Path) -> Path:
    """Save a Qwen3-VL: texts, pictures, video, and texts with either of them; the last token, a prompt of queries."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    torch.manual_seed(3)
    library: Any = transformers  # partly without types
    tokenizer = _tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    config = library.Qwen3VLConfig(
        text_config={
            **_TEXT,
            "vocab_size": len(tokenizer),
            "rope_parameters": {**_ROPE, "mrope_interleaved": True},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 8,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
            "initializer_range": 0.2,
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    patches = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    processor = library.Qwen3VLProcessor(
        image_processor=library.Qwen2VLImageProcessor(**patches, size={"shortest_edge": 1024, "longest_edge": 16_384}),
        tokenizer=tokenizer,
        video_processor=library.Qwen3VLVideoProcessor(
            **patches, size={"shortest_edge": 1024, "longest_edge": 131_072}, cap_pixels_per_frame=False
        ),
        chat_template=_TEMPLATE,
    )
    made = folder.parent / f"{folder.name}-parts"
    library.Qwen3VLModel(config).save_pretrained(made)
    processor.save_pretrained(made)
    model = SentenceTransformer(
        modules=[Transformer(str(made)), Pooling(32, "lasttoken"), Normalize()],
        prompts={"query": "search the text", "document": ""},
        device="cpu",
    )
    save(model, folder)
    return folder


def save_qwen_omni(folder: Path) -> Path:
    """Save the thinker of Qwen2.5-Omni: all four modalities; the last token of the last hidden states, no prompts."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    torch.manual_seed(4)
    library: Any = transformers
    named = {
        "image_token": "<|image_pad|>",
        "audio_token": "<|audio_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
    }
    tokenizer = _tokenizer(**named)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    config = library.Qwen2_5OmniThinkerConfig(
        text_config={**_TEXT, "vocab_size": len(tokenizer), "rope_parameters": _ROPE},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.2,
        },
        audio_config={
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "output_dim": 32,
            "num_mel_bins": 80,
            "n_window": 100,
            "initializer_range": 0.2,
        },
        **{
            f"{kind}_token_{end}": ids[f"{kind}_token"]
            for kind in ("image", "video", "audio")
            for end in ("id", "index")
        },
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
        audio_start_token_id=ids["audio_bos_token"],
        audio_end_token_id=ids["audio_eos_token"],
    )
    processor = library.Qwen2_5OmniProcessor(
        image_processor=library.Qwen2VLImageProcessor(size={"shortest_edge": 3136, "longest_edge": 12_544}),
        video_processor=library.Qwen2VLVideoProcessor(
            size={"shortest_edge": 3136, "longest_edge": 50_176}, cap_pixels_per_frame=False
        ),
        feature_extractor=library.WhisperFeatureExtractor(feature_size=80),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
    )
    made = folder.parent / f"{folder.name}-parts"
    library.Qwen2_5OmniThinkerForConditionalGeneration(config).save_pretrained(made)
    processor.save_pretrained(made)
    output = {"method": "forward", "method_output_name": ["hidden_states", -1]}
    transformer = Transformer(
        str(made),
        transformer_task="any-to-any",
        modality_config={
            **dict.fromkeys(("text", "image", "audio", "video"), output),
            "message": {**output, "format": "structured"},
        },  # type: ignore[arg-type]  (names of modalities)
        module_output_name="token_embeddings",
    )
    save(SentenceTransformer(modules=[transformer, Pooling(32, "lasttoken"), Normalize()], device="cpu"), folder)
    return folder
