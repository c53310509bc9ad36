"""Small tokenizers of the classes of the transformers library, saved as they are published."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

SENTENCES = [
    "a dog runs on the beach in the afternoon",
    "two cats sleep on a red sofa, and a bird sings",
    "ein Hund läuft am Strand entlang",
    "un chien court sur la plage et deux chats dorment",
    "собака бежит по пляжу",
    "42 birds! 3 trees? it's late.",
] * 20


def save_tokenizer(kind: str, folder: Path) -> int:
    """Save tokenizer.json and tokenizer_config.json of a class; return the size of its vocabulary."""
    tokenizer = _MAKERS[kind]()
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _unigram(special: list[str]) -> list[tuple[str, float]]:
    """Return the pieces and scores of a trained model, special tokens first."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(SENTENCES, trainer)
    return [tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]]


def _bpe(special: list[str], *, byte_level: bool = False) -> dict[str, Any]:
    """Return vocabulary and merges of a trained model, special tokens first."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    alphabet: list[str] = []
    if byte_level:
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(SENTENCES, trainer)
    model = json.loads(trained.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def _wordpiece() -> dict[str, int]:
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=True)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained.train_from_iterator(
        SENTENCES, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    vocabulary: dict[str, int] = trained.get_vocab()
    return vocabulary


def _t5() -> Any:
    from transformers import T5Tokenizer

    pieces = _unigram(["<pad>", "</s>", "<unk>"])
    return T5Tokenizer(vocab=pieces, extra_ids=0, pad_token="</s>")  # SigLIP pads with the end token


def _mt5() -> Any:
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=_unigram(["<pad>", "</s>", "<unk>"]), extra_ids=0)


def _gemma() -> Any:
    from transformers import GemmaTokenizer

    made = _bpe(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    return GemmaTokenizer(**made, add_bos_token=False, add_eos_token=True, padding_side="right")


def _xlm_roberta() -> Any:
    from transformers import XLMRobertaTokenizer

    return XLMRobertaTokenizer(vocab=_unigram(["<s>", "<pad>", "</s>", "<unk>"]))


def _roberta() -> Any:
    from transformers import RobertaTokenizer

    return RobertaTokenizer(**_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], byte_level=True))


def _nllb() -> Any:
    from transformers import NllbTokenizer

    return NllbTokenizer(**_bpe(["<s>", "<pad>", "</s>", "<unk>"]))


def _bert() -> Any:
    from transformers import BertTokenizer

    return BertTokenizer(vocab=_wordpiece(), do_lower_case=True)


_MAKERS: Mapping[str, Callable[[], Any]] = {
    "bert": _bert,
    "gemma": _gemma,
    "mt5": _mt5,
    "nllb": _nllb,
    "roberta": _roberta,
    "t5": _t5,
    "xlm-roberta": _xlm_roberta,
}
