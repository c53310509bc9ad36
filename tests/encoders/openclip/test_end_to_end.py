"""An open_clip model of real size, from its checkpoint to a search, with the real command and no network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import open_clip
import safetensors.torch
import torch
from PIL import Image

from helpers.forked import BINDSEARCH, TORCH, run_forked
from helpers.media_files import tone, write_sound, write_video

NAME = "openclip:RN50/yfcc15m"
LOADED = (*TORCH, "open_clip")


def run(place: Path, *arguments: str | Path) -> CompletedProcess[str]:
    models = {"BINDSEARCH_MODELS": str(place / "models"), "BINDSEARCH_STORE": str(place / "store")}
    environment = {**os.environ, **models, "BINDSEARCH_OFFLINE": "1"}
    return run_forked([BINDSEARCH, *arguments], modules=LOADED, variables=environment)


def test_pull_index_and_search(tmp_path: Path) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        model = open_clip.create_model("RN50", load_weights=False)
        for name, parameter in model.visual.attnpool.named_parameters():
            if "bias" in name or "embedding" in name:
                parameter.zero_()  # at random they outweigh what is in a picture, and all vectors are the same
    safetensors.torch.save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n in range(3):
        blocks = np.random.default_rng(n).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((30, 40, 1), np.uint8))).save(pictures / f"{n}.png")

    write_video(pictures / "clip.mp4", 2.0, sound=tone(2.0, 48_000))
    write_sound(pictures / "tone.wav", tone(3.0))

    missing = run(tmp_path, "index", pictures, "--encoder", NAME)
    assert missing.returncode == 4
    assert f"the model {NAME} is not installed: download it with `bindsearch model pull {NAME}`" in missing.stderr
    offline = run(tmp_path, "model", "pull", NAME)
    assert offline.returncode == 4
    assert "in offline mode (BINDSEARCH_OFFLINE)" in offline.stderr

    pulled = run(tmp_path, "model", "pull", NAME, "--from", tmp_path / "open_clip_model.safetensors")
    assert pulled.returncode == 0, pulled.stderr
    indexed = run(tmp_path, "index", pictures, "--encoder", NAME, "--json")
    assert indexed.returncode == 0, indexed.stderr
    assert json.loads(indexed.stdout)["added"] == 4  # the video by its pictures, without its sound
    assert f"skipped, because the encoder {NAME} cannot embed them: 1 audio" in indexed.stderr
    held = json.loads(run(tmp_path, "status", "--json").stdout)
    assert held["segments"] == {"image": 3, "video": 1}
    deaf = run(tmp_path, "search", "--audio", pictures / "tone.wav")
    assert deaf.returncode == 2
    assert f"the encoder {NAME} cannot embed audio: it supports text, image, video" in deaf.stderr
    found = run(tmp_path, "search", "--image", pictures / "1.png", "--include-query", "--json")
    hits = json.loads(found.stdout)["hits"]
    assert Path(hits[0]["path"]).name == "1.png"
    assert hits[0]["cosine"] > 0.999
    words = run(tmp_path, "search", "a red sofa", "--copies", "--paths")
    assert words.returncode == 0, words.stderr
    assert len(words.stdout.splitlines()) == 4
