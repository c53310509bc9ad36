"""Pictures of queries by a small unCLIP pipeline with random weights, run by the real libraries."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import bindsearch as bs
from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.unclip.folder import PIPELINE_FILE, folder_files, read_shape
from bindsearch.encoders.unclip.library import load_pipeline
from bindsearch.errors import EncoderError, UsageError
from bindsearch.generation import decoder
from bindsearch.generation import models as decoder_files
from bindsearch.generation.decoder import (
    MIN_COSINE,
    picture_vectors,
    probe_pictures,
    probe_vectors,
    read_norm,
    trained_norm,
)
from bindsearch.generation.models import count_parameters, find_decoder
from bindsearch.generation.settings import PictureSettings, parse_size
from bindsearch.operations.recording import read_record
from bindsearch.search.query_encoding import EncodedTerm
from helpers.st_models import save_clip_model
from helpers.stores import connect
from helpers.unclip_models import SIDE_PX, save_unclip

CLIP = "st:org/clip"
ANY = PictureSettings(seed=1, steps=3, any_space=True)


@pytest.fixture(scope="session")
def of_mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pipeline of the dimensions of `mini`."""
    return save_unclip(tmp_path_factory.mktemp("mini") / "pipeline", 384)


@pytest.fixture(scope="session")
def of_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an encoder `clip`, and a pipeline `pipeline` that has its picture tower."""
    folder = tmp_path_factory.mktemp("clip")
    save_clip_model(folder / "clip")
    save_unclip(folder / "pipeline", 24, clip=folder / "clip-parts")
    return folder


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")
    return tmp_path / "models"


def draw(query: Any, folder: Path, settings: PictureSettings = ANY, **given: Any) -> Any:
    (made,) = bs.imagine(query, **{"encoder": "mini", "model": folder, "device": "cpu", "settings": settings, **given})
    return made


def pixels(made: Any) -> NDArray[np.uint8]:
    return np.asarray(made.picture)


def are_near(one: Any, other: Any) -> bool:
    """Return whether two pictures differ by the rounding of vectors alone."""
    return bool(np.abs(pixels(one).astype(int) - pixels(other)).max() <= 2)


@pytest.fixture
def conditioned(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """Return what reaches the network of each pipeline that is loaded from now on, one array a step."""
    seen: list[NDArray[np.float32]] = []
    from bindsearch.generation import imagine

    def load(*given: Any) -> Any:
        pipeline = load_pipeline(*given)

        def hook(_module: Any, _inputs: Any, keywords: dict[str, Any]) -> None:
            seen.append(keywords["class_labels"].float().numpy().copy())

        pipeline.unet.register_forward_pre_hook(hook, with_kwargs=True)
        return pipeline

    monkeypatch.setattr(imagine, "load_pipeline", load)
    return seen


def test_a_query_makes_a_picture_that_its_seed_makes_again(of_mini: Path, tmp_path: Path) -> None:
    first = draw("a dog", of_mini, out=tmp_path / "a.png")
    again = draw("a dog", of_mini, out=tmp_path / "a.png")  # replaces its own
    assert pixels(first).shape == (SIDE_PX, SIDE_PX, 3)
    assert (pixels(first) == pixels(again)).all()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "RGB"
        assert (np.asarray(picture) == pixels(first)).all()
    assert (pixels(first) != pixels(draw("a dog", of_mini, replace(ANY, seed=2)))).any()
    drawn = draw("a dog", of_mini, replace(ANY, seed=None))  # the seed that was drawn is reported
    assert (pixels(drawn) == pixels(draw("a dog", of_mini, replace(ANY, seed=drawn.record["seed"])))).all()


def test_another_query_makes_another_picture_and_an_equal_one_the_same(of_mini: Path) -> None:
    one = pixels(draw("a dog", of_mini))
    assert (one != pixels(draw("rain on a roof", of_mini))).any()
    assert (one == pixels(draw(2 * bs.text("a dog"), of_mini))).all()  # one term: the same direction
    assert (one == pixels(draw(bs.make_query("a dog", to="audio", k=3), of_mini))).all()
    assert (one != pixels(draw(0.5 * bs.text("a dog") + 0.5 * bs.text("rain"), of_mini))).any()
    assert (one != pixels(draw("a dog", of_mini, replace(ANY, prompt="red")))).any()
    assert (one != pixels(draw("a dog", of_mini, replace(ANY, steps=4)))).any()


def test_sizes_and_counts(of_mini: Path, tmp_path: Path) -> None:
    assert pixels(draw("a dog", of_mini, replace(ANY, size=(64, 40)))).shape == (40, 64, 3)
    settings = replace(ANY, count=3)
    steps: list[tuple[int, int]] = []
    made = bs.imagine(
        "a dog",
        encoder="mini",
        model=of_mini,
        out=tmp_path / "a.png",
        settings=settings,
        device="cpu",
        on_steps=lambda done, total: steps.append((done, total)),
    )
    assert [one.path.name for one in made if one.path] == ["a-1.png", "a-2.png", "a-3.png"]
    assert [one.record["seed"] for one in made] == [1, 2, 3]
    assert (pixels(made[2]) == pixels(draw("a dog", of_mini, replace(ANY, seed=3)))).all()
    assert steps[-1] == (9, 9)
    assert steps == sorted(steps)
    assert not (tmp_path / "a.png").exists()


@given(
    st.integers(1, 40).flatmap(
        lambda d: st.tuples(
            st.lists(st.floats(-3, 3), min_size=d, max_size=d), st.lists(st.floats(0.01, 3), min_size=d, max_size=d)
        )
    )
)
def test_the_norm_is_the_root_mean_square_of_embeddings_with_these_statistics(
    statistics: tuple[list[float], list[float]],
) -> None:
    """Of the embeddings mean + deviation and mean - deviation, whose statistics these are."""
    mean, deviation = map(np.array, statistics)
    of_training = np.mean([np.sum((mean + sign * deviation) ** 2) for sign in (1, -1)])
    assert trained_norm(mean, deviation) == pytest.approx(np.sqrt(of_training), rel=1e-6)


def test_the_scaled_embedding_reaches_the_network(
    of_mini: Path, conditioned: list[NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half of what conditions the network is the embedding, of that norm, but for the noise of level 0."""
    pipeline = load_pipeline(of_mini, torch.float32, torch.device("cpu"))
    norm, is_trained = read_norm(pipeline)
    tensors = safetensors.torch.load_file(of_mini / "image_normalizer" / "diffusion_pytorch_model.safetensors")
    assert norm == pytest.approx(float((tensors["mean"] ** 2 + tensors["std"] ** 2).sum().sqrt()), rel=1e-6)
    assert is_trained
    given_to: list[NDArray[np.float32]] = []
    real = decoder.draw_picture
    from bindsearch.generation import imagine

    def spy(pipeline: Any, embedding: NDArray[np.float32], *others: Any, **named: Any) -> Any:
        given_to.append(embedding)
        return real(pipeline, embedding, *others, **named)

    monkeypatch.setattr(imagine, "draw_picture", spy)
    made = draw("a dog", of_mini)
    encoder = load_encoder("mini")
    (unit,) = bs.encode_media(encoder, [bs_passage("a dog")])
    assert np.allclose(given_to[0], unit * norm, atol=1e-4)
    assert made.record["norm"] == pytest.approx(norm)
    assert len(conditioned) == 3  # steps
    without, with_it = conditioned[0]  # for classifier-free guidance
    assert not without.any()
    assert cosine(with_it[:384], unit) > 0.99
    assert np.linalg.norm(with_it[:384]) == pytest.approx(norm, rel=0.05)
    assert (conditioned[2] == conditioned[0]).all()


