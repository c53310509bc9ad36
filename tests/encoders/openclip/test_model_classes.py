"""Each class of open_clip's models, with random weights: saved, pulled from a folder, and equal to open_clip itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, get_clean_fn
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

import bindsearch as bs
from bindsearch.encoders import package_files
from bindsearch.encoders.model_catalog import find_model_source
from bindsearch.encoders.model_store.installed import (
    ModelManifest,
    model_folder,
    read_model,
    towers_of,
    verify_model,
    work_folder,
)
from bindsearch.encoders.model_store.pull import pull_model
from bindsearch.encoders.openclip.encoder import OpenClipEncoder
from bindsearch.encoders.preprocessing.hub_tokenizer import HubTokenizer, TokenizerFiles
from bindsearch.encoders.registry import load_encoder
from bindsearch.errors import EncoderError, InstallationError, MediaError, UsageError
from bindsearch.media import Passage, Picture
from bindsearch.types import Modality
from helpers.folder_server import serve_files
from helpers.hub_tokenizers import save_tokenizer
from helpers.stores import connect

TEXTS = ["a dog", "Two cats sleep on a red sofa, and a bird sings!", "42 birds", "ein Hund läuft am Strand"]
VIT = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
TEXT = {"width": 64, "heads": 2, "layers": 2}
SIGLIP_TEXT = {
    **TEXT,
    "context_length": 40,
    "no_causal_mask": True,
    "pool_type": "last",
    "proj_bias": True,
    "norm_kwargs": {"eps": 1e-6},
    "hf_tokenizer_name": "some/tokenizer",
    "tokenizer_kwargs": {"clean": "canonicalize"},
}
SIGLIP_VISION = {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none", "image_size": 160}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize_mode": "squash"}
HF = {"hf_model_name": "some/model", "hf_tokenizer_name": "some/model"}
ROBERTA = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 90,
    "pad_token_id": 1,
}
NLLB = {
    "model_type": "m2m_100",
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "scale_embedding": True,
    "pad_token_id": 1,
}
MT5 = {"model_type": "mt5", "d_model": 64, "d_ff": 96, "d_kv": 32, "num_layers": 2, "num_heads": 2, "pad_token_id": 0}


@dataclass(frozen=True)
class Kind:
    """A class of models: its configuration, its preprocessing, its tokenizer and its text tower."""

    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    dim: int = 48
    more: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str = ""
    tower: Mapping[str, Any] | None = None


KINDS: Mapping[str, Kind] = {
    "siglip": Kind(SIGLIP_VISION, SIGLIP_TEXT, 64, {"custom_text": True, "init_logit_bias": -10}, HALF, tokenizer="t5"),
    "siglip2": Kind(
        SIGLIP_VISION,
        {**SIGLIP_TEXT, "act_kwargs": {"approximate": "tanh"}, "proj_type": "none"},
        64,
        {"custom_text": True, "init_logit_bias": -10},
        HALF,
        tokenizer="gemma",
    ),
    "pe-core": Kind(
        {
            "timm_model_name": "vit_pe_core_tiny_patch16_384",
            "timm_pool": "map",
            "timm_proj": None,
            "image_size": 384,
        },
        {**TEXT, "context_length": 32},
        more={"custom_text": True},
        preprocess={**HALF, "interpolation": "bilinear"},
    ),
    "mobileclip": Kind(
        {"timm_model_name": "fastvit_t8", "timm_pool": "avg", "timm_proj": None, "image_size": 256},
        {**TEXT, "no_causal_mask": True},
        more={"custom_text": True},
        preprocess={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear"},
    ),
    "metaclip2": Kind(
        VIT,
        {**TEXT, "hf_tokenizer_name": "some/tokenizer", "pool_type": "eos", "eos_id": 2},
        more={"quick_gelu": True},
        tokenizer="xlm-roberta",
    ),
    "eva02": Kind(
        {"timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None, "image_size": 224},
        TEXT,
        more={"custom_text": True},
    ),
    "clipa": Kind(
        {**VIT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        {
            **TEXT,
            "context_length": 32,
            "hf_tokenizer_name": "some/tokenizer",
            "tokenizer_kwargs": {"strip_sep_token": True},
            "pool_type": "last",
            "no_causal_mask": True,
        },
        preprocess={"interpolation": "bilinear", "resize_mode": "squash"},
        tokenizer="bert",
    ),
    "coca": Kind(
        {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        more={"custom_text": True, "multimodal_cfg": {**TEXT, "context_length": 76, "attn_pooler_heads": 2}},
    ),
    "roberta": Kind(
        VIT, HF, more={"quick_gelu": True}, tokenizer="roberta", tower={"model_type": "roberta", **ROBERTA}
    ),
    "xlm-roberta": Kind(VIT, HF, tokenizer="xlm-roberta", tower={"model_type": "xlm-roberta", **ROBERTA}),
    "bert": Kind(
        VIT,
        {**HF, "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
        tokenizer="bert",
        tower={"model_type": "bert", **ROBERTA, "pad_token_id": 0},
    ),
    "nllb": Kind(
        SIGLIP_VISION,
        {**HF, "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
        64,
        {"custom_text": True, "init_logit_bias": -10},
        HALF,
        tokenizer="nllb",
        tower=NLLB,
    ),
    "mt5": Kind(VIT, HF, tokenizer="mt5", tower=MT5),
    "wide": Kind({**VIT, "image_size": [64, 96]}, TEXT),
    "longest": Kind(VIT, {**TEXT, "context_length": 20}, preprocess={"resize_mode": "longest", "fill_color": 127}),
}


@dataclass(frozen=True)
class Published:
    """A model as it is published: a folder with its files, and the library's own model and tokenizer."""

    name: str
    folder: Path
    model: Any
    tokenizer: Any
    preprocess: PreprocessCfg

    def features(self, pictures: list[NDArray[np.uint8]]) -> dict[Modality, NDArray[np.float32]]:
        transform = image_transform_v2(self.preprocess, is_train=False)
        with torch.inference_mode():
            pixels = torch.stack([transform(Image.fromarray(rgb)) for rgb in pictures])
            return {
                Modality.IMAGE: self.model.encode_image(pixels, normalize=True).numpy(),
                Modality.TEXT: self.model.encode_text(self.tokenizer(TEXTS), normalize=True).numpy(),
            }


