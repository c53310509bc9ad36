"""CLIP's tokens, against open_clip's SimpleTokenizer and the published ImageBind code's."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from bindsearch.encoders.preprocessing import clip_tokenizer as clip_text
from bindsearch.encoders.preprocessing.clip_tokenizer import ClipTokenizer, clip_tokenizer, pad_tokens, tokenize
from bindsearch.errors import MediaError

GOLDEN = Path(__file__).parents[2] / "golden" / "imagebind"
START, END = 49_406, 49_407
TEXTS = [
    "A dog.",
    "It's 5 o'clock; they'll've said: don't!",
    "Bird's nest — naïve café №5 &amp; more",
    "  much   white\n\tspace  ",
    "日本語のテキスト and русский текст, עברית",
    "😂😂😂 emoji 👩‍👩‍👧‍👦",
    "&amp;amp;lt;b&gt; html",
    "a_b-c/d\\e <tag> 3.14159",
    "schön voilÃ  fixed",  # ftfy mends it
]


@pytest.fixture(scope="module")
def reference() -> SimpleTokenizer:
    return SimpleTokenizer()


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_open_clips(reference: SimpleTokenizer, text: str) -> None:
    ids = clip_tokenizer().tokenize(text)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[START, *reference.encode(text), END]]
    assert clip_tokenizer().count_tokens(text) == ids.shape[1]
    assert tokenize(text).tolist() == reference([text]).tolist()


def test_tokens_are_the_published_codes() -> None:
    texts = json.loads((GOLDEN / "tiny.json").read_text())["texts"]
    tokens = tokenize(texts)
    assert tokens.dtype == torch.int64
    np.testing.assert_array_equal(tokens.numpy(), np.load(GOLDEN / "tiny_outputs.npz")["text_tokens"])


def test_a_long_text_keeps_its_end_token_when_cut(reference: SimpleTokenizer) -> None:
    text = "word " * 76
    row = tokenize(text)[0]
    assert (row[0], row[-1]) == (START, END)
    assert row.tolist() == reference([text])[0].tolist()
    assert tokenize("").tolist() == [[START, END] + [0] * 75]


def test_what_does_not_fit_is_refused_not_cut() -> None:
    assert clip_tokenizer().tokenize("word " * 75).shape == (1, 77)
    with pytest.raises(MediaError, match="text has 78 tokens, more than 77; split it into passages"):
        clip_tokenizer().tokenize("word " * 76)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_text_without_words_is_refused(text: str) -> None:
    assert clip_tokenizer().count_tokens(text) == 2
    with pytest.raises(MediaError, match="has no words; give at least one"):
        clip_tokenizer().tokenize(text)


@pytest.mark.parametrize(
    "text", ["a <end_of_text> b", "a <END_OF_TEXT> b", "a &lt;end_of_text&gt; b", "<<start_of_text>"]
)
def test_a_text_cannot_end_itself(text: str) -> None:
    ids = clip_tokenizer().tokenize(text)[0]
    assert (ids[1:-1] < START).all()
    assert len(ids) > 6


def test_halves_of_letters_are_replaced() -> None:
    assert clip_tokenizer().count_tokens("a \ud800 b") >= 4


def test_a_huge_word_is_counted_in_little_time() -> None:
    """Byte pairs of a word take time that grows with its square; no word this long fits anyway."""
    word = "".join(np.random.default_rng(0).choice(list("abcdefghij"), 50_000))
    assert clip_tokenizer().count_tokens(word) > 10_000


def test_words_are_not_remembered_forever(monkeypatch: pytest.MonkeyPatch, reference: SimpleTokenizer) -> None:
    monkeypatch.setattr(clip_text, "_WORDS_KEPT", 10)
    tokenizer = ClipTokenizer()
    text = " ".join(f"unheardof{chr(97 + i)}{chr(98 + i)}" for i in range(20))
    for _ in range(3):
        assert tokenizer.encode(text) == reference.encode(text)
    assert tokenizer.encode("a dog") == reference.encode("a dog")
    assert len(tokenizer._bpe.cache) < 10


def test_threads_get_the_same() -> None:
    tokenizer = ClipTokenizer()
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(tokenizer.tokenize, TEXTS * 20))
    for ids, text in zip(together, TEXTS * 20, strict=True):
        np.testing.assert_array_equal(ids, clip_tokenizer().tokenize(text))


def test_padding_puts_zeros_behind_the_end() -> None:
    short, long = clip_tokenizer().tokenize("a dog"), clip_tokenizer().tokenize("a photo of a dog")
    padded = pad_tokens([short, long])
    assert padded.dtype == torch.int64
    assert padded.tolist() == [[*short[0].tolist(), 0, 0, 0], long[0].tolist()]
    assert pad_tokens([short], 77).shape == (1, 77)


def test_importing_loads_neither_torch_nor_open_clip() -> None:
    code = (
        "import sys, bindsearch.encoders.preprocessing.clip_tokenizer, "
        "bindsearch.encoders.preprocessing.crops, bindsearch.encoders.preprocessing.resampling\n"
        "print([name for name in ('torch', 'open_clip', 'torchaudio') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
