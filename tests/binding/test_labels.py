"""Binding sensors to labels: small networks that learn kinds of sound and motion from a few recordings."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from bindsearch.binding.bind import BindOptions, BindResult, bind, ignore_progress
from bindsearch.binding.data.label_views import label_bank, view_source, with_labels
from bindsearch.binding.data.pair_data import PairData, load_pair_data
from bindsearch.binding.data.pairs import read_pairs
from bindsearch.binding.recipe import parse_settings
from bindsearch.binding.training import train
from bindsearch.binding.training.train import StepReport
from bindsearch.binding.training.training_step import contrastive_loss, mixed_targets, shares_of
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.label_tower import LabelTower, fill_bank
from bindsearch.encoders.bound.networks import load_trained, trained_state
from bindsearch.encoders.bound.tower_config import TowerConfig
from bindsearch.encoders.mini import MiniEncoder
from bindsearch.encoders.model_store.installed import tower_file
from bindsearch.encoders.registry import load_encoder
from bindsearch.errors import UsageError
from bindsearch.media import Media, Motion, Passage, Sound
from bindsearch.types import Modality

Samples = NDArray[np.float32]

RATE_HZ = 16_000
SOUNDS = {"whistle": "a person whistling", "wind": "strong wind", "clock tick": "a clock ticking"}
MOTIONS = {"lying": "a person lying down", "running": "a person running"}

QUICK = ("batch=24", "part=24", "members=2", "learning_rate=3e-3", "warmup_epochs=0.5", "average=10", "validation=0")


def made_sound(kind: str, rng: np.random.Generator) -> Samples:
    """Return 2.5 s of a sound of a kind, no two alike."""
    times = np.arange(round(2.5 * RATE_HZ)) / RATE_HZ
    sound = 0.003 * rng.normal(size=len(times))
    match kind:
        case "whistle":
            sound += 0.3 * np.sin(2 * np.pi * rng.uniform(900, 2_000) * times)
        case "wind":
            sound += 0.02 * np.cumsum(rng.normal(size=len(times))) / 20 + 0.05 * rng.normal(size=len(times))
        case _:
            ticks = (times * rng.uniform(2, 4)) % 1.0
            sound += 0.5 * np.exp(-ticks * 150) * np.sin(2 * np.pi * rng.uniform(3_000, 5_000) * times)
    return sound.astype(np.float32)


def made_motion(kind: str, rng: np.random.Generator) -> Samples:
    """Return 4 s of motion of a kind at 50 Hz, no two alike."""
    times = np.arange(200) / 50.0
    samples = rng.normal(0, 0.02, (200, 6))
    samples[:, :3] += np.array([0.0, 9.81, 0.5]) if kind == "lying" else np.array([9.81, 0.0, 0.5])
    if kind == "running":
        swing = np.sin(2 * np.pi * rng.uniform(2.2, 3.0) * times + rng.uniform(0, 6))
        samples += swing[:, None] * rng.uniform([4, 2, 2, 1, 1, 1], [8, 4, 4, 2, 2, 2])
    return samples.astype(np.float32)


def write_sounds(folder: Path, count: int = 4) -> Path:
    """Write sounds of each kind, and the table that pairs each with two phrasings of its label."""
    rng, rows = np.random.default_rng(0), []
    for label, sentence in SOUNDS.items():
        for number in range(count):
            file = f"{label}-{number}.wav"
            soundfile.write(folder / file, made_sound(label, rng), RATE_HZ)
            rows += [(file, text, label) for text in (label, sentence)]
    return write_table(folder, "audio", rows)


def write_motions(folder: Path, count: int = 6) -> Path:
    """Write motion of each kind, and its table."""
    rng, rows = np.random.default_rng(0), []
    for label, sentence in MOTIONS.items():
        for number in range(count):
            file, samples = f"{label}-{number}.csv", made_motion(label, rng)
            table = np.column_stack([np.arange(len(samples)) / 50.0, samples])
            header = "time_s,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"
            np.savetxt(folder / file, table, "%.5f", ",", header=header, comments="")
            rows += [(file, text, label) for text in (label, sentence)]
    return write_table(folder, "imu", rows)


def write_table(folder: Path, modality: str, rows: Sequence[tuple[str, str, str]]) -> Path:
    table = folder / "pairs.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((modality, "text", "label"))
        writer.writerows(rows)
    return table


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))


@pytest.fixture
def one_thread() -> None:
    torch.set_num_threads(1)


def load_data(table: Path, modality: Modality, folder: Path, *settings: str) -> PairData:
    hub = MiniEncoder()
    chosen = parse_settings(modality, hub.dim, settings)
    pairs = read_pairs(table, modality, hub.modalities, 0.0)
    return load_pair_data(pairs, hub, chosen, folder, ignore_progress)


def named(encoder: Encoder, media: Sequence[Media], texts: Sequence[str]) -> list[str]:
    """Return the text nearest to each medium."""
    modality = Modality.AUDIO if isinstance(media[0], Sound) else Modality.IMU
    vectors = encoder.encode(modality, [encoder.prepare(medium) for medium in media])
    anchors = encoder.encode(Modality.TEXT, [encoder.prepare(Passage(text)) for text in texts])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    return [texts[row] for row in (vectors @ anchors.T).argmax(axis=1)]


def test_sounds_that_were_never_heard_are_named(tmp_path: Path) -> None:
    table = write_sounds(tmp_path)
    result = bind(table, "audio", "mini", "kinds", settings=["network=label-sound", "epochs=30", *QUICK])
    assert (result.pairs, result.validation_pairs) == (24, 0)
    rng, encoder = np.random.default_rng(1), load_encoder("bound:kinds")
    kinds = [kind for kind in SOUNDS for _ in range(4)]
    found = named(encoder, [Sound(made_sound(kind, rng), RATE_HZ) for kind in kinds], list(SOUNDS))
    assert sum(one == other for one, other in zip(found, kinds, strict=True)) >= 11  # of 12; chance is 4


def test_motion_that_was_never_seen_is_named(tmp_path: Path) -> None:
    table = write_motions(tmp_path)
    settings = ["network=label-motion", "epochs=40", "turn=0", *QUICK]
    bind(table, "imu", "mini", "kinds", settings=settings)
    rng, encoder = np.random.default_rng(1), load_encoder("bound:kinds")
    kinds = [kind for kind in MOTIONS for _ in range(5)]
    found = named(encoder, [Motion(made_motion(kind, rng), 50.0) for kind in kinds], list(MOTIONS.values()))
    assert found == [MOTIONS[kind] for kind in kinds]


def test_vectors_are_mixtures_of_those_of_the_labels(tmp_path: Path) -> None:
    table = write_sounds(tmp_path, count=2)
    data = load_data(table, Modality.AUDIO, tmp_path / "work", "network=label-sound")
    bank = label_bank(data)
    texts = MiniEncoder()
    both = texts.encode(Modality.TEXT, [texts.prepare(Passage(text)) for text in ("wind", "strong wind")])
    assert sorted(SOUNDS)[2] == "wind"
    np.testing.assert_allclose(bank[2], both.sum(axis=0) / np.linalg.norm(both.sum(axis=0)), atol=1e-5)

    bind(table, "audio", "mini", "kinds", settings=["network=label-sound", "epochs=1", *QUICK])
    encoder = load_encoder("bound:kinds")
    sound = Sound(made_sound("wind", np.random.default_rng(5)), RATE_HZ)
    vector = encoder.encode(Modality.AUDIO, [encoder.prepare(sound)])[0]
    shares, *_ = np.linalg.lstsq(bank.T, vector, rcond=None)
    np.testing.assert_allclose(shares @ bank, vector, atol=1e-5)
    assert shares.min() > 0


def test_texts_of_one_label_are_not_told_apart(tmp_path: Path) -> None:
    data = load_data(write_sounds(tmp_path, count=2), Modality.AUDIO, tmp_path / "work", "network=label-sound")
    labels = np.array([pair.label for pair in data.pairs])
    np.testing.assert_array_equal(data.alike[:, None] == data.alike, labels[:, None] == labels)
    assert len(set(data.groups.tolist())) == 2 * len(SOUNDS)

    keys, groups = torch.from_numpy(data.groups), torch.from_numpy(data.alike)
    shares, neither = shares_of(keys, groups)
    vectors = torch.nn.functional.normalize(torch.randn(len(keys), 8, generator=torch.Generator().manual_seed(0)))
    anchors = vectors[keys].requires_grad_()
    loss = contrastive_loss(vectors[:1], anchors, shares[:1], torch.tensor(20.0), neither=neither[:1])
    (gradient,) = torch.autograd.grad(loss, anchors)
    other = (groups == groups[0]) & (keys != keys[0])
    assert other.any()
    assert (gradient[other] == 0).all()
    assert (gradient[~other].abs().sum(dim=1) > 0).all()


def test_what_is_mixed_belongs_to_both() -> None:
    """Rows 0 and 1 are texts 0 and 1 of label 0, row 2 is of label 1; row 0 is .75 of itself and .25 of row 2."""
    shares, neither = shares_of(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]))
    partners, kept = torch.tensor([2, 0, 1]), torch.tensor([0.75, 1.0, 1.0])
    mixed, either = mixed_targets(shares, neither, partners, kept)
    torch.testing.assert_close(mixed, torch.tensor([[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert either.tolist() == [[False, True, False], [True, False, False], [False, False, False]]

    logits = torch.tensor([1.0, 5.0, 2.0])
    expected = -(0.75 * logits[[0, 2]].log_softmax(0)[0] + 0.25 * logits[[0, 2]].log_softmax(0)[1])
    to_hub = contrastive_loss(logits[None], torch.eye(3), mixed[:1], torch.tensor(1.0), neither=either[:1])
    torch.testing.assert_close(2 * to_hub, expected)  # with one medium, the other direction is 0


def test_each_member_learns_from_rows_of_its_own() -> None:
    torch.manual_seed(0)
    config = TowerConfig("imu", "label-motion", 8, labels=3, members=3, sharpness=4.0)
    tower = LabelTower(config).train()
    fill_bank(tower, torch.eye(3, 8))
    views = torch.randn(12, 6, 128)
    vectors = tower(views)
    for number, member in enumerate(tower.members):
        tower.zero_grad()
        vectors[number::3].square().sum().backward(retain_graph=True)
        touched = [
            any(value.grad is not None and value.grad.any() for value in one.parameters()) for one in tower.members
        ]
        assert touched == [one is member for one in tower.members]


def test_a_tower_is_sharper_than_its_members() -> None:
    torch.manual_seed(0)
    even = LabelTower(TowerConfig("audio", "label-sound", 8, labels=3, members=1, sharpness=1.0)).eval()
    sharp = LabelTower(TowerConfig("audio", "label-sound", 8, labels=3, members=1, sharpness=3.0)).eval()
    load_trained(sharp, trained_state(even))
    for tower in (even, sharp):
        fill_bank(tower, torch.eye(3, 8))
    views = torch.randn(4, 64, 125)
    logits = even.members[0](views)
    torch.testing.assert_close(sharp(views)[:, :3], torch.nn.functional.normalize((3 * logits).softmax(dim=1)))
    torch.testing.assert_close(even(views)[:, :3], torch.nn.functional.normalize(logits.softmax(dim=1)))


def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "CHECKPOINT_S", 0.0)  # after each step
    table = write_motions(tmp_path, count=3)

    def run(name: str, on_step: Callable[[StepReport], None]) -> BindResult:
        settings = ["network=label-motion", "epochs=8", *QUICK]
        options = BindOptions(device="cpu", work=tmp_path / name)
        return bind(table, "imu", "mini", name, settings=settings, options=options, on_step=on_step)

    def stop(report: StepReport) -> None:
        if report.step == 3:
            raise KeyboardInterrupt

    whole = run("whole", lambda report: None)
    with pytest.raises(KeyboardInterrupt):
        run("parts", stop)
    steps: list[int] = []
    parts = run("parts", lambda report: steps.append(report.step))
    assert steps == [4]
    assert whole.manifest is not None
    assert parts.manifest is not None
    assert whole.steps == parts.steps == 4
    files = [tower_file(manifest, "imu").read_bytes() for manifest in (whole.manifest, parts.manifest)]
    assert files[0] == files[1]


def test_silence_around_a_sound_is_no_part_of_it() -> None:
    sound, silence = made_sound("whistle", np.random.default_rng(0)), np.zeros(RATE_HZ, np.float32)
    levels = view_source(Sound(np.concatenate([silence, sound, silence]), RATE_HZ))
    assert abs(levels.shape[1] - 125) <= 3
    with pytest.raises(Exception, match="cannot be drawn"):
        view_source(Passage("text"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["part=48"], "batch is 96 and part 48: label-sound needs part >= batch, and 2 rows for each of 3 members"),
        (["batch=4"], "batch is 4 and part 96: label-sound needs part >= batch, and 2 rows for each of 3 members"),
        (["crops=3"], "crops is 3: label-sound draws views of its own, set crops=0"),
        (["network=vit-nano", "mix=0.5"], "mix is 0.5: it is a setting of label-sound and label-motion alone"),
        (["members=0"], "members is 0: expected 1 to 16"),
        (["sharpness=0"], "sharpness is 0: expected 0.1 to 100"),
        (["head=mlp"], "head is 'mlp': label-sound has a linear one, head=linear"),
        (["network=vit-nano", "members=3"], "members and sharpness are settings of label-sound and label-motion alone"),
        (["labels=3"], "unknown setting 'labels' of audio"),
        (["network=label-motion"], "network is 'label-motion': did you mean 'label-sound'?"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_settings(Modality.AUDIO, 384, ["network=label-sound", *settings])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("wind", ""), "1 of 2 pairs to train on have no label: label-sound distinguishes labels, so fill in a column"),
        (("wind", "wind"), "all pairs have the label wind: label-sound distinguishes labels, so give at least two"),
    ],
)
def test_pairs_without_labels_are_refused(tmp_path: Path, labels: tuple[str, str], message: str) -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", made_sound("wind", rng), RATE_HZ)
    table = write_table(tmp_path, "audio", [(f"{n}.wav", f"text {n}", label) for n, label in enumerate(labels)])
    with pytest.raises(UsageError, match=re.escape(message)):
        bind(table, "audio", "mini", "kinds", settings=["network=label-sound", *QUICK])


def test_several_processes_are_refused(tmp_path: Path) -> None:
    settings = parse_settings(Modality.AUDIO, 384, ["network=label-sound"])
    data = load_data(write_sounds(tmp_path, count=1), Modality.AUDIO, tmp_path / "work", "network=label-sound")
    with pytest.raises(UsageError, match="label-sound is trained by one process, not 2: start it without torchrun"):
        with_labels(settings, data, 2)
