"""Models of sentence-transformers, of the real classes with random weights: pulled from a folder, loaded and run."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bindsearch.encoders.base import Encoder, query_encoders
from bindsearch.encoders.model_store.installed import read_model, snapshot_folder
from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.st.encoder import StEncoder
from bindsearch.encoders.st.inputs import MAX_PICTURE_PX, Parts, pack, unpack
from bindsearch.encoders.st.loading import load_library_model
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import EncoderError, InstallationError, MediaError, UsageError
from bindsearch.media import DepthMap, Frames, Media, Passage, Picture, Sound
from bindsearch.types import Modality
from helpers import st_models, st_qwen_models

CPU = Runtime(device="cpu")
RATE_HZ = 16_000
TEXTS = ("a red cat sleeps", "the dog runs in the snow at night", "bell")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Save and pull models as st:org/text and so on; the folder that they were saved in."""
    root = tmp_path_factory.mktemp("st")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BINDSEARCH_MODELS", str(root / "models"))
        patch.setenv("BINDSEARCH_OFFLINE", "1")
        for name, save in (
            ("text", st_models.save_text_model),
            ("router", st_models.save_router_model),
            ("clip", st_models.save_clip_model),
            ("omni", st_models.save_omni_model),
            ("qwen3-vl", st_qwen_models.save_qwen3_vl),
            ("qwen-omni", st_qwen_models.save_qwen_omni),
        ):
            pull_snapshot(f"st:org/{name}", from_folder=save(root / name), dtype="fp32")
        yield root


@pytest.fixture(scope="module")
def library(installed: Path) -> dict[str, Any]:
    """Return the same models, loaded by the library alone."""
    from sentence_transformers import SentenceTransformer

    return {
        name: SentenceTransformer(str(installed / name), device="cpu", local_files_only=True)
        for name in ("text", "router", "clip", "omni", "qwen3-vl", "qwen-omni")
    }


@pytest.fixture(scope="module")
def omni(installed: Path) -> Encoder:
    return load_encoder("st:org/omni", runtime=CPU)


