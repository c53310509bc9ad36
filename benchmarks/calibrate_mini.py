"""Fit the match probabilities of `mini` to queries of the evaluation data.

    python benchmarks/calibrate_mini.py --data ../shared/data     # writes bindsearch/encoders/mini/calibration.json

Every second query of `everyday_folder.py` is used, so that `everyday.py` can measure on the others; and queries of the
same things for other pairs of modalities: words for sounds and motions, photos and their other captions, thermal and
visible pictures, depth and visible pictures, sentences of documents, sounds and pictures of the same things. Some kinds
of sounds are taken out of the folder: as queries they have no answer among the sounds, as a sound of an unknown kind.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from everyday_folder import EverydayFolder, copy_file, make_folder, pictures_of_sounds, read_rows, working_folder

import bindsearch as bs
from bindsearch.search.query import Term
from bindsearch.search.scoring.calibration_file import CALIBRATION_FILE

FITTED_HALF = 0
TARGET = Path(__file__).parents[1] / "bindsearch" / "encoders" / "mini" / CALIBRATION_FILE
RULES = ("thermal=thermal/**", "depth=depth/**", "depth=indoor/**")
ABSENT_SOUNDS = ("siren", "gun_shot", "children_playing", "frog", "lion", "sneezing")
SENTENCE = re.compile(r"[A-Z][^.!?\n]{30,120}[.!?]")


def main() -> None:
    """Make the folder, index it, fit, and print the coefficients."""
    with working_folder(__doc__) as (data, base):
        aside = base / "files" / "queries"
        folder = make_folder(data, base / "files" / "media", aside)
        further = FurtherAnswers()
        added = [*_absent_sounds(folder, aside), *further_queries(data, folder, aside, further)]
        for path in (TARGET, base / "store" / CALIBRATION_FILE):
            path.unlink(missing_ok=True)  # earlier coefficients would be the prior
        store = bs.connect(base / "store")
        store.index(folder.media, rules=RULES)
        fitted = [one for one in folder.queries + folder.unanswered if one.half == FITTED_HALF]
        known = [(one.query, further.of(one.answers | one.also)) for one in fitted]
        pairs = store.calibrate(
            [(query, [folder.media / name for name in sorted(answers)]) for query, answers in known + added]
        )
        shutil.copyfile(base / "store" / CALIBRATION_FILE, TARGET)
    for pair in pairs:
        print(f"{pair.source:8} {pair.target:8} {pair.queries:5} {pair.matches:6} {pair.coefficients}")


class FurtherAnswers:
    """Files of other modalities that show or tell the same as a file of the folder."""

    def __init__(self) -> None:
        self._of: dict[str, set[str]] = {}

    def add(self, names: Iterable[str], others: set[str]) -> None:
        """Add files that show or tell the same as each of `names`."""
        for name in names:
            self._of.setdefault(name, set()).update(others)

    def of(self, answers: Iterable[str]) -> set[str]:
        """Return the answers with all files that show or tell the same."""
        return set(answers).union(*(self._of.get(name, set()) for name in answers))


def further_queries(
    data: Path, folder: EverydayFolder, aside: Path, further: FurtherAnswers
) -> Iterator[tuple[Term, set[str]]]:
    """Add files to the folder, and yield further queries with the files that answer them."""
    yield from _captions(data, folder, aside, further)
    yield from _sounds_and_motions(data, folder, further)
    yield from _aligned_pictures(data, folder)
    yield from _sentences(folder)


def _absent_sounds(folder: EverydayFolder, aside: Path) -> Iterator[tuple[Term, set[str]]]:
    """Take the sounds of some kinds out of the folder, and yield them as queries without an answer."""
    gone: set[str] = set().union(*(folder.sounds.pop(label) for label in ABSENT_SOUNDS))
    folder.queries = [
        replace(one, answers=frozenset(), also=frozenset()) if one.answers & gone else one for one in folder.queries
    ]
    for name in sorted(gone):
        yield bs.audio((folder.media / name).rename(aside / f"absent-{Path(name).name}")), set()


def _captions(
    data: Path, folder: EverydayFolder, aside: Path, further: FurtherAnswers
) -> Iterator[tuple[Term, set[str]]]:
    """Add other captions of the photos as texts: a caption finds them, and so does the photo."""
    captions: dict[str, list[str]] = {}
    for row in read_rows(data / "images_flickr8k" / "captions.csv"):
        captions.setdefault(f"images_flickr8k/{row['path']}", []).append(row["caption"])
    (folder.media / "captions").mkdir()
    for number, (source, names) in enumerate(sorted(folder.pictures.items())):
        if source not in captions:
            continue
        texts = {f"captions/{number:04}-{place}.txt" for place in (2, 3)}
        for place in (2, 3):
            (folder.media / f"captions/{number:04}-{place}.txt").write_text(captions[source][place])
        further.add(names, texts)
        if number % 12 == FITTED_HALF:
            yield bs.image(copy_file(data / source, aside / f"captioned{number:04}.jpg")), texts


def _sounds_and_motions(data: Path, folder: EverydayFolder, further: FurtherAnswers) -> Iterator[tuple[Term, set[str]]]:
    """Add notes that name each kind; yield words and recordings that find recordings, notes and pictures.

    A picture finds pictures of the same kind, but no sounds: these are rarely meant.
    """
    pictures = pictures_of_sounds(data, folder)
    (folder.media / "notes").mkdir()
    for label, sounds in folder.sounds.items():
        words = label.replace("_", " ")
        note, seen = {f"notes/{label}.txt"}, pictures.get(label, set())
        (folder.media / f"notes/{label}.txt").write_text(f"the sound of {words}")
        further.add(sounds, note | seen)
        yield bs.text(words), sounds | note | seen
        for phrase in ("{} sound", "the sound of {}", "a recording of {}", "i hear {}"):
            yield bs.text(phrase.format(words)), sounds | note
        for name in sorted(sounds)[::3]:
            yield bs.audio(folder.media / name), sounds | note | seen
        for name in sorted(seen)[::10]:
            yield bs.image(folder.media / name), seen
    for label, motions in folder.motions.items():
        note = {f"notes/{label}.txt"}
        (folder.media / f"notes/{label}.txt").write_text(f"someone {label}")
        further.add(motions, note)
        for phrase in ("{}", "a person {}", "someone is {}", "{} with a phone", "{} motion"):
            yield bs.text(phrase.format(label)), motions | note
        for name in sorted(motions)[::10]:
            yield bs.imu(folder.media / name), motions | note


def _aligned_pictures(data: Path, folder: EverydayFolder) -> Iterator[tuple[Term, set[str]]]:
    """Add visible pictures of the scenes that thermal and depth pictures show."""
    for number, row in enumerate(read_rows(data / "thermal_roadscene" / "labels.csv")):
        visible = f"visible/{number:04}.jpg"
        copy_file(data / "thermal_roadscene" / row["visible_path"], folder.media / visible)
        yield bs.thermal(data / "thermal_roadscene" / row["path"]), {visible}
    rows = read_rows(data / "depth_rgbd_metric" / "labels.csv")
    by_label: dict[str, set[str]] = {}
    for number, row in enumerate(rows):
        copy_file(data / "depth_rgbd_metric" / row["path"], folder.media / f"indoor/{number}.png")
        by_label.setdefault(row["label"], set()).add(f"rooms/{number}.jpg")
        copy_file(data / "depth_rgbd_metric" / row["rgb_path"], folder.media / f"rooms/{number}.jpg")
    for row in rows:
        yield bs.depth(data / "depth_rgbd_metric" / row["path"]), by_label[row["label"]]


def _sentences(folder: EverydayFolder) -> Iterator[tuple[Term, set[str]]]:
    """Yield a sentence of every fourth document, and three of each long one, which the document answers."""
    chance = random.Random(0)
    for number, path in enumerate(sorted((folder.media / "documents").iterdir())):
        sentences = SENTENCE.findall(path.read_text("utf-8", errors="replace"))
        count = 3 if path.name.startswith("long") else number % 4 == 0
        for sentence in chance.sample(sentences, min(count, len(sentences))):
            words = " ".join(sentence.split()[: chance.randint(4, 12)])
            yield bs.text(words), {f"documents/{path.name}"}


if __name__ == "__main__":
    main()