@pytest.fixture(autouse=True)
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")


def publish(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Register a small model in open_clip's own lists, and save it as open_clip's hub repositories are."""
    facts, folder = KINDS[kind], folder / "published"
    folder.mkdir(parents=True)
    text = {**facts.text}
    if facts.tokenizer:
        size = save_tokenizer(facts.tokenizer, folder)
        text.setdefault("vocab_size", size)
    config = {"embed_dim": facts.dim, "vision_cfg": dict(facts.vision), "text_cfg": text, **facts.more}
    settings = {"url": "", "hf_hub": f"some/{kind}/", "interpolation": "bicubic", "resize_mode": "shortest"}
    means = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"small-{kind}", config)
    tags = {"random": {**settings, **means, **facts.preprocess}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, f"small-{kind}", tags)
    built = {**config, "text_cfg": dict(text)}
    if facts.tower is not None:
        (folder / "config.json").write_text(json.dumps({**facts.tower, "vocab_size": text["vocab_size"]}))
        del built["text_cfg"]["vocab_size"]
        built["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    model = random_model(built)
    safetensors.torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    length, options = text.get("context_length", 77), text.get("tokenizer_kwargs", {})
    own = (
        HFTokenizer(str(folder), context_length=length, **options)
        if facts.tokenizer
        else SimpleTokenizer(context_length=length, **options)
    )
    size_px = model.visual.image_size
    preprocess = PreprocessCfg(size=size_px, **{**means, **facts.preprocess})
    return Published(f"openclip:small-{kind}/random", folder, model, own, preprocess)


def random_model(config: Mapping[str, Any]) -> Any:
    torch.manual_seed(0)
    settings = {**config}
    custom = settings.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    build: Any = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if "multimodal_cfg" in settings:
        build = open_clip.CoCa
    model = build(**settings)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and "var" not in name and not name.startswith("logit"):
                tensor.add_(0.05 * torch.randn_like(tensor))
            if name.endswith("layer_scale.gamma"):
                tensor.fill_(0.05)  # at 1e-5, as before training, convolutions would tell no pictures apart
            if name.startswith("visual") and tensor.ndim == 4:
                tensor.mul_(1.5)
    return model.eval()


def pull(published: Published, dtype: str = "fp32", **options: Any) -> OpenClipEncoder:
    pull_model(find_model_source(published.name), from_file=published.folder, dtype=dtype, **options)
    encoder = load_encoder(published.name)
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


def pictures() -> list[NDArray[np.uint8]]:
    """Return pictures whose content can be told apart: blocks of colour."""
    shapes = [(90, 140), (131, 80), (64, 64)]
    blocks = [np.random.default_rng(n).integers(0, 256, (6, 7, 3), np.uint8) for n in range(len(shapes))]
    return [
        np.asarray(Image.fromarray(block).resize((width, height)))
        for block, (height, width) in zip(blocks, shapes, strict=True)
    ]


def encoded(encoder: OpenClipEncoder) -> dict[Modality, NDArray[np.float32]]:
    return {
        Modality.IMAGE: encoder.encode(Modality.IMAGE, [encoder.prepare(Picture(rgb)) for rgb in pictures()]),
        Modality.TEXT: encoder.encode(Modality.TEXT, [encoder.prepare(Passage(text)) for text in TEXTS]),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_open_clip_alone_and_in_batches(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = publish(kind, tmp_path, monkeypatch)
    encoder = pull(published)
    vectors, expected = encoded(encoder), published.features(pictures())
    for modality in expected:
        np.testing.assert_allclose(vectors[modality], expected[modality], atol=1e-5)
        assert np.linalg.matrix_rank(expected[modality], tol=1e-3) == len(expected[modality])  # they can be told apart
    for number, text in enumerate(TEXTS):
        (alone,) = encoder.encode(Modality.TEXT, [encoder.prepare(Passage(text))])
        np.testing.assert_allclose(alone, vectors[Modality.TEXT][number], atol=1e-5)
    assert verify_model(published.name) == []
    assert towers_of(read_model(published.name)) == ["image", "text"]
    if KINDS[kind].tokenizer:
        assert (model_folder(published.name) / "tokenizer.json").is_file()
    half = pull(published, "bf16", force=True)
    for modality, rows in encoded(half).items():
        assert (rows * vectors[modality]).sum(axis=1).min() >= 0.999
    assert (half.digest, half.options) == (encoder.digest, encoder.options)


def test_a_folder_of_media_is_indexed_and_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish("siglip2", tmp_path, monkeypatch)
    pull(published)
    media = tmp_path / "media"
    media.mkdir()
    for number, rgb in enumerate(pictures()):
        Image.fromarray(rgb).save(media / f"{number}.png")
    (media / "notes.txt").write_text("a dog runs on the beach")
    (media / "long.txt").write_text("two cats sleep on a red sofa " * 30)  # split into passages of the model's length
    with connect(tmp_path / "store", encoder=published.name) as store:
        assert store.index(media).added == 5
    with connect(tmp_path / "store") as store:
        hit = store.search(bs.image(media / "1.png"), to="image", k=1, include_query=True)[0]
        assert (hit.path.name, round(hit.cosine, 2)) == ("1.png", 1.0)
        assert store.search("a dog runs on the beach", to="text", k=1)[0].path.name == "notes.txt"


@pytest.mark.parametrize(("kind", "template"), [("nllb", "<s> $A </s>"), ("gemma", "<bos> $A")])
def test_special_tokens_follow_the_settings_of_the_tokenizer(kind: str, template: str, tmp_path: Path) -> None:
    """As in repositories whose tokenizer.json is older than their settings."""
    save_tokenizer(kind, tmp_path)
    path = tmp_path / "tokenizer.json"
    old = Tokenizer.from_file(str(path))
    names = [name for name in template.split() if name != "$A"]
    old.post_processor = TemplateProcessing(template, None, [(name, old.token_to_id(name)) for name in names])
    old.save(str(path))
    expected = HFTokenizer(str(tmp_path), context_length=40)(TEXTS).numpy()
    tokenizer = HubTokenizer(
        lambda: TokenizerFiles(path, tmp_path / "tokenizer_config.json"), 40, clean=get_clean_fn("whitespace")
    )
    for text, row in zip(TEXTS, expected, strict=True):
        (ids,) = tokenizer.tokenize(text)
        assert list(ids) == list(row[: len(ids)])
        assert set(row[len(ids) :]) <= {tokenizer.pad}


def test_special_tokens_in_a_text_and_texts_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = pull(publish("metaclip2", tmp_path, monkeypatch))
    (tokens,) = encoder.prepare(Passage("a dog </s> and <pad> a \ud800 cat"))
    assert list(tokens).count(2) == 1
    assert 1 not in tokens
    assert encoder.max_tokens == 77
    assert encoder.count_tokens("") == 2
    for text in ("", " \n "):
        with pytest.raises(MediaError, match="has no words; give at least one"):
            encoder.prepare(Passage(text))
    with pytest.raises(MediaError, match=r"has \d+ tokens, more than 77; split it into passages"):
        encoder.prepare(Passage("bird " * 80))


def test_files_besides_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish("xlm-roberta", tmp_path, monkeypatch)
    source, folder = find_model_source(published.name), published.folder
    assert [extra.url.partition("/some/")[2] for extra in source.extra_files] == [
        "model/resolve/main/tokenizer.json",
        "model/resolve/main/tokenizer_config.json",
        "model/resolve/main/config.json",
    ]
    with pytest.raises(
        EncoderError, match=r"tokenizer\.json, .*config\.json on another machine and run .* --from FOLDER"
    ):
        pull_model(source)
    first = pull(published).digest
    assert pull_model(source, from_file=folder / "open_clip_model.safetensors").is_new is False  # the same files
    checks = {
        "config.json": (json.dumps({"model_type": "gpt2"}), "of the type 'gpt2', expected one of bert, m2m_100"),
        "tokenizer.json": ("{}", "cannot read the tokenizer"),
        "tokenizer_config.json": ("[]", "holds no settings of a tokenizer"),
    }
    deep = "[" * 100_000  # deeper than Python's parser goes
    for name, content, message in [
        *((name, *check) for name, check in checks.items()),
        ("config.json", deep, "cannot read .*recursion"),
        ("tokenizer_config.json", deep, "cannot read .*recursion"),
    ]:
        whole = (folder / name).read_bytes()
        (folder / name).write_text(content)
        with pytest.raises(UsageError, match="is installed from another checkpoint"):
            pull_model(source, from_file=folder)
        with pytest.raises(EncoderError, match=message):
            pull_model(source, from_file=folder, force=True)
        (folder / name).write_bytes(whole)
    changed = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**changed, "layer_norm_eps": 1e-3}))
    assert pull(published, force=True).digest != first
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        EncoderError, match=r"needs the file tokenizer\.json beside its checkpoint, in .*published: download"
    ):
        pull_model(source, from_file=folder)
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"published holds no checkpoint: expected a file \*\.safetensors, \*\.bin"):
        pull_model(source, from_file=folder)
    for name in ("a.pt", "b.pt"):
        (folder / name).touch()
    with pytest.raises(UsageError, match=r"holds 2 checkpoints \(a\.pt, b\.pt\): give one of these files"):
        pull_model(source, from_file=folder)
    encoder = load_encoder(published.name)
    (model_folder(published.name) / "tokenizer.json").write_text("cut")
    with pytest.raises(EncoderError, match=r"tokenizer\.json has 3 bytes instead of \d+: `bindsearch model pull"):
        encoder.prepare(Passage("a dog"))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish("roberta", tmp_path, monkeypatch)
    config = json.loads((published.folder / "config.json").read_text())
    (published.folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 0}))
    with pytest.raises(
        EncoderError, match=r"pads with the token 1, and text_config\.json with 0: they are not of the same"
    ):
        pull(published)
    siglip = publish("siglip", tmp_path / "another", monkeypatch)
    encoder = pull(siglip)
    monkeypatch.setitem(encoder._config["text_cfg"], "vocab_size", 20)
    with pytest.raises(EncoderError, match=r"it has the token \d+, the model knows 20"):
        encoder.prepare(Passage("two cats sleep"))
    (published.folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    with pytest.raises(EncoderError, match=r"text_config\.json has 1000000000 layers, more than 1000"):
        pull(published)
    (published.folder / "config.json").write_text(json.dumps({**config, "hidden_size": 63}))
    with pytest.raises(EncoderError, match=r"describes no text tower of some/model \("):
        pull(published)


def test_all_files_are_downloaded_and_a_broken_download_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = publish("roberta", tmp_path, monkeypatch)
    monkeypatch.delenv("BINDSEARCH_OFFLINE")
    names = {path.name: path.read_bytes() for path in published.folder.iterdir()}
    with serve_files(names) as server:
        source = find_model_source(published.name)
        local = [dataclasses.replace(extra, url=f"{server.url}/{extra.local_name}") for extra in source.extra_files]
        checkpoint = f"{server.url}/open_clip_model.safetensors"
        source = dataclasses.replace(source, urls=(checkpoint,), extra_files=tuple(local))
        server.cut_after["/tokenizer.json"] = 1_000
        server.refused.add("/open_clip_model.safetensors")
        with pytest.raises(EncoderError, match="HTTP 403"):
            pull_model(source, dtype="fp32", delay_s=0)
        asked = list(server.requests)
        assert ("/tokenizer.json", "bytes=1000-") in asked
        server.refused.clear()
        assert pull_model(source, dtype="fp32", delay_s=0).is_new
        assert [path for path, _ in server.requests[len(asked) :]] == ["/open_clip_model.safetensors"]
        downloaded = load_encoder(published.name).digest
        assert not work_folder(published.name).exists()
        pull_model(find_model_source(published.name), url=checkpoint, dtype="bf16")  # a mirror, with all files
        assert load_encoder(published.name).digest == downloaded
        server.missing.update({"/tokenizer_config.json", "/config.json"})
        with pytest.raises(EncoderError, match=r"/config\.json: the file does not exist \(HTTP 404"):
            pull_model(source, dtype="fp32", delay_s=0, force=True)
    assert pull(published).digest == downloaded


def test_a_text_tower_without_its_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish("roberta", tmp_path, monkeypatch)
    encoder = pull(published)
    assert "transformers" in encoder.libraries[Modality.TEXT]
    assert "transformers" not in encoder.libraries[Modality.IMAGE]
    monkeypatch.setattr(package_files, "find_spec", lambda _name: None)
    with pytest.raises(
        InstallationError, match=r"the text tower of openclip:small-roberta/random needs the extra \[hf\]"
    ):
        find_model_source(published.name)


def test_a_sigmoid_models_scale_is_not_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish("siglip", tmp_path, monkeypatch)
    path = published.folder / "open_clip_model.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**tensors, "logit_scale": torch.tensor(4.77)}, path)
    assert pull(published).temperatures[Modality.TEXT] == pytest.approx(117.9, abs=0.1)


def test_digests_of_models_installed_before_stay() -> None:
    """The expected digest and options are those of the code before other classes of models were supported."""
    source = find_model_source("openclip:ViT-B-32/laion2b_s34b_b79k")
    preprocess = {
        "size_px": 224,
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
        "quick_gelu": False,
    }
    old = {"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k", "config": config, "preprocess": preprocess}
    assert source.architecture == old
    assert source.extra_files == ()
    temperatures = {"text": 100.0, "image": 1.0, "video": 1.0}
    manifest = ModelManifest(
        1, source.name, "openclip", old, "bf16", "https://host/x", "ab" * 32, 1, "", "", temperatures, {}
    )
    encoder = OpenClipEncoder(manifest)
    assert encoder.digest == "049a08564abbdb39a2028d54cf66aeda"
    assert encoder.options == {
        "picture_side_px": 224,
        "resize_mode": "shortest",
        "interpolation": "bicubic",
        "mean": "0.48145466 0.4578275 0.40821073",
        "std": "0.26862954 0.26130258 0.27577711",
        "frames_per_s": 1.0,
    }
