"""Bridges between constructed spaces: what is near a caption in one is near the sound of that caption in the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch import connect
from bindsearch.binding.bind import BindOptions
from bindsearch.binding.bridge import MAX_TEXTS, BridgeResult, bind_bridge, fit_bridge
from bindsearch.encoders import load_encoder, registry
from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.encoders.combined import encoder as combined_load
from bindsearch.errors import EncoderError, UsageError
from bindsearch.media import DecodeHints, Media, Passage, Picture, Sound
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize
from helpers.media_files import write_sound

CONTENT, FIRST_D, SECOND_D, N = 24, 96, 80, 900


def space(dim: int, seed: int) -> NDArray[np.float64]:
    """Return a linear map of contents into a space of `dim` dimensions."""
    return np.random.default_rng(seed).standard_normal((CONTENT, dim)) / np.sqrt(CONTENT)


def members(contents: NDArray[np.float64], dim: int, seed: int, *, gap: float = 1.5) -> NDArray[np.float32]:
    """Return unit vectors of contents in a space: noise, and a direction that all members of a modality share."""
    rng = np.random.default_rng(seed)
    offset = rng.standard_normal(dim)
    noise = 0.3 * rng.standard_normal((len(contents), dim))
    rows = contents @ space(dim, dim) + noise + gap * offset / np.linalg.norm(offset)
    return l2_normalize(rows.astype(np.float32))


def recall_at_1(queries: NDArray[np.float32], candidates: NDArray[np.float32]) -> float:
    return float(((queries @ candidates.T).argmax(axis=1) == np.arange(len(queries))).mean())


@pytest.mark.parametrize("has_sounds", [False, True])
def test_pictures_find_the_sounds_that_no_pair_joined_them_with(has_sounds: bool) -> None:
    contents = np.random.default_rng(0).standard_normal((N, CONTENT))
    texts, pictures = (members(contents, FIRST_D, seed) for seed in (1, 2))
    captions, sounds = (members(contents, SECOND_D, seed) for seed in (3, 4))
    held_out = np.arange(N) >= N - 200
    vectors = {Modality.TEXT: (captions, np.arange(N))}
    if has_sounds:
        some = np.arange(0, N, 3)
        vectors[Modality.AUDIO] = sounds[some], some
    bridge, figures = fit_bridge(vectors, texts, held_out)
    mapped = l2_normalize(bridge.map(Modality.AUDIO, sounds[held_out]))
    assert recall_at_1(pictures[held_out], mapped) >= 0.6  # chance: 0.005
    assert {figure.modality for figure in figures} == {*vectors}
    assert all(figure.recall_at_1 >= 0.7 and figure.candidates == 200 for figure in figures)
    shuffled = {Modality.TEXT: (np.random.default_rng(5).permutation(captions), np.arange(N))}
    _, (chance,) = fit_bridge(shuffled, texts, held_out)
    assert chance.recall_at_1 <= 0.03


def test_an_exact_map_is_found() -> None:
    rng = np.random.default_rng(0)
    first = l2_normalize(rng.standard_normal((400, 32)).astype(np.float32))
    turned = first @ np.linalg.qr(rng.standard_normal((32, 32)))[0].astype(np.float32)
    bridge, _ = fit_bridge({Modality.TEXT: (turned, np.arange(400))}, first, np.arange(400) >= 360)
    np.testing.assert_allclose(l2_normalize(bridge.map(Modality.TEXT, turned)), first, atol=2e-3)


class Constructed:
    """Texts, pictures or sounds with a number in them, whose content is drawn by that number."""

    options: Mapping[str, str | int | float | bool] = {}
    wants = DecodeHints(picture_side_px=16, frames_per_s=1.0)
    max_tokens = 100

    def __init__(self, name: str, dim: int, *modalities: Modality) -> None:
        self.name, self.dim, self.digest = name, dim, f"{name}-1"
        self.modalities = frozenset(modalities)
        self.temperatures = dict.fromkeys(modalities, 1.0)

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def prepare(self, media: Media) -> NDArray[Any]:
        match media:
            case Passage(text=text):
                number = int("".join(filter(str.isdigit, text)) or 0)
            case Picture(rgb=rgb):
                number = int(rgb[0, 0, 0]) * 256 + int(rgb[0, 0, 1])
            case Sound(samples=samples):
                number = round(float(samples[0]) * 2000)
            case _:
                raise AssertionError
        return np.array([[number]])

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return self.encode(modality, prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        contents = np.random.default_rng(0).standard_normal((N, CONTENT))
        numbers = [int(one[0, 0]) for one in prepared]
        of_all = members(contents, self.dim, [*Modality].index(modality) + self.dim)
        return of_all[numbers]


def here() -> Encoder:
    return Constructed("here", FIRST_D, Modality.TEXT, Modality.IMAGE)


def there() -> Encoder:
    return Constructed("there", SECOND_D, Modality.TEXT, Modality.AUDIO)


@pytest.fixture
def captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "here": here, "there": there})
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(f"caption {n}" for n in range(N)))
    return path


def test_a_bridged_encoder_indexes_and_searches(captions: Path, tmp_path: Path) -> None:
    made = bind_bridge(captions, "here", "there", "both")
    assert made.captions + made.figures[0].candidates == N
    encoder = load_encoder("bound:both")
    assert (encoder.modalities, encoder.dim) == ({Modality.TEXT, Modality.IMAGE, Modality.AUDIO}, FIRST_D)
    np.testing.assert_array_equal(
        encode_media(encoder, [Passage("caption 7")]), encode_media(here(), [Passage("caption 7")])
    )
    heard = np.concatenate(
        [encode_media(encoder, [Sound(np.full(8, n / 2000, np.float32), 16_000)]) for n in range(100)]
    )
    seen = encode_media(encoder, [Picture(np.full((4, 4, 3), (n // 256, n % 256, 0), np.uint8)) for n in range(100)])
    np.testing.assert_allclose(np.linalg.norm(heard, axis=1), 1, atol=1e-5)
    assert recall_at_1(seen, heard) >= 0.6
    folder = tmp_path / "media"
    folder.mkdir()
    for n in (3, 11, 500):
        wave = 1e-3 * np.sin(np.arange(16_000))  # the first sample is the number
        write_sound(folder / f"{n}.wav", (n / 2000 + wave).astype(np.float32))
    with connect(tmp_path / "store", encoder="bound:both") as store:
        assert store.index(folder).added == 3
    with connect(tmp_path / "store") as store:
        assert store.search("caption 11", to="audio", words="off")[0].path.name == "11.wav"


def test_the_table_may_have_media(captions: Path, tmp_path: Path) -> None:
    for n in range(0, N, 5):
        write_sound(tmp_path / f"{n}.wav", np.full(1600, n / 2000, np.float32))
    rows = [f"caption {n},{n}.wav" for n in range(0, N, 5)]
    (tmp_path / "pairs.csv").write_text("\n".join(["text,audio", *rows, "caption 1,none.wav"]))
    made = bind_bridge(tmp_path / "pairs.csv", "here", "there", "both", options=BindOptions(replace=True))
    assert [figure.modality for figure in made.figures] == ["text", "audio"]
    assert any("none.wav is left out" in note for note in made.notes)


def test_bridges_that_cannot_be(captions: Path, tmp_path: Path) -> None:
    def message(*arguments: Any, **options: Any) -> str:
        with pytest.raises(UsageError) as error:
            bind_bridge(*arguments, **options)
        return str(error.value)

    assert message(captions, "here", "here", "x") == "here embeds all that here does: there is nothing to add"
    assert message(captions, "here", "bound:y", "x").startswith("bound:y cannot be bridged")
    few = tmp_path / "few.txt"
    few.write_text("one\ntwo")
    assert message(few, "here", "there", "x") == f"{few} has 2 captions: give 50 to 200000"
    other = tmp_path / "other.csv"
    other.write_text("words\na")
    assert message(other, "here", "there", "x") == f"{other} has no column text: expected captions there"
    same = tmp_path / "same.txt"
    for text, count in (("caption 1", "none"), ("caption 0", "all")):  # equal captions are on the same side
        same.write_text("\n".join([text] * 60))
        assert message(same, "here", "there", "x").startswith(f"{count} of the 60 captions are held out")
    same.write_text("caption 1\n\n" * (MAX_TEXTS - 100) + "caption 2\n" * 200)  # empty lines do not count
    assert message(same, "here", "there", "x") == f"{same} has more than {MAX_TEXTS} captions: give 50 to {MAX_TEXTS}"
    lost = tmp_path / "lost.csv"
    lost.write_text("\n".join(["text,audio", *(f"caption {n},{n}.wav" for n in range(60))]))
    assert "0 files of audio can be embedded, " in (told := message(lost, "here", "there", "x"))
    assert "0.wav not: " in told
    assert "cannot be read (No such file" in message(tmp_path / "none.csv", "here", "there", "x")
    bind_bridge(captions, "here", "there", "x")
    assert message(captions, "here", "there", "x").startswith("the model bound:x is installed already")


def test_a_bridge_belongs_to_its_encoders(captions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bind_bridge(captions, "here", "there", "both")

    def other() -> Encoder:
        encoder = Constructed("there", SECOND_D, Modality.TEXT, Modality.AUDIO)
        encoder.digest = "there-2"
        return encoder

    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "there": other})
    with pytest.raises(EncoderError, match="bound:both was made with another version of there than the installed one"):
        load_encoder("bound:both")


def test_joint_inputs_of_one_part_are_refused(captions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bind_bridge(captions, "here", "there", "both")

    def joint() -> Encoder:
        encoder = there()
        encoder.wants = DecodeHints(16, 1.0, joint=frozenset({Modality.TEXT}))  # type: ignore[misc]
        encoder.options = {"joint": "captions"}  # type: ignore[misc]
        return encoder

    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "there": joint})
    with pytest.raises(UsageError, match="2_joint=captions of there cannot be set in bound:both: captions and sound"):
        load_encoder("bound:both")


def test_encoders_that_share_a_tower_are_combined_by_their_names(
    captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hearing() -> Encoder:
        return Constructed("hearing", FIRST_D, Modality.TEXT, Modality.AUDIO)

    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "hearing": hearing})
    encoder = load_encoder("here+hearing")
    assert encoder.modalities == {Modality.TEXT, Modality.IMAGE, Modality.AUDIO}
    sound = Sound(np.full(8, 0.01, np.float32), 16_000)
    np.testing.assert_array_equal(encode_media(encoder, [sound]), encode_media(hearing(), [sound]))
    monkeypatch.setattr(combined_load, "encode_media", lambda *_: pytest.fail("it was found before"))
    assert load_encoder("here+hearing").digest == encoder.digest


def test_encoders_of_different_spaces_are_refused_with_the_reason(
    captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same_size() -> Encoder:
        encoder = Constructed("turned", FIRST_D, Modality.TEXT, Modality.AUDIO)
        encoder.encode = lambda modality, prepared: -Constructed.encode(encoder, modality, prepared)  # type: ignore[method-assign]
        return encoder

    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "turned": same_size})
    way_out = "make a bridge from captions, `bindsearch bind --bridge {0} --hub here --pairs captions.csv --out NAME`"
    for second, reason in (
        ("there", f"here has {FIRST_D} dimensions, there {SECOND_D}"),
        ("turned", "their vectors of the same text have cosines down to -1.00"),
    ):
        with pytest.raises(EncoderError) as error:
            load_encoder(f"here+{second}")
        assert str(error.value) == f"here+{second} share no space ({reason}): {way_out.format(second)}"
    with pytest.raises(UsageError, match="'here\\+' is not a name"):
        load_encoder("here+")
    with pytest.raises(UsageError, match="here embeds all that here does"):
        load_encoder("here+here")


def test_the_result_says_how_good_it_is(captions: Path) -> None:
    made: BridgeResult = bind_bridge(captions, "here", "there", "both")
    (figure,) = made.figures
    assert figure.modality == "text"
    assert figure.recall_at_1 >= 0.7
    assert not made.notes
