"""Sound in `mini`: names, words and similar sounds, of kinds that it was trained on and of others, and what is wanted.

    python benchmarks/sound.py --data DIR [--speech FOLDER] [--instruments FOLDER]

DIR contains `audio_esc10`, `audio_urbansound8k` and `audio_animals`. FOLDERs of speech and of musical instruments are
those of other programs: the spoken descriptions of Tux Paint's stamps, and the instruments of GCompris, were used.
Pictures that sounds find are measured by `bindsearch eval benchmarks/quality.toml`. Exits with 1 if a figure is not as
wanted. The table is saved in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mini_sound import PHRASES, read_clips
from numpy.typing import NDArray
from quality_mini import FOLDS, sound_encoder
from results import save_table

from bindsearch.encoders.base import Encoder
from bindsearch.encoders.mini import MiniEncoder
from bindsearch.encoders.mini.audio import MAP_WEIGHTS, NETWORK_WEIGHTS
from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.embedding import embed_items, embed_texts
from bindsearch.evaluation.retrieval import RetrievalFigures, retrieval_figures
from bindsearch.media import Sound
from bindsearch.types import Modality

ESC10, US8K, ANIMALS, SPEECH, INSTRUMENTS = "ESC-10", "UrbanSound8K", "animals", "speech", "instruments"
FOLDERS: Mapping[str, str] = {ESC10: "audio_esc10", US8K: "audio_urbansound8k", ANIMALS: "audio_animals"}
LEFT_OUT_FOLD = 4  # of the shipped weights
TEN = tuple(sorted(label.replace("_", " ") for label in PHRASES))
OTHERS = (
    *(
        "air conditioner",
        "car horn",
        "children playing",
        "drilling",
        "engine idling",
        "gun shot",
        "jackhammer",
        "siren",
    ),
    *("bird", "cat", "cow", "donkey", "frog", "lion", "monkey", "sheep", "music"),
)
"""Words for the sounds of UrbanSound8K and of animals that are none of the ten kinds."""

WORD_OF: Mapping[str, str] = {"dog bark": "dog", "street music": "music", SPEECH: "a person speaking"}
WORD_OF_INSTRUMENTS = "music"
OLD_WEIGHTS_BYTES = 618_956  # of the tower before
MAX_GROWTH_BYTES = 8_000_000
CPU_REPEATS = 10


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sound file.

    Attributes:
        source: Where it is from, one of the names above.
        path: The file.
        label: What is heard.
        recording: Recording that it was cut from; those of one recording are not told apart.
        fold: Its fold; 0: none.
    """

    source: str
    path: Path
    label: str
    recording: str
    fold: int

    @property
    def word(self) -> str:
        """Word that the sound is searched by."""
        return WORD_OF_INSTRUMENTS if self.source == INSTRUMENTS else WORD_OF.get(self.label, self.label)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        name: What was measured.
        value: Its value.
        n: Number of sounds or queries.
        least: Least value that is wanted.
        most: Greatest value that is wanted.
    """

    name: str
    value: float
    n: int
    least: float | None = None
    most: float | None = None

    @property
    def is_missed(self) -> bool:
        """Return whether the value is not as wanted."""
        too_small = self.least is not None and self.value < self.least
        return too_small or (self.most is not None and self.value > self.most)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return 1 if a figure is not as wanted."""
    parser = argparse.ArgumentParser(description="Measure the sound tower of mini.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the evaluation data sets")
    parser.add_argument("--speech", type=Path, help="folder of sound files of speech")
    parser.add_argument("--instruments", type=Path, help="folder of sound files of musical instruments")
    options = parser.parse_args(arguments)
    sounds = [*read_sounds(options.data), *_of_folder(options.speech, SPEECH)]
    sounds += _of_folder(options.instruments, INSTRUMENTS)
    encoder = MiniEncoder()
    vectors = embed_items(encoder, [_item(one) for one in sounds]).vectors
    rows = [
        *_names(encoder, sounds, vectors),
        *_left_out(options.data, sounds),
        *_words(encoder, sounds, vectors),
        *_forced(encoder, sounds, vectors),
        *_neighbours(sounds, vectors),
        *_cost(encoder),
    ]
    head = ["| figure | value | n | wanted | |", "| --- | --- | --- | --- | --- |"]
    table = "\n".join([*head, *map(_line, rows)]) + "\n"
    print(table)
    print(save_table("sound", f"Sound of mini (digest {encoder.digest})", table))
    return int(any(row.is_missed for row in rows))


def read_sounds(data: Path) -> Iterator[Labelled]:
    """Yield the sounds of the three labelled sets."""
    for source, folder in FOLDERS.items():
        with (data / folder / "labels.csv").open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                recording = row.get("freesound_id", row["path"])
                fold = int(row.get("fold", "0").removeprefix("fold"))
                yield Labelled(source, data / folder / row["path"], row["label"].replace("_", " "), recording, fold)