def bs_passage(text: str) -> Any:
    from bindsearch.media import Passage

    return Passage(text)


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_stronger_query_has_less_noise(of_mini: Path, conditioned: list[NDArray[np.float32]]) -> None:
    (unit,) = bs.encode_media(load_encoder("mini"), [bs_passage("a dog")])
    strengths = [0.0, 0.25, 0.5, 0.75, 1.0]
    levels = [draw("a dog", of_mini, replace(ANY, strength=x, steps=1)).record["noise_level"] for x in strengths]
    assert levels == [999, 749, 500, 250, 0]
    near = [cosine(of_step[1][:384], unit) for of_step in conditioned]
    assert near == sorted(near)
    assert near[0] < 0.3 < 0.99 < near[-1]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 2000))
def test_levels_of_noise_fall_with_strength(one: float, other: float, levels: int) -> None:
    low, high = sorted((one, other))
    chosen = [PictureSettings(strength=strength).noise_level(levels) for strength in (low, high)]
    assert levels - 1 >= chosen[0] >= chosen[1] >= 0


def test_an_encoder_of_the_same_space_needs_no_permission(of_clip: Path, models: Path, tmp_path: Path) -> None:
    """The picture tower of the encoder is that of the decoder, which is measured; another one is refused."""
    pull_snapshot(CLIP, from_folder=of_clip / "clip", dtype="fp32")
    settings = PictureSettings(seed=3, steps=2)
    notices: list[str] = []
    made = draw("a dog", of_clip / "pipeline", settings, encoder=CLIP, out=tmp_path / "a.png", on_notice=notices.append)
    assert made.record["space_cosine"] > 0.9999
    assert made.record["any_space"] is False
    assert not any("not compared" in notice for notice in notices)
    half = draw("a dog", of_clip / "pipeline", replace(settings, dtype="bf16"), encoder=CLIP)
    assert MIN_COSINE < half.record["space_cosine"] < 1.0001
    other = save_unclip(tmp_path / "other", 24, seed=5)
    with pytest.raises(UsageError, match=r"is not in the space of the decoder .* not 0.98 or more; --any-space"):
        draw("a dog", other, settings, encoder=CLIP, out=tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
    assert draw("a dog", other, replace(settings, any_space=True), encoder=CLIP).record["space_cosine"] is None


def test_vectors_of_the_decoder_are_those_of_its_library(of_clip: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    folder = of_clip / "pipeline"
    pipeline = load_pipeline(folder, torch.float32, torch.device("cpu"))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 50, 3), np.uint8), *probe_pictures(SIDE_PX)]
    network: Any = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").eval()
    processor: Any = CLIPImageProcessor.from_pretrained(folder / "feature_extractor")
    with torch.no_grad():
        wanted = network(**processor(images=[*map(Image.fromarray, pictures)], return_tensors="pt")).image_embeds
    wanted /= wanted.norm(dim=1, keepdim=True)
    assert np.allclose(picture_vectors(pipeline, pictures), wanted.numpy(), atol=1e-5)
    assert len({picture.tobytes() for picture in probe_pictures(224)}) == 3


