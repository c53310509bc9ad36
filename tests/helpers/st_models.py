"""Models of sentence-transformers with random weights: the real classes, built small and saved by the libraries."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = (
    *("a", "the", "of", "in", "on", "at", "night", "day", "cat", "dog", "bird", "bell", "car", "city", "sea", "rain"),
    *(
        "snow",
        "red",
        "green",
        "blue",
        "small",
        "large",
        "old",
        "new",
        "man",
        "woman",
        "child",
        "plays",
        "runs",
        "sings",
    ),
    *("sleeps", "none", "text", ":", "|", "query", "document", "search", "result", "task", "title"),
)

README = "---\nlicense: apache-2.0\n---\nRandom weights.\n"


def word_tokenizer(special: Sequence[str], kind: Any, **roles: Any) -> Any:
    """Return a tokenizer of transformers whose tokens are words, and letters of other words."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(33, 127)]
    pieces = [*special, *dict.fromkeys([*WORDS, *letters, *(f"##{letter}" for letter in letters)])]
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token=roles["unk_token"]))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    start, end = roles.pop("wrap")
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B {end}",
        special_tokens=[(token, made.token_to_id(token)) for token in (start, end)],
    )
    return kind(tokenizer_object=made, **roles)


def save_text_model(folder: Path, **config: Any) -> Path:
    """Save a BERT with mean pooling and prompts, that states shorter dimensions."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    tokenizer = word_tokenizer(special, PreTrainedTokenizerFast, wrap=("[CLS]", "[SEP]"), model_max_length=48, **roles)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,
    }
    made = folder.parent / f"{folder.name}-parts"
    BertModel(BertConfig(**settings)).save_pretrained(made)
    tokenizer.save_pretrained(made)
    transformer = Transformer(str(made), max_seq_length=48)
    model = SentenceTransformer(
        modules=[transformer, Pooling(32, "mean"), Normalize()],
        prompts={"query": "task : search result | query : ", "document": "title : none | text : "},
        device="cpu",
    )
    save(model, folder)
    stated = folder / "config_sentence_transformers.json"
    stated.write_text(json.dumps({**json.loads(stated.read_text()), "matryoshka_dims": [8, 16, 32], **config}))
    return folder


def save_clip_model(folder: Path) -> Path:
    """Save a CLIP: text and pictures."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

    torch.manual_seed(1)
    special = ("<pad>", "<unk>", "<start>", "<end>")
    tokenizer = word_tokenizer(
        special,
        PreTrainedTokenizerFast,
        wrap=("<start>", "<end>"),
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=40,
    )
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 40,
            "eos_token_id": 3,
            "bos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=24,
        initializer_factor=5.0,
    )
    make: Any = CLIPProcessor  # without types
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    made = folder.parent / f"{folder.name}-parts"
    CLIPModel(config).save_pretrained(made)
    make(image_processor=pictures, tokenizer=tokenizer).save_pretrained(made)
    save(SentenceTransformer(modules=[Transformer(str(made))], device="cpu"), folder)
    return folder


def save(model: Any, folder: Path) -> None:
    """Save a model as its users find it, without the card that the library writes."""
    model.save_pretrained(str(folder), create_model_card=False)
    (folder / "README.md").write_text(README)
    logging.getLogger("sentence_transformers").handlers.clear()


OMNI_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }} "
    "{% elif part['type'] == 'image' %}<|image|>{% elif part['type'] == 'video' %}<|video|>"
    "{% elif part['type'] == 'audio' %}<|audio|>{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)


def save_omni_model(folder: Path, *, messages: bool = True) -> Path:
    """Save an EmbeddingGemma 2: text, pictures, video and sound, and with messages inputs of several of them."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import (
        EmbeddingGemma2Config,
        EmbeddingGemma2Model,
        EmbeddingGemma2Processor,
        EmbeddingGemma2VideoProcessor,
        Gemma4AudioFeatureExtractor,
        Gemma4ImageProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(2)
    named = {
        "image_token": "<|image|>",
        "audio_token": "<|audio|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    special = ("<pad>", "<eos>", "<bos>", "<unk>", *named.values(), "<|video|>")
    tokenizer = word_tokenizer(
        special,
        PreTrainedTokenizerFast,
        wrap=("<bos>", "<eos>"),
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens=named,
        model_max_length=512,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|video|>"]})
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = EmbeddingGemma2Config(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "layer_types": ["sliding_attention", "full_attention"],
            "intermediate_size": 64,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "global_head_dim": 16,
            "hidden_size_per_layer_input": 8,
            "embedding_dim": 24,
            "sliding_window": 64,
            "max_position_embeddings": 1024,
            "initializer_range": 0.3,
        },
        vision_config={
            **tower,
            "model_type": "gemma4_vision",
            "intermediate_size": 64,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 8,
            "pooling_kernel_size": 2,
            "position_embedding_size": 256,
            "initializer_range": 0.3,
        },
        audio_config={
            **tower,
            "model_type": "gemma4_audio",
            "subsampling_conv_channels": [128, 4],
            "output_proj_dims": 24,
            "initializer_range": 0.15,
        },
        image_token_id=ids["image_token"],
        audio_token_id=ids["audio_token"],
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        boi_token_id=ids["boi_token"],
        eoi_token_id=ids["eoi_token"],
        boa_token_id=ids["boa_token"],
        eoa_token_index=ids["eoa_token"],
        initializer_range=0.3,
    )
    processor = EmbeddingGemma2Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(patch_size=8, pooling_kernel_size=2, max_soft_tokens=70),
        tokenizer=tokenizer,
        video_processor=EmbeddingGemma2VideoProcessor(patch_size=8, pooling_kernel_size=2, max_soft_tokens=70),
        chat_template=OMNI_TEMPLATE if messages else None,
        image_seq_length=70,
        audio_seq_length=280,
    )
    made = folder.parent / f"{folder.name}-parts"
    EmbeddingGemma2Model(config).save_pretrained(made)
    processor.save_pretrained(made)
    transformer = Transformer(str(made))
    model = SentenceTransformer(
        modules=[transformer, Pooling(24, "mean"), Normalize()],
        prompts={"query": "task : search result | query : ", "document": "title : none | text : "},
        device="cpu",
    )
    save(model, folder)
    return folder
