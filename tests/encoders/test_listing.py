"""The list of encoders, and which of them fit a purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bindsearch.encoders import listing
from bindsearch.encoders.listing import KNOWN, EncoderEntry, State, fitting_encoders, list_encoders
from bindsearch.encoders.registry import FAMILIES
from bindsearch.errors import UsageError
from bindsearch.types import Modality
from helpers.command import run_command


def names(entries: list[EncoderEntry]) -> list[str]:
    return [entry.name for entry in entries]


def test_every_encoder_that_can_be_chosen_is_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path))
    entries = list_encoders()
    assert names(entries) == ["mini", *(known.name for known in KNOWN)]
    mini = entries[0]
    assert (mini.state, mini.modalities, mini.dim, mini.is_free) == (State.BUILT_IN, tuple(Modality), 384, True)
    assert mini.size_bytes is not None
    assert 90e6 < mini.size_bytes < 140e6


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_known_encoders_have_a_name_of_a_family(known: EncoderEntry) -> None:
    assert any(known.name.startswith(prefix) for prefix in FAMILIES) or known.name.startswith(("st:", "hf:"))
    assert known.needs in ("cpu", "gpu")
    assert known.license == known.license.lower()
    assert len(set(known.modalities)) == len(known.modalities)


@pytest.mark.parametrize(
    "known", [known for known in KNOWN if known.name.startswith("openclip:")], ids=lambda k: k.name
)
def test_what_is_known_of_openclip_models_is_what_the_library_says(known: EncoderEntry) -> None:
    import open_clip

    model, _, tag = known.name.removeprefix("openclip:").partition("/")
    assert tag in open_clip.list_pretrained_tags_by_model(model)
    config = open_clip.get_model_config(model)
    assert config is not None
    assert config["embed_dim"] == known.dim


def test_an_encoder_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "package_encoders", lambda: ["nowhere"])
    entry = list_encoders()[1]
    assert (entry.name, entry.state, entry.modalities) == ("nowhere", State.PACKAGE, ())
    assert entry.problem.startswith("unknown encoder 'nowhere'")
    assert entry not in fitting_encoders([entry], "no download")


def entry_of(name: str, state: State, modalities: tuple[Modality, ...], millions: int, **facts: Any) -> EncoderEntry:
    return EncoderEntry(name, state, modalities, parameters_m=millions, **facts)


SEES, HEARS = (Modality.TEXT, Modality.IMAGE), (Modality.TEXT, Modality.AUDIO)
ENTRIES = [
    entry_of("big", State.TO_PULL, tuple(Modality), 1200, is_free=False, languages="en", needs="gpu"),
    entry_of("free", State.TO_PULL, SEES, 300, is_free=True, languages="many", needs="cpu"),
    entry_of("small", State.TO_PULL, HEARS, 150, is_free=True, languages="en", needs="cpu"),
    entry_of("here", State.PULLED, SEES, 900, is_free=True, languages="en", needs="gpu"),
]


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        ("free licence", ["here", "small", "free"]),
        ("Free License, CPU", ["small", "free"]),
        ("photos", ["here", "free", "big"]),
        ("sound, text", ["small", "big"]),
        ("many languages", ["free"]),
        ("all media", ["big"]),
        ("all modalities, free licence", []),
        ("no download", ["here"]),
    ],
)
def test_the_best_that_fit_come_first(purpose: str, expected: list[str]) -> None:
    assert names(fitting_encoders(ENTRIES, purpose)) == expected


@pytest.mark.parametrize(
    ("purpose", "message"),
    [
        ("phots", "unknown requirement 'phots': did you mean 'photo'? choose from free licence, all media, "),
        (" , ", "the purpose is empty: give requirements, such as 'free licence, all media, CPU'"),
    ],
)
def test_unknown_requirements_are_refused(purpose: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        fitting_encoders(ENTRIES, purpose)
    assert str(error.value).startswith(message)


def test_damaged_models_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path))
    folder = tmp_path / "st" / "org" / "a"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    done = run_command(["encoders"])
    assert done.returncode == 0
    assert "model.json has format None, expected 1" in done.stderr