def random_picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    small = rng.integers(0, 255, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def media_of(key: str) -> list[Media]:
    """Three media of a modality, or of a joint input, of different sizes."""
    rng = np.random.default_rng(3)
    pictures = [Picture(random_picture(rng, *size)) for size in ((90, 120), (64, 64), (200, 50))]
    videos = [
        Frames(np.stack([random_picture(rng, *size) for _ in range(n)]), np.arange(n, dtype=np.float64) * step_s)
        for n, size, step_s in ((4, (60, 80), 1.0), (2, (60, 90), 1.0), (7, (32, 32), 0.5))
    ]
    sounds = [Sound(rng.uniform(-0.5, 0.5, n).astype(np.float32), RATE_HZ) for n in (16_000, 30_000, 8_000)]
    whole: dict[str, Sequence[Media]] = {
        "text": [Passage(text) for text in TEXTS],
        "image": pictures,
        "video": videos,
        "audio": sounds,
        "image+text": [replace(picture, caption=text) for picture, text in zip(pictures, TEXTS, strict=True)],
        "text+video": [replace(video, caption=text) for video, text in zip(videos, TEXTS, strict=True)],
        "audio+video": [replace(video, sound=sound) for video, sound in zip(videos, sounds, strict=True)],
        "audio+text+video": [
            replace(video, sound=sound, caption=text) for video, sound, text in zip(videos, sounds, TEXTS, strict=True)
        ],
    }
    return list(whole[key])


def as_the_library_takes(medium: Media) -> Any:
    """Return the medium as a user of the library would give it."""
    match medium:
        case Passage(text=text):
            return text
        case Picture(rgb=rgb, caption=caption):
            return {"image": Image.fromarray(rgb), "text": caption} if caption else Image.fromarray(rgb)
        case Sound(samples=samples, sample_rate_hz=rate_hz):
            return {"array": samples, "sampling_rate": rate_hz}
        case Frames(rgb=rgb, times_s=times_s, caption=caption, sound=sound):
            n, fps = len(rgb), 1 / (times_s[1] - times_s[0])
            facts = {"total_num_frames": n, "fps": fps, "duration": n / fps, "frames_indices": list(range(n))}
            video = {"array": rgb, "video_metadata": facts}
            heard = {"audio": as_the_library_takes(sound)} if sound is not None else {}
            whole = {"video": video, **heard, **({"text": caption} if caption else {})}
            return whole if len(whole) > 1 else video
    raise AssertionError(medium)


def embed(encoder: Encoder, modality: str, media: Sequence[Media]) -> np.ndarray[Any, Any]:
    return encoder.encode(Modality(modality), [encoder.prepare(medium) for medium in media])


def medium_of(key: str) -> str:
    return next((part for part in ("video", "image") if part in key.split("+")), key)


CASES = [
    ("text", "text"),
    ("router", "text"),
    ("clip", "text"),
    ("clip", "image"),
    *(("omni", key) for key in ("text", "image", "video", "audio", "image+text", "text+video", "audio+video")),
    ("omni", "audio+text+video"),
    *(("qwen3-vl", key) for key in ("text", "image", "video", "image+text", "text+video")),
    *(("qwen-omni", key) for key in ("text", "audio", "audio+text+video")),
]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_vectors_are_those_of_the_library(installed: Path, library: dict[str, Any], name: str, key: str) -> None:
    encoder, media = load_encoder(f"st:org/{name}", runtime=CPU), media_of(key)
    given = [as_the_library_takes(medium) for medium in media]
    sampled = {"processing_kwargs": {"video": {"do_sample_frames": False}}} if "video" in key else {}
    roles = ((encoder, library[name].encode_document), (query_encoders(encoder)[None], library[name].encode_query))
    for head, call in roles:
        expected = np.concatenate([call([medium], **sampled) for medium in given])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        prepared = [head.prepare(medium) for medium in media]
        assert all(len(array) == 1 for array in prepared)
        vectors = head.encode(Modality(medium_of(key)), prepared)
        assert vectors.shape == (3, head.dim)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        one_by_one = [head.encode(Modality(medium_of(key)), [array]) for array in prepared]
        np.testing.assert_allclose(vectors, np.concatenate(one_by_one), atol=1e-5)
        assert np.triu(vectors @ vectors.T, 1).max() < 0.995  # three media, three vectors


def test_facts_of_the_models(installed: Path) -> None:
    text, clip, omni = (load_encoder(f"st:org/{name}", runtime=CPU) for name in ("text", "clip", "omni"))
    assert isinstance(text, StEncoder)
    assert (text.dim, text.modalities, text.shorter_dims) == (32, {Modality.TEXT}, (8, 16, 32))
    assert (clip.dim, clip.modalities) == (24, {Modality.TEXT, Modality.IMAGE})
    assert omni.modalities == {Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO}
    assert isinstance(omni, StEncoder)
    assert omni.captioned == {Modality.IMAGE, Modality.VIDEO}
    assert isinstance(clip, StEncoder)
    assert clip.captioned == frozenset()
    assert set(omni.temperatures.values()) == {1.0}
    assert clip.wants.picture_side_px == 32
    assert (omni.wants.frames_per_s, dict(omni.wants.longest_s)) == (1.0, pytest.approx({"video": 32.0, "audio": 11.2}))
    assert text.digest != clip.digest
    assert not text.loaded_towers  # nothing was loaded to know all this


def test_queries_have_their_prompt(installed: Path) -> None:
    encoder = load_encoder("st:org/text", runtime=CPU)
    heads = query_encoders(encoder)
    assert list(heads) == [None]
    query = heads[None]
    assert query is not encoder
    assert (query.digest, query.dim, query.options) == (encoder.digest, encoder.dim, encoder.options)
    assert query_encoders(query) == {None: query}
    passages = [Passage(text) for text in TEXTS]
    assert not np.allclose(embed(encoder, "text", passages), embed(query, "text", passages), atol=1e-3)
    assert isinstance(query, StEncoder)
    assert query.loaded_towers == {"model"}  # of both: it is loaded once
    clip = load_encoder("st:org/clip", runtime=CPU)
    assert query_encoders(clip) == {None: clip}


def test_tokens_are_counted_with_the_prompt(installed: Path, library: dict[str, Any]) -> None:
    encoder, model = load_encoder("st:org/text", runtime=CPU), library["text"]
    assert encoder.max_tokens == 48
    for text in TEXTS:
        counts = [
            model.preprocess([text], prompt=model.prompts[role])["input_ids"].shape[1] for role in ("query", "document")
        ]
        assert encoder.count_tokens(text) == max(counts)
    longest = " ".join(["cat"] * (48 - encoder.count_tokens("")))
    encoder.prepare(Passage(longest))
    with pytest.raises(MediaError, match="the text has 49 tokens, st:org/text takes at most 48"):
        encoder.prepare(Passage(f"{longest} cat"))
    with pytest.raises(MediaError, match="the text is empty"):
        encoder.prepare(Passage(" \n"))


def test_shorter_vectors_are_the_first_dimensions(installed: Path) -> None:
    whole, short = (
        load_encoder("st:org/text", runtime=CPU),
        load_encoder("st:org/text", options={"dim": 8}, runtime=CPU),
    )
    passages = [Passage(text) for text in TEXTS]
    expected = embed(whole, "text", passages)[:, :8]
    np.testing.assert_allclose(
        embed(short, "text", passages), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6
    )
    with pytest.raises(UsageError, match="dim is 9: give the dimensions of st:org/text, 8, 16, 32 or 32"):
        load_encoder("st:org/text", options={"dim": 9}, runtime=CPU)


def test_a_text_that_looks_like_an_address_is_a_text(omni: Encoder, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    texts = [str(tmp_path / "a.png"), "http://127.0.0.1:9/a.png", "data:image/png;base64,AAAA", "https://youtu.be/x"]
    vectors = embed(omni, "text", [Passage(text) for text in texts])
    assert np.isfinite(vectors).all()
    red = embed(omni, "image", [Picture(np.full((64, 64, 3), (255, 0, 0), np.uint8))])
    assert (vectors @ red.T).max() < 0.99


def test_a_text_with_a_placeholder_of_media_is_a_text(omni: Encoder) -> None:
    vectors = embed(omni, "text", [Passage("a <|image|> of <|audio|> and <|video|>"), Passage("a cat")])
    assert np.isfinite(vectors).all()


def test_number_formats_share_a_space(installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_fp32 = load_encoder("st:org/omni", runtime=CPU)
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    pull_snapshot("st:org/omni", from_folder=installed / "omni", dtype="bf16")
    monkeypatch.setattr("bindsearch.encoders.torch_runtime.device.has_fast_bf16", lambda: True)
    in_bf16 = load_encoder("st:org/omni", runtime=CPU)
    assert in_bf16.digest == in_fp32.digest
    monkeypatch.setenv("BINDSEARCH_MODELS", str(installed / "models"))
    media = {key: media_of(key) for key in ("text", "image", "audio", "video")}
    expected = {key: embed(in_fp32, key, media[key]) for key in media}
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    for key, vectors in expected.items():
        cosines = (embed(in_bf16, key, media[key]) * vectors).sum(axis=1)
        assert cosines.min() >= 0.999, key
        assert cosines.min() < 1 - 1e-7, key  # it did run in bf16


def test_tables_of_positions_stay_in_fp32(installed: Path) -> None:
    import torch

    folder = installed / "qwen3-vl"
    model = load_library_model("st:org/qwen3-vl", folder, torch.bfloat16, torch.device("cpu"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {table.dtype for table in model.buffers()} == {torch.float32}  # rounded, far positions would be others


def test_it_goes_to_other_processes(installed: Path, omni: Encoder) -> None:
    query = query_encoders(load_encoder("st:org/omni", options={"joint": "all"}, runtime=CPU))[None]
    copy = pickle.loads(pickle.dumps(query))
    assert (copy.name, copy.options, copy.digest) == (query.name, query.options, query.digest)
    assert copy.as_query(None) is copy
    passages = [Passage(TEXTS[0])]
    np.testing.assert_allclose(embed(copy, "text", passages), embed(query, "text", passages), atol=1e-6)


def test_loading_asks_no_server(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _self, address: asked.append(address))
    embed(load_encoder("st:org/omni", runtime=CPU), "text", [Passage("a cat")])
    assert asked == []


def test_the_option_joint(installed: Path) -> None:
    assert load_encoder("st:org/omni", runtime=CPU).options == {"joint": "none"}
    assert load_encoder("st:org/omni", runtime=CPU).wants.joint == frozenset()
    wanted = {"captions": {Modality.TEXT}, "sound": {Modality.AUDIO}, "all": {Modality.TEXT, Modality.AUDIO}}
    for value, joint in wanted.items():
        encoder = load_encoder("st:org/omni", options={"joint": value}, runtime=CPU)
        assert encoder.wants.joint == joint
        assert encoder.options == {"joint": value}
    with pytest.raises(UsageError, match="joint is 'both': choose none, captions, sound, all"):
        load_encoder("st:org/omni", options={"joint": "both"})
    with pytest.raises(UsageError, match="joint=captions cannot be set: inputs of several modalities that st:org/clip"):
        load_encoder("st:org/clip", options={"joint": "captions"})
    with pytest.raises(UsageError, match="crops=3 cannot be set: the encoder st:org/omni has no option crops"):
        load_encoder("st:org/omni", options={"crops": 3})
    with pytest.raises(EncoderError, match="st:org/clip does not embed image and text as one input"):
        load_encoder("st:org/clip").prepare(Picture(np.zeros((8, 8, 3), np.uint8), caption="a cat"))


def test_parts_of_an_input_are_packed_into_bytes() -> None:
    rng = np.random.default_rng(0)
    parts = Parts("größer", rng.integers(0, 255, (3, 4, 5, 3), np.uint8), 1.5, rng.uniform(size=7).astype(np.float32))
    packed = pack(parts)
    assert (packed.ndim, packed.dtype, len(packed)) == (2, np.uint8, 1)
    found = unpack(packed)
    assert (found.text, found.frames_per_s) == (parts.text, parts.frames_per_s)
    np.testing.assert_array_equal(found.pictures, parts.pictures)
    np.testing.assert_array_equal(found.sound, parts.sound)


def test_media_are_bounded(omni: Encoder) -> None:
    large = omni.prepare(Picture(np.zeros((3000, 2000, 3), np.uint8)))
    assert large.shape[1] * large.shape[2] <= MAX_PICTURE_PX
    assert large.shape[1] / large.shape[2] == pytest.approx(1.5, abs=0.01)
    many = unpack(omni.prepare(Frames(np.zeros((100, 8, 8, 3), np.uint8), np.arange(100.0))))
    assert len(many.pictures) == 32
    assert many.frames_per_s == pytest.approx(31 / 99)
    short = omni.prepare(Sound(np.ones(100, np.float32), RATE_HZ))
    assert short.shape == (1, 4000)
    assert omni.prepare(Sound(np.ones(44_100, np.float32), 44_100)).shape == (1, RATE_HZ)
    with pytest.raises(MediaError, match="has 5000 x 10 pixels: sides may differ by 100 times"):
        omni.prepare(Picture(np.zeros((10, 5000, 3), np.uint8)))
    with pytest.raises(MediaError, match="no pixels"):
        omni.prepare(Picture(np.zeros((0, 10, 3), np.uint8)))
    with pytest.raises(MediaError, match="no frames"):
        omni.prepare(Frames(np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0)))


def test_other_modalities_are_refused_in_one_line(installed: Path, omni: Encoder) -> None:
    clip = load_encoder("st:org/clip", runtime=CPU)
    with pytest.raises(EncoderError, match=r"^st:org/clip does not embed audio: it embeds image, text$"):
        clip.prepare(media_of("audio")[0])
    with pytest.raises(EncoderError, match=r"^st:org/omni does not embed depth: it embeds audio, image, text, video$"):
        omni.prepare(DepthMap(np.ones((4, 4), np.float32), np.ones((4, 4), bool), 1.0, 1.0))
    with pytest.raises(EncoderError, match="does not embed depth"):
        omni.encode(Modality.DEPTH, [])


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def break_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def drop_normalization(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:-1]))
    change_json(folder / "config_sentence_transformers.json", similarity_fn_name="dot")


def foreign_module(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([{**modules[0], "type": "custom_st.Transformer"}, *modules[1:]]))
    (folder / "custom_st.py").write_text("raise SystemExit('code of the repository ran')")


def name_foreign_class(folder: Path, file: str, **config: Any) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps(config))


def leave_folder(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([modules[0], {**modules[1], "path": "../1_Pooling"}, modules[2]]))


def lose_words(folder: Path, kind: str) -> None:
    (folder / "tokenizer.json").unlink()
    change_json(folder / "tokenizer_config.json", tokenizer_class=kind)


CHANGES: dict[str, tuple[Any, str]] = {
    "only unknown words": (lambda folder: lose_words(folder, "BertTokenizer"), "gives different texts the same tokens"),
    "no words": (lambda folder: lose_words(folder, "RobertaTokenizer"), "gives different texts the same tokens"),
    "no room beside the prompt": (
        lambda folder: change_json(folder / "sentence_bert_config.json", max_seq_length=4),
        "gives different texts the same tokens; .* max_seq_length is shorter than the prompt",
    ),
    "no modules": (
        lambda folder: (folder / "modules.json").unlink(),
        "it has no modules.json, so it is not a model of",
    ),
    "foreign module": (foreign_module, "its module 'custom_st.Transformer' is code of its repository, which is never"),
    "foreign module of a router": (
        lambda folder: name_foreign_class(folder, "router_config.json", types={"0_query": "own.Module"}),
        r"router_config\.json names 'own\.Module', which is code of its repository and never run$",
    ),
    "foreign activation": (
        lambda folder: name_foreign_class(folder, "2_Dense/config.json", activation_function="os.system"),
        r"2_Dense/config\.json names 'os\.system', which is code",
    ),
    "module outside": (leave_folder, r"the folder '\.\./1_Pooling' of a module is outside of its repository"),
    "unknown architecture": (
        lambda folder: change_json(
            folder / "config.json", model_type="jina_embeddings_v5_omni", auto_map={"AutoModel": "modeling.Own"}
        ),
        r"'jina_embeddings_v5_omni' is not in transformers [\d.]+, and code of its repository is never run$",
    ),
    "class of its own": (
        lambda folder: change_json(
            folder / "config.json", architectures=["JinaBertModel"], auto_map={"AutoModel": "modeling.JinaBertModel"}
        ),
        r"its class 'JinaBertModel' is not in transformers [\d.]+, and code of its repository is never run$",
    ),
    "missing weights": (
        break_weights,
        r"its weights are incomplete \(encoder\.layer\.1\.output\.dense\.weight MISSING",
    ),
    "dot product": (drop_normalization, "compares vectors that are not of unit length by 'dot'"),
    "too new": (
        lambda folder: change_json(
            folder / "config_sentence_transformers.json", requirements={"sentence-transformers": ">=99"}
        ),
        "st:org/changed cannot be loaded: .*99",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_models_that_cannot_run_here(installed: Path, tmp_path: Path, change: str) -> None:
    damage, message = CHANGES[change]
    folder = tmp_path / "changed"
    shutil.copytree(installed / "text", folder)
    damage(folder)
    with pytest.raises(EncoderError, match=message) as refused:
        pull_snapshot("st:org/changed", from_folder=folder, dtype="fp32")
    assert "\n" not in str(refused.value)


def test_what_a_model_declares_but_cannot_embed_is_told(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deaf"
    shutil.copytree(installed / "omni", folder)
    facts = json.loads((folder / "processor_config.json").read_text())
    facts["feature_extractor"]["feature_size"] = 64  # of another model: its sounds do not fit the tower
    (folder / "processor_config.json").write_text(json.dumps(facts))
    pull_snapshot("st:org/deaf", from_folder=folder, dtype="fp32")
    encoder = load_encoder("st:org/deaf", runtime=CPU)
    assert encoder.modalities == {Modality.TEXT, Modality.IMAGE, Modality.VIDEO}
    with pytest.raises(
        EncoderError, match=r"^st:org/deaf does not embed audio here \(.*\): it embeds image, text, vid"
    ):
        encoder.prepare(media_of("audio")[0])
    with pytest.raises(UsageError, match="joint=sound cannot be set"):
        load_encoder("st:org/deaf", options={"joint": "sound"})


def test_the_missing_extra_is_named(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> str:
        raise PackageNotFoundError

    encoder = load_encoder("st:org/clip", runtime=CPU)
    monkeypatch.setattr("importlib.metadata.version", missing)
    needed = r"^models of st: need the extra \[st\]: pip install 'bindsearch\[st\]'$"
    with pytest.raises(InstallationError, match=needed):
        pull_snapshot("st:org/small")
    with pytest.raises(InstallationError, match=needed):
        load_encoder("st:org/clip")
    with pytest.raises(InstallationError, match=needed):
        embed(encoder, "text", [Passage("a cat")])
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "5.3.1")
    with pytest.raises(InstallationError, match=r"need sentence-transformers 5\.4 or later, not 5\.3\.1: pip install"):
        pull_snapshot("st:org/small")


def test_a_damaged_model_is_told_in_one_line(installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    shutil.copytree(installed / "models", tmp_path / "models")
    manifest = read_model("st:org/text")
    with pytest.raises(EncoderError, match=r"model\.json of st:org/text is damaged \(a value is out of range\)"):
        StEncoder(replace(manifest, architecture={**manifest.architecture, "dim": 0}))
    tokenizer = snapshot_folder(manifest) / "tokenizer.json"
    tokenizer.write_text("{" * tokenizer.stat().st_size)
    with pytest.raises(EncoderError, match=r"tokenizer\.json cannot be read .*: pull the model again") as refused:
        load_encoder("st:org/text", runtime=CPU).count_tokens("a cat")
    assert "\n" not in str(refused.value)
