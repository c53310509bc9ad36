"""Optional members of the protocol: encoders of queries, captions and sound, shorter vectors, longest spans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bindsearch as bs
from bindsearch import connect
from bindsearch.encoders import load_encoder
from bindsearch.encoders.base import query_encoder, query_encoders
from bindsearch.encoders.null import NullEncoder
from bindsearch.encoders.shortened import shorten
from bindsearch.errors import QuerySyntaxError, StoreError, UsageError
from bindsearch.media import DecodeHints, Frames, Media, Passage, Picture
from bindsearch.search.query_syntax import format_query, parse_query
from bindsearch.server.page_query import command_line
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize
from bindsearch.views.html_page import _title_of
from helpers.media_files import half_and_half, tone, write_picture, write_sound, write_video

D = 8


class Letters:
    """Texts by their letters; the queries of a target have its letters behind them."""

    name, dim, digest = "letters", D, "letters-1"
    options: Mapping[str, str | int | float | bool] = MappingProxyType({})
    modalities = frozenset({Modality.TEXT, Modality.IMAGE})
    temperatures = MappingProxyType(dict.fromkeys(modalities, 1.0))
    wants = DecodeHints(picture_side_px=16, frames_per_s=1.0)
    max_tokens = 100

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.embedded: list[str] = []

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def prepare(self, media: Media) -> NDArray[Any]:
        text = media.text if isinstance(media, Passage) else "picture"
        self.embedded.append(self.prefix + text)
        row = np.zeros((1, D), np.float32)
        for letter in self.prefix + text:
            row[0, ord(letter) % D] += 1
        return row

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return self.encode(modality, prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return l2_normalize(np.concatenate(prepared))


class Asking(Letters):
    """The same with an encoder of queries for texts and one for all else."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = {target: Letters(f"{target or 'any'}: ") for target in (None, Modality.TEXT)}

    def as_query(self, target: Modality | None) -> Letters:
        return self.heads.get(target, self.heads[None])


@pytest.fixture
def asked(tmp_path: Path) -> Asking:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.txt").write_text("text: dog")
    (folder / "b.txt").write_text("cat")
    write_picture(folder / "c.png", half_and_half(48, 32))
    encoder = Asking()
    with connect(tmp_path / "store", encoder=encoder) as store:
        store.index(folder)
    return encoder


def cosines(hits: Sequence[bs.Hit]) -> dict[str, float]:
    return {hit.path.name: hit.cosine for hit in hits}


def test_queries_are_embedded_by_the_encoder_of_their_target(asked: Asking, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder=asked) as store:
        found = cosines(store.search("dog", words="off"))
        assert found["a.txt"] == pytest.approx(1.0, abs=1e-3)
        any_target = asked.heads[None].encode(Modality.TEXT, [asked.heads[None].prepare(Passage("dog"))])[0]
        shown = asked.encode(Modality.IMAGE, [asked.prepare(Picture(np.zeros((4, 4, 3), np.uint8)))])[0]
        assert found["c.png"] == pytest.approx(float(any_target @ shown), abs=1e-3)
        assert cosines(store.search("dog", words="off", to="image"))["c.png"] == found["c.png"]
        (many,) = store.search_many(["dog"], words="off")
        assert cosines(many) == found


def test_each_head_embeds_a_query_once_and_is_cached(asked: Asking, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder=asked) as store:
        store.cache_terms(10)
        for to in (None, "text", "image", ["text", "image"]):
            store.search("dog", words="off", to=to)
        assert [head.embedded for head in asked.heads.values()] == [["any: dog"], ["text: dog"]]
        assert "dog" not in asked.embedded


def test_contributions_are_those_of_the_vector_that_searched(asked: Asking, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder=asked) as store:
        for hit in store.search(0.5 * bs.text("dog") + 0.5 * bs.text("cat"), words="off"):
            assert sum(hit.contributions) == pytest.approx(hit.cosine, abs=1e-3)
        stored = store.search(bs.like(tmp_path / "media" / "b.txt") + bs.text("dog"), words="off", include_query=True)
        assert len(stored) == 3