def test_an_encoder_without_pictures_cannot_be_compared(of_mini: Path) -> None:
    class Sounds:
        name, modalities = "sounds", frozenset({bs.Modality.AUDIO})

    with pytest.raises(UsageError, match="the encoder sounds embeds no pictures"):
        probe_vectors(Sounds(), 32)  # type: ignore[arg-type]


def test_a_query_of_a_store_may_add_files_and_items(of_mini: Path, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "rain.txt").write_text("rain on a tin roof")
    Image.fromarray(probe_pictures(40)[0]).save(tmp_path / "red.png")
    with connect(tmp_path / "store") as store:
        store.index(tmp_path / "media")
        query = 0.5 * bs.image(tmp_path / "red.png") + bs.like(1) - 0.25 * bs.text("snow")
        made = draw(query, of_mini, store=store, encoder=None, out=tmp_path / "a.png")
        stored = draw(bs.like(1), of_mini, store=store, encoder=None)
        (term,) = store.encode_query(bs.make_query(bs.like(1)))
        assert isinstance(term, EncodedTerm)
    assert are_near(stored, draw("rain on a tin roof", of_mini))  # its stored vector is that of the text
    record = read_record(tmp_path / "a.png")
    assert record == {**made.record}
    assert record["query"] == [
        {"kind": "image", "modality": "image", "source": str(tmp_path / "red.png"), "weight": 0.5, **NOTHING},
        {"kind": "like", "modality": "text", "source": "1", "weight": 1.0, **NOTHING},
        {"kind": "text", "modality": "text", "source": "snow", "weight": -0.25, **NOTHING},
    ]
    assert (record["command"], record["encoder"], record["seed"], record["steps"]) == ("imagine", "mini", 1, 3)
    assert record["encoder_digest"] == load_encoder("mini").digest
    assert (record["model"], record["license"], record["width"]) == (str(of_mini), "openrail++", SIDE_PX)
    assert record["model_digest"] == find_decoder(of_mini).digest


