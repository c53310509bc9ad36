"""A head on the features of the hub's frozen tower: they are computed once, and the finished encoder has the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bindsearch.binding.bind import BindOptions, bind
from bindsearch.binding.data import features
from bindsearch.binding.data.pair_media import read_pair_media
from bindsearch.encoders.base import encode_media
from bindsearch.encoders.registry import load_encoder
from bindsearch.types import Modality
from helpers.bound_world import make_scenes, write_pairs, write_scenes

PAIRS = 10
SETTINGS = (
    *("network=hub", "tuning=head", "batch=8", "part=8", "crops=2", "epochs=20", "warmup_epochs=2"),
    *("replication=1", "learning_rate=1e-3", "scale=20", "erase=0.5"),
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_scenes(tmp_path, make_scenes(PAIRS, 1), ["image", "thermal"])
    return write_pairs(tmp_path / "pairs.csv", "thermal", "image", PAIRS, validation=2)


def test_head_learns_on_kept_features(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = BindOptions(work=tmp_path / "work", replace=True, restart=True)
    losses: list[float] = []
    first = bind(
        table,
        "thermal",
        "mini",
        "head",
        settings=SETTINGS,
        options=options,
        on_step=lambda report: losses.append(report.loss),
    )
    assert losses[-1] < 0.5 * losses[0]
    again: list[float] = []
    calls: list[int] = []
    embed = features.embed_views

    def counted(*given: Any) -> Any:
        calls.append(1)
        return embed(*given)

    monkeypatch.setattr(features, "embed_views", counted)
    second = bind(
        table,
        "thermal",
        "mini",
        "head",
        settings=SETTINGS,
        options=options,
        on_step=lambda report: again.append(report.loss),
    )
    assert calls == [1]  # the validation's; those of the crops are kept
    assert again == losses
    assert first.manifest is not None
    assert second.manifest is not None
    assert first.manifest.source_sha256 == second.manifest.source_sha256


def test_finished_encoder_has_the_figures_of_the_validation(table: Path) -> None:
    result = bind(table, "thermal", "mini", "head", settings=SETTINGS)
    encoder = load_encoder("bound:head")
    vectors = []
    for modality in (Modality.THERMAL, Modality.IMAGE):
        paths = [table.parent / modality / f"{number:04d}.png" for number in range(2)]
        vectors.append(encode_media(encoder, [read_pair_media(path, modality, None, encoder.wants) for path in paths]))
    scores = vectors[0] @ vectors[1].T
    right = [scores[row].argmax() == row for row in range(2)] + [scores[:, row].argmax() == row for row in range(2)]
    assert result.last is not None
    assert result.last.recall_at_1 == pytest.approx(np.mean(right))


def test_start_of_a_head_is_the_hub(table: Path) -> None:
    bind(table, "thermal", "mini", "start", settings=[*SETTINGS, "learning_rate=0"])
    encoder, hub = load_encoder("bound:start"), load_encoder("mini")
    media = read_pair_media(table.parent / "thermal" / "0003.png", Modality.THERMAL, None, hub.wants)
    tower = hub.picture_tower()  # type: ignore[attr-defined]
    with torch.inference_mode():
        expected = tower.project(tower.features(torch.from_numpy(hub.prepare(media)))).numpy()
    np.testing.assert_allclose(encode_media(encoder, [media]), expected, atol=1e-5)