def test_classes_are_asked_and_files_are_not(asked: Asking, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder=asked) as store:
        store.classify(["dog", "cat"], column="kind", templates="none", modality="text")
        rows = store.search("dog", words="off", filter="kind = 'dog'")
        assert [hit.path.name for hit in rows] == ["a.txt"]
        assert "text: dog" in asked.heads[Modality.TEXT].embedded


def test_an_encoder_without_them_is_its_own(asked: Asking) -> None:
    plain = NullEncoder()
    assert query_encoders(plain) == {None: plain}
    assert query_encoder(plain, Modality.IMAGE) is plain
    assert query_encoders(asked).keys() == {None, Modality.TEXT}


class Recorder(NullEncoder):
    """Keeps the media that it is given."""

    captioned = frozenset({Modality.IMAGE, Modality.VIDEO})

    def __init__(self, *joint: Modality, **hints: Any) -> None:
        super().__init__()
        self.media: list[Media] = []
        self._wants = DecodeHints(32, 2.0, joint=frozenset(joint), **hints)

    @property
    def wants(self) -> DecodeHints:  # type: ignore[override]
        return self._wants

    def prepare(self, media: Media) -> NDArray[Any]:
        self.media.append(media)
        return super().prepare(media)

    def __reduce__(self) -> str:
        raise TypeError("it stays in this process")


def test_pictures_and_videos_are_indexed_with_captions_and_sound(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    write_picture(folder / "a.png", half_and_half(48, 32))
    (folder / "a.png.json").write_text(json.dumps({"caption": ["a dog", "in the snow"]}))
    moving = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), np.uint8)
    write_video(folder / "b.mp4", 5.0, picture=lambda time_s: moving[round(10 * time_s)], sound=tone(5.0, 48_000))
    for joint in ((), (Modality.TEXT, Modality.AUDIO)):
        encoder = Recorder(*joint)
        with connect(tmp_path / f"store{len(joint)}", encoder=encoder, segment_s={"video": 2.0}) as store:
            assert store.index(folder).failed == 0
        (shown,) = [medium for medium in encoder.media if isinstance(medium, Picture)]
        spans = [medium for medium in encoder.media if isinstance(medium, Frames)]
        assert shown.caption == ("a dog\nin the snow" if joint else "")
        assert len(spans) >= 2
        for span in spans:
            assert (span.sound is not None) == bool(joint)
            if span.sound is not None:
                assert 0.9 <= len(span.sound.samples) / span.sound.sample_rate_hz <= 2.1


def test_a_query_joins_a_picture_and_a_text(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    write_picture(folder / "a.png", half_and_half(48, 32))
    encoder = Recorder()
    with connect(tmp_path / "store", encoder=encoder) as store:
        store.index(folder)
        store.search(bs.image(folder / "a.png", caption="at night"))
        last = encoder.media[-1]
        assert isinstance(last, Picture)
        assert last.caption == "at night"
    with connect(tmp_path / "other", encoder=NullEncoder()) as store:
        store.index(folder)
        with pytest.raises(UsageError) as error:
            store.search(bs.image(folder / "a.png", caption="at night"))
        assert str(error.value) == (
            "the encoder null cannot embed image and text as one input: add the text as a term, with +"
        )
    with pytest.raises(UsageError, match="has the caption 'x': only pictures and videos have one"):
        bs.make_query(bs.Term("audio", "a.wav", caption="x"))


@pytest.mark.parametrize(
    ("written", "terms"),
    [
        ('image:cat.jpg & "at night"', [("image", "cat.jpg", "at night")]),
        ("video:a.mp4@1s-2s&'x''y'", [("video", "a.mp4", "x'y")]),
        ('0.5*"a & b.jpg" & "c" - text:"rock & roll"', [(None, "a & b.jpg", "c"), ("text", "rock & roll", "")]),
        ("rock & roll", [(None, "rock & roll", "")]),
        ("image:salt & pepper.jpg", [("image", "salt & pepper.jpg", "")]),
    ],
)
def test_the_text_form_of_joint_inputs(written: str, terms: list[tuple[str | None, str, str]]) -> None:
    parsed = parse_query(written).terms
    assert [(term.kind, term.source, term.caption) for term in parsed] == terms
    assert parse_query(format_query(parsed)).terms == parsed


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('audio:a.wav & "x"', "only a picture or a video is joined with a text by &"),
        ('"a.jpg" & b', "expected a quoted text after &"),
        ('"a.jpg" & ""', "the quotes are empty"),
    ],
)
def test_wrong_joint_inputs_are_refused(written: str, message: str) -> None:
    with pytest.raises(QuerySyntaxError, match=message):
        parse_query(written)