NOTHING = {"span_s": None, "caption": None}


def test_items_of_a_sharded_store(of_mini: Path, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for name in ("rain on a tin roof", "a dog barks", "snow"):
        (tmp_path / "media" / f"{name}.txt").write_text(name)
    with connect(tmp_path / "store", shards=2) as store:
        store.index(tmp_path / "media")
        item = bs.like(tmp_path / "media" / "snow.txt")
        assert are_near(draw(item, of_mini, store=store, encoder=None), draw("snow", of_mini))
        assert not are_near(draw(item, of_mini, store=store, encoder=None), draw("a dog barks", of_mini))


def test_an_installed_decoder_is_that_of_its_folder(of_mini: Path, models: Path, tmp_path: Path) -> None:
    """Also one whose weights are of torch.save, with files of another number format beside them."""
    source = tmp_path / "source"
    shutil.copytree(of_mini, source)
    unet = source / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(safetensors.torch.load_file(unet), unet.with_suffix(".bin"))
    unet.rename(unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    shutil.copy(of_mini / "vae" / "diffusion_pytorch_model.safetensors", source / "whole.safetensors")
    (source / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not read")
    with pytest.raises(UsageError, match=r"has the licence openrail\+\+, which was not accepted"):
        pull_snapshot("unclip:org/small", from_folder=source)
    pulled = pull_snapshot("unclip:org/small", from_folder=source, consent=lambda _source: True)
    weights = sorted(path for path in pulled.manifest.files if path.endswith((".bin", ".safetensors")))
    assert weights == [
        "image_encoder/model.safetensors",
        "image_normalizer/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert pulled.manifest.architecture["dim"] == 384
    made = draw("a dog", of_mini, model=None)  # the only one that is installed
    assert (pixels(made) == pixels(draw("a dog", of_mini))).all()
    assert (made.record["model"], made.record["license"]) == ("unclip:org/small", "openrail++")
    assert find_decoder(source).digest == made.record["model_digest"]
    with pytest.raises(EncoderError, match="has no weights as safetensors in the usual number format: `bindsearch"):
        draw("a dog", source)
    with pytest.raises(EncoderError, match=r"unclip:org/small is not an encoder: use it with `bindsearch imagine"):
        load_encoder("unclip:org/small")
    assert not any(entry.name.startswith("unclip:") for entry in listed())
    pull_snapshot("unclip:org/other", from_folder=of_mini, consent=lambda _source: True)
    with pytest.raises(
        UsageError, match="several decoders are installed: choose one with --model, of unclip:org/other"
    ):
        find_decoder(None)


def listed() -> list[Any]:
    from bindsearch.encoders.listing import list_encoders

    return list_encoders()


def test_weights_of_half_precision_are_counted_and_run(of_mini: Path, tmp_path: Path) -> None:
    half = save_unclip(tmp_path / "half", 384, dtype="fp16")
    assert count_parameters(find_decoder(half)) == count_parameters(find_decoder(of_mini))
    pipeline: Any = load_pipeline(half, torch.float32, torch.device("cpu"))
    networks = [
        getattr(pipeline, name) for name in ("unet", "vae", "text_encoder", "image_encoder", "image_normalizer")
    ]
    assert count_parameters(find_decoder(half)) == sum(p.numel() for one in networks for p in one.parameters())
    assert draw("a dog", half, replace(ANY, dtype="bf16")).record["dtype"] == "bf16"


def test_memory_is_noted_and_a_model_that_is_too_large_is_refused(
    of_mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    draw("a dog", of_mini, on_notice=notices.append)
    assert notices[0] == f"licence of {of_mini}: openrail++"
    assert notices[1].startswith("memory on cpu in fp32: 0.00 GB for weights, about 0.00 GB for a picture of 32 x 32; ")
    free = decoder_files.free_bytes(torch.device("cpu"))
    assert free is None or free > 1 << 20
    found = find_decoder(of_mini)
    weights = count_parameters(found) * 4
    monkeypatch.setattr(decoder_files, "free_bytes", lambda _device: weights - 1)
    with pytest.raises(EncoderError, match=r"need 0.00 GB of memory in fp32, .* --dtype fp16"):
        draw("a dog", of_mini)
    monkeypatch.setattr(decoder_files, "free_bytes", lambda _device: weights + 1)
    assert "may not be sufficient" in decoder_files.memory_notes(found, (64, 64), torch.device("cpu"), "fp32")[1]
    shape = found.shape
    one, two = (decoder_files.activation_bytes(shape, 64, side, 4) for side in (64, 128))
    assert (one, two) == (4 * 16 * 64 * 64 * 4, 2 * one)


def test_a_decoder_without_statistics_is_noted(of_mini: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(of_mini, plain)
    file = plain / "image_normalizer" / "diffusion_pytorch_model.safetensors"
    tensors = {"mean": torch.zeros(1, 384), "std": torch.ones(1, 384)}
    safetensors.torch.save_file(tensors, file, {"format": "pt"})
    notices: list[str] = []
    assert draw("a dog", plain, on_notice=notices.append).record["norm"] == pytest.approx(np.sqrt(384))
    assert any("states no statistics of its embeddings" in notice for notice in notices)
    safetensors.torch.save_file({**tensors, "std": torch.zeros(1, 384)}, file, {"format": "pt"})
    with pytest.raises(EncoderError, match="a deviation of 0"):
        draw("a dog", plain)


def test_a_long_prompt_is_noted(of_mini: Path) -> None:
    notices: list[str] = []
    draw("a dog", of_mini, replace(ANY, prompt="red " * 30), on_notice=notices.append)
    assert "the prompt has 92 tokens: only the first 16 are used" in notices


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def lose_tensors(folder: Path, part: str) -> None:
    file = next((folder / part).glob("*.safetensors"))
    tensors = safetensors.torch.load_file(file)
    kept = dict(sorted(tensors.items())[2:])
    safetensors.torch.save_file(kept, file, {"format": "pt"})


def move_weights(folder: Path) -> None:
    """Move weights out of a pipeline, and name them in the index of a component."""
    names = [*safetensors.torch.load_file(folder / "model.safetensors")]
    (folder / "model.safetensors").rename(folder.parent.parent / "outside")
    safetensors.torch.save_file({"a": torch.ones(1)}, folder / "model-00001-of-00001.safetensors", {"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../../outside")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no pipeline": (lambda one: (one / PIPELINE_FILE).unlink(), "has no model_index.json: it is not a pipeline"),
    "another pipeline": (
        lambda one: edit(one / PIPELINE_FILE, _class_name="StableDiffusionPipeline"),
        "is a pipeline of the class 'StableDiffusionPipeline': pictures are made by StableUnCLIPImg2ImgPipeline",
    ),
    "no part": (lambda one: shutil.rmtree(one / "vae"), "has no vae/config.json: the pipeline is not complete"),
    "not JSON": (lambda one: (one / "unet" / "config.json").write_text("{"), "unet/config.json is damaged"),
    "another unet": (
        lambda one: edit(one / "unet" / "config.json", class_embed_type=None),
        "the unet has class_embed_type 'None', not 'projection'",
    ),
    "parts of two": (
        lambda one: edit(one / "image_normalizer" / "config.json", embedding_dim=768),
        "the image_normalizer is for 768 dimensions, not 384",
    ),
    "other dims": (
        lambda one: edit(one / "image_encoder" / "config.json", projection_dim="x"),
        "the image_encoder states the size x",
    ),
    "unet lacks": (lambda one: lose_tensors(one, "unet"), "unet lack "),
    "vae lacks": (lambda one: lose_tensors(one, "vae"), "vae lack "),
    "text lacks": (lambda one: lose_tensors(one, "text_encoder"), "text_encoder lack "),
    "normalizer lacks": (
        lambda one: safetensors.torch.save_file(
            {"mean": torch.ones(1, 384)}, one / "image_normalizer" / "diffusion_pytorch_model.safetensors"
        ),
        "image_normalizer lack std",
    ),
    "cut": (
        lambda one: (one / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 100),
        "vae/diffusion_pytorch_model.safetensors cannot be read",
    ),
    "no scheduler": (
        lambda one: edit(one / "scheduler" / "scheduler_config.json", _class_name="UNet2DConditionModel"),
        "names 'UNet2DConditionModel', which is not a scheduler of this pipeline",
    ),
    "a scheduler of flows": (
        lambda one: edit(one / "scheduler" / "scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler"),
        "names 'FlowMatchEulerDiscreteScheduler', which is not a scheduler of this pipeline",
    ),
    "other pictures": (
        lambda one: edit(one / "feature_extractor" / "preprocessor_config.json", crop_size=8),
        "makes pictures that are (3, 8, 8), not (3, 32, 32)",
    ),
    "huge pictures": (
        lambda one: edit(one / "feature_extractor" / "preprocessor_config.json", size={"shortest_edge": 10**5}),
        "makes pictures that are too large, not (3, 32, 32)",
    ),
    "no length of texts": (
        lambda one: edit(one / "tokenizer" / "tokenizer_config.json", model_max_length=-5),
        "cannot be loaded (OverflowError: ",
    ),
    "weights outside": (lambda one: move_weights(one / "text_encoder"), "names '../../outside', which is not in"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pipeline_is_refused_in_one_line(damage: str, of_mini: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(of_mini, broken)
    change, message = DAMAGES[damage]
    change(broken)
    with pytest.raises(EncoderError) as caught:
        draw("a dog", broken, out=tmp_path / "a.png")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.png").exists()


def test_a_component_that_is_a_link_is_refused(of_mini: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    shutil.copytree(of_mini, linked)
    (linked / "vae").rename(tmp_path / "vae")
    (linked / "vae").symlink_to(tmp_path / "vae")
    with pytest.raises(UsageError, match="vae is a link: copy the folder"):
        draw("a dog", linked)


def test_a_record_that_is_too_long_is_reported(of_mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bindsearch.operations.recording.MAX_RECORD_BYTES", 100)
    with pytest.raises(UsageError, match=r"a\.png cannot be written: the record has \d+ bytes, more than 100"):
        draw("a dog", of_mini, out=tmp_path / "a.png")
    assert [*tmp_path.iterdir()] == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "strength": ({"strength": 1.1}, "the strength is 1.1: give a number from 0 to 1"),
    "seed": ({"seed": -1}, "the seed is -1: give a number from 0 to"),
    "large seed": ({"seed": 2**60}, "the seed is 1152921504606846976: give a number"),
    "steps": ({"steps": 0}, "the number of steps is 0: give a number from 1"),
    "count": ({"count": 101}, "the number of pictures is 101: give a number from 1 to 100"),
    "size": ({"size": 33}, "the size is 33: give sides from 32 to 4096 that are multiples of 8"),
    "huge size": ({"size": (64, 5000)}, "the size is (64, 5000): give sides"),
    "three sides": ({"size": (64, 64, 64)}, "the size is (64, 64, 64): give sides"),
    "dtype": ({"dtype": "int8"}, "unknown number format 'int8': choose from fp32, bf16, fp16"),
    "prompt": ({"prompt": 3}, "the prompt is 3: give a text"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_refused(name: str) -> None:
    given, message = WRONG[name]
    with pytest.raises(UsageError) as caught:
        PictureSettings(**given)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "x", "12x", "64x64x64", "-64", "64.0", "٦٤", "9" * 30])
def test_wrong_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="the size is"):
        parse_size(text)
    assert parse_size("64x40") == (64, 40)
    assert parse_size("64") == (64, 64)


def test_arguments_that_cannot_work_are_refused(of_mini: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    refused: dict[str, dict[str, Any]] = {
        r"photo.png exists and is not a picture of bindsearch imagine: give another name": {
            "out": tmp_path / "photo.png"
        },
        r"expected a name that ends in .png": {"out": tmp_path / "a.jpg"},
        r"the folder .* does not exist": {"out": tmp_path / "none" / "a.png"},
        r"the model .*now.* does not exist: give unclip:ORG/NAME or the folder": {"model": tmp_path / "nowhere"},
        r"the model .* is not a folder": {"model": tmp_path / "photo.png"},
        r"the encoder of the query is not clear": {"encoder": None},
        r"the decoder has at most 1000": {"settings": replace(ANY, steps=1001)},
        r"has 64 dimensions, the decoder .* takes 384: use an encoder bound": {"encoder": "null"},
        r"no indexed item": {"query": bs.like(1)},
        r"query file .* does not exist": {"query": bs.image(tmp_path / "none.png")},
    }
    for message, arguments in refused.items():
        query = arguments.pop("query", "a dog")
        with pytest.raises(UsageError, match=message):
            draw(query, of_mini, **arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png"]


def test_a_decoder_that_is_not_installed_is_named(models: Path) -> None:
    with pytest.raises(EncoderError, match="`bindsearch model pull unclip:org/none`"):
        find_decoder("unclip:org/none")
    with pytest.raises(EncoderError, match="no decoder is installed"):
        find_decoder(None)


def test_the_missing_extra_is_named(of_mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "pictures from embeddings: need the extra [generate]: pip install 'bindsearch[generate]'"
    for module in ("diffusers", "transformers"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(bs.InstallationError) as caught:
                draw("a dog", of_mini)
        assert str(caught.value) == line


def test_sizes_of_a_pipeline(of_mini: Path) -> None:
    shape = read_shape("x", folder_files(of_mini))
    assert (shape.dim, shape.side_px, shape.vae_factor, shape.noise_levels) == (384, SIDE_PX, 2, 1000)


def test_a_picture_that_is_not_finite_is_refused(of_mini: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(of_mini, broken)
    file = broken / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["decoder.conv_out.bias"] *= torch.nan
    safetensors.torch.save_file(tensors, file, {"format": "pt"})
    with pytest.raises(EncoderError, match="values that are not finite in float32: use --dtype fp32"):
        draw("a dog", broken, out=tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_leaves_no_file(of_mini: Path, tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", ENDED, str(of_mini), str(tmp_path / "out" / "a.png")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    assert process.stdout is not None
    assert process.stdout.readline() == b"5\n"
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode in (-how, 130)
    time.sleep(0.01)
    assert list((tmp_path / "out").iterdir()) == []


ENDED = """
import sys
from bindsearch.cli.main import main
from bindsearch.generation import imagine, decoder
real = imagine.draw_picture
def report(*given, on_step, **named):
    def step(done):
        if done == 5:
            print(done, flush=True)
        on_step(done)
    return real(*given, on_step=step, **named)
imagine.draw_picture = report
main(["imagine", "a dog", "--encoder", "mini", "--model", sys.argv[1], "--out", sys.argv[2], "--any-space",
      "--steps", "900", "--device", "cpu"])
"""