def _of_folder(folder: Path | None, source: str) -> list[Labelled]:
    """Return the files of a folder as sounds of what it is named."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    return [Labelled(source, path, source, path.name, 0) for path in files]


def _item(sound: Labelled) -> EvalItem:
    return EvalItem(sound.path, Modality.AUDIO)


def _is_unseen(sound: Labelled) -> bool:
    return sound.source != ESC10 or sound.fold == LEFT_OUT_FOLD


def _nearest(encoder: Encoder, vectors: NDArray[np.float32], words: Sequence[str]) -> list[str]:
    """Return the nearest of some words to each vector."""
    texts, _ = embed_texts(encoder, list(words))
    return [words[column] for column in (vectors @ texts.T).argmax(axis=1)]


def _names(encoder: Encoder, sounds: Sequence[Labelled], vectors: NDArray[np.float32]) -> Iterator[Row]:
    """Yield the shares of sounds whose label is the nearest of the labels of their set."""
    for source, least in ((ESC10, 0.93), (US8K, 0.30), (ANIMALS, None)):
        rows = [row for row, one in enumerate(sounds) if one.source == source and _is_unseen(one)]
        labels = [sounds[row].label for row in rows]
        names = _nearest(encoder, vectors[rows], sorted(set(labels)))
        title = f"{source} fold {LEFT_OUT_FOLD}" if source == ESC10 else source
        yield Row(f"{title}, nearest of ten names", _share_equal(names, labels), len(rows), least)


def _share_equal(names: Sequence[str], labels: Sequence[str]) -> float:
    return float(np.mean([name == label for name, label in zip(names, labels, strict=True)]))


def _left_out(data: Path, sounds: Sequence[Labelled]) -> Iterator[Row]:
    """Yield the same for maps that are trained again without each fold."""
    clips, shares = read_clips(data), []
    for fold in map(int, FOLDS):
        encoder = sound_encoder([clip for clip in clips if clip.fold != fold])
        own = [one for one in sounds if one.source == ESC10 and one.fold == fold]
        vectors = embed_items(encoder, [_item(one) for one in own]).vectors
        shares.append(_share_equal(_nearest(encoder, vectors, TEN), [one.label for one in own]))
    each = " ".join(f"{share:.3f}" for share in shares)
    total = sum(one.source == ESC10 for one in sounds)
    yield Row(f"ESC-10, leave one fold out, mean of {each}", float(np.mean(shares)), total, 0.88)


def _words(encoder: Encoder, sounds: Sequence[Labelled], vectors: NDArray[np.float32]) -> Iterator[Row]:
    """Yield mean average precisions of words that search all sounds."""
    groups = (("the ten kinds", TEN, None), ("17 other words", OTHERS, 0.20))
    for name, words, least in groups:
        found = _search(encoder, sounds, vectors, words)
        each = ", ".join(f"{word} {value:.2f}" for word, value in zip(words, found.average_precisions, strict=True))
        yield Row(f"words find sounds, mAP, {name} ({each})", found.mean_average_precision, len(words), least)
    if any(one.source == SPEECH for one in sounds):
        found = _search(encoder, sounds, vectors, [WORD_OF[SPEECH]])
        yield Row(f"the same, {WORD_OF[SPEECH]}", found.mean_average_precision, 1)


def _search(
    encoder: Encoder, sounds: Sequence[Labelled], vectors: NDArray[np.float32], words: Sequence[str]
) -> RetrievalFigures:
    texts, _ = embed_texts(encoder, list(words))
    relevant = [[row for row, one in enumerate(sounds) if one.word == word] for word in words]
    return retrieval_figures(texts, vectors, relevant, (1,))


def _forced(encoder: Encoder, sounds: Sequence[Labelled], vectors: NDArray[np.float32]) -> Iterator[Row]:
    """Yield shares of sounds of other things whose nearest word, of all words, is one of the ten kinds."""
    words = (*TEN, *OTHERS, WORD_OF[SPEECH])
    for source, most in ((US8K, None), (SPEECH, 0.35), (INSTRUMENTS, 0.35)):
        rows = [row for row, one in enumerate(sounds) if one.source == source and one.word not in TEN]
        if not rows:
            continue
        names = _nearest(encoder, vectors[rows], words)
        share = float(np.mean([name in TEN for name in names]))
        yield Row(f"{source}, other than the ten kinds, taken for one of them", share, len(rows), most=most)


def _neighbours(sounds: Sequence[Labelled], vectors: NDArray[np.float32]) -> Iterator[Row]:
    """Yield how well a sound finds others of its label, of other recordings."""
    for source, least, first in ((ESC10, None, None), (US8K, 0.38, None), (ANIMALS, None, 0.65)):
        rows = [row for row, one in enumerate(sounds) if one.source == source and _is_unseen(one)]
        found = []
        for row in rows:
            others = [other for other in rows if sounds[other].recording != sounds[row].recording]
            same = [place for place, other in enumerate(others) if sounds[other].label == sounds[row].label]
            if same:
                found.append(retrieval_figures(vectors[[row]], vectors[others], [same], (1,)))
        precision = float(np.mean([one.mean_average_precision for one in found]))
        yield Row(f"{source}, a sound finds others of its label, mAP", precision, len(found), least)
        yield Row(f"{source}, the same, R@1", float(np.mean([one.recall_at(1) for one in found])), len(found), first)


def _cost(encoder: Encoder) -> Iterator[Row]:
    """Yield the time of embedding 10 s of sound, and the growth of the weights."""
    samples = np.random.default_rng(0).normal(0, 0.1, 480_000).astype(np.float32)
    sound = Sound(samples, 48_000)
    encoder.encode(Modality.AUDIO, [encoder.prepare(sound)])
    start = time.process_time()
    for _ in range(CPU_REPEATS):
        encoder.encode(Modality.AUDIO, [encoder.prepare(replace(sound))])
    yield Row("10 s of sound, CPU seconds", (time.process_time() - start) / CPU_REPEATS, CPU_REPEATS, most=0.35)
    growth = sum(path.stat().st_size for path in (NETWORK_WEIGHTS, MAP_WEIGHTS)) - OLD_WEIGHTS_BYTES
    yield Row("weights, more MB than before", growth / 1e6, 2, most=MAX_GROWTH_BYTES / 1e6)


def _line(row: Row) -> str:
    wanted = f"at least {row.least:g}" if row.least is not None else f"at most {row.most:g}" if row.most else ""
    return f"| {row.name} | {row.value:.3f} | {row.n} | {wanted} | {'missed' if row.is_missed else ''} |"


if __name__ == "__main__":
    sys.exit(main())
