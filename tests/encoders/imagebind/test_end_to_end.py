"""From a checkpoint on a server, or on disk, to searches in all seven modalities, as a user does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bindsearch.encoders.benchmark import sample_media
from bindsearch.encoders.imagebind.config import HUGE, make_config
from bindsearch.encoders.imagebind.encoder import ImageBindEncoder
from bindsearch.encoders.imagebind.published_weights import random_checkpoint
from bindsearch.encoders.model_store.installed import read_model
from bindsearch.encoders.model_store.pull import pull_model
from bindsearch.encoders.model_store.source import ModelSource
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize
from helpers import closeness
from helpers.file_server import serve
from helpers.forked import BINDSEARCH, TORCH, run_forked
from helpers.media_files import write_every_modality

HERE = Path(__file__).parents[2]

TOWERS = ("vision", "text", "audio", "depth", "thermal", "imu")
SMALL = {
    "out_embed_dim": 64,
    **{f"{tower}_embed_dim": 64 for tower in TOWERS},
    **{f"{tower}_num_blocks": 2 for tower in TOWERS},
    **{f"{tower}_num_heads": 4 for tower in TOWERS},
}


def run(place: Path, *arguments: str | Path) -> dict[str, object]:
    """Run the installed command on the models and the store in `place`; what it prints as JSON."""
    environment = {**os.environ, "BINDSEARCH_MODELS": str(place / "models"), "BINDSEARCH_STORE": str(place / "store")}
    environment["BINDSEARCH_OFFLINE"] = "1"
    done = run_forked([BINDSEARCH, *arguments, "--json"], 1200, modules=TORCH, variables=environment)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def check_every_modality(place: Path, name: str) -> None:
    """Index two files of each modality, and find each by itself."""
    files = write_every_modality(place / "media")
    report = run(place, "index", place / "media", "--encoder", name)
    assert (report["added"], report["failed"]) == (14, 0), report
    assert run(place, "status")["encoder"] == name
    for modality, paths in files.items():
        query = ("--query", paths[1]) if modality == "text" else (f"--{modality}", paths[1])
        answer = run(place, "search", *query, "--to", modality, "--include-query", "--copies", "-k", "2")
        hits = answer["hits"]
        assert isinstance(hits, list)
        assert [Path(hit["path"]).name for hit in hits] == [paths[1].name, paths[0].name]
        assert hits[0]["cosine"] > 0.998


def test_a_pulled_model_serves_a_store_of_seven_modalities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    torch.save(random_checkpoint(make_config(**SMALL), seed=1), tmp_path / "small.pth")
    source = ModelSource("imagebind-small", "imagebind", (), "none", "", False, SMALL, None)
    with serve((tmp_path / "small.pth").read_bytes()) as server:
        server.cuts.append(5_000_000)
        pulled = pull_model(source, url=server.url, delay_s=0.01)
    assert server.requests == ["", "bytes=5000000-"]  # cut once, and gone on from there
    assert pulled.manifest.source == server.url
    check_every_modality(tmp_path, "imagebind-small")


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a folder with a full-size checkpoint of random weights, pulled as imagebind-huge."""
    place = tmp_path_factory.mktemp("full")
    checkpoint = place / "imagebind_huge.pth"
    script = HERE.parent / "benchmarks" / "make_imagebind_checkpoint.py"
    subprocess.run([sys.executable, str(script), str(checkpoint)], check=True, capture_output=True)
    pulled = run(place, "model", "pull", "imagebind-huge", "--from", checkpoint, "--accept-license")
    assert pulled["pulled"] is True
    yield place
    checkpoint.unlink()


@pytest.mark.slow
def test_full_size_store_of_seven_modalities(full_size: Path) -> None:
    check_every_modality(full_size, "imagebind-huge")


@pytest.mark.slow
@pytest.mark.parametrize("modality", list(Modality))
def test_full_size_towers_agree_with_the_whole_model(
    modality: Modality, full_size: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bindsearch.encoders.imagebind import ImageBindModel, load_published_weights

    monkeypatch.setenv("BINDSEARCH_MODELS", str(full_size / "models"))
    encoder = ImageBindEncoder(read_model("imagebind-huge"))
    prepared = [encoder.prepare(sample_media(modality, seed)) for seed in range(closeness.MEDIA)]
    vectors = encoder.encode(modality, prepared)
    state = torch.load(full_size / "imagebind_huge.pth", weights_only=True, mmap=True)
    assert len(state) == 1311
    with torch.device("meta"):
        model = ImageBindModel(HUGE)
    model.to_empty(device="cpu").eval()
    load_published_weights(model, state)
    key = "vision" if modality in (Modality.IMAGE, Modality.VIDEO) else modality.value
    with torch.inference_mode():
        exact = torch.cat([model({key: published_input(modality, views)})[key] for views in prepared]).numpy()
    lowest = closeness.check_alike(l2_normalize(exact), vectors)
    print(f"{modality}: lowest cosine {lowest:.6f}")  # noqa: T201


def published_input(modality: Modality, views: np.ndarray) -> torch.Tensor:
    """One prepared view as the published model takes it."""
    from bindsearch.encoders.imagebind.preprocessing.image import to_frames, to_pixels

    tensor = torch.from_numpy(views)
    if modality is Modality.IMAGE:
        return to_pixels(tensor)
    return to_frames(tensor)[:, None] if modality is Modality.VIDEO else tensor