def test_a_joint_term_is_shown_with_its_text() -> None:
    term = bs.image("a.png", caption="at  night")
    assert command_line(bs.Query((term,)), {}, None) == """bindsearch search --query 'image:a.png & "at  night"'"""
    assert _title_of(bs.Query((term,))) == 'image:a.png & "at night"'


def test_segments_are_no_longer_than_the_encoder_embeds(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    write_sound(folder / "a.wav", tone(9.0))
    encoder = Recorder(longest_s={Modality.AUDIO: 4.0})
    with connect(tmp_path / "store", encoder=encoder) as store:
        store.index(folder)
        assert (store.config.audio_segment_s, store.config.video_segment_s) == (4.0, 10.0)
    store = connect(tmp_path / "other", encoder=encoder, segment_s={"audio": 5.0})
    with store, pytest.raises(UsageError) as error:
        store.index(folder)
    assert str(error.value) == "segments of audio are 5 s: the encoder embeds at most 4 s"


class Matryoshka(NullEncoder):
    """Vectors of which the first dimensions are a space of their own."""

    shorter_dims = (16, 32)


@pytest.mark.parametrize("dim", [16, "32"])
def test_shorter_vectors_are_the_first_dimensions(dim: int | str) -> None:
    whole = Matryoshka()
    short = shorten(whole, dim)
    media = [Passage("a dog"), Passage("a cat")]
    prepared = [short.prepare(medium) for medium in media]
    expected = l2_normalize(whole.encode(Modality.TEXT, prepared)[:, : int(dim)])
    np.testing.assert_array_equal(short.encode(Modality.TEXT, prepared), expected)
    assert (short.dim, short.options["dim"], short.name) == (int(dim), int(dim), whole.name)
    assert short.digest != whole.digest != shorten(whole, 16).digest
    assert shorten(whole, whole.dim) is whole


@pytest.mark.parametrize("dim", [0, 24, 100_000, "wide", True, 16.5])
def test_wrong_dimensions_are_refused(dim: object) -> None:
    with pytest.raises(UsageError, match=r"dim is .*: give the dimensions of null, 16, 32 or \d+$"):
        shorten(Matryoshka(), dim)


def test_vectors_that_cannot_be_truncated_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        load_encoder("mini", options={"dim": 100})
    assert str(error.value) == "dim is 100: give the dimensions of mini, 384, for its vectors cannot be truncated"
    assert load_encoder("mini", options={"dim": 384}).dim == 384


def test_a_store_keeps_its_dimensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bindsearch.encoders import registry

    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "null": Matryoshka})
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.txt").write_text("a dog")
    with connect(tmp_path / "store", encoder="null", encoder_options={"dim": 16}) as store:
        store.index(folder)
        assert store.config.dim == 16
    with connect(tmp_path / "store") as store:
        assert store.search("a dog")[0].cosine == pytest.approx(1.0, abs=1e-3)
    with (
        connect(tmp_path / "store", encoder_options={"dim": 32}) as store,
        pytest.raises(StoreError, match="dim=16, not 32"),
    ):
        store.search("a dog")
    whole = {"dim": Matryoshka().dim}
    with (
        connect(tmp_path / "store", encoder_options=whole) as store,
        pytest.raises(StoreError, match="dim=16, not none"),
    ):
        store.search("a dog")
    connect(tmp_path / "whole", encoder="null", encoder_options=whole).index(folder)
    with (
        connect(tmp_path / "whole", encoder_options={"dim": 16}) as store,
        pytest.raises(StoreError, match="with no dim, not 16"),
    ):
        store.search("a dog")
    monkeypatch.setattr(Matryoshka, "digest", "other")
    remedy = "`bindsearch reindex --encoder null --encoder-option dim=16 --store "
    with connect(tmp_path / "store") as store, pytest.raises(StoreError, match=remedy):
        store.search("a dog")
