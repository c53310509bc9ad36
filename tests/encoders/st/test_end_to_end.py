"""A model of all modalities, from a folder to searches, with the real command and no network."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from helpers import st_models
from helpers.command import run_command
from helpers.media_files import write_every_modality

NAME = "st:org/omni"


def run(*arguments: str | Path, status: int = 0) -> CompletedProcess[str]:
    done = run_command(arguments)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def first_hit(*arguments: str | Path) -> Path:
    return Path(json.loads(run("search", *arguments, "--json").stdout)["hits"][0]["path"])


def test_pull_index_and_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")
    saved, media = st_models.save_omni_model(tmp_path / "saved"), tmp_path / "media"
    files = write_every_modality(media)
    for path in [*files["depth"], *files["thermal"], *files["imu"]]:
        path.unlink()
    (media / "image-0.png.json").write_text(json.dumps({"caption": "a red cat at night"}))

    missing = run("index", media, "--encoder", NAME, status=4)
    assert f"the model {NAME} is not installed: download it with `bindsearch model pull {NAME}`" in missing.stderr
    offline = run("model", "pull", NAME, status=4)
    assert "`bindsearch model pull st:org/omni --from FOLDER`" in offline.stderr
    pulled = run("model", "pull", NAME, "--from", saved, "--dtype", "fp32")
    assert "licence apache-2.0" in pulled.stderr
    assert "Loading weights" not in pulled.stderr  # nor any other output of the libraries

    indexed = json.loads(run("index", media, "--encoder", NAME, "--encoder-option", "joint=captions", "--json").stdout)
    assert (indexed["added"], indexed["failed"]) == (8, 0)
    assert json.loads(run("status", "--json").stdout)["encoder_options"] == {"joint": "captions"}
    for modality in ("image", "video", "audio"):
        path = files[modality][1]
        assert first_hit(f"--{modality}", path, "--include-query", "--to", modality) == path
    assert first_hit("a dog on the beach", "--to", "text", "--words", "off") == files["text"][0]
    captioned = f'image:{files["image"][0]} & "a red cat at night"'
    assert first_hit("--query", captioned, "--include-query", "--to", "image") == files["image"][0]
